//! Replay: the monitors of today over the stored windows of the past.

use std::collections::BTreeMap;
use std::fmt;

use mloop_core::profile::StoredProfile;
use mloop_core::report::MONITORING_FORMAT;
use mloop_core::run::RunKind;
use mloop_core::{
    Finding, ModelVersion, MonitoringOutcome, Profile, RunId, Sha256Digest, VersionRef, Window,
    error_chain,
};
use mloop_platform::{ProfilePlace, ProfileQuery};
use serde::Serialize;

use crate::judging::{Counted, Looked};
use crate::monitoring::MonitoringOrchestrator;
use crate::reference::{self, LoadedReference};
use crate::spans::PAGE;
use crate::{Classified as _, ExitClass, FalseAlarmBudget, OrchestratorError};

/// Windows and checks that the result lists at most; all are counted, and told as they come.
const LISTED: usize = 20;

/// A window as it would have been judged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplayedWindow {
    /// Start and end.
    #[serde(flatten)]
    pub window: Window,
    /// The version that answered.
    pub version: VersionRef,
    /// Rows of the version.
    pub rows: u64,
    /// The judgement.
    pub outcome: MonitoringOutcome,
    /// Windows in a row, this one included, that could not be judged.
    pub blind_windows: u32,
    /// Whether people would have been told.
    pub alerting: bool,
    /// What would have alerted, in a sentence each, worst first.
    pub alerts: Vec<String>,
}

/// What became of a stored window.
#[derive(Debug, Clone, PartialEq)]
pub enum Replayed {
    /// It was judged.
    Judged(ReplayedWindow),
    /// It could not be, and why.
    Skipped {
        /// The window.
        window: Window,
        /// Why.
        why: Skip,
    },
}

/// Why a stored window is not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// The registry does not have its version, or the version no reference that can be read.
    NoReference,
    /// It was counted under another schema than the reference of its version.
    OtherSchema,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoReference => "its version has no reference that can be read",
            Self::OtherSchema => "it was counted under another schema than the reference",
        })
    }
}

/// How often a check alerted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckAlerts {
    /// Name of the monitor in the configuration.
    pub monitor: String,
    /// What was checked, with its column or group; `failed` of a monitor that could not look.
    pub check: String,
    /// Windows in which it alerted.
    pub windows: u64,
}

/// What a replay came to: the last line of output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplayResult {
    /// [`MONITORING_FORMAT`].
    pub schema: String,
    /// What was replayed with which configuration: the same for each repeat.
    pub run_id: RunId,
    /// `replayed`.
    pub outcome: String,
    /// From when to when.
    pub span: Window,
    /// Windows that were judged.
    pub windows: u64,
    /// How many came to which outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Windows in which people would have been told.
    pub alerting: u64,
    /// The first of them.
    pub would_have_alerted: Vec<ReplayedWindow>,
    /// The checks that alerted most often.
    pub alerts_by_check: Vec<CheckAlerts>,
    /// Checks that alerted and are not listed.
    pub checks_left_off: u64,
    /// False alarms that the budget of the configuration expects in so many windows; none without one.
    pub expected_false_alarms: Option<f64>,
    /// Windows whose labels were to be looked at in an earlier window that is not stored: judged without.
    pub without_labels: u64,
    /// Windows that were not judged, and why.
    pub skipped: BTreeMap<Skip, u64>,
}

/// What is summed up on the way.
struct Tally {
    result: ReplayResult,
    checks: BTreeMap<(String, String), u64>,
    /// Windows in a row that could not be judged, by version.
    blind: BTreeMap<Sha256Digest, u32>,
}

impl MonitoringOrchestrator {
    /// Judges the stored windows within a span anew, oldest first: by the monitors and the budget of the
    /// configuration at hand, each by the reference of the version that answered. Reads no traffic, keeps
    /// nothing and tells nobody; each window is handed to `tell` as it is judged.
    ///
    /// # Errors
    /// When ledger or registry could not be read, or latencies could not be had.
    pub async fn replay(
        &self,
        span: Window,
        tell: &mut (dyn FnMut(&Replayed) + Send),
    ) -> Result<ReplayResult, OrchestratorError> {
        let subject = self.config.subject.clone();
        let versions = self.deps.registry.versions(&subject.model).await?;
        let by_digest = versions.into_iter().map(|version| (version.version.digest, version));
        let versions: BTreeMap<Sha256Digest, ModelVersion> = by_digest.collect();
        let mut tally = self.tally(span);
        let mut query = ProfileQuery { subject, version: None, span, after: None, limit: PAGE };
        // That of the version that answered last: they take turns seldom.
        let mut known: Option<(Sha256Digest, Option<LoadedReference>)> = None;
        loop {
            let page = self.deps.profiles.within(&query).await?;
            let Some(last) = page.last() else { break };
            query.after = Some(ProfilePlace::of(&last.profile));
            for StoredProfile { profile, .. } in page {
                let digest = profile.key.version;
                let version = versions.get(&digest);
                let reference = match known.take().filter(|(of, _)| *of == digest) {
                    Some((_, reference)) => reference,
                    None => self.reference_of(version).await?,
                };
                let replayed = self.again(version.zip(reference.as_ref()), profile, &mut tally);
                tell(&replayed.await?);
                known = Some((digest, reference));
            }
        }
        Ok(tally.result(self.config.false_alarms.map(FalseAlarmBudget::per_window)))
    }

    /// Which replay this is: the same for each repeat with the same configuration.
    #[must_use]
    pub fn replay_id(&self, span: Window) -> RunId {
        let subject = &self.config.subject;
        RunId::derive(&[
            RunKind::Monitoring.as_str(),
            "replay",
            subject.model.as_str(),
            subject.target.as_str(),
            &span.start().to_rfc3339(),
            &span.end().to_rfc3339(),
            &self.config.config_digest.to_string(),
        ])
    }

