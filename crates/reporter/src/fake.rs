//! A reporter that remembers.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use mloop_core::MonitoringReport;

use crate::{Judged, Reporter, ReporterError, When};

/// Keeps the newest report of each run in memory.
pub struct RecordingReporter {
    name: String,
    when: When,
    reports: Mutex<Vec<MonitoringReport>>,
}

impl RecordingReporter {
    /// A reporter without reports.
    #[must_use]
    pub fn new(name: &str, when: When) -> Self {
        Self { name: name.to_owned(), when, reports: Mutex::default() }
    }

    /// What was reported, in order.
    #[must_use]
    pub fn reports(&self) -> Vec<MonitoringReport> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Reporter for RecordingReporter {
    fn name(&self) -> &str {
        &self.name
    }

    fn when(&self) -> When {
        self.when
    }

    async fn report(&self, judged: &Judged) -> Result<(), ReporterError> {
        let report = &judged.report;
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.retain(|known| known.run_id != report.run_id);
        reports.push(report.clone());
        Ok(())
    }
}
