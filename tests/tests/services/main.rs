//! Every role on its own service: `configs/services/` under the scheduler of a real Airflow. Start the
//! bench with `cargo xtask services up`.

mod airflow;
mod callers;
mod checks;
mod commands;
mod configured;
mod dags;
#[path = "../shared/database.rs"]
mod database;
mod retries;
mod rounds;
mod world;
