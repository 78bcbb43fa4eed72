//! `training_config.yaml`.

use std::path::PathBuf;

use mloop_core::{ModelName, Subject, TargetName};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Component, Envelope, FormatVersion, check_range};
use crate::problem::Problems;

/// What `training_main` trains, on what, and what a new version must prove.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Format of this file: 1.
    pub version: FormatVersion,
    /// The model.
    pub model: ModelName,
    /// Where it serves.
    pub target: TargetName,
    /// Where versions are kept.
    pub registry: Component,
    /// What is trained: architecture, optimizer, schedule, data.
    pub trainer: Component,
    /// Labelled production traffic to learn from; left out, only the trainer's own data are used.
    #[serde(default)]
    pub traffic: Option<TrafficConfig>,
    /// What a new version must prove.
    #[serde(default)]
    pub gate: Value,
    /// Folder for checkpoints, so that a killed training is taken up again; relative to this file.
    pub work: PathBuf,
    /// Golden inputs that travel with the version, with the answers of its own weights.
    #[serde(default = "golden_cases")]
    pub golden_cases: usize,
    /// Make new bins for the reference instead of inheriting those of the version before.
    #[serde(default)]
    pub rebin: bool,
    /// The latency that requests should stay under, milliseconds; becomes part of the reference.
    #[serde(default)]
    pub latency_objective_ms: Option<f64>,
}

/// Labelled production traffic.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrafficConfig {
    /// Where it is read.
    pub source: Component,
    /// Share of the rows, by hash of their id, that is never trained on and judges the new version.
    #[serde(default = "a_quarter")]
    pub fresh_share: f64,
    /// The newest so many rows are used.
    #[serde(default = "max_rows")]
    pub max_rows: usize,
    /// The bodies of the rows used are held in memory, and may have so many bytes together; the oldest
    /// rows go first.
    #[serde(default = "max_bytes")]
    pub max_bytes: u64,
}

fn golden_cases() -> usize {
    16
}

fn a_quarter() -> f64 {
    0.25
}

fn max_rows() -> usize {
    50_000
}

fn max_bytes() -> u64 {
    1 << 30
}

impl TrainingConfig {
    /// Model and target.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject { model: self.model.clone(), target: self.target.clone() }
    }
}

impl Envelope for TrainingConfig {
    fn validate(&self, problems: &mut Problems<'_>) {
        if let Some(traffic) = &self.traffic {
            check_range("traffic.fresh_share", traffic.fresh_share, [0.01, 0.9], problems);
            if traffic.max_rows == 0 {
                problems.add("traffic.max_rows", "must be 1 or more");
            }
            if traffic.max_bytes == 0 {
                problems.add("traffic.max_bytes", "must be 1 or more");
            }
        }
        if let Some(objective) = self.latency_objective_ms {
            check_range("latency_objective_ms", objective, [0.001, 3_600_000.0], problems);
        }
        if self.golden_cases == 0 {
            problems.add(
                "golden_cases",
                "must be 1 or more: they prove a server before it gets traffic",
            );
        }
    }
}
