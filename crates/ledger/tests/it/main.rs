//! The ledger in several processes, in processes that are killed, stopped or cut off, on SQLite and on
//! the PostgreSQL of the service bench (`cargo xtask services up postgres`).

mod database;
mod faults;
mod parts;
mod place;
mod postgres;
mod processes;
mod profiles;
mod relay;
mod sqlite;
mod tls;
