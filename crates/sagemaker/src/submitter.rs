//! Training jobs of SageMaker.
//!
//! SageMaker never lets a name be used again, and mloop starts an interrupted job again under its id.
//! So a job is a chain of training jobs: `{job id}`, then `{job id}-r1`, `{job id}-r2` …; the last
//! one that there is stands for the job, and only an ended one is followed by another. All of them read
//! one job file and share one folder of checkpoints, from which the next one goes on.
//!
//! ```text
//! {jobs}/{job id}/spec/job.json                        what was asked for, the channel `job`
//! {jobs}/{job id}/checkpoints/                         /opt/ml/checkpoints of every attempt
//! {jobs}/{job id}/output/{attempt}/output/output.tar.gz  /opt/ml/output/data: result.json
//! ```

use std::collections::HashMap;

use async_trait::async_trait;
use aws_sdk_sagemaker::operation::describe_training_job::DescribeTrainingJobOutput;
use aws_sdk_sagemaker::types::{
    AlgorithmSpecification, Channel, CheckpointConfig, DataSource, OutputDataConfig,
    ResourceConfig, S3DataDistribution, S3DataSource, S3DataType, StoppingCondition, Tag,
    TrainingInputMode, TrainingInstanceType, TrainingJobStatus, VpcConfig,
};
use mloop_core::job::{JobSpec, JobStatus};
use mloop_core::{JobId, Sha256Digest, canonical_json, failpoint};
use mloop_platform::{JobSubmitter, PlatformError, Submission};

use crate::acting::{Done, Look, act};
use crate::connection::{Clients, Connection};
use crate::failure::{Class, Failure};
use crate::job_settings::SageMakerSubmitterSettings;
use crate::objects::{self, Content, Location, put_once};
use crate::settings::VpcSettings;
use crate::training::{MAX_RESULT_ARCHIVE, queued, result_of, status_of};

/// Environment variable with the digest of the job file: equal digests mean the same job.
const SPEC_VARIABLE: &str = "MLOOP_SPEC_DIGEST";

/// Where a container finds its inputs and leaves its outputs.
const JOB_FILE: &str = "/opt/ml/input/data/job/job.json";
const RESULT_FILE: &str = "/opt/ml/output/data/result.json";
const CHECKPOINTS: &str = "/opt/ml/checkpoints";

/// Starts training jobs on SageMaker.
#[derive(Debug)]
pub struct SageMakerSubmitter {
    settings: SageMakerSubmitterSettings,
    jobs: Location,
    connection: Connection,
}

/// The last training job of a chain.
struct Last {
    attempt: u32,
    found: DescribeTrainingJobOutput,
}

/// The name of an attempt, from 0.
fn attempt_name(job: &JobId, attempt: u32) -> String {
    if attempt == 0 { job.to_string() } else { format!("{job}-r{attempt}") }
}

#[async_trait]
impl JobSubmitter for SageMakerSubmitter {
    async fn submit_training_job(&self, spec: &JobSpec) -> Result<Submission, PlatformError> {
        let doing = format!("submitting {}", spec.job_id);
        self.submit(spec).await.map_err(self.failed(&doing))
    }

    async fn status(&self, job: &JobId) -> Result<JobStatus, PlatformError> {
        let doing = format!("asking for {job}");
        let clients = self.connection.clients().await;
        let last = self.last(clients, job).await.map_err(self.failed(&doing))?;
        let Some(last) = last else { return Ok(JobStatus::Unknown) };
        self.standing(clients, job, &last).await.map_err(self.failed(&doing))
    }

    async fn cancel(&self, job: &JobId) -> Result<(), PlatformError> {
        self.stop(job).await.map_err(self.failed(&format!("stopping {job}")))
    }
}

impl SageMakerSubmitter {
    pub(crate) fn new(
        settings: SageMakerSubmitterSettings,
        jobs: Location,
        connection: Connection,
    ) -> Self {
        Self { settings, jobs, connection }
    }

    fn failed(&self, doing: &str) -> impl Fn(Failure) -> PlatformError + use<> {
        let (system, doing) = (self.connection.system(), doing.to_owned());
        move |failure| failure.submitting(&system, &doing)
    }

