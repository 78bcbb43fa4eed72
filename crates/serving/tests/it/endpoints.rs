//! Named endpoints: given, switched, refused, restored, removed.

use std::collections::BTreeSet;

use mloop_core::version::files;

use super::*;

fn any() -> Value {
    json!({"any": true})
}

fn bare(folder: &Path) -> Running {
    let server = start(Settings { state: Some(folder.join("state")), ..settings() });
    server.await_ping(200);
    server
}

fn serves(server: &Running, name: &str) -> Option<Sha256Digest> {
    digest_header(&server.invoke(&format!("/endpoints/{name}/invocations")))
}

fn kept(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder.join("state/models")).expect("lists");
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
    entries.map(|entry| name(entry).into_string().expect("text")).collect()
}

#[test]
fn an_endpoint_is_made_shown_and_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = bare(folder.path());
    let one = version(folder.path(), 1);
    let made = server.put("staging", &one, &json!({"digest": null}));
    assert_eq!(made.status, 200, "{}", made.text());
    let shown = json!({
        "name": "staging", "digest": one.1, "version": 7, "previous": null,
        "state": "in_service", "detail": "", "requests": 0, "in_flight": 0,
    });
    assert_eq!(made.json(), shown);
    assert_eq!(server.endpoint("staging"), shown);
    assert_eq!(server.admin("GET", "", &Value::Null).json(), json!({"endpoints": [shown]}));
    assert_eq!(serves(&server, "staging"), Some(one.1));

    for _ in ["there", "gone already"] {
        assert_eq!(server.admin("DELETE", "/staging", &Value::Null).status, 204);
    }
    assert_eq!(server.invoke("/endpoints/staging/invocations").status, 404);
    assert_eq!(server.admin("GET", "/staging", &Value::Null).code(), "not_found");
    assert!(kept(folder.path()).is_empty());
}

#[test]
fn a_switch_replaces_what_serves_unless_a_stranger_was_faster() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = bare(folder.path());
    let [one, two, three] = [1, 2, 3].map(|seed| version(folder.path(), seed));
    server.put("production", &one, &any());
    let switched = server.put("production", &two, &json!({"digest": one.1}));
    assert_eq!(switched.status, 200, "{}", switched.text());
    assert_eq!(switched.json()["previous"], json!(one.1));
    assert_eq!(serves(&server, "production"), Some(two.1));

    let again = server.put("production", &two, &json!({"digest": one.1}));
    assert_eq!((again.status, &again.json()["previous"]), (200, &json!(one.1)), "nothing changed");

    for expected in [json!({"digest": one.1}), json!({"digest": null}), json!({"digest": three.1})]
    {
        let conflict = server.put("production", &three, &expected);
        assert_eq!((conflict.status, conflict.code().as_str()), (409, "conflict"));
        assert!(conflict.text().contains(&two.1.to_string()), "it names what serves");
    }
    assert_eq!(serves(&server, "production"), Some(two.1));
    assert_eq!(server.put("production", &three, &any()).status, 200);
    assert_eq!(serves(&server, "production"), Some(three.1));
}

#[test]
fn a_request_in_flight_finishes_on_the_version_that_began_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = bare(folder.path());
    let [one, two] = [1, 2].map(|seed| version(folder.path(), seed));
    server.put("production", &one, &any());
    let body = tiny_image(1);
    let call = Call::post("/endpoints/production/invocations", &[JSON], body.as_bytes());
    let begun = call.begin(server.addresses.listen, 10).expect("sends");
    server.await_in_flight("production", 1);

    assert_eq!(server.put("production", &two, &any()).status, 200);
    assert_eq!(serves(&server, "production"), Some(two.1), "new requests get the new version");
    let reply = begun.finish().expect("answers");
    assert_eq!((reply.status, digest_header(&reply)), (200, Some(one.1)));
    assert_eq!(reply.json()["model_digest"], json!(one.1));
}

#[test]
fn no_request_fails_while_versions_are_switched_to_and_fro() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = bare(folder.path());
    let versions = [1, 2].map(|seed| version(folder.path(), seed));
    server.put("production", &versions[0], &any());
    let done = std::sync::atomic::AtomicBool::new(false);
    let (asked, seen) = std::thread::scope(|scope| {
        let ask = || {
            let (mut asked, mut seen) = (0, BTreeSet::new());
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let reply = server.invoke("/endpoints/production/invocations");
                assert_eq!(reply.status, 200, "{}", reply.text());
                assert_eq!(reply.json()["model_digest"], json!(digest_header(&reply)));
                seen.insert(digest_header(&reply));
                asked += 1;
            }
            (asked, seen)
        };
        let caller = scope.spawn(ask);
        for turn in 0..40 {
            assert_eq!(server.put("production", &versions[(turn + 1) % 2], &any()).status, 200);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        caller.join().expect("no request failed")
    });
    assert!(asked > 40 && seen.len() == 2, "{asked} asked, {seen:?} seen");
    assert!(server.get("/metrics").text().contains("40.0"), "switches are counted");
}

