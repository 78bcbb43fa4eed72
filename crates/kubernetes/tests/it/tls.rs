//! The same over https, with an authority of the cluster's own.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mloop_core::error_chain;
use mloop_platform::conformance::{check_submitter, samples};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::cluster::{Cluster, built};

/// TLS in front of the stand-in: the address, and the certificate in PEM.
async fn front(cluster: &Cluster) -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let behind = cluster.address().to_owned();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let Ok(mut inside) = TcpStream::connect(behind).await else { return };
                drop(tokio::io::copy_bidirectional(&mut outside, &mut inside).await);
            });
        }
    });
    (url, cert.pem())
}

#[tokio::test]
async fn the_authority_of_the_kubeconfig_is_trusted_and_no_other() {
    let cluster = Cluster::new();
    let (url, pem) = front(&cluster).await;
    let named = json!({"server": url, "certificate-authority-data": STANDARD.encode(&pem)});
    check_submitter(built(&cluster.settings(&named, "good")).as_ref()).await;
    assert_eq!(cluster.made(), 2);

    let unnamed = built(&cluster.settings(&json!({ "server": url }), "good"));
    let told = unnamed.status(&samples::job("a").job_id).await.expect_err("not trusted");
    let shown = error_chain(&told).to_lowercase();
    assert!(shown.contains("certificate") || shown.contains("issuer"), "{shown}");
    let asked = cluster.asked().len();
    assert!(unnamed.status(&samples::job("a").job_id).await.is_err());
    assert_eq!(cluster.asked().len(), asked, "nothing was sent, the token least of all");
}
