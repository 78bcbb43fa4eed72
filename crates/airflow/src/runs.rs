//! The runs of one job: how they are named, and whether they are the job's.

use mloop_core::job::JobSpec;
use mloop_core::{JobId, Sha256Digest};
use mloop_platform::PlatformError;
use serde::Deserialize;
use serde_json::{Value, json};

/// Between a job's id and the number of its run; no id holds it.
const BETWEEN: &str = "__";

/// A run, as Airflow tells of it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DagRun {
    /// Its name within the DAG.
    pub(crate) dag_run_id: String,
    /// How it stands.
    pub(crate) state: RunState,
    /// What it was started with.
    #[serde(default)]
    pub(crate) conf: Value,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunState {
    Queued,
    Running,
    Success,
    Failed,
}

impl RunState {
    /// Whether the run is still to end.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

/// The name of a job's run of this number, from 1.
pub(crate) fn run_id(job: &JobId, number: u32) -> String {
    match number {
        1 => job.to_string(),
        _ => format!("{job}{BETWEEN}{number}"),
    }
}

/// The number of a run by its name; none when it is not one of the job's.
fn number(job: &JobId, run_id: &str) -> Option<u32> {
    match run_id.strip_prefix(job.as_str())? {
        "" => Some(1),
        rest => rest.strip_prefix(BETWEEN)?.parse().ok().filter(|number| *number > 1),
    }
}

/// Of all these runs those of the job, with their numbers, the newest last.
pub(crate) fn of_job(job: &JobId, runs: Vec<DagRun>) -> Vec<(u32, DagRun)> {
    let numbered = |run: DagRun| Some((number(job, &run.dag_run_id)?, run));
    let mut runs: Vec<_> = runs.into_iter().filter_map(numbered).collect();
    runs.sort_by_key(|(number, _)| *number);
    runs
}

/// What a run is started with, and told by.
pub(crate) struct Conf {
    digest: String,
    value: Value,
}

impl Conf {
    /// For a job.
    pub(crate) fn of(doing: &str, spec: &JobSpec) -> Result<Self, PlatformError> {
        let broken = |error: serde_json::Error| PlatformError::invalid(doing, error.to_string());
        let digest = Sha256Digest::of_json(spec).map_err(broken)?.to_string();
        let value = json!({"spec": spec, "spec_digest": digest});
        Ok(Self { digest, value })
    }

    /// As Airflow takes it.
    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// Compares with what a run was started with.
    pub(crate) fn compare(&self, doing: &str, run: &DagRun) -> Result<(), PlatformError> {
        let known = run.conf["spec_digest"].as_str().unwrap_or("none");
        if known == self.digest {
            return Ok(());
        }
        let problem = format!(
            "Airflow has a run `{}` that was started for something else (`spec_digest` in its conf is \
             {known}, not {}); it is not touched: look who started it, and remove it if it is not needed",
            run.dag_run_id, self.digest
        );
        Err(PlatformError::conflict(doing, problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str) -> DagRun {
        DagRun { dag_run_id: id.to_owned(), state: RunState::Failed, conf: Value::Null }
    }

    #[test]
    fn the_runs_of_a_job_are_told_by_their_names() {
        let job = JobId::try_from("job-a".to_owned()).expect("an id");
        assert_eq!((run_id(&job, 1), run_id(&job, 3)), ("job-a".into(), "job-a__3".into()));
        let others = ["job-ab", "job-a__", "job-a__x", "job-a__1", "job-a__0", "job-a-2", "x"];
        let names = others.into_iter().chain(["job-a__10", "job-a__9", "job-a"]);
        let found = of_job(&job, names.map(run).collect());
        let found: Vec<_> = found.iter().map(|(n, run)| (*n, run.dag_run_id.as_str())).collect();
        assert_eq!(found, [(1, "job-a"), (9, "job-a__9"), (10, "job-a__10")]);
        for number in [1, 2, 10, 123] {
            assert_eq!(of_job(&job, vec![run(&run_id(&job, number))])[0].0, number);
        }
    }

    #[test]
    fn a_run_is_the_jobs_when_its_digest_is() {
        let spec = mloop_platform::conformance::samples::job("a job");
        let conf = Conf::of("testing", &spec).expect("a conf");
        let mut known = DagRun { conf: conf.value().clone(), ..run("job-a") };
        conf.compare("testing", &known).expect("its own");
        known.conf["more"] = json!("a person's note");
        conf.compare("testing", &known).expect("still its own");
        for other in
            [json!({}), Value::Null, json!({"spec_digest": 1}), json!({"spec_digest": "x"})]
        {
            let refusal = conf.compare("testing", &DagRun { conf: other, ..run("job-a") });
            let refusal = refusal.expect_err("another's");
            assert!(matches!(refusal, PlatformError::Conflict { .. }), "{refusal:?}");
        }
    }
}
