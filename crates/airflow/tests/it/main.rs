//! The submitter against the Airflow of the service bench, and against servers that misbehave.

mod bench;
mod ends;
mod faults;
mod repeats;

use mloop_platform::conformance::check_submitter;

use crate::bench::Bench;

#[tokio::test]
async fn the_contract_is_kept() {
    let bench = Bench::get().await;
    check_submitter(bench.submitter(&bench.dag).as_ref()).await;
}
