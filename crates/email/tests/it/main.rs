//! The notifier against the service bench's SMTP server, and against one that answers by a script.

mod scripted;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mloop_core::notification::{Notification, Severity};
use mloop_core::secret::{Secret, SecretError};
use mloop_core::{Secrets, SystemClock, error_chain};
use mloop_platform::conformance::{Repeats, check_notifier, samples};
use mloop_platform::fakes::InMemoryLedger;
use mloop_platform::{
    Notifier, NotifierRegistry, Outbox as _, PlatformDeps, PlatformError, deliver_pending,
    send_slack_alert,
};
use mloop_services::{Service, Services, Smtp};
use scripted::{SILENCE, Scripted};
use serde_json::{Value, json};

/// The only secret is the password.
struct Password(String);

impl Secrets for Password {
    fn in_env(&self, _name: &str) -> Result<Secret, SecretError> {
        Ok(Secret::new(self.0.clone()))
    }

    fn in_file(&self, path: &Path) -> Result<Secret, SecretError> {
        let problem = "this test has no files".to_owned();
        Err(SecretError::File { path: path.display().to_string(), problem })
    }
}

fn build(settings: &Value, password: &str) -> Result<Arc<dyn Notifier>, String> {
    let mut kinds = NotifierRegistry::new("notifier");
    mloop_email::register_builtin(&mut kinds);
    let deps = PlatformDeps::new("/", Arc::new(SystemClock));
    let deps = deps.with_secrets(Arc::new(Password(password.to_owned())));
    kinds.build("email", "mail", settings, &deps).map_err(|error| format!("{error:?}"))
}

/// A sender's domain that no other test and no earlier run has.
fn domain() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let moment = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_nanos();
    format!("d{number}-{}-{moment}.example", std::process::id())
}

/// The bench's server, with a mailbox that all tests share: each looks for its own domain.
struct Bench {
    smtp: Smtp,
    domain: String,
}

impl Bench {
    fn new() -> Self {
        Self { smtp: Services::running().smtp().clone(), domain: domain() }
    }

    fn settings(&self, to: &[&str]) -> Value {
        json!({
            "host": self.smtp.host,
            "port": self.smtp.port,
            "ca_file": self.smtp.ca_file,
            "username": self.smtp.username,
            "password_env": "SMTP_PASSWORD",
            "from": format!("mloop <mloop@{}>", self.domain),
            "to": to,
            "timeout_secs": 10,
        })
    }

    fn notifier(&self, to: &[&str]) -> Arc<dyn Notifier> {
        build(&self.settings(to), &self.smtp.password).expect("a notifier")
    }

    /// The mails of this test, in the order in which they came.
    fn mails(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.smtp.mailbox).expect("the mailbox");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let is_whole = |path: &PathBuf| path.extension().is_some_and(|end| end == "eml");
        let is_ours = |path: &PathBuf| {
            std::fs::read(path)
                .is_ok_and(|mail| String::from_utf8_lossy(&mail).contains(&self.domain))
        };
        let mut found: Vec<PathBuf> =
            paths.filter(|path| is_whole(path) && is_ours(path)).collect();
        found.sort();
        found
    }
}

/// A mail as Python's mail parser, which nobody here wrote, understands it.
fn parsed(path: &Path) -> Value {
    let script = r#"
import email.policy, json, sys
mail = email.message_from_binary_file(open(sys.argv[1], "rb"), policy=email.policy.default)
print(json.dumps({
    "headers": {name.lower(): str(value) for name, value in mail.items()},
    "kind": mail.get_content_type(),
    "parts": [[part.get_content_type(), part.get_content()] for part in mail.iter_parts()],
    "defects": [str(defect) for part in mail.walk() for defect in part.defects],
}))"#;
    let services = Services::running();
    let run = Command::new(services.python(Service::Smtp))
        .args(["-c", script])
        .arg(path)
        .output()
        .expect("it runs");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).expect("JSON")
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let bench = Bench::new();
    let received = |id: &str| {
        let id = format!("Message-ID: <{id}.mloop@{}>", bench.domain);
        let has_id =
            |path: &PathBuf| std::fs::read_to_string(path).is_ok_and(|mail| mail.contains(&id));
        bench.mails().iter().filter(|path| has_id(path)).count()
    };
    let notifier = bench.notifier(&["ops@example.org"]);
    check_notifier(notifier.as_ref(), Repeats::Delivered, &received).await;
}

