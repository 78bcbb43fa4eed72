use std::sync::Arc;

use mloop_core::FixedClock;

use super::*;
use crate::fakes::{InMemoryLedger, LedgerFault};

fn clock() -> Arc<FixedClock> {
    Arc::new(FixedClock(samples::day_one()))
}

async fn with_fault(fault: LedgerFault) {
    check_ledger(&InMemoryLedger::with_fault(clock(), fault).ledger()).await;
}

#[tokio::test]
async fn the_fake_passes() {
    check_ledger(&InMemoryLedger::new(clock()).ledger()).await;
}

#[tokio::test]
#[should_panic(expected = "it is held")]
async fn a_second_holder_is_caught() {
    with_fault(LedgerFault::GrantsTwice).await;
}

#[tokio::test]
#[should_panic(expected = "a new holder gets a higher number")]
async fn a_repeated_number_is_caught() {
    with_fault(LedgerFault::RepeatsFences).await;
}

#[tokio::test]
#[should_panic(expected = "an overtaken deployment")]
async fn a_write_of_an_overtaken_run_is_caught() {
    with_fault(LedgerFault::IgnoresFences).await;
}

#[tokio::test]
#[should_panic(expected = "the same again changes nothing")]
async fn an_overwritten_run_is_caught() {
    with_fault(LedgerFault::OverwritesRuns).await;
}

#[tokio::test]
#[should_panic(expected = "what was told stays told")]
async fn a_verdict_that_is_told_again_is_caught() {
    with_fault(LedgerFault::ForgetsRuns).await;
}

#[tokio::test]
#[should_panic(expected = "the first of each")]
async fn a_rewritten_journal_is_caught() {
    with_fault(LedgerFault::OverwritesEntries).await;
}

#[tokio::test]
#[should_panic(expected = "is waited for no more")]
async fn a_call_that_never_returns_is_caught() {
    with_fault(LedgerFault::ForgetsReturns).await;
}

#[tokio::test]
#[should_panic(expected = "a new revision")]
async fn an_overwritten_profile_is_caught() {
    with_fault(LedgerFault::OverwritesProfiles).await;
}

#[tokio::test]
#[should_panic(expected = "a window that was merged does not come back")]
async fn a_merged_window_that_is_counted_twice_is_caught() {
    with_fault(LedgerFault::ReopensWindows).await;
}

#[tokio::test]
#[should_panic(expected = "no request is counted twice in one profile")]
async fn a_merge_of_windows_that_overlap_is_caught() {
    with_fault(LedgerFault::MergesOverlaps).await;
}

#[tokio::test]
#[should_panic(expected = "each once, by pages of 1")]
async fn a_page_that_leaves_out_is_caught() {
    with_fault(LedgerFault::SkipsProfiles).await;
}

#[tokio::test]
#[should_panic(expected = "a settled message never comes back")]
async fn a_message_that_comes_back_is_caught() {
    with_fault(LedgerFault::Redelivers).await;
}

#[tokio::test]
#[should_panic(expected = "a record's messages are queued with it")]
async fn a_record_that_nobody_hears_of_is_caught() {
    with_fault(LedgerFault::ForgetsMessages).await;
}

#[tokio::test]
#[should_panic(expected = "nobody is told of what was refused")]
async fn a_message_about_nothing_is_caught() {
    with_fault(LedgerFault::TellsTooEarly).await;
}

#[tokio::test]
#[should_panic(expected = "what was tried comes after what was not")]
async fn a_message_in_the_way_is_caught() {
    with_fault(LedgerFault::BlocksQueue).await;
}

#[tokio::test]
#[should_panic(expected = "what is given up is tried no more")]
async fn a_message_that_is_never_given_up_is_caught() {
    with_fault(LedgerFault::NeverGivesUp).await;
}
