//! Training jobs as runs of an Airflow DAG, by the REST API of Airflow 3.
//!
//! | contract | kind | implementation |
//! |---|---|---|
//! | job submitter | `airflow` | [`AirflowSubmitter`] |
//!
//! A job is one run of the training DAG (`dags/training_dag.py`), named by the job's id, with the job
//! and its digest as `conf`. Airflow takes each name once: whoever submits again finds the run,
//! compares the digest, and adopts it. A job that was interrupted goes on in a further run,
//! `{job id}__2` and so on, since a run that has ended keeps its name and its history.
//!
//! Its end is read from the `XCom`s of the training task, before the state of the run: `mloop_result`,
//! which the shipped DAG pushes however the task ended, else `return_value`, which Airflow itself keeps
//! of a success. docs/how-to/airflow.md says what a DAG of your own must do.

mod api;
mod runs;
mod settings;
mod submitter;

use mloop_platform::SubmitterRegistry;
pub use settings::AirflowSubmitterSettings;
pub use submitter::AirflowSubmitter;

/// Registers the kind of job submitters.
pub fn register_submitters(registry: &mut SubmitterRegistry) {
    registry.register::<AirflowSubmitterSettings>();
}