    async fn submit(&self, spec: &JobSpec) -> Result<Submission, Failure> {
        let clients = self.connection.clients().await;
        let unwritten = |error: serde_json::Error| Failure::here(Class::Refused, error.to_string());
        let text = canonical_json(spec).map_err(unwritten)?;
        let digest = Sha256Digest::of(text.as_bytes());
        let job = &spec.job_id;
        let mut attempt = 0;
        if let Some(last) = self.last(clients, job).await? {
            let handle = attempt_name(job, last.attempt);
            compare(&handle, &last.found, digest)?;
            if !self.standing(clients, job, &last).await?.is_interrupted() {
                return Ok(Submission { handle, adopted: true });
            }
            attempt = last.attempt + 1;
            if last.attempt >= self.settings.max_restarts {
                let problem = format!(
                    "it was interrupted {attempt} times, and `max_restarts` is {}: look at {handle}",
                    self.settings.max_restarts
                );
                return Err(Failure::here(Class::Exists, problem));
            }
        }
        let at = self.jobs.join(&format!("{job}/spec/job.json"));
        let content = Content::Bytes(text.as_bytes());
        put_once(clients, &at, &content, self.settings.kms_key.as_deref()).await?;
        failpoint::reach("sagemaker.job_written");
        self.start(clients, spec, attempt, digest).await
    }

    /// Starts an attempt, or finds that another submitter did.
    async fn start(
        &self,
        clients: &Clients,
        spec: &JobSpec,
        attempt: u32,
        digest: Sha256Digest,
    ) -> Result<Submission, Failure> {
        let name = &attempt_name(&spec.job_id, attempt);
        let settings = &self.settings;
        let call = || async move {
            let call = clients.acting.create_training_job().training_job_name(name);
            let sent = call
                .algorithm_specification(self.algorithm())
                .role_arn(&settings.role_arn)
                .set_input_data_config(Some(self.channels(&spec.job_id)))
                .output_data_config(self.output(&spec.job_id))
                .resource_config(self.resources())
                .stopping_condition(
                    StoppingCondition::builder()
                        .max_runtime_in_seconds(signed(settings.max_runtime_secs))
                        .build(),
                )
                .checkpoint_config(
                    CheckpointConfig::builder()
                        .s3_uri(self.below(&spec.job_id, "checkpoints").to_string())
                        .local_path(CHECKPOINTS)
                        .build(),
                )
                .enable_network_isolation(settings.network_isolation)
                .set_vpc_config(settings.vpc.as_ref().map(vpc))
                .set_environment(Some(self.environment(digest)))
                .set_tags(Some(self.tags(spec)))
                .send()
                .await;
            failpoint::reach("sagemaker.job_created");
            sent.map(drop).map_err(|error| Failure::of(error).for_good())
        };
        let look = || async move {
            let Some(found) = described(clients, name).await? else { return Ok(Look::AsBefore) };
            compare(name, &found, digest)?;
            Ok(Look::Done)
        };
        let done = act(clients, call, look).await?;
        // One that a look finds may be another submitter's.
        Ok(Submission { handle: name.clone(), adopted: done == Done::Found })
    }

    /// The last training job of a chain; none when the job was never submitted.
    async fn last(&self, clients: &Clients, job: &JobId) -> Result<Option<Last>, Failure> {
        let mut last = None;
        for attempt in 0..=self.settings.max_restarts {
            let Some(found) = described(clients, &attempt_name(job, attempt)).await? else { break };
            let ended = matches!(
                found.training_job_status(),
                Some(
                    TrainingJobStatus::Completed
                        | TrainingJobStatus::Failed
                        | TrainingJobStatus::Stopped
                )
            );
            last = Some(Last { attempt, found });
            if !ended {
                break;
            }
        }
        Ok(last)
    }

    /// How the last training job of a chain stands, with the result that it left.
    async fn standing(
        &self,
        clients: &Clients,
        job: &JobId,
        last: &Last,
    ) -> Result<JobStatus, Failure> {
        let name = attempt_name(job, last.attempt);
        let status = last.found.training_job_status().cloned();
        let secondary = last.found.secondary_status();
        match status {
            Some(TrainingJobStatus::InProgress) if secondary.is_some_and(queued) => {
                return Ok(JobStatus::Queued);
            }
            Some(
                TrainingJobStatus::Completed
                | TrainingJobStatus::Failed
                | TrainingJobStatus::Stopped,
            ) => {}
            Some(TrainingJobStatus::Deleting) => {
                return Ok(JobStatus::Lost { reason: format!("{name} was deleted") });
            }
            // Stopping, and what this release does not know, passes by itself.
            _ => return Ok(JobStatus::Running),
        }
        let at = self.below(job, &format!("output/{name}/output/output.tar.gz"));
        let archive = objects::read(clients, &at, MAX_RESULT_ARCHIVE).await?;
        let result = archive.map(|archive| result_of(&archive)).transpose();
        let result = result.map_err(|problem| {
            Failure::here(Class::Exists, format!("{at} is no result of a training: {problem}"))
        })?;
        let completed = status == Some(TrainingJobStatus::Completed);
        let reason = last.found.failure_reason().unwrap_or("SageMaker gives no reason");
        status_of(&name, completed, result.flatten(), reason)
            .map_err(|problem| Failure::here(Class::Exists, problem))
    }

