//! Capture files on a real disk, through DataFusion, into profiles and rows: one binary, since
//! each one that links DataFusion costs minutes.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod buckets;
mod exactness;
mod fixture;
mod labels;
mod lines;
mod reference;
mod tables;
mod traffic;
mod windows;
