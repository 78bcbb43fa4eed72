//! Certificates: the system's authorities, a company's own, and none.

use std::sync::Arc;

use mloop_http::{BaseUrl, Client, HttpError, Method, Policy, Request};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A server with a certificate of its own making: its address, and the certificate.
async fn server() -> (BaseUrl, String) {
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
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut asked = [0; 4096];
            drop(stream.read(&mut asked).await);
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await);
            drop(stream.shutdown().await);
        }
    });
    (format!("https://{address}").parse().expect("an address"), cert.pem())
}

#[tokio::test]
async fn a_company_s_own_authority_is_trusted_where_it_is_named() {
    let (base, pem) = server().await;
    let request = Request::new(Method::Get, &base, &["x"]);
    let client = Client::trusting(Policy::default(), pem.as_bytes()).expect("a client");
    let answer = client.send(&request).await.expect("an answer");
    assert_eq!((answer.status, &*answer.body), (200, b"ok".as_slice()));

    let policy = Policy { tries: 1, ..Policy::default() };
    let error = Client::new(policy).expect("a client").send(&request).await.expect_err("unknown");
    assert!(matches!(error, HttpError::Unreachable { .. }), "{error:?}");
    let told = mloop_core::error_chain(&error).to_lowercase();
    assert!(told.contains("certificate") || told.contains("issuer"), "{told}");
}

#[test]
fn what_is_no_certificate_is_told() {
    for pem in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let made = Client::trusting(Policy::default(), pem.as_bytes());
        let refused = match made {
            Err(HttpError::Invalid { .. }) => true,
            // Whether bytes are a certificate shows when they are first needed.
            Ok(_) => pem.starts_with("-----BEGIN"),
            Err(_) => false,
        };
        assert!(refused, "{pem}");
    }
}
