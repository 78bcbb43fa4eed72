//! The ledger in a file.

use tempfile::TempDir;

use crate::parts::wait_for;
use crate::place::Place;
use crate::{processes, profiles};

fn fresh() -> (TempDir, Place) {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::file(&folder.path().join("ledger.sqlite"));
    (folder, place)
}

#[test]
fn eight_processes_share_one_file() {
    let (_folder, place) = fresh();
    processes::many_share_one(&place, 8);
}

#[test]
fn tasks_of_one_process_take_a_lease_one_at_a_time() {
    let (_folder, place) = fresh();
    processes::tasks_take_a_lease_one_at_a_time(&place);
}

#[test]
fn a_kill_at_any_point_leaves_all_or_nothing_and_a_repeat_completes_it() {
    processes::kills_leave_all_or_nothing(fresh);
}

#[test]
fn a_kill_within_a_call_leaves_a_log_that_the_next_process_reads() {
    let (folder, place) = fresh();
    let point = "ledger.record_run.after_commit";
    processes::hold_at(point, &place, &folder.path().join("mark")).kill();
    assert!(folder.path().join("ledger.sqlite-wal").exists(), "a log is left over");
    assert_eq!(place.count("SELECT count(*) FROM runs"), 1);
}

#[test]
fn kills_at_any_moment_damage_nothing() {
    let (folder, place) = fresh();
    let log = folder.path().join("ledger.sqlite-wal");
    processes::kills_at_any_moment_damage_nothing(&place, || wait_for(&log));
}

#[test]
fn a_stopped_holder_is_overtaken_and_writes_nothing() {
    let (_folder, place) = fresh();
    processes::a_stopped_holder_is_overtaken(&place);
}

#[test]
fn profiles_that_are_not_packed_are_read() {
    let (_folder, place) = fresh();
    profiles::rows_of_older_ledgers_are_read(&place);
}

#[test]
fn merges_in_a_race_count_nothing_twice() {
    let (_folder, place) = fresh();
    profiles::merges_in_a_race_count_nothing_twice(&place);
}
