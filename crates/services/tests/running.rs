//! The bench that runs: each service answers its own official client.

use std::path::Path;
use std::process::{Command, Output};

use mloop_services::{Service, Services};

fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().expect("it starts")
}

/// What a script says that must end well.
fn said(program: &Path, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", program.display());
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

#[test]
fn postgresql_lets_in_with_its_password_alone() {
    let services = Services::running();
    let postgres = services.postgres();
    let psql = postgres.programs.join("psql");
    let ask =
        ["-At", "-c", "select current_user, rolsuper from pg_roles where rolname = current_user"];
    assert_eq!(said(&psql, &[&[postgres.url.as_str()], &ask[..]].concat()), "mloop|t");
    let wrong = postgres.url.replace(&postgres.password, "guessed");
    let refused = run(&psql, &[&[wrong.as_str()], &ask[..]].concat());
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(errors.contains("password authentication failed"), "{errors}");
}

#[test]
fn the_official_clients_speak_to_their_servers() {
    let services = Services::running();
    let mlflow = "import sys; from mlflow import MlflowClient; \
                  print(MlflowClient(sys.argv[1]).get_experiment('0').name)";
    let url = services.mlflow().url.clone();
    assert_eq!(said(services.python(Service::Mlflow), &["-c", mlflow, &url]), "Default");
    let aws = "import sys, boto3; print(boto3.client('sts', endpoint_url=sys.argv[1], \
               region_name='us-east-1', aws_access_key_id='a', aws_secret_access_key='b')\
               .get_caller_identity()['Account'])";
    let url = services.moto().url.clone();
    assert_eq!(said(services.python(Service::Moto), &["-c", aws, &url]), "123456789012");
    let kubernetes = r#"
from kubernetes_validate import ValidationError, validate
pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "a"}]}}
for version in ["1.30", "1.37"]:
    validate(pod, version, strict=True)
    try:
        validate({**pod, "spek": {}}, version, strict=True)
    except ValidationError:
        print(version)
"#;
    assert_eq!(said(services.python(Service::Kubernetes), &["-c", kubernetes]), "1.30\n1.37");
}

#[test]
fn mlflow_with_authentication_asks_for_it() {
    let services = Services::running();
    let mlflow = services.mlflow_auth();
    let script = "import os, sys; from mlflow import MlflowClient\n\
                  os.environ.update(MLFLOW_TRACKING_USERNAME=sys.argv[2], MLFLOW_TRACKING_PASSWORD=sys.argv[3])\n\
                  print(MlflowClient(sys.argv[1]).get_experiment('0').name)";
    let python = services.python(Service::MlflowAuth);
    let (url, name) = (mlflow.url.as_str(), mlflow.username.as_str());
    assert_eq!(said(python, &["-c", script, url, name, &mlflow.password]), "Default");
    let refused = run(python, &["-c", script, url, name, "guessed"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("401"));
}

#[test]
fn airflow_gives_a_token_for_its_password() {
    let services = Services::running();
    let airflow = services.airflow();
    let script = "import sys, httpx; url, name, password = sys.argv[1:]; \
                  print(*[httpx.post(url + '/auth/token', json={'username': name, 'password': p}, \
                  timeout=60).status_code for p in (password, 'guessed')])";
    let words = [airflow.url.as_str(), &airflow.username, &airflow.password];
    assert_eq!(said(&airflow.python, &[&["-c", script], &words[..]].concat()), "201 401");
}

#[test]
fn the_alertmanagers_webhook_receives_and_prometheus_scrapes_the_pushgateway() {
    let services = Services::running();
    let alertmanager = services.alertmanager();
    let script = r#"
import json, sys, time, urllib.parse, urllib.request
alertmanager, received, pushgateway, prometheus, name = sys.argv[1:]
def post(url, body):
    return urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"}))
def until(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.05)
post(alertmanager + "/api/v2/alerts", json.dumps([{"labels": {"alertname": name}}]).encode())
until(lambda: any(name in json.loads(line)["groupKey"] for line in open(received)))
post(pushgateway + "/metrics/job/" + name, (name + " 41\n").encode())
query = prometheus + "/api/v1/query?" + urllib.parse.urlencode({"query": name + '{job="' + name + '"}'})
until(lambda: json.load(urllib.request.urlopen(query))["data"]["result"])
print(json.load(urllib.request.urlopen(query))["data"]["result"][0]["value"][1])
"#;
    let name = format!("bench_{}", std::process::id());
    let received = alertmanager.received.to_string_lossy();
    let (pushgateway, prometheus) = (&services.pushgateway().url, &services.prometheus().url);
    let words = [alertmanager.url.as_str(), &received, pushgateway, prometheus, &name];
    let python = services.python(Service::Smtp);
    assert_eq!(said(python, &[&["-c", script], &words[..]].concat()), "41");
}

/// What the script prints for each recipient: how sending to it ended, and how many mails for it were
/// kept.
#[test]
fn the_smtp_server_wants_tls_and_a_password_and_plays_what_recipients_ask_for() {
    let services = Services::running();
    let smtp = services.smtp();
    let script = r#"
import pathlib, smtplib, ssl, sys
host, port, name, password, authority, mailbox, domain = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
def code(call, *words):
    try:
        call(*words)
        return "sent"
    except smtplib.SMTPRecipientsRefused as error:
        return list(error.recipients.values())[0][0]
    except smtplib.SMTPServerDisconnected:
        return "cut"
    except smtplib.SMTPResponseException as error:
        return error.smtp_code
def kept(address):
    mails = [mail.read_text() for mail in pathlib.Path(mailbox).glob("*.eml")]
    return sum(f"X-Envelope-To: {address}\n" in mail for mail in mails)
with smtplib.SMTP(host, int(port)) as client:
    client.ehlo()
    print("plain", client.has_extn("auth"), client.docmd("MAIL FROM:<a@b.test>")[0])
    client.starttls(context=context)
    client.ehlo()
    print("unknown", client.docmd("MAIL FROM:<a@b.test>")[0], code(client.login, name, "guessed"))
for part in ["kept", "reject", "later", "cut", "lost", "slow"]:
    client = smtplib.SMTP(host, int(port))
    client.starttls(context=context)
    client.login(name, password)
    address = f"{part}@{domain}"
    outcome = code(client.sendmail, "a@b.test", [address], "Subject: hello\r\n\r\nhello\r\n")
    print(part, outcome, kept(address))
"#;
    let (port, domain) = (smtp.port.to_string(), format!("bench-{}.test", std::process::id()));
    let (authority, mailbox) = (smtp.ca_file.to_string_lossy(), smtp.mailbox.to_string_lossy());
    let words =
        [smtp.host.as_str(), &port, &smtp.username, &smtp.password, &authority, &mailbox, &domain];
    let told = said(services.python(Service::Smtp), &[&["-c", script], &words[..]].concat());
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines,
        [
            "plain False 530",
            "unknown 530 535",
            "kept sent 1",
            "reject 550 0",
            "later 451 0",
            "cut cut 0",
            "lost cut 1",
            "slow sent 1",
        ]
    );
}
