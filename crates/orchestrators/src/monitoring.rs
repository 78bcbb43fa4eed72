//! Monitoring: one window of one version, judged and reported.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use mloop_core::profile::ProfileKey;
use mloop_core::report::{MONITORING_FORMAT, MonitorFailure, ReportWindow};
use mloop_core::run::{RunKind, RunRecord};
use mloop_core::{
    Clock, Evidence, Finding, ModelVersion, MonitoringOutcome, MonitoringReport, Profile, RunId,
    Sha256Digest, Subject, VersionRef, Window, error_chain,
};
use mloop_monitor::Monitor;
use mloop_platform::{
    Journal, LatencySource, Message, ModelRegistry, ProfileRequest, ProfileSource, ProfileStore,
    RunQuery,
};
use mloop_reporter::{Judged, Reporter};
use serde::Serialize;

use crate::OrchestratorError;
use crate::false_alarms::FalseAlarmBudget;
use crate::judging::{Counted, Looked};
use crate::reference::{self, LoadedReference};
use crate::referencing;
use crate::served::{Served, served};

/// How long windows are kept for themselves before they become part of their day.
const KEPT: TimeDelta = TimeDelta::days(35);

/// Days that one run merges at most.
const DAYS_PER_RUN: u32 = 4;

/// Earlier runs that are looked at when blind windows are counted; windows may have several.
const RUNS_PER_BLIND_WINDOW: u32 = 4;

/// What monitoring speaks to.
pub struct MonitoringDeps {
    /// Earlier runs, and what served.
    pub journal: Arc<dyn Journal>,
    /// Keeps the profile of the window.
    pub profiles: Arc<dyn ProfileStore>,
    /// Counts the window.
    pub source: Arc<dyn ProfileSource>,
    /// Where latencies are measured.
    pub latency: Arc<dyn LatencySource>,
    /// Holds the reference of the version.
    pub registry: Arc<dyn ModelRegistry>,
    /// What is checked.
    pub monitors: Vec<Box<dyn Monitor>>,
    /// Who is told.
    pub reporters: Vec<Box<dyn Reporter>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What monitoring is set to.
#[derive(Debug, Clone, PartialEq)]
pub struct MonitoringConfig {
    /// Model and target.
    pub subject: Subject,
    /// Digest of the whole configuration: another one makes another run.
    pub config_digest: Sha256Digest,
    /// Windows that ended longer ago are recorded, and nobody is told; none: never stale.
    pub stale_after: Option<TimeDelta>,
    /// How long labels take: those of the window that ended so much earlier are judged; zero: those
    /// of the window itself.
    pub label_delay: TimeDelta,
    /// So many windows in a row that could not be judged are an alert; 0: never.
    pub max_blind_windows: u32,
    /// How many false alarms are allowed; none: each monitor is as sure as its own settings say.
    pub false_alarms: Option<FalseAlarmBudget>,
    /// Folder in which references are kept between runs.
    pub work: PathBuf,
}

/// Which window to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitoringRequest {
    /// The window.
    pub window: Window,
    /// The moment that counts as now; none: the clock's.
    pub as_of: Option<DateTime<Utc>>,
    /// Number of the version to judge; none: the one that served longest in the window, by the
    /// verified switch times of the ledger.
    pub version: Option<u64>,
}

/// What a monitoring run came to: the last line of output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MonitoringResult {
    /// [`MONITORING_FORMAT`].
    pub schema: String,
    /// The run.
    pub run_id: RunId,
    /// The judgement.
    pub outcome: MonitoringOutcome,
    /// Whether alert reporters were called for: an alert, broken data, or too many blind windows.
    pub alerting: bool,
    /// Whether the window is so old that nobody was told.
    pub stale: bool,
    /// The version that was judged.
    pub version: VersionRef,
    /// The window with its rows.
    pub window: ReportWindow,
    /// The earlier window that labels were looked at in, where they are given time to arrive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_window: Option<Window>,
    /// Windows in a row, this one included, that could not be judged.
    pub blind_windows: u32,
    /// The page about this run, where a reporter wrote one.
    pub report: Option<PathBuf>,
    /// Every check, in the order of the monitors.
    pub findings: Vec<Finding>,
    /// Monitors that failed.
    pub failures: Vec<MonitorFailure>,
    /// Reporters that failed; the verdict stands all the same.
    pub reporter_failures: Vec<ReporterFailure>,
}

