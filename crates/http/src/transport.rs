//! Connections: which certificates are trusted, and which peers may be reached.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, redirect};

use crate::address::is_public;
use crate::message::Peer;
use crate::{HttpError, Policy, Request};

/// The clients below a [`Client`](crate::Client), each made when it is first needed: reading the
/// system's certificates takes longer than all else that a short run does.
#[derive(Debug)]
pub(crate) struct Transport {
    policy: Policy,
    authorities: Vec<Certificate>,
    pooled: OnceLock<reqwest::Client>,
    fresh: OnceLock<reqwest::Client>,
    guarded: OnceLock<reqwest::Client>,
}

impl Transport {
    pub(crate) fn new(policy: Policy, ca_pem: Option<&[u8]>) -> Result<Self, HttpError> {
        let pem = ca_pem.map_or(Ok(vec![]), Certificate::from_pem_bundle);
        let authorities = pem.map_err(|error| invalid(error.into()))?;
        if ca_pem.is_some() && authorities.is_empty() {
            return Err(invalid("it holds no certificate in PEM format".into()));
        }
        let (pooled, fresh, guarded) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Ok(Self { policy, authorities, pooled, fresh, guarded })
    }

    /// The client that a request needs.
    pub(crate) fn of(&self, request: &Request) -> Result<&reqwest::Client, HttpError> {
        let (made, idle) = match (request.peer, request.fresh_connection) {
            (Peer::FromData, _) => (&self.guarded, 0),
            (Peer::Configured, true) => (&self.fresh, 0),
            (Peer::Configured, false) => (&self.pooled, usize::MAX),
        };
        if let Some(client) = made.get() {
            return Ok(client);
        }
        let client = self.build(idle, request.peer)?;
        Ok(made.get_or_init(|| client))
    }

    /// Whether clients can be made, and so the authorities be trusted.
    pub(crate) fn check(&self) -> Result<(), HttpError> {
        self.build(0, Peer::Configured).map(drop)
    }

    fn build(&self, idle: usize, peer: Peer) -> Result<reqwest::Client, HttpError> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(self.policy.connect_timeout)
            .pool_max_idle_per_host(idle)
            .redirect(redirect::Policy::none())
            // The policy decides about repeats, and about POST in particular.
            .retry(reqwest::retry::never())
            .tls_certs_merge(self.authorities.clone())
            .no_proxy();
        if peer == Peer::FromData {
            builder = builder.dns_resolver(Arc::new(PublicOnly)).https_only(true);
        }
        builder.build().map_err(|error| invalid(error.into()))
    }
}

fn invalid(cause: Box<dyn std::error::Error + Send + Sync>) -> HttpError {
    HttpError::Invalid { call: "making an HTTP client".to_owned(), cause }
}

/// Leads names to public addresses alone. The connection is made to what this returns, so that a name
/// cannot lead elsewhere between the check and the call.
#[derive(Debug)]
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|peer| is_public(peer.ip())).collect();
            if public.is_empty() {
                return Err(NotPublic.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Why a name that came from data is not followed.
#[derive(Debug, thiserror::Error)]
#[error("its name leads to a private or local address, where data may not lead")]
struct NotPublic;

/// Whether a failure is the guard's refusal.
pub(crate) fn is_refusal(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<NotPublic>() {
            return true;
        }
        next = error.source();
    }
    false
}
