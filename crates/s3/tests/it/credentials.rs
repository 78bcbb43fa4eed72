//! Signatures and permissions, as a server that checks them sees them.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use mloop_core::exit_class::{Classified as _, ExitClass};
use mloop_s3::{Bucket, S3Error, S3Settings};
use mloop_services::{Service, Services};
use serde_json::Value;

use crate::common::{built, read};

/// moto with its checks, until it is dropped.
struct Checking {
    told: Value,
    process: Child,
}

impl Checking {
    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/authenticating.py");
        let mut process = Command::new(Services::running().python(Service::Moto))
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python");
        let mut line = String::new();
        let output = process.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let told = serde_json::from_str(&line).expect("JSON");
        Self { told, process }
    }

    fn bucket(&self, keys: [&str; 2], place: &str) -> Bucket {
        let url = self.told["url"].as_str().expect("an address");
        built(&S3Settings::of_test(url).with_keys(keys), place)
    }

    fn keys(&self, user: &str) -> [&str; 2] {
        [0, 1].map(|index| self.told["users"][user][index].as_str().expect("keys"))
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        // It ends when its input does.
        drop(self.process.stdin.take());
        drop(self.process.wait());
    }
}

#[tokio::test]
async fn what_a_user_may_is_done_and_all_else_is_refused() {
    let server = Checking::start();
    let reader = server.keys("reader");
    let bucket = server.bucket(reader, "s3://kept/captured");
    let found = bucket.list("", ".jsonl", 10).await.expect("permitted");
    assert_eq!(read(bucket.read(&found[0])).await.expect("permitted"), b"0123456789");

    // It may be listed and not read.
    let bucket = server.bucket(reader, "s3://kept/secret");
    let found = bucket.list("", ".jsonl", 10).await.expect("permitted");
    let unread = read(bucket.read(&found[0])).await.expect_err("forbidden");

    let place = "s3://kept/captured";
    let list = async |keys| server.bucket(keys, place).list("", "", 10).await.expect_err("refused");
    let wrong = list([reader[0], "wrong"]).await;
    for (error, code) in [
        (unread, "AccessDenied"),
        (list(server.keys("stranger")).await, "AccessDenied"),
        (list(["AKIANOBODY", "any"]).await, "InvalidAccessKeyId"),
        (wrong, "SignatureDoesNotMatch"),
    ] {
        assert!(matches!(error, S3Error::Denied { .. }), "{error:?}");
        assert!(error.to_string().contains(code), "{error}");
        assert!(!error.to_string().contains(reader[1]), "{error}");
        assert_eq!(error.platform("reading").exit_class(), ExitClass::Credentials);
    }
}
