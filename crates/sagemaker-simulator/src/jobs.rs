//! Training jobs and their states.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::container::{self, Ended};
use crate::fault::Fault;
use crate::names::{name, required, role, text};
use crate::protocol::{ApiError, moment};
use crate::world::World;

/// One training job.
pub(crate) struct Job {
    pub(crate) status: &'static str,
    request: Value,
    secondary: &'static str,
    transitions: Vec<(&'static str, DateTime<Utc>)>,
    reason: Option<String>,
    created: DateTime<Utc>,
    started: Option<DateTime<Utc>>,
    ended: Option<DateTime<Utc>>,
    stop: watch::Sender<bool>,
}

impl Job {
    fn goes_to(&mut self, secondary: &'static str, at: DateTime<Utc>) {
        self.secondary = secondary;
        self.transitions.push((secondary, at));
    }
}

fn arn(world: &World, job: &str) -> String {
    world.arn("training-job", job)
}

/// What SageMaker says of a job that there is not.
pub(crate) fn unknown() -> ApiError {
    ApiError::validation("Requested resource not found.")
}

pub(crate) fn create(world: &Arc<World>, request: &Value) -> Result<Value, ApiError> {
    let job = name(request, "TrainingJobName")?.to_owned();
    role(request, "RoleArn")?;
    text(required(request, "OutputDataConfig")?, "S3OutputPath")?;
    text(required(request, "AlgorithmSpecification")?, "TrainingInputMode")?;
    let resources = required(request, "ResourceConfig")?;
    required(resources, "InstanceType")?;
    required(resources, "VolumeSizeInGB")?;
    let arn = arn(world, &job);
    let now = world.clock.now();
    let (stop, stopped) = watch::channel(false);
    let made = Job {
        status: "InProgress",
        request: request.clone(),
        secondary: "Starting",
        transitions: vec![("Starting", now)],
        reason: None,
        created: now,
        started: None,
        ended: None,
        stop,
    };
    let mut resources = world.resources();
    if resources.jobs.contains_key(&job) {
        let message = format!(
            "Training job names must be unique within an AWS account and region, and a training \
             job with this name already exists ({arn})"
        );
        return Err(ApiError::new(400, "ResourceInUse", message));
    }
    resources.jobs.insert(job.clone(), made);
    drop(resources);
    tokio::spawn(work(Arc::clone(world), job, request.clone(), stopped));
    Ok(json!({"TrainingJobArn": arn}))
}

pub(crate) fn describe(world: &World, request: &Value) -> Result<Value, ApiError> {
    let job = name(request, "TrainingJobName")?;
    let resources = world.resources();
    let found = resources.jobs.get(job).ok_or_else(unknown)?;
    let output = found.request["OutputDataConfig"]["S3OutputPath"].as_str().unwrap_or_default();
    let model = format!("{}/{job}/output/model.tar.gz", output.trim_end_matches('/'));
    let mut answer = json!({
        "TrainingJobName": job,
        "TrainingJobArn": arn(world, job),
        "ModelArtifacts": {"S3ModelArtifacts": model},
        "TrainingJobStatus": found.status,
        "SecondaryStatus": found.secondary,
        "StoppingCondition": found.request["StoppingCondition"],
        "CreationTime": moment(found.created),
        "LastModifiedTime": moment(found.ended.unwrap_or(found.created)),
        "EnableNetworkIsolation": found.request["EnableNetworkIsolation"].as_bool() == Some(true),
    });
    if answer["StoppingCondition"].is_null() {
        answer["StoppingCondition"] = json!({"MaxRuntimeInSeconds": 86_400});
    }
    for member in [
        "AlgorithmSpecification",
        "RoleArn",
        "InputDataConfig",
        "OutputDataConfig",
        "ResourceConfig",
        "CheckpointConfig",
        "HyperParameters",
        "Environment",
    ] {
        if !found.request[member].is_null() {
            answer[member] = found.request[member].clone();
        }
    }
    let times = [("TrainingStartTime", found.started), ("TrainingEndTime", found.ended)];
    for (member, at) in times {
        if let Some(at) = at {
            answer[member] = moment(at);
        }
    }
    if let Some(reason) = &found.reason {
        answer["FailureReason"] = json!(reason.chars().take(1024).collect::<String>());
    }
    answer["SecondaryStatusTransitions"] = found
        .transitions
        .iter()
        .map(|(status, at)| json!({"Status": status, "StartTime": moment(*at)}))
        .collect();
    Ok(answer)
}

pub(crate) fn stop(world: &World, request: &Value) -> Result<Value, ApiError> {
    let job = name(request, "TrainingJobName")?;
    let mut resources = world.resources();
    let found = resources.jobs.get_mut(job).ok_or_else(unknown)?;
    match found.status {
        "Stopping" => {}
        "InProgress" => {
            found.status = "Stopping";
            found.goes_to("Stopping", world.clock.now());
            found.stop.send_replace(true);
        }
        status => {
            let message =
                format!("The request was rejected because the training job is in status {status}.");
            return Err(ApiError::validation(message));
        }
    }
    Ok(Value::Null)
}

/// Takes a job through its states.
async fn work(world: Arc<World>, job: String, request: Value, stopped: watch::Receiver<bool>) {
    tokio::time::sleep(world.settings.delays.starting_job).await;
    let fault = world.faults.take(|fault| matches!(fault, Fault::JobEnds { .. }));
    let ended = match fault {
        Some(Fault::JobEnds { status, reason }) if status == "Stopped" => {
            Ended { status: "Stopped", secondary: "Stopped", reason }
        }
        Some(Fault::JobEnds { reason, .. }) => {
            Ended { status: "Failed", secondary: "Failed", reason }
        }
        _ => {
            let at = |secondary| change(&world, &job, |job, now| job.goes_to(secondary, now));
            container::run(&world, &job, &request, stopped, at).await
        }
    };
    change(&world, &job, |job, now| {
        job.status = ended.status;
        job.reason = ended.reason;
        job.ended = Some(now);
        job.goes_to(ended.secondary, now);
    });
}

fn change(world: &World, job: &str, change: impl FnOnce(&mut Job, DateTime<Utc>)) {
    let now = world.clock.now();
    if let Some(job) = world.resources().jobs.get_mut(job) {
        change(job, now);
        if job.secondary == "Training" {
            job.started = job.started.or(Some(now));
        }
    }
}
