//! What a training job of SageMaker says and leaves, in the words of the contract.

use std::io::Read;

use aws_sdk_sagemaker::types::SecondaryStatus;
use flate2::read::GzDecoder;
use mloop_core::job::JobStatus;
use serde_json::{Value, json};

/// Most bytes of `output.tar.gz`.
pub(crate) const MAX_RESULT_ARCHIVE: usize = 4 << 20;

/// Most bytes of what is in it: an archive can be far smaller than its content.
const MAX_RESULT: u64 = 16 << 20;

/// The last line of a training, as the container leaves it in `/opt/ml/output/data`.
const RESULT: &str = "result.json";

/// Whether a job in progress has not begun to train.
pub(crate) fn queued(status: &SecondaryStatus) -> bool {
    matches!(
        status,
        SecondaryStatus::Starting
            | SecondaryStatus::Pending
            | SecondaryStatus::LaunchingMlInstances
            | SecondaryStatus::PreparingTrainingStack
            | SecondaryStatus::Downloading
            | SecondaryStatus::DownloadingTrainingImage
    )
}

/// The result in an `output.tar.gz`; none when there is no such file in it.
pub(crate) fn result_of(archive: &[u8]) -> Result<Option<Value>, String> {
    let failed = |error: std::io::Error| error.to_string();
    let content = GzDecoder::new(archive).take(MAX_RESULT);
    let mut archive = tar::Archive::new(content);
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let path = entry.path().map_err(failed)?;
        if path.file_name().is_none_or(|name| name != RESULT) {
            continue;
        }
        let mut text = String::new();
        entry.read_to_string(&mut text).map_err(failed)?;
        return serde_json::from_str(&text).map(Some).map_err(|error| error.to_string());
    }
    Ok(None)
}

/// How an ended job stands, by the result that it left; without one, by SageMaker's reason, which
/// ends with the exit code of the container.
pub(crate) fn status_of(
    name: &str,
    completed: bool,
    result: Option<Value>,
    reason: &str,
) -> Result<JobStatus, String> {
    if let Some(result) = result {
        let code = exit_code(&result);
        let code = code.ok_or_else(|| format!("{name} left no result of a training: {result}"))?;
        return Ok(JobStatus::Finished { exit_code: code, result });
    }
    if completed {
        return Err(format!("{name} completed, but left no {RESULT}: is it the right image?"));
    }
    Ok(match told_exit_code(reason) {
        // What no training ends with is a container that was killed.
        Some(code) if (1..=143).contains(&code) && code != 137 && code != 139 => {
            let error = json!({"exit_code": code, "message": reason});
            JobStatus::Finished { exit_code: code, result: json!({"error": error}) }
        }
        _ => JobStatus::Lost { reason: format!("{name}: {reason}") },
    })
}

/// The exit code that goes with a last line: that of its error, else that of the gate's verdict.
fn exit_code(result: &Value) -> Option<i32> {
    if let Some(code) = result["error"]["exit_code"].as_i64() {
        return i32::try_from(code).ok();
    }
    match result["outcome"].as_str()? {
        "blessed" => Some(0),
        "rejected" => Some(10),
        "inconclusive" => Some(11),
        _ => None,
    }
}

/// The exit code in a reason such as `AlgorithmError: , exit code: 20`.
fn told_exit_code(reason: &str) -> Option<i32> {
    let (_, after) = reason.rsplit_once("exit code: ")?;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(name: &str, text: &str) -> Vec<u8> {
        let encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        let mut builder = tar::Builder::new(encoder);
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, name, text.as_bytes()).expect("appended");
        builder.into_inner().and_then(flate2::write::GzEncoder::finish).expect("packed")
    }

    #[test]
    fn a_result_is_found_in_its_archive() {
        for (name, text, expected) in [
            ("result.json", r#"{"outcome": "blessed"}"#, Ok(Some(json!({"outcome": "blessed"})))),
            ("./result.json", "7", Ok(Some(json!(7)))),
            ("metrics.json", "{}", Ok(None)),
        ] {
            assert_eq!(result_of(&packed(name, text)), expected, "{name}");
        }
        assert!(result_of(b"no archive").is_err());
        assert!(result_of(&packed("result.json", "half a li")).is_err());
    }

    #[test]
    fn an_ended_job_stands_as_its_result_says_or_its_reason() {
        let finished = |code: i32, result: &Value| {
            Ok(JobStatus::Finished { exit_code: code, result: result.clone() })
        };
        let [blessed, rejected] =
            ["blessed", "rejected"].map(|outcome| json!({"outcome": outcome}));
        let stopped = json!({"error": {"exit_code": 143}});
        for (completed, result, expected) in [
            (true, &blessed, finished(0, &blessed)),
            // A gate that says no makes the container exit with 10, which SageMaker calls failed.
            (false, &rejected, finished(10, &rejected)),
            (false, &stopped, finished(143, &stopped)),
        ] {
            let found = status_of("job", completed, Some(result.clone()), "reason");
            assert_eq!(found, expected, "{result}");
        }
        assert!(status_of("job", true, Some(json!({"outcome": "maybe"})), "").is_err());
        assert!(status_of("job", true, None, "").is_err());
        for (reason, code) in [
            ("AlgorithmError: , exit code: 20", Some(20)),
            ("AlgorithmError: exit code: 30, more", Some(30)),
            ("AlgorithmError: , exit code: 137", None),
            ("CapacityError: Unable to provision requested ML compute capacity.", None),
        ] {
            let found = status_of("job", false, None, reason).expect("a status");
            match (code, found) {
                (Some(code), JobStatus::Finished { exit_code, .. }) => assert_eq!(exit_code, code),
                (None, JobStatus::Lost { reason: told }) => assert!(told.contains(reason)),
                (code, found) => panic!("{reason}: {code:?} {found:?}"),
            }
        }
    }
}
