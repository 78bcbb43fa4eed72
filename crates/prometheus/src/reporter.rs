//! Writes a report's metrics where the textfile collector of `node_exporter` finds them.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use mloop_core::MonitoringReport;
use mloop_platform::files::{Readers, replace, replaceable};
use mloop_reporter::{BuildError, Judged, Reporter, ReporterDeps, ReporterError, Spec, When};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::encode;
use crate::families::{always, families, max_series, window_end};

/// Settings of kind `prometheus_textfile`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusConfig {
    /// The file, ending in `.prom`; replaced as a whole at every run, but not by the numbers of an
    /// older window.
    path: PathBuf,
    /// On which outcomes it is written. `always` keeps no stale good value in a graph while an
    /// alert fires.
    #[serde(default = "always")]
    when: When,
    /// Findings written at most; the rest is counted.
    #[serde(default = "max_series")]
    max_series: usize,
}

impl Spec<Box<dyn Reporter>, ReporterDeps> for PrometheusConfig {
    const KIND: &'static str = "prometheus_textfile";

    fn build(self, name: String, deps: &ReporterDeps) -> Result<Box<dyn Reporter>, BuildError> {
        if self.path.extension().is_none_or(|extension| extension != "prom") {
            let problem = "must end in .prom: the textfile collector reads no other files";
            return Err(BuildError::invalid("path", problem));
        }
        let path = deps.platform.resolve(&self.path);
        Ok(Box::new(PrometheusReporter {
            name,
            when: self.when,
            path,
            max_series: self.max_series,
        }))
    }
}

/// Exports the numbers of a run.
pub struct PrometheusReporter {
    name: String,
    when: When,
    path: PathBuf,
    max_series: usize,
}

#[async_trait]
impl Reporter for PrometheusReporter {
    fn name(&self) -> &str {
        &self.name
    }

    fn when(&self) -> When {
        self.when
    }

    async fn probe(&self) -> Result<bool, ReporterError> {
        replaceable(&self.path).map(|()| true).map_err(|cause| self.refused(cause))
    }

    async fn report(&self, judged: &Judged) -> Result<(), ReporterError> {
        let report = &judged.report;
        if is_overtaken(&self.path, report) {
            let path = self.path.display();
            tracing::info!("{path} has the numbers of a newer window, and keeps them");
            return Ok(());
        }
        let text = encode(&families(report, self.max_series));
        let folder = self.path.parent().unwrap_or(Path::new("."));
        // Readable by all: the collector runs as another user. It takes only files that end in `.prom`,
        // so that it never sees an unfinished one.
        std::fs::create_dir_all(folder)
            .and_then(|()| replace(&self.path, text.as_bytes(), Readers::Anybody))
            .map_err(|cause| self.refused(cause))
    }
}

impl PrometheusReporter {
    fn refused(&self, cause: std::io::Error) -> ReporterError {
        let doing = format!("writing the metrics to {}", self.path.display());
        ReporterError::Refused { doing, cause: cause.into() }
    }
}

/// Whether the file has the numbers of a window of this subject that ended later. A file that
/// cannot be read or says nothing of it is replaced.
fn is_overtaken(path: &Path, report: &MonitoringReport) -> bool {
    let Ok(text) = std::fs::read_to_string(path) else { return false };
    let ours = encode(&[window_end(report)]);
    let Some((series, _)) = ours.lines().last().and_then(|line| line.rsplit_once(' ')) else {
        return false;
    };
    let value = |line: &str| line.strip_prefix(series)?.trim().parse::<f64>().ok();
    text.lines()
        .find_map(value)
        .is_some_and(|end| end > report.window.bounds.end().timestamp() as f64)
}

#[cfg(test)]
mod tests {
    use mloop_core::{MonitoringOutcome, TargetName, Window};
    use mloop_reporter::conformance::{check_reporter, judged, sample_report};

    use super::*;

    fn reporter(folder: &Path) -> PrometheusReporter {
        PrometheusReporter {
            name: "prometheus".to_owned(),
            when: When::Always,
            path: folder.join("metrics/mloop.prom"),
            max_series: 10,
        }
    }

    #[tokio::test]
    async fn an_older_window_does_not_replace_a_newer_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let reporter = reporter(folder.path());
        let mut report = sample_report(MonitoringOutcome::Ok);
        let day = |day: u32| {
            let at = |hour| format!("2026-03-{day:02}T{hour}:00:00Z").parse().expect("a moment");
            Window::new(at(12), at(13)).expect("a window")
        };
        for (on, rows, shown) in [(2, 1, 1), (1, 2, 1), (2, 3, 3), (3, 4, 4), (2, 5, 4)] {
            (report.window.bounds, report.window.rows) = (day(on), rows);
            reporter.report(&judged(report.clone())).await.expect("written, or left");
            let text = std::fs::read_to_string(&reporter.path).expect("written");
            let line = text.lines().find(|line| line.starts_with("mloop_window_rows{"));
            assert!(line.is_some_and(|line| line.ends_with(&format!(" {shown}"))), "{line:?}");
        }
        report.subject.target = TargetName::new("elsewhere").expect("a name");
        reporter.report(&judged(report.clone())).await.expect("written");
        let text = std::fs::read_to_string(&reporter.path).expect("written");
        assert!(text.contains("target=\"elsewhere\""), "another subject's file is replaced");
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_written_is_told_by_a_look() {
        let folder = tempfile::tempdir().expect("a folder");
        let reporter = reporter(folder.path());
        assert!(reporter.probe().await.expect("its folder can be made"));
        assert!(!folder.path().join("metrics").exists(), "nothing was made");
        std::fs::write(folder.path().join("metrics"), "").expect("written");
        let looked = reporter.probe().await.expect_err("no folder").to_string();
        assert!(looked.contains("metrics/mloop.prom"), "{looked}");
    }

    #[tokio::test]
    async fn the_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let reporter = reporter(folder.path());
        let lines = || async {
            let folder = reporter.path.parent().expect("a folder");
            assert_eq!(std::fs::read_dir(folder).expect("made").count(), 1, "one file");
            std::fs::read_to_string(&reporter.path).expect("written").lines().count()
        };
        check_reporter(&reporter, lines).await;
    }
}