/// A reporter that could not hand the report on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReporterFailure {
    /// Its name in the configuration.
    pub reporter: String,
    /// The error with its causes.
    pub error: String,
}

/// Judges windows of traffic and reports on them.
pub struct MonitoringOrchestrator {
    pub(crate) deps: MonitoringDeps,
    pub(crate) config: MonitoringConfig,
}

impl MonitoringOrchestrator {
    /// Puts the parts together; calls nobody.
    #[must_use]
    pub fn new(deps: MonitoringDeps, config: MonitoringConfig) -> Self {
        Self { deps, config }
    }

    /// Judges one window: all monitors look, also when one fails; the run is recorded before
    /// anybody is told, and a reporter that fails hides nothing. A repeat leaves one record.
    ///
    /// # Errors
    /// When the window has not ended, nothing serves, or traffic, reference or ledger could not be
    /// read or written.
    pub async fn run(
        &self,
        request: &MonitoringRequest,
    ) -> Result<MonitoringResult, OrchestratorError> {
        let as_of = request.as_of.unwrap_or_else(|| self.deps.clock.now());
        check_ended(request.window, as_of)?;
        let served = self.served().await?;
        let version = self.version(request, &served).await?;
        let registry = self.deps.registry.as_ref();
        let (subject, work) = (&self.config.subject, &self.config.work);
        let reference = reference::load(registry, &version, subject, work).await?;
        let key = ProfileKey { subject: subject.clone(), version: version.version.digest };
        let count = async |window| {
            let (key, schema) = (key.clone(), reference.schema.clone());
            let (others, spans) = (served.answering_in(window), served.spans());
            self.profile(ProfileRequest { key, schema, others, spans, window, as_of }).await
        };
        let window = count(request.window).await?;
        let labels = match self.label_window(request.window)? {
            Some(earlier) => Some(count(earlier).await?),
            None => None,
        };
        let counted = Counted { window, labels };
        let (report, evidence) = self.judge(reference, &version, counted, as_of).await?;
        let (record, messages) = (record_of(&report)?, self.messages(&report));
        self.deps.journal.record_run_with(&record, &messages).await?;
        let is_told = self.reporters(&report).next().is_some();
        let history = if is_told { self.history(&report).await } else { vec![] };
        let judged = Judged { report, evidence, history };
        let reporter_failures = self.tell(&judged).await;
        Ok(self.result(judged.report, reporter_failures))
    }

