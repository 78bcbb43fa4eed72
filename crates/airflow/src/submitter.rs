//! The submitter.

use async_trait::async_trait;
use mloop_core::JobId;
use mloop_core::job::{JobSpec, JobStatus};
use mloop_platform::{JobSubmitter, PlatformError, Submission};
use serde::Deserialize;
use serde_json::Value;

use crate::api::Airflow;
use crate::runs::{Conf, DagRun, RunState, run_id};

/// Where the shipped DAG leaves exit code and last line, however its task ended.
const RESULT: &str = "mloop_result";

/// Where Airflow leaves what a successful task returns: the last line.
const RETURNED: &str = "return_value";

/// Starts jobs as runs of a DAG.
pub struct AirflowSubmitter {
    airflow: Airflow,
    task: String,
}

#[async_trait]
impl JobSubmitter for AirflowSubmitter {
    async fn probe(&self) -> Result<(), PlatformError> {
        let doing = "asking whether Airflow would take a job";
        self.airflow.runs(doing, &JobId::derive(&["nobody"])).await?;
        self.airflow.check_dag(doing).await
    }

    async fn submit_training_job(&self, spec: &JobSpec) -> Result<Submission, PlatformError> {
        let doing = format!("submitting {}", spec.job_id);
        let conf = Conf::of(&doing, spec)?;
        let runs = self.airflow.runs(&doing, &spec.job_id).await?;
        for (_, run) in &runs {
            conf.compare(&doing, run)?;
        }
        let next = match runs.last() {
            None => 1,
            Some((number, run)) => {
                if !self.status_of(&doing, run).await?.is_interrupted() {
                    if run.state == RunState::Queued {
                        self.airflow.check_dag(&doing).await?;
                    }
                    return Ok(self.submission(&run.dag_run_id, true));
                }
                number + 1
            }
        };
        self.airflow.check_dag(&doing).await?;
        self.start(&doing, &run_id(&spec.job_id, next), &conf).await
    }

    async fn status(&self, job: &JobId) -> Result<JobStatus, PlatformError> {
        let doing = format!("asking for {job}");
        let runs = self.airflow.runs(&doing, job).await?;
        let Some((_, run)) = runs.last() else { return Ok(JobStatus::Unknown) };
        let status = self.status_of(&doing, run).await?;
        if status == JobStatus::Queued
            && let Err(problem) = self.airflow.check_dag(&doing).await
        {
            tracing::warn!(%problem, "the job waits");
        }
        Ok(status)
    }

    async fn cancel(&self, job: &JobId) -> Result<(), PlatformError> {
        let doing = format!("stopping {job}");
        let runs = self.airflow.runs(&doing, job).await?;
        match runs.last() {
            Some((_, run)) if run.state.is_open() => {
                self.airflow.stop(&doing, &run.dag_run_id).await
            }
            _ => Ok(()),
        }
    }
}

impl AirflowSubmitter {
    pub(crate) fn new(airflow: Airflow, task: String) -> Self {
        Self { airflow, task }
    }

    fn submission(&self, run: &str, adopted: bool) -> Submission {
        Submission { handle: self.airflow.page(run), adopted }
    }

    /// Starts a run. One of its name that is there already was started by a call whose answer was
    /// lost, or by another copy of this program.
    async fn start(&self, doing: &str, id: &str, conf: &Conf) -> Result<Submission, PlatformError> {
        if self.airflow.start(doing, id, conf.value()).await? {
            return Ok(self.submission(id, false));
        }
        let Some(run) = self.airflow.run(doing, id).await? else {
            let cause = format!("it refuses a second run `{id}`, and does not have a first");
            return Err(PlatformError::unavailable("Airflow", doing, cause));
        };
        conf.compare(doing, &run)?;
        Ok(self.submission(id, true))
    }

    async fn status_of(&self, doing: &str, run: &DagRun) -> Result<JobStatus, PlatformError> {
        match run.state {
            RunState::Queued => Ok(JobStatus::Queued),
            RunState::Running => Ok(JobStatus::Running),
            RunState::Success | RunState::Failed => self.end_of(doing, run).await,
        }
    }

    /// How the training of a run that is over ended. Its own words count, whatever state the run was
    /// put into afterwards.
    async fn end_of(&self, doing: &str, run: &DagRun) -> Result<JobStatus, PlatformError> {
        let (id, task) = (&run.dag_run_id, &self.task);
        for (key, read) in [(RESULT, by_result as fn(Value) -> _), (RETURNED, by_line)] {
            if let Some(value) = self.airflow.xcom(doing, id, task, key).await? {
                return read(value).ok_or_else(|| {
                    let problem = format!(
                        "the XCom `{key}` of task `{task}` in run `{id}` is no result of a training; see \
                         docs/how-to/airflow.md for what the DAG must leave there"
                    );
                    PlatformError::conflict(doing, problem)
                });
            }
        }
        let state = self.airflow.task_state(doing, id, task).await?;
        no_result(doing, run, task, state.as_deref())
    }
}

