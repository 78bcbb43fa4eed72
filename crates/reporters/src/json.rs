//! The report as it is, one JSON file a run.

use std::path::PathBuf;

use async_trait::async_trait;
use mloop_reporter::{BuildError, Judged, Reporter, ReporterDeps, ReporterError, Spec, When};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::file::{probe, write_atomically};

/// Settings of kind `json`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonConfig {
    /// Folder of the files, `{run_id}.json` each.
    folder: PathBuf,
    /// On which outcomes a file is written.
    #[serde(default = "always")]
    when: When,
}

pub(crate) fn always() -> When {
    When::Always
}

impl Spec<Box<dyn Reporter>, ReporterDeps> for JsonConfig {
    const KIND: &'static str = "json";

    fn build(self, name: String, deps: &ReporterDeps) -> Result<Box<dyn Reporter>, BuildError> {
        let folder = deps.platform.resolve(&self.folder);
        Ok(Box::new(JsonReporter { name, when: self.when, folder }))
    }
}

/// Writes each report to a file of its own.
pub struct JsonReporter {
    name: String,
    when: When,
    folder: PathBuf,
}

#[async_trait]
impl Reporter for JsonReporter {
    fn name(&self) -> &str {
        &self.name
    }

    fn when(&self) -> When {
        self.when
    }

    async fn probe(&self) -> Result<bool, ReporterError> {
        probe(&self.folder)
    }

    async fn report(&self, judged: &Judged) -> Result<(), ReporterError> {
        let report = &judged.report;
        let path = self.folder.join(format!("{}.json", report.run_id));
        let text = serde_json::to_vec_pretty(report).map_err(|cause| ReporterError::Refused {
            doing: format!("writing the report {} as JSON", report.run_id),
            cause: cause.into(),
        })?;
        write_atomically(&path, &text)
    }
}

#[cfg(test)]
mod tests {
    use mloop_core::{MonitoringOutcome, MonitoringReport};
    use mloop_reporter::conformance::{check_reporter, sample, sample_report};

    use super::*;

    #[tokio::test]
    async fn a_run_is_one_file_that_reads_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let reporter = JsonReporter {
            name: "json".to_owned(),
            when: When::Always,
            folder: folder.path().join("reports"),
        };
        let count = || async { std::fs::read_dir(&reporter.folder).expect("made").count() };
        check_reporter(&reporter, count).await;

        let report = sample_report(MonitoringOutcome::Alert);
        let path = reporter.folder.join(format!("{}.json", report.run_id));
        let text = std::fs::read(path).expect("written");
        assert_eq!(serde_json::from_slice::<MonitoringReport>(&text).expect("JSON"), report);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_made_is_told() {
        let reporter = JsonReporter {
            name: "json".to_owned(),
            when: When::Always,
            folder: PathBuf::from("/dev/null/reports"),
        };
        let error = reporter.report(&sample(MonitoringOutcome::Ok)).await.expect_err("no folder");
        assert!(error.to_string().contains("/dev/null/reports"), "{error}");
        assert!(!error.is_transient());
        let looked = reporter.probe().await.expect_err("no folder");
        assert!(looked.to_string().contains("/dev/null/reports"), "{looked}");
    }
}
