//! Objects of a real server of S3's protocol, and of servers that misbehave: start the bench with
//! `cargo xtask services up moto`.

mod common;
mod credentials;
mod faults;
mod moto;
mod tls;
