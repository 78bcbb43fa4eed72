//! SageMaker's container contract, and what a caller does wrong.

use mloop_core::capture::InferenceAnswer;

use super::*;

#[test]
fn an_answer_carries_prediction_features_attributes_and_digest() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, digest) = start_ready(folder.path(), |_| {});
    let headers = [JSON, ("X-Amzn-SageMaker-Custom-Attributes", "site=north,shift=night")];
    let reply = server.post("/invocations", &headers, tiny_image(3).as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.headers["content-type"], "application/json");
    assert_eq!(digest_header(&reply), Some(digest));

    let answer: InferenceAnswer = serde_json::from_slice(&reply.body).expect("an answer");
    assert_eq!(answer.model_digest, digest);
    assert_eq!(answer.attributes["site"], "north");
    assert_eq!(answer.attributes["shift"], "night");
    assert_eq!((answer.probabilities.len(), answer.embedding.len()), (3, 4));
    assert!((answer.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    let highest = answer.probabilities.iter().copied().fold(0.0, f64::max);
    assert!((answer.confidence - highest).abs() < 1e-12);
    assert!(["ankle-boot", "bag", "coat"].contains(&answer.prediction.as_str()));
    for feature in mloop_vision::features::FEATURES {
        assert!(answer.features.contains_key(feature.name), "{} is there", feature.name);
    }
}

#[test]
fn the_named_path_reaches_the_default_endpoint_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, digest) = start_ready(folder.path(), |_| {});
    let reply = server.invoke("/endpoints/default/invocations");
    assert_eq!((reply.status, digest_header(&reply)), (200, Some(digest)));
    assert_eq!(server.endpoint("default")["requests"], 1);
}

#[test]
fn what_a_caller_does_wrong_is_answered_with_4xx_and_the_server_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, digest) = start_ready(folder.path(), |_| {});
    let png = ("content-type", "image/png");
    let long = "x".repeat(65);
    let long_id = ("x-amzn-sagemaker-inference-id", long.as_str());
    let image = tiny_image(1);
    let wrong_size = br#"{"pixels": [[1, 2], [3, 4]]}"#;
    let huge = vec![b' '; (6 << 20) + 1];
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);
    let cases: [Case<'_>; 9] = [
        ("empty body", &[JSON], b"", 400, "bad_request"),
        ("no image", &[png], b"\x89PNG\r\n\x1a\n cut short", 400, "bad_request"),
        ("wrong size", &[JSON], wrong_size, 400, "bad_request"),
        ("other JSON", &[JSON], b"[]", 400, "bad_request"),
        ("half the JSON", &[JSON], &image.as_bytes()[..20], 400, "bad_request"),
        ("long id", &[JSON, long_id], image.as_bytes(), 400, "bad_request"),
        ("other type", &[("content-type", "text/plain")], b"x", 415, "unsupported_media_type"),
        ("no type", &[], image.as_bytes(), 415, "unsupported_media_type"),
        ("too large", &[JSON], &huge, 413, "body_too_large"),
    ];
    for (what, headers, body, status, code) in cases {
        let reply = server.post("/invocations", headers, body);
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{what}");
        assert!(reply.json()["error"]["message"].as_str().is_some_and(|text| text.len() > 10));
        assert_eq!(digest_header(&reply), Some(digest), "{what}");
    }
    assert_eq!(server.invoke("/invocations").status, 200);
    let elsewhere = [
        (server.invoke("/endpoints/nobody/invocations"), 404, "not_found"),
        (server.get("/nothing"), 404, "not_found"),
        (server.get("/admin/endpoints"), 404, "not_found"),
        (server.get("/invocations"), 405, "method_not_allowed"),
    ];
    for (reply, status, code) in elsewhere {
        assert_eq!((reply.status, reply.code().as_str()), (status, code));
    }
}

#[test]
fn a_body_at_the_limit_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, _) = start_ready(folder.path(), |_| {});
    let mut body = tiny_image(1).into_bytes();
    body.resize(6 << 20, b' ');
    assert_eq!(server.post("/invocations", &[JSON], &body).status, 200);
}

#[test]
fn metrics_tell_requests_version_and_switches() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, digest) = start_ready(folder.path(), |_| {});
    server.invoke("/invocations");
    server.post("/invocations", &[JSON], b"");
    server.invoke("/endpoints/nobody/invocations");
    let text = server.get("/metrics").text();
    for expected in [
        "mloop_serving_requests_total",
        "mloop_serving_request_duration_seconds",
        "mloop_serving_requests_in_flight",
        "mloop_serving_switches_total",
        "mloop_serving_ready",
        "_unknown",
        &digest.short(12),
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
}