    fn tally(&self, span: Window) -> Tally {
        let result = ReplayResult {
            schema: MONITORING_FORMAT.to_owned(),
            run_id: self.replay_id(span),
            outcome: "replayed".to_owned(),
            span,
            windows: 0,
            outcomes: BTreeMap::new(),
            alerting: 0,
            would_have_alerted: vec![],
            alerts_by_check: vec![],
            checks_left_off: 0,
            expected_false_alarms: None,
            without_labels: 0,
            skipped: BTreeMap::new(),
        };
        Tally { result, checks: BTreeMap::new(), blind: BTreeMap::new() }
    }

    /// The reference of a version; none where there is none to be had, whenever it is asked for.
    async fn reference_of(
        &self,
        version: Option<&ModelVersion>,
    ) -> Result<Option<LoadedReference>, OrchestratorError> {
        let Some(version) = version else { return Ok(None) };
        let (subject, work) = (&self.config.subject, &self.config.work);
        match reference::load(self.deps.registry.as_ref(), version, subject, work).await {
            Ok(reference) => Ok(Some(reference)),
            Err(error) => match error.exit_class() {
                ExitClass::Configuration | ExitClass::NeedsPerson => {
                    tracing::warn!("{} has no reference: {}", version.version, error_chain(&error));
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }

    /// Judges one stored window.
    async fn again(
        &self,
        of: Option<(&ModelVersion, &LoadedReference)>,
        profile: Profile,
        tally: &mut Tally,
    ) -> Result<Replayed, OrchestratorError> {
        let window = profile.window;
        let Some((version, reference)) = of else {
            return Ok(tally.skip(window, Skip::NoReference));
        };
        let schema = reference.schema.digest();
        if profile.schema != schema {
            return Ok(tally.skip(window, Skip::OtherSchema));
        }
        let labels = match self.label_window(window)? {
            None => None,
            Some(earlier) => {
                let stored = self.deps.profiles.newest(&profile.key, &earlier).await?;
                let stored = stored.map(|(_, stored)| stored.profile);
                Some(stored.filter(|stored| stored.schema == schema).unwrap_or_else(|| {
                    tally.result.without_labels += 1;
                    Profile::new(&reference.schema, profile.key.clone(), earlier)
                }))
            }
        };
        let rows = profile.rows;
        let counted = Counted { window: profile, labels };
        let judged = self.look(reference.clone(), version.version, counted).await?;
        let blind_windows = tally.blind_windows(version.version.digest, judged.outcome);
        let replayed = ReplayedWindow {
            window,
            version: version.version,
            rows,
            outcome: judged.outcome,
            blind_windows,
            alerting: self.is_alert(judged.outcome, blind_windows),
            alerts: sentences(&judged),
        };
        tally.add(&replayed, &judged);
        Ok(Replayed::Judged(replayed))
    }
}

/// What alerted, worst first.
fn sentences(judged: &Looked) -> Vec<String> {
    let mut alerting: Vec<&Finding> =
        judged.findings.iter().filter(|finding| finding.is_alerting()).collect();
    alerting.sort_by_key(|finding| std::cmp::Reverse(finding.status));
    let found =
        alerting.into_iter().map(|finding| format!("{}: {}", finding.monitor, finding.sentence()));
    let failed =
        judged.failures.iter().map(|failure| format!("{}: {}", failure.monitor, failure.error));
    found.chain(failed).collect()
}

impl Tally {
    fn skip(&mut self, window: Window, why: Skip) -> Replayed {
        *self.result.skipped.entry(why).or_default() += 1;
        Replayed::Skipped { window, why }
    }

    fn blind_windows(&mut self, version: Sha256Digest, outcome: MonitoringOutcome) -> u32 {
        let blind = self.blind.entry(version).or_default();
        *blind = if outcome == MonitoringOutcome::InsufficientData { *blind + 1 } else { 0 };
        *blind
    }

    fn add(&mut self, replayed: &ReplayedWindow, judged: &Looked) {
        let result = &mut self.result;
        result.windows += 1;
        *result.outcomes.entry(judged.outcome.as_str().to_owned()).or_default() += 1;
        if replayed.alerting {
            result.alerting += 1;
            if result.would_have_alerted.len() < LISTED {
                let mut listed = replayed.clone();
                listed.alerts.truncate(3);
                result.would_have_alerted.push(listed);
            }
        }
        let alerting = judged.findings.iter().filter(|finding| finding.is_alerting());
        let checks = alerting.map(|finding| (finding.monitor.clone(), finding.subject()));
        let failed = judged.failures.iter();
        let failed = failed.map(|failure| (failure.monitor.clone(), "failed".to_owned()));
        for check in checks.chain(failed).collect::<std::collections::BTreeSet<_>>() {
            *self.checks.entry(check).or_default() += 1;
        }
    }

    fn result(self, false_alarms_a_window: Option<f64>) -> ReplayResult {
        let mut all: Vec<CheckAlerts> = self
            .checks
            .into_iter()
            .map(|((monitor, check), windows)| CheckAlerts { monitor, check, windows })
            .collect();
        // Of those that alerted as often, by name.
        all.sort_by_key(|check| std::cmp::Reverse(check.windows));
        let checks_left_off = all.len().saturating_sub(LISTED) as u64;
        all.truncate(LISTED);
        let windows = self.result.windows as f64;
        let expected_false_alarms = false_alarms_a_window.map(|each| each * windows);
        ReplayResult { alerts_by_check: all, checks_left_off, expected_false_alarms, ..self.result }
    }
}
