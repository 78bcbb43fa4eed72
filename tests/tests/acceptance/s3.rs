//! Captured traffic in S3: whose credentials a program brings, and what it says without any.

use mloop_http::testing::{Asked, Reply, Server};
use mloop_testkit::configs;
use mloop_testkit::program::{Finished, Program};
use serde_json::json;
use tempfile::TempDir;

use crate::world::ended_with;

/// What may say where credentials come from.
const VARIABLES: [&str; 9] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_METADATA_ENDPOINT",
];

/// An empty bucket, beside what hands out credentials to containers.
fn server(credentials: Reply) -> Server {
    Server::answering(move |asked, _| {
        if asked.line.contains("/credentials") {
            return credentials.clone();
        }
        Reply::of(200, "", "<?xml version=\"1.0\"?><ListBucketResult></ListBucketResult>")
    })
}

fn lists(server: &Server) -> Vec<Asked> {
    let asked = server.asked();
    asked.into_iter().filter(|asked| asked.line.contains("list-type=2")).collect()
}

/// `monitoring_main --check` with traffic in a bucket of this server, and this environment alone.
fn check(server: &Server, environment: &[(&str, String)]) -> Finished {
    let folder = TempDir::new().expect("a folder");
    for below in ["var", "configs"] {
        std::fs::create_dir(folder.path().join(below)).expect("made");
    }
    let s3 = format!(
        "path: s3://models/captured\n    s3: {{region: eu-central-1, endpoint_url: http://{}, tries: 1}}\n    \
         labels: s3://models/labels",
        server.address()
    );
    let file = "monitoring_config.yaml";
    let changes = [(file, "path: ../var/capture\n    labels: ../var/labels", s3)];
    configs::write(&folder.path().join("configs"), &changes).expect("written");
    let config = folder.path().join("configs").join(file).display().to_string();
    let program = Program::new("monitoring_main", ["--config", &config, "--check"]).expect("built");
    let program = VARIABLES.iter().fold(program, |program, name| program.env(name, ""));
    let program =
        environment.iter().fold(program, |program, (name, value)| program.env(name, value));
    program.run().expect("runs")
}

#[test]
fn credentials_come_from_the_environment_alone() {
    let folder = TempDir::new().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "the pod's").expect("written");
    let token = token.display().to_string();
    let handed = Reply::json(
        200,
        &json!({"AccessKeyId": "AKIAPOD", "SecretAccessKey": "hunter2", "Token": "hunter3",
            "Expiration": "2999-01-01T00:00:00Z"}),
    );

    let nobody = server(Reply::status(404));
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIAKEYS".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "hunter2".to_owned()),
        ("AWS_SESSION_TOKEN", "temporary".to_owned()),
    ];
    ended_with(&check(&nobody, &keys), 0);
    let asked = lists(&nobody);
    let signed = asked[0].header("authorization").expect("a signature");
    assert!(signed.contains("Credential=AKIAKEYS/") && signed.contains("/eu-central-1/s3/"));
    assert_eq!(asked[0].header("x-amz-security-token"), Some("temporary"));
    let prefixes = ["captured", "labels"].map(|place| format!("prefix={place}%2F"));
    assert!(
        prefixes.iter().all(|prefix| asked.iter().any(|asked| asked.line.contains(prefix))),
        "{asked:?}"
    );

    let of_pod = |server: &Server| {
        [
            (
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                format!("http://{}/credentials", server.address()),
            ),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.clone()),
        ]
    };
    let agent = server(handed);
    ended_with(&check(&agent, &of_pod(&agent)), 0);
    let asked = lists(&agent);
    assert!(asked[0].header("authorization").expect("signed").contains("Credential=AKIAPOD/"));
    assert_eq!(agent.asked()[0].header("authorization"), Some("the pod's"));

    // Refused, busy, and a token that is not there.
    let no_file = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token".to_owned()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/mloop".to_owned()),
    ];
    let nothing = |server: &Server| {
        vec![("AWS_METADATA_ENDPOINT", format!("http://{}/credentials", server.address()))]
    };
    let (refused, busy) = (server(Reply::status(403)), server(Reply::status(503)));
    for (server, environment, code, said) in [
        (&refused, of_pod(&refused).to_vec(), 21, "none were given: status 403"),
        (&busy, of_pod(&busy).to_vec(), 30, "no credentials so far: status 503"),
        (&nobody, no_file.to_vec(), 21, "/nowhere/token"),
        (&nobody, nothing(&nobody), 21, "none were given: status 404"),
        (
            &nobody,
            vec![("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9".to_owned())],
            21,
            "the environment names none",
        ),
    ] {
        let checked = check(server, &environment);
        ended_with(&checked, code);
        assert!(checked.stderr.contains(said), "{said}: {}", checked.stderr);
    }
}
