//! The Jobs of one job: how they are named and told, and whether they are the job's.

use k8s_openapi::api::batch::v1::Job;
use mloop_core::job::JobSpec;
use mloop_core::{JobId, Sha256Digest};
use mloop_platform::PlatformError;

/// Label: the job's id, on Job and pods.
pub(crate) const JOB_ID: &str = "mloop/job-id";
/// Label: the number of the Job among those of the job, from 1; on Job and pods.
pub(crate) const RUN: &str = "mloop/run";
/// Annotation of the Job: digest of what was asked for.
pub(crate) const SPEC_DIGEST: &str = "mloop/spec-digest";
/// Annotation of the pod: what was asked for, which becomes the job file.
pub(crate) const SPEC: &str = "mloop/spec";

/// Longest name: pods are named after the Job, and their labels hold its name.
const MAX_NAME: usize = 63;
/// Room in the name for `-r` and the number of the Job.
const RESERVED: usize = 6;
/// Characters of an id that does not fit which stay readable.
const READABLE: usize = 30;

/// The name of a job's Job of this number, from 1. Ids that `mloop` derives stand in it as they are.
pub(crate) fn name(job: &JobId, number: u32) -> String {
    let lower = job.as_str().to_ascii_lowercase();
    let plain = format!("mloop-{lower}");
    let base = if lower == job.as_str() && plain.len() <= MAX_NAME - RESERVED {
        plain
    } else {
        let digest = Sha256Digest::of(job.as_str().as_bytes()).short(16);
        let readable = lower[..lower.len().min(READABLE)].trim_end_matches('-');
        format!("mloop-{readable}-{digest}")
    };
    match number {
        1 => base,
        _ => format!("{base}-r{number}"),
    }
}

/// The number that a Job's label tells.
pub(crate) fn number(doing: &str, job: &Job) -> Result<u32, PlatformError> {
    let labels = job.metadata.labels.as_ref();
    let told = labels.and_then(|labels| labels.get(RUN));
    told.and_then(|number| number.parse().ok()).filter(|number| *number > 0).ok_or_else(|| {
        let problem = format!(
            "the Job `{}` has the label `{JOB_ID}` of this job, but no number in `{RUN}`; it is not \
             touched: look who made it",
            called(job)
        );
        PlatformError::conflict(doing, problem)
    })
}

/// The name of a Job.
pub(crate) fn called(job: &Job) -> &str {
    job.metadata.name.as_deref().unwrap_or_default()
}

/// Digest and text of what is asked for.
pub(crate) struct Asked {
    pub(crate) digest: String,
    pub(crate) text: String,
}

impl Asked {
    /// Of a job.
    pub(crate) fn of(doing: &str, spec: &JobSpec) -> Result<Self, PlatformError> {
        let text = mloop_core::canonical_json(spec)
            .map_err(|error| PlatformError::invalid(doing, error.to_string()))?;
        Ok(Self { digest: Sha256Digest::of(text.as_bytes()).to_string(), text })
    }

    /// Of no job.
    pub(crate) fn nothing() -> Self {
        let text = "{}".to_owned();
        Self { digest: Sha256Digest::of(text.as_bytes()).to_string(), text }
    }

    /// Compares with what a Job was made for.
    pub(crate) fn compare(&self, doing: &str, job: &Job) -> Result<(), PlatformError> {
        let annotations = job.metadata.annotations.as_ref();
        let known = annotations.and_then(|annotations| annotations.get(SPEC_DIGEST));
        let known = known.map_or("none", String::as_str);
        if known == self.digest {
            return Ok(());
        }
        let problem = format!(
            "the Job `{}` was made for something else (annotation `{SPEC_DIGEST}` is {known}, not {}); it \
             is not touched: look who made it, and delete it if it is not needed",
            called(job),
            self.digest
        );
        Err(PlatformError::conflict(doing, problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_tell_jobs_apart() {
        let derived = JobId::derive(&["a"]);
        assert_eq!(name(&derived, 1), format!("mloop-{derived}"));
        assert_eq!(name(&derived, 12), format!("mloop-{derived}-r12"));
        let id = |text: &str| JobId::try_from(text.to_owned()).expect("an id");
        let odd = [
            "A-job",
            "a-job",
            &"x".repeat(63),
            &format!("{}y", "x".repeat(62)),
            &format!("{}-{}", "z".repeat(29), "z".repeat(30)),
        ];
        let mut names: Vec<String> =
            odd.iter().flat_map(|text| [1, 2, 9999].map(|n| name(&id(text), n))).collect();
        for name in &names {
            assert!(name.len() <= MAX_NAME, "{name}");
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.chars().all(fits) && !name.ends_with('-'), "{name}");
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "{names:?}");
    }

    #[test]
    fn a_job_is_ours_when_its_digest_is() {
        let asked = Asked::of("testing", &mloop_platform::conformance::samples::job("a"));
        let asked = asked.expect("JSON");
        let mut job = Job::default();
        for (digest, ours) in [(None, false), (Some("x"), false), (Some(&*asked.digest), true)] {
            let entry = |digest: &str| [(SPEC_DIGEST.to_owned(), digest.to_owned())].into();
            job.metadata.annotations = digest.map(entry);
            let compared = asked.compare("testing", &job);
            assert_eq!(compared.is_ok(), ours, "{digest:?}");
            if let Err(error) = compared {
                assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
            }
        }
    }

    #[test]
    fn a_job_without_a_number_needs_a_person() {
        let mut job = Job::default();
        for (label, expected) in [("1", Some(1)), ("12", Some(12)), ("0", None), ("x", None)] {
            job.metadata.labels = Some([(RUN.to_owned(), label.to_owned())].into());
            assert_eq!(number("testing", &job).ok(), expected);
        }
    }
}