#[tokio::test]
async fn a_mail_arrives_whole_with_both_parts() {
    let bench = Bench::new();
    let to = ["Zoë Müller <zoe@example.org>", "ops@example.org"];
    let notification = Notification {
        severity: Severity::Critical,
        title: "fashion@production: Helligkeit verändert – 明るさ".to_owned(),
        text: format!(
            "v3 answered 1500 requests.\n- column_drift of brightness: psi 0.31 <bound> 0.2\n- größe: {}\n.\n..two dots",
            "x".repeat(2_000)
        ),
        ..samples::notification("run-1")
    };
    bench.notifier(&to).notify(&notification).await.expect("sent");
    let mails = bench.mails();
    assert_eq!(mails.len(), 1);
    let mail = parsed(&mails[0]);
    assert_eq!(mail["defects"], json!([]), "{mail}");
    let headers = &mail["headers"];
    assert_eq!(headers["subject"], format!("[mloop critical] {}", notification.title));
    assert_eq!(headers["from"], format!("mloop <mloop@{}>", bench.domain));
    assert_eq!(headers["to"], "Zoë Müller <zoe@example.org>, ops@example.org");
    assert_eq!(headers["x-envelope-to"], "zoe@example.org, ops@example.org");
    assert_eq!(headers["message-id"], format!("<run-1.mloop@{}>", bench.domain));
    for (name, value) in [
        ("auto-submitted", "auto-generated"),
        ("importance", "high"),
        ("x-mloop-topic", "retraining"),
        ("x-mloop-severity", "critical"),
        ("x-mloop-model", "fashion"),
        ("x-mloop-target", "production"),
        ("mime-version", "1.0"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert!(headers["date"].is_string());
    assert_eq!(mail["kind"], "multipart/alternative");
    let [plain, html] = [&mail["parts"][0], &mail["parts"][1]];
    assert_eq!((&plain[0], &html[0]), (&json!("text/plain"), &json!("text/html")));
    let plain = plain[1].as_str().expect("text");
    assert!(plain.contains(&notification.text), "{plain}");
    assert!(plain.contains("Model    fashion"), "{plain}");
    let html = html[1].as_str().expect("text");
    assert!(html.contains("psi 0.31 &lt;bound&gt; 0.2") && html.contains("größe"), "{html}");
}

#[tokio::test]
async fn a_submitted_job_is_told_with_its_reasons() {
    let bench = Bench::new();
    let episode = samples::episode(&samples::subject("production"), 1);
    let notifier = bench.notifier(&["ops@example.org"]);
    send_slack_alert(notifier.as_ref(), &episode, samples::day_one()).await.expect("told");
    let mail = parsed(&bench.mails()[0]);
    let plain = mail["parts"][0][1].as_str().expect("text");
    assert!(episode.reasons.iter().all(|reason| plain.contains(reason)), "{plain}");
}

#[tokio::test]
async fn a_refused_recipient_keeps_the_mail_from_no_other() {
    let bench = Bench::new();
    let to = ["reject@example.org", "ops@example.org", "later@example.org"];
    let notification = samples::notification("m");
    let error =
        bench.notifier(&to).notify(&notification).await.expect_err("one is to be tried again");
    let PlatformError::Partly { missed, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*missed, ["mail <reject@example.org>", "mail <later@example.org>"]);
    let told = error_chain(&error);
    assert!(error.is_transient() && told.contains("451") && told.contains("550"), "{told}");
    let mail = parsed(&bench.mails()[0]);
    assert_eq!(mail["headers"]["x-envelope-to"], "ops@example.org");
    for part in [&mail["parts"][0][1], &mail["parts"][1][1]] {
        let part = part.as_str().expect("text");
        for told in ["Not delivered to", "reject@example.org", "550", "later@example.org", "451"] {
            assert!(part.contains(told), "{told} in {part}");
        }
        assert_eq!(part.matches("tried again later").count(), 2, "{part}");
    }
}

#[tokio::test]
async fn who_was_refused_for_now_gets_the_mail_later_and_alone() {
    let all = ["ops@example.org", "later@example.org"];
    // The list as it was, or with the others gone from it since.
    for left in [&all[..], &all[1..]] {
        let (outbox, subject) =
            (InMemoryLedger::new(Arc::new(SystemClock)), samples::subject("production"));
        let notification = samples::notification("run-9");
        outbox.enqueue(&notification, &["mail".to_owned()]).await.expect("queued");
        let bench = Bench::new();
        let greylisting = [bench.notifier(&all)];
        for _ in 0..3 {
            let failed = deliver_pending(outbox.as_ref(), &subject, &greylisting).await;
            let [(_, error)] = failed.as_slice() else { panic!("told at each try: {failed:?}") };
            assert!(error_chain(error).contains("451"), "{}", error_chain(error));
        }
        assert_eq!(bench.mails().len(), 1, "who has it gets no second copy");

        // The same receiver at a server that takes all.
        let server = Scripted::new(&[]);
        let mut settings = plain(server.port());
        settings["to"] = json!(left);
        let taking = [build(&settings, "").expect("a notifier")];
        for _ in 0..3 {
            let failed = deliver_pending(outbox.as_ref(), &subject, &taking).await;
            assert_eq!(failed.len(), 0, "{failed:?}");
        }
        let heard = server.heard();
        let named: Vec<&String> = heard.iter().filter(|line| line.starts_with("RCPT")).collect();
        assert_eq!(named, ["RCPT TO:<later@example.org>"]);
        let to = heard.iter().find(|line| line.starts_with("To: ")).expect("a header");
        assert!(left.iter().all(|one| to.contains(one)), "{to}");
    }
}

#[tokio::test]
async fn refusals_of_the_server_end_in_the_error_that_says_what_to_do() {
    let notification = samples::notification("m");
    for (to, transient, told) in [
        (vec!["reject@example.org"], false, "550"),
        (vec!["later@example.org"], true, "451"),
        (vec!["reject@example.org", "later@example.org"], true, "550"),
    ] {
        let bench = Bench::new();
        let error = bench.notifier(&to).notify(&notification).await.expect_err("nobody has it");
        assert_eq!(error.is_transient(), transient, "{to:?}: {error:?}");
        let is_known = matches!(error, PlatformError::Invalid { .. });
        assert!(transient || is_known, "{error:?}");
        assert!(error_chain(&error).contains(told), "{to:?}: {}", error_chain(&error));
        assert_eq!(bench.mails().len(), 0);
    }
}

#[tokio::test]
async fn a_wrong_password_is_denied_and_not_shown() {
    let bench = Bench::new();
    let notifier = build(&bench.settings(&["ops@example.org"]), "hunter2").expect("a notifier");
    let error = notifier.notify(&samples::notification("m")).await.expect_err("refused");
    assert!(matches!(error, PlatformError::Denied { .. }), "{error:?}");
    assert!(error_chain(&error).contains("535"), "{}", error_chain(&error));
    assert!(!format!("{error:?} {}", error_chain(&error)).contains("hunter2"));

    let mut settings = bench.settings(&["ops@example.org"]);
    let settings_of = settings.as_object_mut().expect("an object");
    settings_of.remove("username");
    settings_of.remove("password_env");
    let notifier = build(&settings, "").expect("a notifier");
    let error = notifier.notify(&samples::notification("m")).await.expect_err("refused");
    assert!(matches!(error, PlatformError::Denied { .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_is_cut_is_told_and_a_repeat_is_the_same_mail() {
    let notification = samples::notification("run-7");
    let cut = Bench::new();
    let error = cut.notifier(&["cut@example.org"]).notify(&notification).await.expect_err("cut");
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(cut.mails().len(), 0);

    let lost = Bench::new();
    let notifier = lost.notifier(&["lost@example.org"]);
    let error = notifier.notify(&notification).await.expect_err("the answer is lost");
    assert!(error.is_transient(), "{error:?}");
    lost.notifier(&["ops@example.org"]).notify(&notification).await.expect("repeated");
    let mails: Vec<Value> = lost.mails().iter().map(|path| parsed(path)).collect();
    assert_eq!(mails.len(), 2);
    assert_eq!(mails[0]["headers"]["message-id"], mails[1]["headers"]["message-id"]);
}

#[tokio::test]
async fn a_slow_server_is_not_waited_for_beyond_the_limit() {
    let bench = Bench::new();
    let mut settings = bench.settings(&["slow@example.org"]);
    settings["timeout_secs"] = json!(1);
    let notifier = build(&settings, &bench.smtp.password).expect("a notifier");
    let begun = Instant::now();
    let error = notifier.notify(&samples::notification("m")).await.expect_err("too slow");
    assert!(error.is_transient(), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn nothing_is_sent_to_a_server_that_is_not_who_it_should_be() {
    let bench = Bench::new();
    let mut settings = bench.settings(&["ops@example.org"]);
    settings.as_object_mut().expect("an object").remove("ca_file");
    let stranger = build(&settings, &bench.smtp.password).expect("a notifier");
    let error = stranger.notify(&samples::notification("m")).await.expect_err("not trusted");
    assert!(error.is_transient(), "{error:?}");
    assert!(error_chain(&error).contains("certificate"), "{}", error_chain(&error));
    assert_eq!(bench.mails().len(), 0);

    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let nobody = build(&plain(port), "").expect("a notifier");
    let error = nobody.notify(&samples::notification("m")).await.expect_err("nobody there");
    assert!(error.is_transient(), "{error:?}");
}

/// Settings for a server that answers by a script.
fn plain(port: u16) -> Value {
    json!({
        "host": "127.0.0.1",
        "port": port,
        "tls": "none",
        "from": "mloop@example.org",
        "to": ["ops@example.org"],
        "timeout_secs": 2,
    })
}

#[derive(Debug, PartialEq)]
enum Kind {
    Sent,
    Later,
    Denied,
    Invalid,
}

#[tokio::test]
async fn every_step_that_a_server_refuses_has_its_error() {
    for (step, reply, expected) in [
        ("QUIT", "500 no", Kind::Sent),
        ("QUIT", "", Kind::Sent),
        ("QUIT", SILENCE, Kind::Sent),
        (".", SILENCE, Kind::Later),
        ("connect", "421 4.3.2 closing", Kind::Later),
        ("connect", "554 5.7.1 go away", Kind::Invalid),
        ("connect", "HTTP/1.1 400 Bad Request", Kind::Later),
        ("connect", "", Kind::Later),
        ("AUTH", "454 4.7.0 temporary failure", Kind::Later),
        ("AUTH", "535 5.7.8 bad credentials", Kind::Denied),
        ("AUTH", "534 5.7.9 too weak", Kind::Denied),
        ("MAIL", "530 5.7.0 log in first", Kind::Denied),
        ("MAIL", "553 5.1.8 sender unknown", Kind::Invalid),
        ("MAIL", "452 4.3.1 disk full", Kind::Later),
        ("RCPT", "550 5.7.1 no relaying", Kind::Invalid),
        ("RCPT", "450 4.2.0 greylisted", Kind::Later),
        ("DATA", "451 4.3.0 later", Kind::Later),
        (".", "552 5.3.4 too large", Kind::Invalid),
        (".", "421 4.3.2 closing", Kind::Later),
        (".", "", Kind::Later),
    ] {
        let server = Scripted::new(&[(step, reply)]);
        let mut settings = plain(server.port());
        settings["username"] = json!("mloop");
        settings["password_env"] = json!("SMTP_PASSWORD");
        let notifier = build(&settings, "hunter2").expect("a notifier");
        let result = notifier.notify(&samples::notification("m")).await;
        let found = match &result {
            Ok(()) => Kind::Sent,
            Err(error) if error.is_transient() => Kind::Later,
            Err(PlatformError::Denied { .. }) => Kind::Denied,
            Err(_) => Kind::Invalid,
        };
        assert_eq!(found, expected, "{step} {reply}: {result:?}");
        if let Err(error) = result {
            assert!(!error_chain(&error).contains("hunter2"));
            let code = reply.split(' ').next().unwrap_or_default();
            let is_code = code.len() == 3;
            assert!(!is_code || error_chain(&error).contains(code), "{}", error_chain(&error));
        }
    }
}

#[tokio::test]
async fn without_starttls_nothing_is_said() {
    let server = Scripted::new(&[]);
    let mut settings = plain(server.port());
    settings["tls"] = json!("starttls");
    let notifier = build(&settings, "").expect("a notifier");
    let error = notifier.notify(&samples::notification("m")).await.expect_err("no STARTTLS");
    assert!(matches!(error, PlatformError::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("STARTTLS"), "{error}");
    assert!(server.heard().iter().all(|line| !line.starts_with("MAIL")), "{:?}", server.heard());
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let good =
        json!({"host": "smtp.example.org", "from": "a@example.org", "to": ["b@example.org"]});
    assert!(build(&good, "").is_ok());
    for (changes, told) in [
        (json!({"tls": "none"}), "tls"),
        (json!({"tls": "maybe"}), "tls"),
        (json!({"host": "smtp.example.org:25"}), "host"),
        (json!({"to": []}), "to"),
        (json!({"to": ["b@example.org", "nobody"]}), "to[1]"),
        (json!({"to": vec!["b@example.org"; 101]}), "to"),
        (json!({"from": "Zoë"}), "from"),
        (json!({"from": "zoë@example.org"}), "Punycode"),
        (json!({"username": "u"}), "password"),
        (json!({"password_env": "P"}), "username"),
        (json!({"username": "u", "password_env": "P", "password_file": "p"}), "not both"),
        (json!({"timeout_secs": 0}), "timeout_secs"),
        (json!({"ca_file": "does-not-exist.pem"}), "ca_file"),
        (json!({"ca_file": "etc/hostname"}), "ca_file"),
        (json!({"hello_name": "a b"}), "hello_name"),
        (json!({"password": "hunter2"}), "unknown"),
    ] {
        let mut settings = good.clone();
        let all = settings.as_object_mut().expect("an object");
        all.extend(changes.as_object().expect("an object").clone());
        let Err(error) = build(&settings, "hunter2") else { panic!("{changes} was taken") };
        assert!(error.contains(told), "{changes}: {error}");
        assert!(changes.get("password").is_some() || !error.contains("hunter2"), "{error}");
    }
    for fine in [
        json!({"tls": "none", "allow_plain": true}),
        json!({"tls": "none", "host": "127.0.0.1"}),
        json!({"tls": "none", "host": "localhost"}),
        json!({"tls": "implicit", "hello_name": "worker-1.example.org"}),
    ] {
        let mut settings = good.clone();
        settings.as_object_mut().expect("an object").extend(fine.as_object().expect("one").clone());
        assert!(build(&settings, "").is_ok(), "{fine}");
    }
}
