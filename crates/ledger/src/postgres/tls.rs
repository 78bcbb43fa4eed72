//! Whom the connection trusts.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::settings::Tls;

/// The authorities that may sign the server's certificate.
pub(super) enum Trust {
    /// Nobody: nothing is encrypted.
    Nobody,
    /// Those of the file in the settings.
    File(MakeRustlsConnect),
    /// Those of the operating system, which are read when a connection is made.
    System,
}

impl Trust {
    /// Reads the file, if there is one.
    pub(super) fn new(tls: Tls, ca_file: Option<&Path>) -> Result<Self, String> {
        match (tls, ca_file) {
            (Tls::Disable, _) => Ok(Self::Nobody),
            (Tls::Require, None) => Ok(Self::System),
            (Tls::Require, Some(path)) => {
                let unreadable = |error: &dyn std::fmt::Display| {
                    format!("{} cannot be read as certificates in PEM: {error}", path.display())
                };
                let found = CertificateDer::pem_file_iter(path).map_err(|e| unreadable(&e))?;
                let found = found.collect::<Result<Vec<_>, _>>().map_err(|e| unreadable(&e))?;
                if found.is_empty() {
                    return Err(unreadable(&"it holds none"));
                }
                let mut roots = RootCertStore::empty();
                for certificate in found {
                    roots.add(certificate).map_err(|e| unreadable(&e))?;
                }
                connector(roots).map(Self::File)
            }
        }
    }

    /// What encrypts a connection; none where nothing is to be.
    pub(super) fn connector(&self) -> Result<Option<MakeRustlsConnect>, String> {
        match self {
            Self::Nobody => Ok(None),
            Self::File(connector) => Ok(Some(connector.clone())),
            Self::System => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err("the operating system has no certificates of authorities; install them (Debian: ca-certificates) or set `ca_file`".to_owned());
                }
                connector(roots).map(Some)
            }
        }
    }
}

fn connector(roots: RootCertStore) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
