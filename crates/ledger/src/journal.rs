//! Runs, episodes, versions and deployments.

use async_trait::async_trait;
use mloop_core::deployment::{ChangeCall, Deployment, JournalEntry};
use mloop_core::episode::Episode;
use mloop_core::run::RunRecord;
use mloop_core::{DeploymentId, EpisodeId, ModelVersion, RunId, Subject};
use mloop_platform::{Journal, Lease, Message, PlatformError, RunQuery};
use serde::de::DeserializeOwned;

use crate::error::Failure;
use crate::leases::check_fence;
use crate::outbox;
use crate::session::{Session, first};
use crate::store::{Store, Views};
use crate::value::Value;

mod records;
mod runs;

/// The records whose bodies a query gives.
fn bodies<T: DeserializeOwned>(
    session: &mut dyn Session,
    sql: &str,
    values: &[Value],
) -> Result<Vec<T>, Failure> {
    let rows = session.query(sql, values)?;
    rows.iter().map(|row| Ok(serde_json::from_str(row.text(0)?)?)).collect()
}

fn of_subject<T: DeserializeOwned>(
    session: &mut dyn Session,
    sql: &str,
    subject: &Subject,
) -> Result<Vec<T>, Failure> {
    bodies(session, sql, &[subject.model.as_str().into(), subject.target.as_str().into()])
}

#[async_trait]
impl<S: Store> Journal for Views<S> {
    async fn probe(&self) -> Result<(), PlatformError> {
        self.look().await
    }

    async fn record_run_with(
        &self,
        run: &RunRecord,
        messages: &[Message],
    ) -> Result<(), PlatformError> {
        let doing = format!("recording {}", run.run_id);
        let (run, messages) = (run.clone(), messages.to_vec());
        let record = move |session: &mut dyn Session| {
            runs::write(session, &run)?;
            outbox::enqueue_all(session, &messages)
        };
        self.write("record_run", doing, record).await
    }

    async fn run(&self, id: &RunId) -> Result<Option<RunRecord>, PlatformError> {
        let (doing, id) = (format!("reading {id}"), id.clone());
        let read = move |session: &mut dyn Session| {
            let sql = "SELECT body FROM runs WHERE run_id = $1";
            Ok(bodies(session, sql, &[id.as_str().into()])?.pop())
        };
        self.read(doing, read).await
    }

    async fn runs(&self, query: &RunQuery) -> Result<Vec<RunRecord>, PlatformError> {
        let (doing, query) = (format!("reading the runs of {}", query.subject), query.clone());
        self.read(doing, move |session| runs::read(session, &query)).await
    }

    async fn was_told(&self, id: &DeploymentId, outcome: &str) -> Result<bool, PlatformError> {
        let (doing, values) =
            (format!("reading what was told of {id}"), [id.as_str().into(), outcome.into()]);
        let sql = "SELECT run_id FROM runs WHERE deployment = $1 AND outcome = $2 LIMIT 1";
        self.read(doing, move |session| Ok(first(session, sql, &values)?.is_some())).await
    }

    async fn save_episode_with(
        &self,
        lease: &Lease,
        episode: &Episode,
        messages: &[Message],
    ) -> Result<(), PlatformError> {
        let (doing, lease) = (format!("writing {}", episode.id), lease.clone());
        let (episode, messages) = (episode.clone(), messages.to_vec());
        let save = move |session: &mut dyn Session| {
            check_fence(session, &lease)?;
            records::write_episode(session, &episode)?;
            outbox::enqueue_all(session, &messages)
        };
        self.write("save_episode", doing, save).await
    }

    async fn episodes(&self, subject: &Subject) -> Result<Vec<Episode>, PlatformError> {
        let (doing, subject) = (format!("reading the episodes of {subject}"), subject.clone());
        let sql = "SELECT body FROM episodes WHERE model = $1 AND target = $2
                   ORDER BY opened_at DESC, attempt DESC";
        self.read(doing, move |session| of_subject(session, sql, &subject)).await
    }

    async fn record_version(
        &self,
        version: &ModelVersion,
        episode: Option<EpisodeId>,
    ) -> Result<(), PlatformError> {
        let doing = format!("writing down {} {}", version.model, version.version);
        let (name, version) = (doing.clone(), version.clone());
        let record = move |session: &mut dyn Session| {
            records::write_version(session, &version, episode.as_ref(), &name)
        };
        self.write("record_version", doing, record).await
    }

    async fn save_deployment(
        &self,
        lease: &Lease,
        deployment: &Deployment,
    ) -> Result<(), PlatformError> {
        let (doing, lease) = (format!("writing {}", deployment.id), lease.clone());
        let deployment = deployment.clone();
        let save = move |session: &mut dyn Session| {
            check_fence(session, &lease)?;
            records::write_deployment(session, &deployment)
        };
        self.write("save_deployment", doing, save).await
    }

    async fn deployments(&self, subject: &Subject) -> Result<Vec<Deployment>, PlatformError> {
        let (doing, subject) = (format!("reading the deployments of {subject}"), subject.clone());
        let sql = "SELECT body FROM deployments WHERE model = $1 AND target = $2
                   ORDER BY opened_at DESC, number DESC, attempt DESC";
        self.read(doing, move |session| of_subject(session, sql, &subject)).await
    }

    async fn append_with(
        &self,
        lease: &Lease,
        entry: &JournalEntry,
        messages: &[Message],
    ) -> Result<(), PlatformError> {
        let doing = format!("writing the journal of {}", entry.deployment);
        let (name, lease) = (doing.clone(), lease.clone());
        let (entry, messages) = (entry.clone(), messages.to_vec());
        let append = move |session: &mut dyn Session| {
            check_fence(session, &lease)?;
            records::append(session, &entry, &name)?;
            outbox::enqueue_all(session, &messages)
        };
        self.write("append", doing, append).await
    }

    async fn entries(&self, id: &DeploymentId) -> Result<Vec<JournalEntry>, PlatformError> {
        let (doing, id) = (format!("reading the journal of {id}"), id.clone());
        // `intent` sorts before `outcome`.
        let sql = "SELECT body FROM deployment_journal WHERE deployment = $1
                   ORDER BY position, phase";
        self.read(doing, move |session| bodies(session, sql, &[id.as_str().into()])).await
    }

    async fn save_call(&self, lease: &Lease, call: &ChangeCall) -> Result<(), PlatformError> {
        let doing = format!("writing down a call for {}", call.deployment);
        let (name, lease, call) = (doing.clone(), lease.clone(), call.clone());
        let save = move |session: &mut dyn Session| {
            check_fence(session, &lease)?;
            records::write_call(session, &call, &name)
        };
        self.write("save_call", doing, save).await
    }

    async fn unreturned_calls(&self, subject: &Subject) -> Result<Vec<ChangeCall>, PlatformError> {
        let doing = format!("reading the calls for {subject}");
        let subject = subject.clone();
        let sql = "SELECT change_calls.body FROM change_calls
                   JOIN deployments ON id = deployment
                   WHERE model = $1 AND target = $2 AND returned_at IS NULL
                   ORDER BY announced_at, fence";
        self.read(doing, move |session| of_subject(session, sql, &subject)).await
    }
}
