//! Every role on its own service: `configs/services/` under the scheduler of a real Airflow. Start the
//! bench with `cargo xtask services up`.

mod airflow;
mod checks;
mod configured;
mod dags;
#[path = "../shared/database.rs"]
mod database;
mod rounds;
mod world;
