//! Small sound records for tests of anything that keeps them.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use mloop_core::deployment::{ChangeCall, Deployment, JournalEntry, Phase, Step};
use mloop_core::episode::{Episode, JobRecord, JobState};
use mloop_core::job::{Cause, JOB_FORMAT, JobSpec};
use mloop_core::notification::{Notification, Severity, Topic};
use mloop_core::profile::{ProfileKey, StoredProfile};
use mloop_core::run::{RunKind, RunRecord};
use mloop_core::schema::PROFILE_FORMAT;
use mloop_core::{
    Finding, JobId, ModelName, ModelVersion, Profile, ProfileSchema, RunId, Sha256Digest, Status,
    Subject, TargetName, VersionRef, Window,
};

/// The start of the first sample window.
///
/// # Panics
/// Never, as all of this module.
#[must_use]
pub fn day_one() -> DateTime<Utc> {
    "2026-03-01T00:00:00Z".parse().expect("a moment")
}

/// The hour that starts so many hours after [`day_one`].
#[must_use]
pub fn hour(number: i64) -> Window {
    let start = day_one() + TimeDelta::hours(number);
    Window::new(start, start + TimeDelta::hours(1)).expect("an hour")
}

/// A subject of that target.
#[must_use]
pub fn subject(target: &str) -> Subject {
    Subject {
        model: ModelName::new("fashion").expect("a name"),
        target: TargetName::new(target).expect("a name"),
    }
}

/// A version of that number; its digest depends on the number alone.
#[must_use]
pub fn version(number: u64) -> ModelVersion {
    let digest = Sha256Digest::of(number.to_string().as_bytes());
    ModelVersion {
        model: subject("production").model,
        version: VersionRef { number, digest },
        created_at: day_one(),
        source: format!("memory:{number}"),
        tags: BTreeMap::new(),
    }
}

/// A monitoring run over one hour, with one finding.
#[must_use]
pub fn monitoring_run(subject: &Subject, number: i64) -> RunRecord {
    let window = hour(number);
    let finding = Finding {
        monitor: "drift".to_owned(),
        check: "column_drift".to_owned(),
        column: Some("brightness".to_owned()),
        group: None,
        method: "psi".to_owned(),
        value: Some(0.31),
        interval: Some([0.25, 0.37]),
        threshold: Some(0.2),
        n: 2000,
        status: Status::Drifted,
        detail: None,
    };
    RunRecord {
        run_id: RunId::derive(&["monitoring", &subject.to_string(), &window.to_string()]),
        kind: RunKind::Monitoring,
        subject: subject.clone(),
        version: Some(version(1).version.digest),
        window: Some(window),
        as_of: window.end() + TimeDelta::minutes(5),
        outcome: "alert".to_owned(),
        body: serde_json::json!({ "findings": [finding] }),
    }
}

/// An open episode about version 1.
#[must_use]
pub fn episode(subject: &Subject, attempt: u32) -> Episode {
    let serving = version(1).version;
    let id = Episode::id_of(subject, Some(&serving.digest), attempt);
    Episode {
        job: JobRecord {
            id: JobId::derive(&[id.as_str()]),
            state: JobState::Submitting,
            submissions: 1,
        },
        id,
        subject: subject.clone(),
        serving: Some(serving),
        attempt,
        opened_at: day_one() + TimeDelta::days(i64::from(attempt)),
        reasons: vec!["psi of brightness is 0.31, above 0.2".to_owned()],
        evidence: vec![monitoring_run(subject, 0).run_id],
        traffic: Some(hour(0)),
        evidence_from: None,
        announced: false,
        closed: None,
    }
}

/// A deployment of a version under way.
#[must_use]
pub fn deployment(subject: &Subject, number: u64) -> Deployment {
    let version = version(number);
    Deployment {
        id: Deployment::id_of(subject, &version.version, 1),
        subject: subject.clone(),
        version: version.version,
        version_created_at: version.created_at,
        attempt: 1,
        previous: None,
        opened_at: day_one() + TimeDelta::days(i64::try_from(number).expect("a small number")),
        verdict: None,
        closed_at: None,
        way_back: None,
    }
}

/// An entry of its journal.
#[must_use]
pub fn entry(deployment: &Deployment, step: Step, phase: Phase, detail: &str) -> JournalEntry {
    JournalEntry {
        deployment: deployment.id.clone(),
        step,
        phase,
        at: deployment.opened_at,
        detail: serde_json::json!({ "detail": detail }),
    }
}

/// A schema without columns, which is enough to be stored.
#[must_use]
pub fn schema() -> ProfileSchema {
    ProfileSchema {
        format: PROFILE_FORMAT,
        model: subject("production").model,
        classes: vec!["boot".to_owned(), "shirt".to_owned()],
        positive: None,
        columns: vec![],
        groups: vec![],
        latency_objective_micros: None,
    }
}

/// A profile of so many rows.
#[must_use]
pub fn profile(subject: &Subject, window: Window, rows: u64) -> StoredProfile {
    let key = ProfileKey { subject: subject.clone(), version: version(1).version.digest };
    let mut profile = Profile::new(&schema(), key, window);
    profile.rows = rows;
    StoredProfile { profile, as_of: window.end(), inputs: vec![] }
}

/// A message about something that happens once.
#[must_use]
pub fn notification(id: &str) -> Notification {
    Notification {
        id: id.to_owned(),
        topic: Topic::Retraining,
        severity: Severity::Warning,
        subject: subject("production"),
        title: "brightness drifted".to_owned(),
        text: "psi 0.31, bound 0.2".to_owned(),
        at: day_one(),
    }
}

/// What a training job is asked to do.
#[must_use]
pub fn job(name: &str) -> JobSpec {
    let subject = subject("production");
    let episode = episode(&subject, 1);
    JobSpec {
        schema: JOB_FORMAT.to_owned(),
        job_id: JobId::derive(&[name]),
        subject,
        cause: Cause {
            episode: episode.id,
            attempt: 1,
            reasons: episode.reasons,
            evidence: episode.evidence,
        },
        champion: None,
        traffic: None,
        evidence_from: None,
        as_of: day_one(),
    }
}

/// A call that asks production to serve the version of a deployment.
#[must_use]
pub fn call(deployment: &Deployment, fence: u64, returned_at: Option<DateTime<Utc>>) -> ChangeCall {
    ChangeCall {
        deployment: deployment.id.clone(),
        step: Step::ProductionSubmitted,
        fence,
        asks: deployment.version.digest,
        announced_at: day_one() - TimeDelta::minutes(i64::try_from(fence).unwrap_or(0)),
        returned_at,
    }
}
