//! The submitter against a stand-in for the API server, and its manifests against the real schemas.
//!
//! No real API server can be installed where these tests run. The stand-in answers as a real one
//! (1.20, with its Job controller) was seen to answer; what that one did not know yet, the pod failure
//! policy, it does as Kubernetes documents it.

mod cluster;
mod ends;
mod faults;
mod manifests;
mod repeats;
mod tls;

use mloop_platform::conformance::check_submitter;

use crate::cluster::Cluster;

#[tokio::test]
async fn the_contract_is_kept() {
    let cluster = Cluster::new();
    check_submitter(cluster.submitter().as_ref()).await;
    assert_eq!(cluster.made(), 2);
}
