//! The submitter against a stand-in for the API server, and its manifests against the real schemas.
//!
//! No real API server can be installed where these tests run: see `mloop_kubernetes::testing`.

mod cluster;
mod ends;
mod faults;
mod manifests;
mod nodes;
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
