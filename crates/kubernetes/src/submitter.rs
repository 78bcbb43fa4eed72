//! The submitter.

use async_trait::async_trait;
use k8s_openapi::api::batch::v1::Job;
use mloop_core::JobId;
use mloop_core::job::{JobSpec, JobStatus};
use mloop_platform::{JobSubmitter, PlatformError, Submission};

use crate::cluster::{Cluster, Effect};
use crate::jobs::{Asked, called, name};
use crate::manifest::{Template, sample_id};
use crate::status::{self, Phase, held, phase};

/// Starts jobs as Kubernetes Jobs.
pub struct KubernetesSubmitter {
    cluster: Cluster,
    template: Template,
}

#[async_trait]
impl JobSubmitter for KubernetesSubmitter {
    async fn probe(&self) -> Result<(), PlatformError> {
        let job = self.template.sample();
        let doing = "asking whether Kubernetes would take a job";
        self.cluster.jobs(doing, &sample_id()).await?;
        self.cluster.create(doing, &job, Effect::DryRun).await.map(drop)
    }

    async fn submit_training_job(&self, spec: &JobSpec) -> Result<Submission, PlatformError> {
        let doing = format!("submitting {}", spec.job_id);
        let asked = Asked::of(&doing, spec)?;
        let jobs = self.cluster.jobs(&doing, &spec.job_id).await?;
        for (_, job) in &jobs {
            asked.compare(&doing, job)?;
        }
        let next = match jobs.last() {
            None => 1,
            Some((number, job)) => {
                let status = self.status_of(&doing, &spec.job_id, *number, job).await?;
                if !status.is_interrupted() {
                    return Ok(self.submission(called(job), true));
                }
                number + 1
            }
        };
        let made = self.template.job(&doing, spec, &asked, next)?;
        self.create(&doing, &name(&spec.job_id, next), &asked, &made).await
    }

    async fn status(&self, job: &JobId) -> Result<JobStatus, PlatformError> {
        let doing = format!("asking for {job}");
        let jobs = self.cluster.jobs(&doing, job).await?;
        match jobs.last() {
            Some((number, last)) => self.status_of(&doing, job, *number, last).await,
            None => Ok(JobStatus::Unknown),
        }
    }

    async fn cancel(&self, job: &JobId) -> Result<(), PlatformError> {
        let doing = format!("stopping {job}");
        let jobs = self.cluster.jobs(&doing, job).await?;
        match jobs.last() {
            Some((_, last)) if matches!(phase(last), Phase::Open(_)) => {
                self.cluster.delete(&doing, last).await
            }
            _ => Ok(()),
        }
    }
}

impl KubernetesSubmitter {
    pub(crate) fn new(cluster: Cluster, template: Template) -> Self {
        Self { cluster, template }
    }

    fn submission(&self, name: &str, adopted: bool) -> Submission {
        Submission { handle: self.cluster.handle(name), adopted }
    }

    /// Makes a Job. One of its name that is there already was made by a call whose answer was lost, or
    /// by another copy of this program.
    async fn create(
        &self,
        doing: &str,
        name: &str,
        asked: &Asked,
        made: &serde_json::Value,
    ) -> Result<Submission, PlatformError> {
        if self.cluster.create(doing, made, Effect::Kept).await? {
            return Ok(self.submission(name, false));
        }
        let Some(job) = self.cluster.job(doing, name).await? else {
            let cause = format!("it refuses a second Job `{name}`, and does not have a first");
            return Err(PlatformError::unavailable("Kubernetes", doing, cause));
        };
        asked.compare(doing, &job)?;
        Ok(self.submission(name, true))
    }

    async fn status_of(
        &self,
        doing: &str,
        id: &JobId,
        number: u32,
        job: &Job,
    ) -> Result<JobStatus, PlatformError> {
        if let Some(why) = held(job) {
            tracing::info!("{}: {why}", self.cluster.handle(called(job)));
        }
        // Only an end needs the pods.
        let pods = match phase(job) {
            Phase::Complete | Phase::Failed(..) => self.cluster.pods(doing, id, number).await?,
            Phase::Open(_) | Phase::Deleted => vec![],
        };
        Ok(status::of(job, &pods))
    }
}