/// What `mloop_result` says.
fn by_result(value: Value) -> Option<JobStatus> {
    #[derive(Deserialize)]
    struct Ended {
        exit_code: i32,
        result: Option<Value>,
    }
    let ended: Ended = serde_json::from_value(value).ok()?;
    Some(JobStatus::of_exit_code(ended.exit_code, ended.result))
}

/// What a last line says; as text where the task has no `output_processor`.
fn by_line(value: Value) -> Option<JobStatus> {
    match value {
        Value::String(line) => JobStatus::of_last_line(serde_json::from_str(&line).ok()?),
        line => JobStatus::of_last_line(line),
    }
}

/// What a run that is over means when its task left no result.
fn no_result(
    doing: &str,
    run: &DagRun,
    task: &str,
    state: Option<&str>,
) -> Result<JobStatus, PlatformError> {
    let id = &run.dag_run_id;
    match (run.state, state) {
        (RunState::Success, None) => {
            let problem =
                format!("run `{id}` has no task `{task}`: correct `task_id` of the submitter");
            Err(PlatformError::invalid(doing, problem))
        }
        // The gate's verdict may be one that skips the task: which, nobody can say any more.
        (RunState::Success, Some(state)) => {
            let problem = format!(
                "run `{id}` succeeded, but its task `{task}` ({state}) left no result: the DAG must push \
                 the XCom `{RESULT}`, as dags/training_dag.py does; see docs/how-to/airflow.md"
            );
            Err(PlatformError::conflict(doing, problem))
        }
        (_, state) => {
            let state = state.unwrap_or("never made");
            let reason = format!(
                "run `{id}` failed without a result of its task `{task}` ({state}); see its log in Airflow"
            );
            Ok(JobStatus::Lost { reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The exit code, `lost`, or `none`.
    fn shown(status: Option<JobStatus>) -> String {
        match status {
            Some(JobStatus::Finished { exit_code, .. }) => exit_code.to_string(),
            Some(JobStatus::Lost { .. }) => "lost".to_owned(),
            Some(other) => format!("{other:?}"),
            None => "none".to_owned(),
        }
    }

    #[test]
    fn results_are_read_however_the_dag_leaves_them() {
        let blessed = json!({"outcome": "blessed"});
        let table = [
            (json!({"exit_code": 0, "result": blessed}), "0"),
            (json!({"exit_code": 11, "result": null}), "11"),
            (json!({"exit_code": 30}), "30"),
            (json!({"exit_code": -9, "result": null}), "lost"),
            (json!({"exit_code": 137}), "lost"),
            (json!({"exit_code": "0"}), "none"),
            (json!("0"), "none"),
        ];
        for (value, expected) in table {
            assert_eq!(shown(by_result(value.clone())), expected, "{value}");
        }
        let table = [
            (blessed.clone(), "0"),
            (json!(blessed.to_string()), "0"),
            (json!({"outcome": "error", "error": {"exit_code": 20}}), "20"),
            (json!({"outcome": "started"}), "none"),
            (json!("done"), "none"),
            (Value::Null, "none"),
        ];
        for (value, expected) in table {
            assert_eq!(shown(by_line(value.clone())), expected, "{value}");
        }
    }

    #[test]
    fn a_run_without_a_result_is_lost_or_needs_a_person() {
        let judged = |state, task: Option<&str>| {
            let run = DagRun { dag_run_id: "job-a".to_owned(), state, conf: Value::Null };
            match no_result("testing", &run, "train", task) {
                Ok(status) => shown(Some(status)),
                Err(PlatformError::Invalid { .. }) => "invalid".to_owned(),
                Err(PlatformError::Conflict { .. }) => "conflict".to_owned(),
                Err(other) => format!("{other:?}"),
            }
        };
        assert_eq!(judged(RunState::Failed, Some("failed")), "lost");
        assert_eq!(judged(RunState::Failed, Some("upstream_failed")), "lost");
        assert_eq!(judged(RunState::Failed, None), "lost");
        assert_eq!(judged(RunState::Success, Some("skipped")), "conflict");
        assert_eq!(judged(RunState::Success, Some("success")), "conflict");
        assert_eq!(judged(RunState::Success, None), "invalid");
    }
}
