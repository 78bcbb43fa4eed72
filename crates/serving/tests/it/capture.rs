//! Captured requests, as monitoring reads them.

use mloop_core::capture::CaptureRecord;
use mloop_serving::CaptureSettings;

use super::*;

fn lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("lists") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(path).expect("reads");
                lines.extend(text.lines().map(str::to_owned));
            }
        }
    }
    lines
}

#[test]
fn answered_requests_are_captured_with_everything_monitoring_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("capture");
    let (server, digest) = start_ready(folder.path(), |settings| {
        settings.capture = Some(CaptureSettings::new(dir.clone(), 1 << 30, 30));
    });
    let site = ("x-amzn-sagemaker-custom-attributes", "site=south");
    for index in 0..20 {
        let id = format!("request-{index}");
        let headers = [JSON, site, ("x-amzn-sagemaker-inference-id", &id)];
        let reply = server.post("/invocations", &headers, tiny_image(index).as_bytes());
        assert_eq!(reply.status, 200);
    }
    server.post("/invocations", &[JSON], b"no image");
    assert_eq!(server.stop(), Drained::Clean);

    let found = lines(&dir.join("default/AllTraffic"));
    assert_eq!(found.len(), 20, "what was refused is not captured");
    let mut ids = std::collections::BTreeSet::new();
    for line in &found {
        let record = CaptureRecord::parse(line).expect("a record");
        let answer = record.answer().expect("an answer");
        assert_eq!(answer.model_digest, digest);
        assert_eq!(answer.attributes["site"], "south");
        assert_eq!(answer.features.len(), mloop_vision::features::FEATURES.len());
        let input = record.capture_data.endpoint_input.clone().expect("captured");
        assert!(input.bytes().expect("text").starts_with(b"{\"pixels\""));
        assert_eq!(record.event_metadata.inference_time.timestamp_subsec_nanos(), 0);
        ids.insert(record.id().to_owned());
    }
    assert!(ids.len() == 20 && ids.contains("request-7"), "{ids:?}");
}

#[test]
fn captured_requests_reach_the_files_while_the_server_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("capture");
    let (server, _) = start_ready(folder.path(), |settings| {
        let capture = CaptureSettings::new(dir.clone(), 1 << 30, 30);
        let flush_every = Duration::from_millis(20);
        settings.capture = Some(CaptureSettings { flush_every, ..capture });
    });
    server.invoke("/invocations");
    eventually("the line is there", || lines(&dir).len() == 1);
}

#[test]
fn capture_that_cannot_be_written_fails_no_request_and_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("capture");
    let (server, _) = start_ready(folder.path(), |settings| {
        settings.capture = Some(CaptureSettings::new(dir.clone(), 1 << 30, 30));
    });
    // A file where the folder of the endpoint should be.
    std::fs::write(dir.join("default"), b"").expect("writes");
    for _ in 0..5 {
        assert_eq!(server.invoke("/invocations").status, 200);
    }
    eventually("counted", || {
        let text = server.get("/metrics").text();
        let lost = text.split("write_failed").nth(1).unwrap_or_default();
        lost.split("Number(").nth(1).is_some_and(|rest| rest.trim_start().starts_with("5.0"))
    });
}