    /// Merges the windows of days that are long over, a few days a run. Those whose labels are still
    /// waited for are left; what cannot be done is for a later run.
    pub async fn merge_old_days(&self) {
        // The window of labels is as long as that of the run, and that a day as a rule.
        let labelled = self.config.label_delay + TimeDelta::days(2);
        let until = self.deps.clock.now().checked_sub_signed(KEPT.max(labelled));
        let Some(until) = until else { return };
        let merged = self.deps.profiles.merge_days(&self.config.subject, until, DAYS_PER_RUN).await;
        match merged {
            Ok(0) => {}
            Ok(days) => tracing::info!(days, "merged windows into days"),
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "windows were not merged into days");
            }
        }
    }

    /// The version that was asked for, else the one that served longest in the window.
    async fn version(
        &self,
        request: &MonitoringRequest,
        served: &Served,
    ) -> Result<ModelVersion, OrchestratorError> {
        let subject = &self.config.subject;
        let doing = format!("finding the version of {subject} to monitor");
        let wanted = match request.version {
            Some(number) => Wanted::Number(number),
            None => match served.longest_in(request.window) {
                Some(version) => Wanted::Exactly(version),
                None => Wanted::ReferenceOnly,
            },
        };
        let versions = self.deps.registry.versions(&subject.model).await?;
        if wanted == Wanted::ReferenceOnly {
            return referencing::newest(&versions).cloned().ok_or_else(|| {
                let problem = "no version was switched to production yet; deploy one, name one by its number, or \
                               build the reference of a model from elsewhere with `reference build`";
                OrchestratorError::invalid(&doing, problem)
            });
        }
        versions.into_iter().find(|version| wanted.is(version)).ok_or_else(|| match wanted {
            Wanted::Number(number) => OrchestratorError::invalid(
                doing,
                format!("the registry has no version {number} of `{}`", subject.model),
            ),
            Wanted::Exactly(version) => OrchestratorError::needs_person(
                doing,
                format!("{version} served, but the registry does not have it; restore it"),
            ),
            Wanted::ReferenceOnly => OrchestratorError::invalid(doing, "there is none"),
        })
    }

    async fn served(&self) -> Result<Served, OrchestratorError> {
        Ok(served(self.deps.journal.as_ref(), &self.config.subject).await?)
    }

    /// Counts a window, and keeps the counts.
    async fn profile(&self, request: ProfileRequest) -> Result<Profile, OrchestratorError> {
        let stored = self.deps.source.profile(&request).await?;
        self.deps.profiles.put(&request.schema, &stored).await?;
        Ok(stored.profile)
    }

    async fn judge(
        &self,
        reference: LoadedReference,
        version: &ModelVersion,
        counted: Counted,
        as_of: DateTime<Utc>,
    ) -> Result<(MonitoringReport, Evidence), OrchestratorError> {
        let window = counted.window.window;
        let (profile, label_window) =
            (counted.window.digest(), counted.labels.as_ref().map(|labels| labels.window));
        let run_id = self.run_of(&version.version, window);
        let Looked { evidence, findings, failures, outcome } =
            self.look(reference, version.version, counted).await?;
        let blind_windows = match outcome {
            MonitoringOutcome::InsufficientData => {
                1 + self.blind_before(&run_id, &version.version, window).await?
            }
            _ => 0,
        };
        let current = &evidence.current;
        let report = MonitoringReport {
            schema: MONITORING_FORMAT.to_owned(),
            run_id,
            subject: self.config.subject.clone(),
            version: version.version,
            window: ReportWindow {
                bounds: window,
                rows: current.rows,
                quarantined: current.quarantined,
                other_version: current.other_version,
                mixed: current.mixed,
            },
            outcome,
            findings,
            failures,
            blind_windows,
            stale: self.config.stale_after.is_some_and(|age| as_of - window.end() > age),
            label_window,
            profile,
            reference: evidence.reference.digest(),
            as_of,
        };
        Ok((report, evidence))
    }

    /// Which run this is: the same for each repeat. Reads ledger and registry, since a run is told by
    /// the version that it judges; where that cannot be told, [`Self::run`] fails for the same reason.
    ///
    /// # Errors
    /// When nothing serves, or ledger or registry could not be read.
    pub async fn run_id(&self, request: &MonitoringRequest) -> Result<RunId, OrchestratorError> {
        let version = self.version(request, &self.served().await?).await?;
        Ok(self.run_of(&version.version, request.window))
    }

    fn run_of(&self, version: &VersionRef, window: Window) -> RunId {
        let subject = &self.config.subject;
        RunId::derive(&[
            RunKind::Monitoring.as_str(),
            subject.model.as_str(),
            subject.target.as_str(),
            &version.digest.to_string(),
            &window.start().to_rfc3339(),
            &window.end().to_rfc3339(),
            &self.config.config_digest.to_string(),
        ])
    }

    async fn blind_before(
        &self,
        run_id: &RunId,
        version: &VersionRef,
        window: Window,
    ) -> Result<u32, OrchestratorError> {
        let query = RunQuery {
            kind: RunKind::Monitoring,
            subject: self.config.subject.clone(),
            since: None,
            limit: self
                .config
                .max_blind_windows
                .saturating_add(1)
                .saturating_mul(RUNS_PER_BLIND_WINDOW),
        };
        let runs = self.deps.journal.runs(&query).await?;
        let others: Vec<_> = runs.into_iter().filter(|run| run.run_id != *run_id).collect();
        Ok(blind_in_a_row(&others, &version.digest, window))
    }

    /// The reporters that the outcome is for; none when the window is stale.
    fn reporters(&self, report: &MonitoringReport) -> impl Iterator<Item = &dyn Reporter> {
        let (stale, alerting) = (report.stale, self.is_alerting(report));
        let all = self.deps.reporters.iter().map(AsRef::as_ref);
        all.filter(move |one| !stale && one.when().applies(alerting))
    }

    /// What people are to be told, whoever of this run is left to do it.
    fn messages(&self, report: &MonitoringReport) -> Vec<Message> {
        self.reporters(report).flat_map(|reporter| reporter.messages(report)).collect()
    }

    /// Calls the reporters that the outcome is for; gives those that failed.
    async fn tell(&self, judged: &Judged) -> Vec<ReporterFailure> {
        let mut failures = vec![];
        for reporter in self.reporters(&judged.report) {
            if let Err(error) = reporter.report(judged).await {
                let failure = ReporterFailure {
                    reporter: reporter.name().to_owned(),
                    error: error_chain(&error),
                };
                tracing::error!(reporter = failure.reporter, error = failure.error, "not reported");
                failures.push(failure);
            }
        }
        failures
    }

    fn is_alerting(&self, report: &MonitoringReport) -> bool {
        self.is_alert(report.outcome, report.blind_windows)
    }

    fn result(
        &self,
        report: MonitoringReport,
        reporter_failures: Vec<ReporterFailure>,
    ) -> MonitoringResult {
        let has_failed = |one: &dyn Reporter| {
            reporter_failures.iter().any(|failure| failure.reporter == one.name())
        };
        let told = self.reporters(&report).filter(|one| !has_failed(*one));
        let page = told.filter_map(|one| one.page(&report)).next();
        MonitoringResult {
            alerting: self.is_alerting(&report) && !report.stale,
            schema: report.schema,
            run_id: report.run_id,
            outcome: report.outcome,
            stale: report.stale,
            version: report.version,
            window: report.window,
            label_window: report.label_window,
            blind_windows: report.blind_windows,
            report: page,
            findings: report.findings,
            failures: report.failures,
            reporter_failures,
        }
    }
}

