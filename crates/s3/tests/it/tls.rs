//! Certificates: a company's own authority is trusted where it is named, and no other.

use std::sync::Arc;

use mloop_s3::{S3Error, S3Settings};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::common::{built, read, test_bucket};

/// TLS in front of a server: the address, and the certificate in PEM.
async fn front(behind: &str) -> (String, String) {
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
    let behind = behind.trim_start_matches("http://").to_owned();
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
async fn a_company_s_own_authority_is_trusted_where_it_is_named() {
    let test = test_bucket().await;
    test.put("a.jsonl", "secret").await;
    let (url, pem) = front(&test.url).await;
    let place = format!("s3://{}", test.name);
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, pem).expect("written");

    let mut trusting = S3Settings::of_test(&url);
    trusting.ca_file = Some(ca);
    let bucket = built(&trusting, &place);
    let found = bucket.list("", "", 10).await.expect("listed");
    assert_eq!(read(bucket.read(&found[0])).await.expect("read"), b"secret");

    let error = built(&S3Settings::of_test(&url), &place).list("", "", 10).await;
    let error = error.expect_err("unknown");
    assert!(matches!(error, S3Error::Unavailable { .. }), "{error:?}");
    let told = error.to_string().to_lowercase();
    assert!(told.contains("certificate") || told.contains("issuer"), "{told}");
}
