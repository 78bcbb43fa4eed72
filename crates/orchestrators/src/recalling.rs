//! What earlier runs found: for the page of the next one, and for people who ask.

use mloop_core::profile::ProfileKey;
use mloop_core::run::RunKind;
use mloop_core::{Evidence, MonitoringReport, Profile, RunId, Window, error_chain};
use mloop_platform::RunQuery;
use mloop_reporter::MAX_HISTORY;

use crate::OrchestratorError;
use crate::earlier::earlier_windows;
use crate::judging::Counted;
use crate::monitoring::MonitoringOrchestrator;
use crate::reference;

/// Runs that are read for the history of a window; some are repeats, or of other versions.
const RUNS_FOR_HISTORY: u32 = 2 * MAX_HISTORY as u32;

/// Runs among which a window is looked for when it is to be shown: a month of hours.
const RUNS_LOOKED_THROUGH: u32 = 744;

/// Which earlier run to recall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The newest one.
    Newest,
    /// This one.
    Run(RunId),
    /// The newest one of this window.
    Window(Window),
}

/// What an earlier run found.
#[derive(Debug, Clone, PartialEq)]
pub struct Recalled {
    /// Its report.
    pub report: MonitoringReport,
    /// What it looked at; none when that is no longer there, or was counted anew since.
    pub evidence: Option<Evidence>,
    /// Reports of the windows before it, as reporters get them.
    pub history: Vec<MonitoringReport>,
}

impl MonitoringOrchestrator {
    /// What the ledger says of the windows before; a page without them is better than none.
    pub(crate) async fn history(&self, report: &MonitoringReport) -> Vec<MonitoringReport> {
        let query = RunQuery {
            kind: RunKind::Monitoring,
            subject: self.config.subject.clone(),
            since: None,
            limit: RUNS_FOR_HISTORY,
        };
        match self.deps.journal.runs(&query).await {
            Ok(runs) => earlier_windows(runs, report),
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "the windows before could not be read, and are not shown");
                vec![]
            }
        }
    }

    /// What an earlier run found, with what it rests on as far as that is still there. Changes nothing.
    ///
    /// # Errors
    /// When there is no such run, or the ledger could not be read.
    pub async fn recall(&self, which: &Which) -> Result<Recalled, OrchestratorError> {
        let report = self.recorded(which).await?;
        let history = self.history(&report).await;
        let evidence = match self.evidence_of(&report).await {
            Ok(evidence) => evidence,
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(error, "what the run looked at cannot be read, and is not shown");
                None
            }
        };
        Ok(Recalled { report, evidence, history })
    }

    async fn recorded(&self, which: &Which) -> Result<MonitoringReport, OrchestratorError> {
        let (journal, subject) = (&self.deps.journal, &self.config.subject);
        let query = RunQuery {
            kind: RunKind::Monitoring,
            subject: subject.clone(),
            since: None,
            limit: if *which == Which::Newest { 1 } else { RUNS_LOOKED_THROUGH },
        };
        let found = match which {
            Which::Run(id) => journal
                .run(id)
                .await?
                .filter(|run| run.kind == RunKind::Monitoring && run.subject == *subject),
            Which::Newest => journal.runs(&query).await?.into_iter().next(),
            Which::Window(window) => {
                journal.runs(&query).await?.into_iter().rfind(|run| run.window == Some(*window))
            }
        };
        let record = found.ok_or_else(|| {
            let problem = match which {
                Which::Run(id) => format!("the ledger has no monitoring run {id} of it"),
                Which::Newest => "no window of it was judged yet".to_owned(),
                Which::Window(window) => format!(
                    "none of its last {RUNS_LOOKED_THROUGH} runs judged {window}; name the run by --run"
                ),
            };
            OrchestratorError::invalid(format!("finding what {subject} was found to be"), problem)
        })?;
        let what = format!("the report of {}", record.run_id);
        serde_json::from_value(record.body).map_err(OrchestratorError::damaged(what))
    }

    /// Reference and counts of a judged window; none when the window was counted anew since.
    async fn evidence_of(
        &self,
        report: &MonitoringReport,
    ) -> Result<Option<Evidence>, OrchestratorError> {
        let subject = &report.subject;
        let key = ProfileKey { subject: subject.clone(), version: report.version.digest };
        let kept = async |window| -> Result<Option<Profile>, OrchestratorError> {
            let newest = self.deps.profiles.newest(&key, &window).await?;
            Ok(newest.map(|(_, stored)| stored.profile))
        };
        let Some(current) = kept(report.window.bounds).await? else { return Ok(None) };
        if current.digest() != report.profile {
            tracing::info!("the window was counted anew since; judge it again to see its columns");
            return Ok(None);
        }
        let earlier = match report.label_window {
            Some(window) => kept(window).await?,
            None => None,
        };
        let versions = self.deps.registry.versions(&subject.model).await?;
        let version = versions.into_iter().find(|one| one.version == report.version);
        let Some(version) = version else { return Ok(None) };
        let registry = self.deps.registry.as_ref();
        let reference = reference::load(registry, &version, subject, &self.config.work).await?;
        let counted = Counted { window: current, labels: earlier };
        Ok(Some(self.evidence(reference, report.version, counted).await?))
    }
}
