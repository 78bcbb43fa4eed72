//! Calls that are cut, refused or never answered, wherever that may happen.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mloop_core::version::aliases;
use mloop_http::testing::{Fault, Relay};
use mloop_platform::{ModelRegistry as _, PlatformError};

use crate::server::Bare;
use crate::{Place, impatient, registry, url};

/// A relay that hands on so many requests; the next one and all others meet the fault.
fn failing_from(first: usize, fault: Fault, then: Fault) -> Relay {
    let passed = AtomicUsize::new(0);
    Relay::new(&url(), move |_| match passed.fetch_add(1, Ordering::SeqCst) {
        number if number < first => Fault::None,
        number if number == first => fault,
        _ => then,
    })
}

/// One version, ready, of one run and one logged model, whole.
async fn is_one(place: &Place, registration: &mloop_platform::Registration) {
    let registry = registry(&url());
    let listed = registry.versions(&place.model).await.expect("a list");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert!(listed[0].is_staging_ready(), "{listed:?}");
    let fetched = registry.fetch(&listed[0], &place.path("fetched")).await.expect("the files");
    assert_eq!(fetched, registration.manifest);
    let server = Bare::at(&url());
    assert_eq!(server.versions(&place.model).await.len(), 1);
    let (runs, models) = server.runs_and_models(&place.model).await;
    assert_eq!((runs.len(), models.len()), (1, 1), "{runs:#?} {models:#?}");
    assert_eq!(runs[0]["info"]["status"], "FINISHED");
    assert_eq!(models[0]["info"]["status"], "LOGGED_MODEL_READY");
}

/// What a kill at each call leaves, before its effect and after, is completed by the repeat.
#[tokio::test]
async fn a_kill_at_any_call_leaves_what_the_repeat_completes() {
    for fault in [Fault::CutBefore, Fault::CutAfter] {
        let place = Place::new("kill");
        let wanted = place.candidate("weights");
        let mut survived = 0;
        loop {
            let relay = failing_from(survived, fault, Fault::CutBefore);
            match registry(&relay.url()).register(&wanted).await {
                Ok(version) => {
                    assert!(version.is_staging_ready());
                    break;
                }
                Err(error) => assert!(error.is_transient(), "{fault:?} {survived}: {error:?}"),
            }
            let left = registry(&url()).versions(&place.model).await.expect("a list");
            assert!(left.len() <= 1, "{fault:?} {survived}: {left:?}");
            survived += 1;
        }
        assert!(survived >= 10, "it was killed at {survived} calls");
        is_one(&place, &wanted).await;
    }
}

/// The same registration twenty times, each hit at another call by another fault.
#[tokio::test]
async fn twenty_repeats_with_faults_leave_one_version() {
    let place = Place::new("repeats");
    let wanted = place.candidate("weights");
    let faults = [
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::Status(500),
        Fault::StatusAfter(500),
        Fault::Silent,
        Fault::StatusAfter(503),
    ];
    for repeat in 0..20 {
        // Early calls fail most at first, so that later repeats have something left to do.
        let relay = failing_from((repeat * 3) % 29, faults[repeat % faults.len()], Fault::None);
        match impatient(&relay.url(), Duration::from_secs(5)).register(&wanted).await {
            Ok(version) => assert!(version.is_staging_ready()),
            Err(error) => assert!(error.is_transient(), "{repeat}: {error:?}"),
        }
    }
    registry(&url()).register(&wanted).await.expect("a version");
    is_one(&place, &wanted).await;
}

#[tokio::test]
async fn twenty_repeats_with_faults_leave_aliases_as_they_were_wanted() {
    let place = Place::new("aliases");
    let direct = registry(&url());
    let version = direct.register(&place.candidate("weights")).await.expect("a version").version;
    let other = direct.register(&place.candidate("other")).await.expect("a version").version;
    direct.set_alias(&place.model, aliases::PREVIOUS_CHAMPION, &other).await.expect("set");
    let faults = [Fault::CutBefore, Fault::CutAfter, Fault::Status(500), Fault::StatusAfter(502)];
    let named = async |alias| direct.alias(&place.model, alias).await.expect("an answer");
    for repeat in 0..20 {
        let relay = failing_from(repeat % 3, faults[repeat % faults.len()], Fault::None);
        let spoiled = registry(&relay.url());
        if let Err(error) = spoiled.set_alias(&place.model, aliases::CHAMPION, &version).await {
            assert!(error.is_transient(), "{error:?}");
            direct.set_alias(&place.model, aliases::CHAMPION, &version).await.expect("set");
        }
        assert_eq!(named(aliases::CHAMPION).await, Some(version));
        let relay = failing_from(0, faults[repeat % faults.len()], Fault::None);
        let spoiled = registry(&relay.url());
        if let Err(error) = spoiled.remove_alias(&place.model, aliases::CHAMPION).await {
            assert!(error.is_transient(), "{error:?}");
            direct.remove_alias(&place.model, aliases::CHAMPION).await.expect("removed");
        }
        assert_eq!(named(aliases::CHAMPION).await, None);
        assert_eq!(named(aliases::PREVIOUS_CHAMPION).await, Some(other), "another one stays");
    }
}

#[tokio::test]
async fn a_fetch_that_is_cut_leaves_no_half_file() {
    let place = Place::new("fetch");
    let wanted = place.candidate("weights");
    let version = registry(&url()).register(&wanted).await.expect("a version");
    for survived in 0..4 {
        let into = place.path(&format!("into-{survived}"));
        let relay = failing_from(survived, Fault::CutBefore, Fault::CutBefore);
        let error = registry(&relay.url()).fetch(&version, &into).await.expect_err("cut");
        assert!(error.is_transient(), "{error:?}");
        for entry in wanted.manifest.files() {
            let path = into.join(&entry.path);
            let whole = std::fs::read(&path)
                .map_or(true, |bytes| mloop_core::Sha256Digest::of(&bytes) == entry.sha256);
            assert!(whole, "{}", path.display());
        }
        assert!(!into.join("manifest.json").exists(), "it comes last");
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable() {
    let place = Place::new("down");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let error = registry(&address).register(&place.candidate("weights")).await;
    let error = error.expect_err("nobody there");
    assert!(matches!(error, PlatformError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains(&address), "{error}");

    let silent = failing_from(0, Fault::Silent, Fault::Silent);
    let registry = impatient(&silent.url(), Duration::from_millis(200));
    let error = registry.versions(&place.model).await.expect_err("no answer");
    assert!(matches!(error, PlatformError::Unavailable { .. }), "{error:?}");
}
