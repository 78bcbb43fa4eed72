//! A stateful stand-in for Amazon SageMaker, for tests and rehearsals.
//!
//! It speaks the control plane's protocol (JSON 1.1, `X-Amz-Target: SageMaker.…`) and the runtime's
//! (`POST /endpoints/{name}/invocations`). Endpoints pass through their real states, with delays,
//! and really serve: the model is fetched from the object store and loaded by the model server's own
//! crate. Training jobs run their command under SageMaker's folder contract. Faults are scripted.
//!
//! What endpoints with a `DataCaptureConfig` answer is written to its `DestinationS3Uri`, some time later.
//!
//! It knows nothing of mloop: no digests, no fencing; only SageMaker's headers are handed through.
//!
//! | address | does |
//! |---|---|
//! | `POST /` | control plane |
//! | `POST /endpoints/{name}/invocations` | runtime |
//! | `GET, POST, DELETE /simulator/faults` | the script: see [`Fault`] |
//! | `GET /simulator/calls` | what was asked and answered |
//! | `GET /simulator/inventory` | what there is |
//! | `GET /simulator/health` | `OK` once it listens |
//!
//! What it does not have: everything that is not in `operations.rs`; autoscaling; traffic
//! shifting in steps (an update moves all traffic at once); a check of signatures (a request must have
//! one, and any is taken).

mod capture;
mod container;
mod endpoints;
mod fault;
mod fleet;
mod jobs;
mod names;
mod operations;
mod protocol;
mod runtime;
mod server;
mod settings;
mod storage;
mod world;

pub use fault::Fault;
pub use server::{CaptureError, Simulator, StartError};
pub use settings::{Delays, Settings, Storage};
pub use world::Call;
