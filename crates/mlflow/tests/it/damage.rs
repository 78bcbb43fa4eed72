//! Bytes that are not those that were registered.

use mloop_core::version::files;
use mloop_http::testing::{Fault, Relay};
use mloop_platform::{ModelRegistry as _, PlatformError, Registration};
use serde_json::json;

use crate::server::Bare;
use crate::{Place, registry, url};

/// Registers, and dies before the files are read back; gives their address.
async fn left_unverified(place: &Place, wanted: &Registration) -> String {
    let relay = Relay::new(&url(), |asked| {
        if asked.line.contains("get-download-uri") { Fault::CutBefore } else { Fault::None }
    });
    let error = registry(&relay.url()).register(wanted).await.expect_err("killed");
    assert!(error.is_transient(), "{error:?}");
    Bare::at(&url()).address(&place.model, 1).await
}

#[tokio::test]
async fn a_flipped_byte_is_a_conflict_and_never_ready() {
    for name in [files::WEIGHTS, files::SCHEMA, files::MANIFEST, "MLmodel"] {
        let place = Place::new("damage");
        let wanted = place.candidate("weights");
        let address = left_unverified(&place, &wanted).await;
        let server = Bare::at(&url());
        server.put(&address, name, b"weightS").await;
        for _ in 0..2 {
            let error = registry(&url()).register(&wanted).await.expect_err(name);
            assert!(matches!(error, PlatformError::Conflict { .. }), "{name}: {error:?}");
            assert!(error.to_string().contains(name), "{error}");
        }
        let listed = registry(&url()).versions(&place.model).await.expect("a list");
        assert!(!listed[0].is_staging_ready(), "{listed:?}");
        if name != "MLmodel" {
            let into = place.path("fetched");
            let error = registry(&url()).fetch(&listed[0], &into).await.expect_err(name);
            assert!(matches!(error, PlatformError::Conflict { .. }), "{name}: {error:?}");
            assert!(!into.join(name).exists() && !into.join(files::MANIFEST).exists());
        }
    }
}

#[tokio::test]
async fn what_was_put_right_becomes_ready() {
    let place = Place::new("right");
    let wanted = place.candidate("weights");
    let address = left_unverified(&place, &wanted).await;
    let server = Bare::at(&url());
    server.put(&address, files::WEIGHTS, b"a longer one than the manifest says").await;
    let error = registry(&url()).register(&wanted).await.expect_err("too long");
    assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
    server.put(&address, files::WEIGHTS, b"weights").await;
    let version = registry(&url()).register(&wanted).await.expect("a version");
    assert!(version.is_staging_ready());
}

/// Damage that happened before there was a version is mended: nobody was told of it.
#[tokio::test]
async fn what_a_kill_left_half_is_replaced() {
    let place = Place::new("half");
    let wanted = place.candidate("weights");
    let relay = Relay::new(&url(), |asked| {
        if asked.line.contains("model-versions/create") { Fault::CutBefore } else { Fault::None }
    });
    registry(&relay.url()).register(&wanted).await.expect_err("killed");
    let server = Bare::at(&url());
    let (_, models) = server.runs_and_models(&place.model).await;
    let address = models[0]["info"]["artifact_uri"].as_str().expect("an address").to_owned();
    server.put(&address, files::WEIGHTS, b"weigh").await;
    server.put(&address, "MLmodel", b"{}").await;
    let version = registry(&url()).register(&wanted).await.expect("a version");
    assert!(version.is_staging_ready());
    let fetched = registry(&url()).fetch(&version, &place.path("fetched")).await;
    assert_eq!(fetched.expect("the files"), wanted.manifest);
}

#[tokio::test]
async fn a_damaged_version_that_was_deleted_is_made_anew() {
    let place = Place::new("anew");
    let wanted = place.candidate("weights");
    let address = left_unverified(&place, &wanted).await;
    let server = Bare::at(&url());
    server.put(&address, files::WEIGHTS, b"weightS").await;
    registry(&url()).register(&wanted).await.expect_err("damaged");
    let version = json!({ "name": place.model, "version": "1" });
    server.delete("model-versions/delete", &version).await;
    let version = registry(&url()).register(&wanted).await.expect("a version");
    assert_eq!(version.version.number, 2, "no number is used twice");
    assert!(version.is_staging_ready());
    let fetched = registry(&url()).fetch(&version, &place.path("fetched")).await;
    assert_eq!(fetched.expect("the files"), wanted.manifest);
}

#[tokio::test]
async fn a_version_that_is_gone_or_too_large_is_told() {
    let place = Place::new("gone");
    let version = registry(&url()).register(&place.candidate("weights")).await.expect("a version");
    let small = registry(&url()).limited_to(8);
    let error = small.fetch(&version, &place.path("small")).await.expect_err("too large");
    assert!(matches!(error, PlatformError::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("`max_version_bytes`"), "{error}");

    let mut other = version.clone();
    other.version.number = 99;
    let error = registry(&url()).fetch(&other, &place.path("gone")).await.expect_err("gone");
    assert!(matches!(error, PlatformError::Conflict { .. }), "{error:?}");
    assert!(error.to_string().contains("no such version"), "{error}");
}
