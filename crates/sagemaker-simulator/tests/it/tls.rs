//! A company's own authority between mloop and AWS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mloop_core::error_chain;
use mloop_core::exit_class::{Classified, ExitClass};
use mloop_deployer::{BuildError, Invocation};
use mloop_platform::PlatformDeps;
use mloop_sagemaker::register_deployers;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::common::{deployer, digest, in_production, name, sound, world};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("an authority")
}

/// A server with a certificate of the authority in front of the one at `host:port`; its address, and how
/// many connections it took.
async fn in_front_of(target: &str, authority: &Authority) -> (String, Arc<AtomicUsize>) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let target = target.trim_start_matches("http://").to_owned();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let (acceptor, target) = (acceptor.clone(), target.clone());
            tokio::spawn(async move {
                // A caller that trusts nobody hangs up.
                let Ok(mut outer) = acceptor.accept(stream).await else { return };
                let mut inner = TcpStream::connect(target).await.expect("the service");
                drop(copy_bidirectional(&mut outer, &mut inner).await);
            });
        }
    });
    (format!("https://{address}"), taken)
}

#[tokio::test]
async fn a_company_s_own_authority_is_trusted_where_it_is_named() {
    let world = world().await;
    let first = world.candidate(1);
    let [ours, theirs] = [authority(), authority()];
    let mut settings = world.settings();
    settings["connection"]["tries"] = json!(1);
    let connection =
        [("endpoint_url", world.simulator.url()), ("s3_endpoint_url", world.s3_url.clone())];
    let mut connections = vec![];
    for (key, target) in connection {
        let (url, taken) = in_front_of(&target, &ours).await;
        settings["connection"][key] = json!(url);
        connections.push(taken);
    }
    for (file, authority) in [("ours.pem", &ours), ("theirs.pem", &theirs)] {
        std::fs::write(world.folder.path().join(file), authority.pem()).expect("written");
    }

    settings["connection"]["ca_file"] = json!(world.folder.path().join("ours.pem"));
    let platform = deployer(&settings);
    in_production(&platform, &first).await;
    let answer = platform.client.invoke(&name("production"), &sound()).await.expect("an answer");
    assert_eq!(answer.digest, Some(digest(&first)));
    // A switch is verified over new connections, whichever authority vouches for them.
    let before = connections[0].load(Ordering::SeqCst);
    let fresh = Invocation { fresh_connection: true, ..sound() };
    for _ in 0..5 {
        platform.client.invoke(&name("production"), &fresh).await.expect("an answer");
    }
    assert_eq!(connections[0].load(Ordering::SeqCst) - before, 5);

    for file in [json!(null), json!(world.folder.path().join("theirs.pem"))] {
        settings["connection"]["ca_file"] = file.clone();
        let error = deployer(&settings).deployer.describe(&name("production")).await;
        let error = error.expect_err("an unknown authority");
        assert_eq!(error.exit_class(), ExitClass::Transient, "{file}: {error:?}");
        let told = error_chain(&error).to_lowercase();
        assert!(told.contains("unknownissuer") || told.contains("certificate"), "{told}");
    }
}

#[tokio::test]
async fn what_is_no_certificate_is_told_when_the_file_is_read() {
    let world = world().await;
    let mut kinds = mloop_deployer::DeployerRegistry::new("deployer");
    register_deployers(&mut kinds);
    let clock = Arc::new(mloop_core::SystemClock);
    let deps = PlatformDeps::new(world.folder.path(), clock);
    let build = |file: &str| {
        let mut settings = world.settings();
        settings["connection"]["ca_file"] = json!(file);
        kinds.build("sagemaker", "aws", &settings, &deps).map(drop)
    };
    let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (file, content) in [("empty.pem", ""), ("text.pem", "hello"), ("bad.pem", bad)] {
        std::fs::write(world.folder.path().join(file), content).expect("written");
        let error = build(file).expect_err(file);
        let told = error_chain(&error);
        let path = match error {
            BuildError::Settings { path, .. } => path,
            other => panic!("{file}: {other}"),
        };
        assert_eq!(path, "connection.ca_file", "{told}");
        assert!(told.contains(file), "{told}");
    }
    build("none.pem").expect_err("no such file");
    // A path that is relative starts from the configuration's folder.
    std::fs::write(world.folder.path().join("ca.pem"), authority().pem()).expect("written");
    build("ca.pem").expect("an authority");
}