/// Half a window judged would be recorded as the whole one.
fn check_ended(window: Window, as_of: DateTime<Utc>) -> Result<(), OrchestratorError> {
    if window.end() <= as_of {
        return Ok(());
    }
    let problem = format!(
        "the window ends at {}, and now is {}; judge it once it has ended",
        window.end().to_rfc3339_opts(SecondsFormat::AutoSi, true),
        as_of.to_rfc3339_opts(SecondsFormat::AutoSi, true)
    );
    Err(OrchestratorError::invalid(format!("monitoring the window {window}"), problem))
}

#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Number(u64),
    Exactly(VersionRef),
    /// The newest reference of a model that was not deployed here.
    ReferenceOnly,
}

impl Wanted {
    fn is(&self, version: &ModelVersion) -> bool {
        match self {
            Self::Number(number) => version.version.number == *number,
            Self::Exactly(wanted) => version.version == *wanted,
            Self::ReferenceOnly => false,
        }
    }
}

fn record_of(report: &MonitoringReport) -> Result<RunRecord, OrchestratorError> {
    Ok(RunRecord {
        run_id: report.run_id.clone(),
        kind: RunKind::Monitoring,
        subject: report.subject.clone(),
        version: Some(report.version.digest),
        window: Some(report.window.bounds),
        as_of: report.as_of,
        outcome: report.outcome.as_str().to_owned(),
        body: serde_json::to_value(report)
            .map_err(OrchestratorError::damaged("the monitoring report"))?,
    })
}

/// Windows in a row, ending before `window` does, whose newest run of this version could not judge.
fn blind_in_a_row(runs: &[RunRecord], version: &Sha256Digest, window: Window) -> u32 {
    let mut newest: BTreeMap<_, &RunRecord> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.version == Some(*version)) {
        let Some(bounds) = run.window.filter(|bounds| bounds.end() < window.end()) else {
            continue;
        };
        let known = newest.entry((bounds.end(), bounds.start())).or_insert(run);
        if known.as_of < run.as_of {
            *known = run;
        }
    }
    let blind = MonitoringOutcome::InsufficientData.as_str();
    newest.values().rev().take_while(|run| run.outcome == blind).count() as u32
}
