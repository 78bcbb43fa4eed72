//! Retraining over the fakes: one job for one cause, whatever happens in between.

use std::sync::Arc;

use chrono::TimeDelta;
use mloop_core::episode::{EpisodeOutcome, JobState};
use mloop_core::history::{Answer, History, Verdict};
use mloop_core::job::JobStatus;
use mloop_core::notification::Severity;
use mloop_core::run::RunKind;
use mloop_core::version::tags;
use mloop_core::{MonitoringOutcome, Sha256Digest};
use mloop_orchestrators::plan::Limits;
use mloop_orchestrators::{
    Classified, RetrainConfig, RetrainDeps, RetrainOrchestrator, RetrainOutcome, RetrainPreview,
    RetrainRequest, RetrainResult, Would,
};
use mloop_platform::fakes::{ScriptedSubmitter, SubmitterFault};
use mloop_platform::{JobSubmitter, Journal, MockJournal, Notifier};
use mloop_trigger::{Decision, Policy, Trigger};
use serde_json::json;

use crate::world::{World, at, lease, subject};

/// Says yes when the newest report of the serving version is an alert.
struct NewestAlert;

impl Trigger for NewestAlert {
    fn name(&self) -> &str {
        "drift"
    }

    fn check(&self, history: &History) -> Verdict {
        let newest = history.reports_of_serving().next();
        let answer = match newest.map(|report| report.outcome) {
            Some(MonitoringOutcome::Alert) => Answer::Yes,
            Some(MonitoringOutcome::Ok) => Answer::No,
            _ => Answer::CannotTell,
        };
        let evidence = newest.map(|report| report.run_id.clone()).into_iter().collect();
        Verdict { answer, reason: "the newest window".to_owned(), evidence }
    }
}

struct Any;

impl Policy for Any {
    fn decide(&self, history: &History, verdicts: &[(String, Verdict)]) -> Decision {
        let newest = history.reports_of_serving().next();
        if newest.is_some_and(|report| report.outcome == MonitoringOutcome::Broken) {
            return Decision::Held { reason: "the newest window is broken".to_owned() };
        }
        let with = |answer| verdicts.iter().filter(move |(_, one)| one.answer == answer).cloned();
        let yes: Vec<_> = with(Answer::Yes).collect();
        match (yes.is_empty(), with(Answer::CannotTell).next()) {
            (false, _) => Decision::Retrain(yes),
            (true, Some(_)) => Decision::CannotTell,
            (true, None) => Decision::No,
        }
    }
}

pub(crate) fn orchestrator(
    world: &World,
    submitter: &Arc<ScriptedSubmitter>,
) -> RetrainOrchestrator {
    telling(world, submitter.clone(), world.people.clone())
}

/// The same over another submitter.
pub(crate) fn over(world: &World, submitter: Arc<dyn JobSubmitter>) -> RetrainOrchestrator {
    telling(world, submitter, world.people.clone())
}

pub(crate) fn telling(
    world: &World,
    submitter: Arc<dyn JobSubmitter>,
    notifier: Arc<dyn Notifier>,
) -> RetrainOrchestrator {
    with(world, world.ledger.clone(), submitter, notifier)
}

fn over_journal(
    world: &World,
    journal: Arc<dyn Journal>,
    submitter: Arc<dyn JobSubmitter>,
) -> RetrainOrchestrator {
    with(world, journal, submitter, world.people.clone())
}

fn with(
    world: &World,
    journal: Arc<dyn Journal>,
    submitter: Arc<dyn JobSubmitter>,
    notifier: Arc<dyn Notifier>,
) -> RetrainOrchestrator {
    let deps = RetrainDeps {
        journal,
        leases: world.ledger.clone(),
        registry: world.registry.clone(),
        submitter,
        outbox: world.ledger.clone(),
        notifiers: vec![notifier],
        triggers: vec![Box::new(NewestAlert)],
        policy: Box::new(Any),
        clock: world.clock.clone(),
    };
    RetrainOrchestrator::new(deps, config())
}

pub(crate) fn config() -> RetrainConfig {
    RetrainConfig {
        subject: subject(),
        config_digest: Sha256Digest::of(b"retraining"),
        limits: Limits { cooldown: TimeDelta::hours(6), max_attempts: 2 },
        max_restarts: 1,
        lookback: TimeDelta::days(30),
        traffic_lookback: TimeDelta::days(7),
        lease: lease(),
    }
}

pub(crate) async fn run(world: &World, submitter: &Arc<ScriptedSubmitter>) -> RetrainResult {
    orchestrator(world, submitter).run(&RetrainRequest::default()).await.expect("a result")
}

