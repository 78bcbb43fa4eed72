//! What the server does with what it is given at its start.

use mloop_core::version::files;

use super::*;

fn flip_last_byte(path: &Path) {
    let mut bytes = std::fs::read(path).expect("reads");
    *bytes.last_mut().expect("not empty") ^= 1;
    std::fs::write(path, bytes).expect("writes");
}

#[test]
fn one_flipped_byte_keeps_ping_from_200_and_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, _) = version(folder.path(), 1);
    flip_last_byte(&model.join(files::WEIGHTS));
    let server = start(Settings { model: Some(model), ..settings() });
    let failed = || server.endpoint("default")["state"] == "failed";
    eventually("the endpoint failed", failed);
    eventually("it says why", || server.get("/ping").text().contains("differs from manifest.json"));
    let ping = server.get("/ping");
    assert_eq!((ping.status, ping.code().as_str()), (503, "not_ready"));
    let reply = server.invoke("/invocations");
    assert_eq!((reply.status, reply.code().as_str()), (503, "not_ready"));
    assert!(reply.headers.contains_key("retry-after"));
}

#[test]
fn a_version_that_nothing_vouches_for_needs_a_digest() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, digest) = version(folder.path(), 1);
    std::fs::remove_file(model.join(files::MANIFEST)).expect("removes");
    let with =
        |model_digest| start(Settings { model: Some(model.clone()), model_digest, ..settings() });
    let server = with(None);
    eventually("refused", || server.get("/ping").text().contains("nothing to verify"));
    let server = with(Some(Sha256Digest::of(b"another")));
    eventually("refused", || server.get("/ping").text().contains("is wanted"));
    let server = with(Some(digest));
    server.await_ping(200);
}

#[test]
fn a_bare_server_is_ready_to_be_given_endpoints() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = start(Settings { state: Some(folder.path().join("state")), ..settings() });
    server.await_ping(200);
    assert_eq!(server.invoke("/invocations").status, 404);
    assert_eq!(server.admin("GET", "", &Value::Null).json(), json!({"endpoints": []}));
}

#[test]
fn wrong_settings_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let refuse = |settings: Settings| {
        let error = try_start(settings).err().expect("refused");
        (error.is_transient(), mloop_core::error_chain(&error))
    };
    let (_, open) = refuse(Settings { admin: "0.0.0.0:0".parse().expect("one"), ..settings() });
    assert!(open.contains("not a loopback address"), "{open}");
    let (_, none) = refuse(Settings { model: Some(folder.path().join("no")), ..settings() });
    assert!(none.contains("give --model DIR, or --state DIR"), "{none}");

    let state = folder.path().join("state");
    let first = start(Settings { state: Some(state.clone()), ..settings() });
    let (transient, used) = refuse(Settings { state: Some(state.clone()), ..settings() });
    assert!(transient && used.contains("another server uses the state folder"), "{used}");
    let listen = first.addresses.listen;
    let other = Some(folder.path().join("other"));
    let (transient, taken) = refuse(Settings { listen, state: other, ..settings() });
    assert!(transient && taken.contains(&listen.to_string()), "{taken}");

    first.stop();
    std::fs::write(state.join("endpoints.json"), b"{\"schema\":").expect("writes");
    let (_, torn) = refuse(Settings { state: Some(state), ..settings() });
    assert!(torn.contains("endpoints.json") && torn.contains("move it away"), "{torn}");
}

#[test]
fn the_address_file_names_the_chosen_ports() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("address.json");
    let (server, _) = start_ready(folder.path(), |settings| {
        settings.address_file = Some(path.clone());
    });
    let told: Addresses =
        serde_json::from_slice(&std::fs::read(path).expect("reads")).expect("addresses");
    assert_eq!(told, server.addresses);
    assert_ne!(told.listen.port(), 0);
}