    async fn stop(&self, job: &JobId) -> Result<(), Failure> {
        let clients = self.connection.clients().await;
        let Some(last) = self.last(clients, job).await? else { return Ok(()) };
        if last.found.training_job_status() != Some(&TrainingJobStatus::InProgress) {
            return Ok(());
        }
        let name = &attempt_name(job, last.attempt);
        let call = || async move {
            let sent = clients.acting.stop_training_job().training_job_name(name).send().await;
            sent.map(drop).map_err(Failure::of)
        };
        // It may have ended in between.
        let look = || async move {
            let found = described(clients, name).await?;
            let status = found.as_ref().and_then(|found| found.training_job_status());
            Ok(Look::of(status != Some(&TrainingJobStatus::InProgress)))
        };
        act(clients, call, look).await.map(drop)
    }

    fn below(&self, job: &JobId, part: &str) -> Location {
        self.jobs.join(&format!("{job}/{part}"))
    }

    fn algorithm(&self) -> AlgorithmSpecification {
        let mut words = self.settings.command.iter().cloned();
        let program = words.next().map(|program| vec![program]);
        let own = ["--job-file", JOB_FILE, "--result-file", RESULT_FILE].map(str::to_owned);
        AlgorithmSpecification::builder()
            .training_image(&self.settings.image)
            .training_input_mode(TrainingInputMode::File)
            .set_container_entrypoint(program)
            .set_container_arguments(Some(words.chain(own).collect()))
            .build()
    }

    fn channels(&self, job: &JobId) -> Vec<Channel> {
        let own = ("job".to_owned(), format!("{}/", self.below(job, "spec")));
        let others = self.settings.channels.iter().map(|(name, url)| (name.clone(), url.clone()));
        let channel = |(name, url): (String, String)| {
            let source = S3DataSource::builder()
                .s3_data_type(S3DataType::S3Prefix)
                .s3_data_distribution_type(S3DataDistribution::FullyReplicated)
                .s3_uri(url);
            let source = DataSource::builder().s3_data_source(source.build()).build();
            Channel::builder().channel_name(name).data_source(source).build()
        };
        std::iter::once(own).chain(others).map(channel).collect()
    }

    fn output(&self, job: &JobId) -> OutputDataConfig {
        OutputDataConfig::builder()
            .s3_output_path(self.below(job, "output").to_string())
            .set_kms_key_id(self.settings.kms_key.clone())
            .build()
    }

    fn resources(&self) -> ResourceConfig {
        let settings = &self.settings;
        ResourceConfig::builder()
            .instance_type(TrainingInstanceType::from(settings.instance_type.as_str()))
            .instance_count(1)
            .volume_size_in_gb(signed(settings.volume_gb))
            .set_volume_kms_key_id(settings.kms_key.clone())
            .build()
    }

    fn environment(&self, digest: Sha256Digest) -> HashMap<String, String> {
        let mut environment: HashMap<String, String> =
            self.settings.environment.clone().into_iter().collect();
        environment.insert(SPEC_VARIABLE.to_owned(), digest.to_string());
        environment
    }

    fn tags(&self, spec: &JobSpec) -> Vec<Tag> {
        let ours = [
            ("mloop:model".to_owned(), spec.subject.model.to_string()),
            ("mloop:job".to_owned(), spec.job_id.to_string()),
        ];
        let own = self.settings.tags.iter().map(|(key, value)| (key.clone(), value.clone()));
        let tag = |(key, value): (String, String)| Tag::builder().key(key).value(value).build();
        ours.into_iter().chain(own).map(tag).collect()
    }
}

fn vpc(settings: &VpcSettings) -> VpcConfig {
    let VpcSettings { subnets, security_groups } = settings.clone();
    let built = VpcConfig::builder().set_subnets(Some(subnets));
    built.set_security_group_ids(Some(security_groups)).build()
}

fn signed(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

async fn described(
    clients: &Clients,
    name: &str,
) -> Result<Option<DescribeTrainingJobOutput>, Failure> {
    let call = clients.sagemaker.describe_training_job().training_job_name(name);
    match call.send().await.map_err(Failure::of) {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Whether a training job was started for this job file.
fn compare(
    name: &str,
    found: &DescribeTrainingJobOutput,
    digest: Sha256Digest,
) -> Result<(), Failure> {
    let theirs = found.environment().and_then(|environment| environment.get(SPEC_VARIABLE));
    if theirs == Some(&digest.to_string()) {
        return Ok(());
    }
    let problem = format!("{name} was started for something else under this id");
    Err(Failure::here(Class::Exists, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_have_names_of_their_own() {
        let job = JobId::derive(&["a job"]);
        let names: std::collections::BTreeSet<String> =
            (0..100).map(|attempt| attempt_name(&job, attempt)).collect();
        assert_eq!(names.len(), 100);
        assert!(names.iter().all(|name| mloop_core::ModelName::new(name.as_str()).is_ok()));
    }
}