/// A world in which version 1 serves and the hour before 1 o'clock drifted.
pub(crate) async fn drifted() -> World {
    let world = World::new();
    let version = world.add_version("one");
    world.serves(&version).await;
    world.monitored(version.version, 1, MonitoringOutcome::Alert).await;
    world.hours_pass(1);
    world
}

pub(crate) fn running() -> Arc<ScriptedSubmitter> {
    Arc::new(ScriptedSubmitter::new([]))
}

#[tokio::test]
async fn twenty_four_drifted_hours_with_a_slow_job_are_one_job() {
    let world = World::new();
    let version = world.add_version("one");
    world.serves(&version).await;
    let submitter = running();
    for hour in 1..=24 {
        world.monitored(version.version, hour, MonitoringOutcome::Alert).await;
        world.hours_pass(1);
        let result = run(&world, &submitter).await;
        let expected = if hour == 1 { RetrainOutcome::Submitted } else { RetrainOutcome::Adopted };
        assert_eq!(result.outcome, expected, "hour {hour}");
        assert!(result.job_id.is_some());
    }
    assert_eq!((submitter.starts(), submitter.calls()), (1, 1));
    assert_eq!(world.people.calls(), 1);
    let episodes = world.ledger.episodes(&subject()).await.expect("episodes");
    assert_eq!(episodes.len(), 1);
    assert_eq!(episodes[0].evidence.len(), 24);
    assert_eq!((episodes[0].announced, episodes[0].job.state), (true, JobState::Submitted));
}

#[tokio::test]
async fn the_job_may_learn_from_the_switch_but_not_further_back_than_is_asked_for() {
    // The last hour before the decision drifted; `labels` hours late they were judged.
    for (hours, labels, start) in [
        (1, None, at(0)),
        (30, None, at(0)),
        (200, None, at(200 - 7 * 24)),
        (30, Some(24), at(0)),
        // The evidence is in it, however old.
        (400, Some(240), at(400 - 241)),
    ] {
        let world = World::new();
        let version = world.add_version("one");
        world.serves(&version).await;
        world.monitored_late(version.version, hours, labels).await;
        world.hours_pass(u64::try_from(hours).expect("not negative"));
        let submitter = running();
        run(&world, &submitter).await;
        let spec = submitter.specs().pop().expect("a job");
        let traffic = spec.traffic.expect("a window");
        assert_eq!((traffic.start(), traffic.end()), (start, at(hours)), "{hours}");
        assert_eq!(spec.evidence_from, Some(at(hours - 1 - labels.unwrap_or(0))), "{hours}");
    }
}

#[tokio::test]
async fn the_job_is_told_what_it_is_to_beat_and_why() {
    let world = drifted().await;
    let submitter = running();
    run(&world, &submitter).await;
    let spec = submitter.specs().pop().expect("a job");
    assert_eq!(spec.champion.map(|version| version.number), Some(1));
    assert_eq!(spec.cause.reasons, ["drift: the newest window"]);
}

#[tokio::test]
async fn a_repeat_of_a_run_changes_nothing_and_tells_nobody_again() {
    let world = drifted().await;
    let submitter = running();
    let request = RetrainRequest { as_of: Some(at(1)) };
    let first = orchestrator(&world, &submitter).run(&request).await.expect("a result");
    assert_eq!((first.outcome, world.people.calls()), (RetrainOutcome::Submitted, 1));
    let again = orchestrator(&world, &submitter).run(&request).await.expect("a result");
    assert_eq!(again, first);
    assert_eq!((submitter.calls(), world.people.calls()), (1, 1));
}

