//! Causes of retraining: episodes as they open and grow.

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::episode::{Episode, JobRecord, JobState};
use mloop_core::history::{Answer, History, Verdict};
use mloop_core::job::{Cause, JOB_FORMAT, JobSpec};
use mloop_core::{JobId, RunId, Window};
use mloop_trigger::Decision;

use crate::RetrainConfig;

/// The job of an episode, with the evidence that was known when it opened: the same whenever it is
/// asked for.
pub(crate) fn job_of(episode: &Episode, evidence: Vec<RunId>) -> JobSpec {
    JobSpec {
        schema: JOB_FORMAT.to_owned(),
        job_id: episode.job.id.clone(),
        subject: episode.subject.clone(),
        cause: Cause {
            episode: episode.id.clone(),
            attempt: episode.attempt,
            reasons: episode.reasons.clone(),
            evidence,
        },
        champion: episode.serving,
        traffic: episode.traffic,
        evidence_from: episode.evidence_from,
        as_of: episode.opened_at,
    }
}

/// The verdicts that said yes.
fn yeses(decision: &Decision) -> &[(String, Verdict)] {
    match decision {
        Decision::Retrain(verdicts) => verdicts,
        _ => &[],
    }
}

/// A new episode, about to submit its job.
pub(crate) fn open(
    config: &RetrainConfig,
    attempt: u32,
    decision: &Decision,
    history: &History,
) -> Episode {
    let yes = yeses(decision).iter().filter(|(_, verdict)| verdict.answer == Answer::Yes);
    let (mut reasons, mut evidence): (Vec<String>, Vec<RunId>) = (vec![], vec![]);
    for (name, verdict) in yes {
        reasons.push(format!("{name}: {}", verdict.reason));
        add_new(&mut evidence, &verdict.evidence);
    }
    let subject = &config.subject;
    let evidence_from = begin(&evidence, history);
    let serving = history.serving.map(|serving| serving.version);
    let id = Episode::id_of(subject, serving.map(|version| version.digest).as_ref(), attempt);
    let job = JobId::derive(&[id.as_str()]);
    Episode {
        subject: subject.clone(),
        serving,
        attempt,
        opened_at: history.as_of,
        reasons,
        traffic: traffic(evidence_from, config.traffic_lookback, history),
        evidence_from,
        evidence,
        job: JobRecord { id: job, state: JobState::Submitting, submissions: 1 },
        announced: false,
        closed: None,
        id,
    }
}

/// The start of the earliest window that asked for it; of one whose labels were given time, that of
/// the earlier window whose labels were looked at.
fn begin(evidence: &[RunId], history: &History) -> Option<DateTime<Utc>> {
    let asked = history.reports.iter().filter(|report| evidence.contains(&report.run_id));
    let windows = asked.map(|report| report.label_window.unwrap_or(report.window.bounds));
    windows.map(|window| window.start()).min()
}

/// From the switch to the version that serves, but not further back than `lookback`, to the
/// decision: labels take their time, so that those of the evidence may not have come yet. The
/// evidence itself is in it, however old.
fn traffic(
    evidence_from: Option<DateTime<Utc>>,
    lookback: TimeDelta,
    history: &History,
) -> Option<Window> {
    let oldest = history.as_of.checked_sub_signed(lookback).unwrap_or(DateTime::<Utc>::MIN_UTC);
    let since = history.serving.map(|serving| serving.since.max(oldest));
    let start = [since, evidence_from].into_iter().flatten().min()?;
    Window::new(start, history.as_of).ok()
}

/// Adds what was seen since the episode opened.
pub(crate) fn attach(episode: &mut Episode, decision: &Decision, history: &History) {
    let later: Vec<RunId> = history
        .reports
        .iter()
        .filter(|report| report.window.bounds.end() > episode.opened_at)
        .map(|report| report.run_id.clone())
        .collect();
    for (_, verdict) in yeses(decision) {
        let new: Vec<RunId> =
            verdict.evidence.iter().filter(|run| later.contains(run)).cloned().collect();
        add_new(&mut episode.evidence, &new);
    }
}

fn add_new(runs: &mut Vec<RunId>, more: &[RunId]) {
    for run in more {
        if !runs.contains(run) {
            runs.push(run.clone());
        }
    }
}
