//! Submits a job, as `retraining_main` does, and waits until its standard input ends:
//! `submit_job SETTINGS JOB_FILE`, both JSON.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use mloop_core::SystemClock;
use mloop_core::job::JobSpec;
use mloop_platform::{PlatformDeps, SubmitterRegistry};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(settings), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("usage: submit_job SETTINGS JOB_FILE".into());
    };
    let spec: JobSpec = serde_json::from_slice(&std::fs::read(file)?)?;
    let mut kinds = SubmitterRegistry::new("submitter");
    mloop_local::register_submitters(&mut kinds);
    let deps = PlatformDeps::new(PathBuf::from("."), Arc::new(SystemClock));
    let settings = serde_json::from_str(&settings)?;
    let submitter = kinds.build("process", "jobs", &settings, &deps)?;
    submitter.submit_training_job(&spec).await?;
    std::io::read_to_string(std::io::stdin())?;
    Ok(())
}