#[tokio::test]
async fn what_cannot_be_told_is_not_a_yes_and_broken_data_hold() {
    for (outcome, expected) in [
        (MonitoringOutcome::Ok, RetrainOutcome::No),
        (MonitoringOutcome::InsufficientData, RetrainOutcome::CannotTell),
        (MonitoringOutcome::Broken, RetrainOutcome::Held),
    ] {
        let world = World::new();
        let version = world.add_version("one");
        world.serves(&version).await;
        world.monitored(version.version, 1, outcome).await;
        world.hours_pass(1);
        let submitter = running();
        let result = run(&world, &submitter).await;
        assert_eq!((result.outcome, submitter.calls()), (expected, 0), "{outcome:?}");
        assert!(!result.outcome.has_job());
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_leads_to_the_same_job() {
    let world = drifted().await;
    let submitter = running();
    submitter.set_fault(Some(SubmitterFault::AnswerLost));
    let error = orchestrator(&world, &submitter).run(&RetrainRequest::default()).await;
    let error = error.expect_err("the answer was lost");
    assert_eq!(error.exit_class(), mloop_orchestrators::ExitClass::Transient);
    let result = run(&world, &submitter).await;
    assert!(result.outcome.has_job());
    assert_eq!((submitter.starts(), world.people.messages().len()), (1, 1));
}

#[tokio::test]
async fn a_submitter_that_was_down_gets_the_job_later() {
    let world = drifted().await;
    let submitter = running();
    submitter.set_fault(Some(SubmitterFault::Unreachable));
    orchestrator(&world, &submitter).run(&RetrainRequest::default()).await.expect_err("down");
    assert_eq!((submitter.starts(), world.people.calls()), (0, 0));
    let result = run(&world, &submitter).await;
    assert_eq!(result.outcome, RetrainOutcome::Submitted);
    assert_eq!((submitter.starts(), world.people.messages().len()), (1, 1));
}

#[tokio::test]
async fn people_who_could_not_be_told_are_told_by_the_next_run() {
    let world = drifted().await;
    let submitter = running();
    world.people.fail_next(1);
    let first = run(&world, &submitter).await;
    assert_eq!(first.outcome, RetrainOutcome::Submitted);
    assert_eq!(first.notification_failures.len(), 1);
    world.hours_pass(1);
    let second = run(&world, &submitter).await;
    assert_eq!(second.notification_failures, Vec::<String>::new());
    assert_eq!((world.people.messages().len(), submitter.starts()), (1, 1));
}

#[tokio::test]
async fn a_lost_job_is_started_again_with_the_same_content_until_it_is_given_up() {
    let world = drifted().await;
    let lost = || JobStatus::Lost { reason: "killed".to_owned() };
    let submitter = Arc::new(ScriptedSubmitter::new([]));
    let first = run(&world, &submitter).await;
    let job = first.job_id.expect("a job");
    // A later yes is attached before the job is lost: it must not change the job's content.
    let version = world.versions().await.remove(0);
    world.monitored(version.version, 2, MonitoringOutcome::Alert).await;
    world.hours_pass(1);
    run(&world, &submitter).await;
    for (starts, closed) in [(2, 0), (2, 1)] {
        submitter.set_status(&job, lost());
        world.hours_pass(1);
        let result = run(&world, &submitter).await;
        assert_eq!((submitter.starts(), result.closed.len()), (starts, closed));
    }
    let episodes = world.ledger.episodes(&subject()).await.expect("episodes");
    let closing = episodes[0].closed.clone().expect("closed");
    assert_eq!(closing.outcome, EpisodeOutcome::Failed);
    let told = world.people.messages();
    assert_eq!(told.len(), 2, "of the submission and of the end: {told:?}");
    assert!(told[1].text.contains("was submitted 2 times and lost each time"), "{told:?}");
}

#[tokio::test]
async fn a_rejected_job_is_followed_by_another_only_after_the_cooldown_and_not_for_ever() {
    let world = drifted().await;
    let rejected = JobStatus::Finished { exit_code: 10, result: json!({"outcome": "rejected"}) };
    let submitter = Arc::new(ScriptedSubmitter::new([rejected]));
    let version = world.versions().await.remove(0).version;
    let mut outcomes = vec![];
    for hour in 1..=24 {
        world.monitored(version, hour, MonitoringOutcome::Alert).await;
        outcomes.push(run(&world, &submitter).await.outcome);
        world.hours_pass(1);
    }
    assert_eq!(submitter.starts(), 2, "{outcomes:?}");
    // Closed at the second hour, so attempt 2 follows 6 hours later; its end is the last.
    let submitted: Vec<usize> =
        (0..24).filter(|index| outcomes[*index] == RetrainOutcome::Submitted).collect();
    assert_eq!(submitted, [0, 7]);
    assert!(outcomes[8..].iter().all(|outcome| *outcome == RetrainOutcome::Held));
    // Of each submission, of each end, and that no attempt follows; each once, in 24 runs.
    let told = world.people.messages();
    let kinds: Vec<&str> =
        told.iter().map(|one| one.id.rsplit('-').next().expect("a part")).collect();
    assert_eq!(kinds, ["submitted", "ended", "submitted", "ended", "last"]);
    assert_eq!(world.people.calls(), 5);
    assert_eq!(told[4].severity, Severity::Critical);
    assert!(told[4].text.contains("2 attempts for this cause failed"), "{:?}", told[4]);
}

#[tokio::test]
async fn a_blessed_version_that_waits_for_deployment_holds_further_jobs() {
    let world = drifted().await;
    let submitter = running();
    let job = run(&world, &submitter).await.job_id.expect("a job");
    let second = world.add_version("two");
    world.registry.set_tag(&second, tags::JOB_ID, job.as_str());
    let result = json!({"outcome": "blessed"});
    submitter.set_status(&job, JobStatus::Finished { exit_code: 0, result });
    world.hours_pass(1);
    let result = run(&world, &submitter).await;
    assert_eq!(result.outcome, RetrainOutcome::Held);
    assert_eq!(result.closed[0].outcome, EpisodeOutcome::Blessed);
    assert_eq!(result.closed[0].version, Some(second.version));
    assert_eq!(submitter.starts(), 1);
    let recorded = world.ledger.versions();
    let (_, episode) =
        recorded.iter().find(|(one, _)| one.version == second.version).expect("recorded");
    assert_eq!(episode.as_ref(), Some(&result.closed[0].episode));
}

#[tokio::test]
async fn a_cause_that_is_gone_is_superseded_and_its_job_cancelled() {
    let world = drifted().await;
    let submitter = running();
    let job = run(&world, &submitter).await.job_id.expect("a job");
    world.hours_pass(1);
    let second = world.add_version("two");
    world.serves(&second).await;
    let result = run(&world, &submitter).await;
    assert_eq!(result.closed[0].outcome, EpisodeOutcome::Superseded);
    assert_eq!(submitter.cancelled(), [job]);
    assert_eq!(result.outcome, RetrainOutcome::CannotTell);
}

#[tokio::test]
async fn only_the_runs_that_triggers_are_shown_are_read() {
    let world = World::new();
    world.hours_pass(24 * 40);
    let mut journal = MockJournal::new();
    journal.expect_run().once().returning(|_| Ok(None));
    journal.expect_deployments().once().returning(|_| Ok(vec![]));
    journal.expect_episodes().once().returning(|_| Ok(vec![]));
    // 30 days back, as is configured.
    journal
        .expect_runs()
        .withf(|query| (query.kind, query.since) == (RunKind::Monitoring, Some(at(24 * 10))))
        .once()
        .returning(|_| Ok(vec![]));
    journal.expect_record_run().once().returning(|_| Ok(()));
    let flow = over_journal(&world, Arc::new(journal), running());
    let result = flow.run(&RetrainRequest::default()).await.expect("a result");
    assert_eq!(result.outcome, RetrainOutcome::CannotTell);
}

#[tokio::test]
async fn stale_and_older_revisions_of_a_window_do_not_count() {
    let world = World::new();
    let version = world.add_version("one");
    world.serves(&version).await;
    let mut stale = crate::world::report(version.version, 1, MonitoringOutcome::Alert);
    stale.stale = true;
    let record = mloop_core::run::RunRecord {
        run_id: stale.run_id.clone(),
        kind: mloop_core::run::RunKind::Monitoring,
        subject: subject(),
        version: Some(version.version.digest),
        window: Some(stale.window.bounds),
        as_of: stale.as_of,
        outcome: "alert".to_owned(),
        body: serde_json::to_value(&stale).expect("json"),
    };
    world.ledger.record_run(&record).await.expect("recorded");
    world.hours_pass(1);
    let submitter = running();
    assert_eq!(run(&world, &submitter).await.outcome, RetrainOutcome::CannotTell);
    assert_eq!(submitter.calls(), 0);
}

/// What a preview says, and that it left everything as it was.
async fn previewed(world: &World, submitter: &Arc<ScriptedSubmitter>) -> RetrainPreview {
    let state = async || {
        let episodes = world.ledger.episodes(&subject()).await.expect("episodes");
        (episodes, submitter.calls(), world.people.calls())
    };
    let before = state().await;
    let flow = orchestrator(world, submitter);
    let preview = flow.preview(&RetrainRequest::default()).await.expect("a preview");
    assert_eq!(state().await, before, "a preview changes nothing");
    preview
}

#[tokio::test]
async fn a_preview_says_what_the_run_then_does() {
    let world = drifted().await;
    let submitter = running();
    assert_eq!(previewed(&world, &submitter).await.would, Would::SubmitAttempt(1));
    let opened = run(&world, &submitter).await;
    let episode = opened.episode.expect("an episode");
    world.hours_pass(1);
    let preview = previewed(&world, &submitter).await;
    assert_eq!(preview.would, Would::AddEvidenceTo(episode.clone()));
    assert_eq!((preview.closes, preview.submits), (vec![], vec![]));

    // The job ended: the run closes its episode first, and decides without it.
    let failed = JobStatus::Finished { exit_code: 10, result: json!({"outcome": "rejected"}) };
    submitter.set_status(opened.job_id.as_ref().expect("a job"), failed);
    let preview = previewed(&world, &submitter).await;
    let result = run(&world, &submitter).await;
    assert_eq!((preview.as_of, &preview.closes), (result.as_of, &result.closed));
    assert_eq!(preview.closes[0].episode, episode);
    assert_eq!(preview.verdicts, result.verdicts);
    assert_eq!((result.outcome, preview.would), (RetrainOutcome::Held, Would::Hold(result.reason)));
}
