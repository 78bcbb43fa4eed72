//! Encrypted connections to the bench's server, whose encryption this test turns on.

use mloop_core::error_chain;
use mloop_core::exit_class::{Classified as _, ExitClass};
use mloop_platform::{Lease, PlatformError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::database::{self, Database};
use crate::parts::LONG;
use crate::place::Place;
use crate::processes::block_on;

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(vec![]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

/// Writes a file into the server's folder, readable by the server alone, as its administrator can.
fn hand_over(admin: &Place, name: &str, text: &str) {
    database::execute(
        admin,
        &format!(
            "COPY (SELECT unnest(string_to_array('{}', E'\\n')))
             TO PROGRAM 'umask 077; cat > {name}'",
            text.trim_end()
        ),
    );
}

fn acquire(place: &Place) -> Result<Lease, PlatformError> {
    block_on(place.ledger().leases.acquire("any", "run", LONG))
}

fn refused(place: &Place, expected: &str) {
    let error = acquire(place).expect_err(expected);
    let told = error_chain(&error);
    assert_eq!(error.exit_class(), ExitClass::Configuration, "{told}");
    assert!(told.contains(expected), "{expected}: {told}");
}

#[test]
fn an_encrypted_connection_trusts_the_named_authority_and_the_host_s_name_alone() {
    let database = Database::new();
    let place = database.place();
    let folder = tempfile::tempdir().expect("a folder");
    let ca_file = |name: &str, issuer: &CertifiedIssuer<'static, KeyPair>| {
        let path = folder.path().join(name);
        std::fs::write(&path, issuer.pem()).expect("a file");
        path.to_str().expect("a plain path").to_owned()
    };
    let (ours, other) = (authority("ours"), authority("another"));
    let trusted = place.with("tls", "require").with("ca_file", ca_file("ours.pem", &ours));
    if place.count("SELECT (current_setting('ssl') = 'on')::int::bigint") == 0 {
        refused(&trusted, "server does not support TLS");
    }

    // For the address of the tests, and not for the name `localhost`.
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &ours).expect("a certificate");
    let unique = std::process::id();
    hand_over(&place, &format!("{unique}.key"), &key.serialize_pem());
    hand_over(&place, &format!("{unique}.crt"), &certificate.pem());
    for setting in [
        format!("ALTER SYSTEM SET ssl_key_file = '{unique}.key'"),
        format!("ALTER SYSTEM SET ssl_cert_file = '{unique}.crt'"),
        "ALTER SYSTEM SET ssl = on".to_owned(),
        "SELECT pg_reload_conf()".to_owned(),
    ] {
        database::execute(&place, &setting);
    }
    while place.count("SELECT (current_setting('ssl') = 'on')::int::bigint") == 0 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }

    let ledger = trusted.ledger();
    block_on(ledger.leases.acquire("any", "run", LONG)).expect("trusted");
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE application_name = 'mloop' AND datname = current_database() AND ssl";
    assert_eq!(place.count(encrypted), 1, "as the server sees it");
    refused(&trusted.with("ca_file", ca_file("another.pem", &other)), "UnknownIssuer");
    let url =
        trusted.settings["url"].as_str().expect("an address").replace("127.0.0.1", "localhost");
    refused(&trusted.with("url", url), "not valid for name");
    refused(
        &{
            let mut system = trusted.clone();
            system.settings.as_object_mut().expect("a map").remove("ca_file");
            system
        },
        "cannot be trusted",
    );
    acquire(&place).expect("in the clear, on this machine");
}
