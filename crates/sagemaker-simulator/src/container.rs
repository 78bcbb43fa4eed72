//! A training container: its folders, its command, its end.
//!
//! The command runs on this machine, with `/opt/ml` in its arguments and environment replaced by a
//! folder of its own. Checkpoints are stored when it ends, and not while it runs as at SageMaker.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::storage::pack;
use crate::world::World;

/// Where SageMaker has a container's files.
const OPT_ML: &str = "/opt/ml";

/// How a job ended.
pub(crate) struct Ended {
    pub(crate) status: &'static str,
    pub(crate) secondary: &'static str,
    pub(crate) reason: Option<String>,
}

impl Ended {
    fn failed(reason: String) -> Self {
        Self { status: "Failed", secondary: "Failed", reason: Some(reason) }
    }
}

/// Runs a job to its end. `at` is told each phase.
pub(crate) async fn run(
    world: &World,
    job: &str,
    request: &Value,
    stopped: watch::Receiver<bool>,
    at: impl Fn(&'static str),
) -> Ended {
    match run_in_folder(world, job, request, stopped, at).await {
        Ok(ended) => ended,
        Err(problem) => Ended::failed(problem),
    }
}

async fn run_in_folder(
    world: &World,
    job: &str,
    request: &Value,
    stopped: watch::Receiver<bool>,
    at: impl Fn(&'static str),
) -> Result<Ended, String> {
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    let ml = folder.path();
    at("Downloading");
    prepare(world, request, ml).await?;
    at("Training");
    let ended = if *stopped.borrow() {
        Ended { status: "Stopped", secondary: "Stopped", reason: None }
    } else if world.settings.run_jobs {
        execute(world, job, request, ml, stopped).await?
    } else {
        Ended { status: "Completed", secondary: "Completed", reason: None }
    };
    at("Uploading");
    store(world, job, request, ml).await?;
    Ok(ended)
}

async fn prepare(world: &World, request: &Value, ml: &Path) -> Result<(), String> {
    for name in ["input/config", "input/data", "model", "output/data", "checkpoints"] {
        let path = ml.join(name);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let parameters = request.get("HyperParameters").cloned().unwrap_or_else(|| json!({}));
    let path = ml.join("input/config/hyperparameters.json");
    fs::write(&path, parameters.to_string()).map_err(|error| error.to_string())?;
    for channel in request["InputDataConfig"].as_array().into_iter().flatten() {
        let name = channel["ChannelName"].as_str().unwrap_or_default();
        let url = channel["DataSource"]["S3DataSource"]["S3Uri"].as_str();
        let url = url.ok_or_else(|| format!("channel {name} has no S3Uri"))?;
        let target = ml.join("input/data").join(name);
        fs::create_dir_all(&target).map_err(|error| error.to_string())?;
        world.storage.fetch_all(url, &target).await?;
    }
    match request["CheckpointConfig"]["S3Uri"].as_str() {
        Some(url) => world.storage.fetch_all(&below(url), &ml.join("checkpoints")).await,
        None => Ok(()),
    }
}

async fn store(world: &World, job: &str, request: &Value, ml: &Path) -> Result<(), String> {
    if let Some(url) = request["CheckpointConfig"]["S3Uri"].as_str() {
        world.storage.store_all(&ml.join("checkpoints"), url).await?;
    }
    let output = request["OutputDataConfig"]["S3OutputPath"].as_str().unwrap_or_default();
    for (folder, archive) in [("model", "model.tar.gz"), ("output/data", "output.tar.gz")] {
        let (from, to) = (ml.join(folder), ml.join(archive));
        let empty = fs::read_dir(&from).is_ok_and(|mut entries| entries.next().is_none());
        if empty {
            continue;
        }
        let packed = to.clone();
        let done = tokio::task::spawn_blocking(move || pack(&from, &packed)).await;
        done.map_err(|error| error.to_string())??;
        let url = format!("{}/{job}/output/{archive}", output.trim_end_matches('/'));
        world.storage.store(&to, &url).await?;
    }
    Ok(())
}

/// A prefix that ends like a folder.
fn below(url: &str) -> String {
    format!("{}/", url.trim_end_matches('/'))
}

async fn execute(
    world: &World,
    job: &str,
    request: &Value,
    ml: &Path,
    mut stopped: watch::Receiver<bool>,
) -> Result<Ended, String> {
    let log = ml.join("log");
    let mut child = spawn(world, job, request, ml, &log)?;
    let longest = request["StoppingCondition"]["MaxRuntimeInSeconds"].as_u64().unwrap_or(86_400);
    let waited = |error: std::io::Error| error.to_string();
    let secondary = tokio::select! {
        status = child.wait() => return Ok(judged(status.map_err(waited)?, ml, &log)),
        _ = stopped.wait_for(|stopped| *stopped) => "Stopped",
        () = tokio::time::sleep(Duration::from_secs(longest)) => "MaxRuntimeExceeded",
    };
    end(&mut child, world.settings.stop_grace).await;
    Ok(Ended { status: "Stopped", secondary, reason: None })
}

/// SIGTERM, and after the time of grace SIGKILL.
async fn end(child: &mut Child, grace: Duration) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = kill_process(pid, Signal::TERM)
    {
        tracing::warn!("a job could not be told to stop: {error}");
    }
    if tokio::time::timeout(grace, child.wait()).await.is_err()
        && let Err(error) = child.kill().await
    {
        tracing::warn!("a job could not be killed: {error}");
    }
}

fn spawn(
    world: &World,
    job: &str,
    request: &Value,
    ml: &Path,
    log: &Path,
) -> Result<Child, String> {
    let specification = &request["AlgorithmSpecification"];
    let here = |text: &str| text.replace(OPT_ML, &ml.display().to_string());
    let texts = |member: &str| -> Vec<String> {
        let values = specification[member].as_array().into_iter().flatten();
        values.filter_map(|value| value.as_str().map(here)).collect()
    };
    let words = [texts("ContainerEntrypoint"), texts("ContainerArguments")].concat();
    let [program, arguments @ ..] = words.as_slice() else {
        return Err("the simulator runs no images: give a ContainerEntrypoint".to_owned());
    };
    let environment: BTreeMap<String, String> = request["Environment"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), here(value.as_str()?))))
        .collect();
    let unopened = |error: std::io::Error| format!("{}: {error}", log.display());
    let output = File::create(log).map_err(unopened)?;
    let errors = output.try_clone().map_err(unopened)?;
    // As SageMaker hands over those of the job's role, in its own way.
    let credentials = world.settings.storage.credentials.iter();
    let credentials = credentials
        .flat_map(|(id, secret)| [("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)]);
    Command::new(program)
        .args(arguments)
        .envs(credentials)
        .envs(environment)
        .env("TRAINING_JOB_NAME", job)
        .env("TRAINING_JOB_ARN", world.arn("training-job", job))
        .current_dir(ml)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("ClientError: {program} cannot be started: {error}"))
}

fn judged(status: ExitStatus, ml: &Path, log: &Path) -> Ended {
    if status.success() {
        return Ended { status: "Completed", secondary: "Completed", reason: None };
    }
    let said = fs::read_to_string(ml.join("output/failure")).unwrap_or_default();
    let last = fs::read_to_string(log).unwrap_or_default();
    tracing::warn!(%status, "a job failed: {}", last.lines().last().unwrap_or_default());
    let code = status.code().unwrap_or(137);
    Ended::failed(format!("AlgorithmError: {said}, exit code: {code}"))
}