#[test]
fn what_does_not_load_is_refused_and_the_old_version_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = bare(folder.path());
    let [one, two] = [1, 2].map(|seed| version(folder.path(), seed));
    server.put("production", &one, &any());
    let absent = (folder.path().join("absent"), two.1);
    let other = (two.0.clone(), Sha256Digest::of(b"other"));
    for (wrong, reason) in [(&absent, "absent"), (&other, "is wanted")] {
        let refused = server.put("production", wrong, &any());
        assert_eq!((refused.status, refused.code().as_str()), (422, "refused"));
        assert!(refused.text().contains(reason), "{}", refused.text());
    }
    std::fs::write(two.0.join(files::WEIGHTS), b"damaged").expect("writes");
    assert_eq!(server.put("production", &two, &any()).status, 422);
    let shown = server.endpoint("production");
    assert_eq!((&shown["state"], &shown["digest"]), (&json!("in_service"), &json!(one.1)));
    assert!(shown["detail"].as_str().is_some_and(|detail| detail.contains("damaged")), "{shown}");
    assert_eq!(serves(&server, "production"), Some(one.1));
    assert_eq!(kept(folder.path()), BTreeSet::from([one.1.to_string()]), "nothing half copied");

    let failed = server.put("new", &absent, &any());
    assert_eq!(failed.status, 422);
    assert_eq!(server.endpoint("new")["state"], "failed");
    for (name, body) in [("a_b", json!({})), ("new", json!({"folder": "/x"})), ("new", json!(3))] {
        let reply = server.admin("PUT", &format!("/{name}"), &body);
        assert_eq!((reply.status, reply.code().as_str()), (400, "bad_request"), "{name} {body}");
    }
}

#[test]
fn the_next_start_serves_what_served_from_its_own_copy() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, two, three] = [1, 2, 3].map(|seed| version(folder.path(), seed));
    let server = bare(folder.path());
    for version in [&one, &two, &three] {
        server.put("production", version, &any());
    }
    server.put("staging", &one, &any());
    assert_eq!(server.stop(), Drained::Clean);
    for version in [&one, &two, &three] {
        std::fs::remove_dir_all(&version.0).expect("removes");
    }
    std::fs::create_dir(folder.path().join("state/models/torn.part")).expect("makes");

    let server = bare(folder.path());
    let shown = server.endpoint("production");
    assert_eq!((&shown["digest"], &shown["previous"]), (&json!(three.1), &json!(two.1)));
    assert_eq!((&shown["version"], &shown["state"]), (&json!(7), &json!("in_service")));
    assert_eq!(serves(&server, "production"), Some(three.1));
    assert_eq!(serves(&server, "staging"), Some(one.1));
    let needed = [one.1, two.1, three.1].map(|digest| digest.to_string());
    assert_eq!(kept(folder.path()), BTreeSet::from(needed));
    server.admin("DELETE", "/staging", &Value::Null);
    let needed = [two.1, three.1].map(|digest| digest.to_string());
    assert_eq!(kept(folder.path()), BTreeSet::from(needed), "nobody needs the first any more");
}

#[test]
fn the_state_folder_wins_over_the_given_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, two] = [1, 2].map(|seed| version(folder.path(), seed));
    let given = || {
        let state = Some(folder.path().join("state"));
        let server = start(Settings { model: Some(one.0.clone()), state, ..settings() });
        server.await_ping(200);
        server
    };
    let server = given();
    assert_eq!(serves(&server, "default"), Some(one.1));
    server.put("default", &two, &json!({"digest": one.1}));
    server.stop();
    assert_eq!(serves(&given(), "default"), Some(two.1));
}

#[test]
fn a_damaged_copy_fails_its_endpoint_and_a_new_put_repairs_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = version(folder.path(), 1);
    let server = bare(folder.path());
    let two = version(folder.path(), 2);
    server.put("production", &one, &any());
    server.put("staging", &two, &any());
    // One that never served takes no other out of service.
    let absent = (folder.path().join("nowhere"), Sha256Digest::of(b"nowhere"));
    assert_eq!(server.put("absent", &absent, &any()).status, 422);
    server.await_ping(200);
    server.stop();
    let copy = folder.path().join("state/models").join(one.1.to_string()).join(files::WEIGHTS);
    let mut bytes = std::fs::read(&copy).expect("reads");
    bytes[200] ^= 1;
    std::fs::write(&copy, bytes).expect("writes");

    let server = start(Settings { state: Some(folder.path().join("state")), ..settings() });
    eventually("failed", || server.endpoint("production")["state"] == "failed");
    eventually("the other is back", || serves(&server, "staging") == Some(two.1));
    server.await_ping(503);
    assert!(server.get("/ping").text().contains("`production`"), "it says which");
    // A change elsewhere must not make the server forget what it could not load.
    let three = version(folder.path(), 3);
    assert_eq!(server.put("staging", &three, &any()).status, 200);
    assert!(kept(folder.path()).contains(&one.1.to_string()));
    assert_eq!(server.put("production", &one, &json!({"digest": one.1})).status, 200);
    assert_eq!(serves(&server, "production"), Some(one.1));
    server.await_ping(200);
}

#[test]
fn there_are_only_so_many_endpoints() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = version(folder.path(), 1);
    let (server, _) = start_ready(folder.path(), |settings| settings.limits.endpoints = 2);
    assert_eq!(server.put("second", &one, &any()).status, 200);
    assert_eq!(server.put("third", &one, &any()).status, 422);
    assert_eq!(server.put("second", &one, &any()).status, 200);
}
