//! Whole flows over the in-memory fakes of the contracts.

mod announcing;
mod deployment;
mod late;
mod loop_turns;
mod monitoring;
mod once;
mod platform;
mod replay;
mod retraining;
mod rollback;
mod rules;
mod stopping;
mod training;
mod windows;
mod world;
