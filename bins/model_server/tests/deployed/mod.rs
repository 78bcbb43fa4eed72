//! Through the deployer that deployment_main uses.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mloop_core::version::files;
use mloop_core::{EndpointName, Sha256Digest, SystemClock};
use mloop_deployer::conformance::{Candidate, check_deployer, sample_version};
use mloop_deployer::{
    Always, DeployError, DeployRequest, DeployerRegistry, Endpoints, Invocation, SwitchRequest,
};
use mloop_platform::PlatformDeps;
use mloop_serving::testing::tiny_image;
use serde_json::json;

use super::{Running, put, start, version};

fn endpoints(url: &str, admin_url: &str) -> Endpoints {
    let mut kinds = DeployerRegistry::new("deployer");
    mloop_local::register_deployers(&mut kinds);
    let deps = PlatformDeps::new(PathBuf::from("."), Arc::new(SystemClock));
    let settings = json!({"url": url, "admin_url": admin_url});
    kinds.build("local", "local", &settings, &deps).expect("built")
}

fn name(name: &str) -> EndpointName {
    EndpointName::new(name).expect("a name")
}

fn image() -> Invocation {
    let content_type = "application/json".to_owned();
    Invocation { content_type, body: tiny_image(3).into_bytes(), ..Invocation::default() }
}

/// A server that can be given endpoints, and its deployer.
fn platform(folder: &Path) -> (Running, Endpoints) {
    let state = folder.join("state");
    let server = start(folder, |command| {
        command.arg("--state").arg(state);
    });
    let [url, admin] = [server.addresses.listen, server.addresses.admin]
        .map(|address| format!("http://{address}"));
    (server, endpoints(&url, &admin))
}

fn candidate(folder: &Path, seed: u32) -> Candidate {
    let (path, digest) = version(folder, seed);
    let mut version = sample_version(u64::from(seed), "replaced");
    version.version.digest = digest;
    Candidate { version, folder: path }
}

fn switch(candidate: &Candidate, current: Option<Sha256Digest>) -> SwitchRequest {
    let Candidate { version, folder } = candidate.clone();
    let permission = Arc::new(Always);
    SwitchRequest { endpoint: name("production"), version, folder, current, permission }
}

#[tokio::test]
async fn the_deployer_keeps_its_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_server, platform) = platform(folder.path());
    let [first, second] = [1, 2].map(|seed| candidate(folder.path(), seed));
    let names = [&name("staging"), &name("production")];
    let patience = Duration::from_secs(30);
    check_deployer(&platform, names, [&first, &second], &image(), patience).await;
}

#[tokio::test]
async fn a_strangers_version_is_a_conflict_and_goes_on_serving() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, platform) = platform(folder.path());
    let [ours, wanted, theirs] = [1, 2, 3].map(|seed| candidate(folder.path(), seed));
    platform.deployer.switch_to_production(&switch(&ours, None)).await.expect("switched");
    let stranger = (theirs.folder.clone(), theirs.version.version.digest);
    let put = put(server.addresses.admin, "production", &stranger).expect("answers");
    assert_eq!(put.status, 200);

    let ours = ours.version.version.digest;
    let error = platform.deployer.switch_to_production(&switch(&wanted, Some(ours))).await;
    let error = error.expect_err("a stranger's version serves");
    assert!(matches!(error, DeployError::Conflict { .. }), "{error:?}");
    for digest in [ours, stranger.1] {
        assert!(error.to_string().contains(&digest.short(12)), "{error}");
    }
    let answer = platform.client.invoke(&name("production"), &image()).await.expect("an answer");
    assert_eq!(answer.digest, Some(stranger.1));
}

#[tokio::test]
async fn a_version_that_cannot_serve_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_server, platform) = platform(folder.path());
    let [good, flipped, absent] = [1, 2, 3].map(|seed| candidate(folder.path(), seed));
    let serving = good.version.version.digest;
    platform.deployer.switch_to_production(&switch(&good, None)).await.expect("switched");
    let weights = flipped.folder.join(files::WEIGHTS);
    let mut bytes = std::fs::read(&weights).expect("read");
    *bytes.last_mut().expect("weights") ^= 1;
    std::fs::write(&weights, bytes).expect("written");
    std::fs::remove_dir_all(&absent.folder).expect("removed");

    for (bad, reason) in [(&flipped, files::WEIGHTS), (&absent, "version-3")] {
        let Candidate { version, folder } = bad.clone();
        let permission = Arc::new(Always);
        let deploy = DeployRequest { endpoint: name("staging"), version, folder, permission };
        let staging = platform.deployer.deploy_model(&deploy).await;
        let production = platform.deployer.switch_to_production(&switch(bad, Some(serving))).await;
        for error in [staging, production].map(|result| result.expect_err("it cannot serve")) {
            assert!(matches!(error, DeployError::Refused { .. }), "{error:?}");
            assert!(error.to_string().contains(reason), "{error}");
        }
        let answer = platform.client.invoke(&name("production"), &image()).await;
        assert_eq!(answer.expect("an answer").digest, Some(serving));
    }
}

#[tokio::test]
async fn an_answer_of_any_status_is_an_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_server, platform) = platform(folder.path());
    let good = candidate(folder.path(), 1);
    platform.deployer.switch_to_production(&switch(&good, None)).await.expect("switched");
    let text = Invocation { content_type: "text/plain".to_owned(), ..image() };
    let broken = Invocation { body: b"{\"pixels\": [[1".to_vec(), ..image() };
    for (endpoint, invocation, status, served) in [
        ("production", image(), 200, true),
        ("production", text, 415, true),
        ("production", broken, 400, true),
        ("nowhere", image(), 404, false),
    ] {
        let answer = platform.client.invoke(&name(endpoint), &invocation).await.expect("an answer");
        let digest = served.then_some(good.version.version.digest);
        assert_eq!((answer.status, answer.digest), (status, digest), "{endpoint}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_run_is_named_with_the_command_that_starts_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let (platform, folder) = (endpoints(&url, &url), tempfile::tempdir().expect("a folder"));
    let (production, wanted) = (name("production"), candidate(folder.path(), 1));
    for error in [
        platform.deployer.describe(&production).await.map(drop).expect_err("nobody"),
        platform.deployer.switch_to_production(&switch(&wanted, None)).await.expect_err("nobody"),
        platform.deployer.rollback(&switch(&wanted, None)).await.expect_err("nobody"),
        platform.client.invoke(&production, &image()).await.map(drop).expect_err("nobody"),
        platform.janitor.remove_endpoint(&production).await.expect_err("nobody"),
        platform.janitor.endpoints().await.map(drop).expect_err("nobody"),
    ] {
        assert!(error.is_transient(), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&url) && text.contains("`model_server serve --state DIR"), "{text}");
    }
}
