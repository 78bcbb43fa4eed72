//! What mloop promises its users, through the real binaries on the small problem.

mod bad_input;
mod by_hand;
#[path = "../shared/database.rs"]
mod database;
mod dry_runs;
mod late_labels;
mod loop_turns;
mod notifiers;
mod postgres;
mod replay;
mod s3;
mod tables;
mod terminal;
mod tour;
mod world;
