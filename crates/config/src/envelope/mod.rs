//! The envelopes: what every configuration file of a binary holds around its components.

mod deployment;
mod monitoring;
mod retraining;
mod training;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer};
use serde_json::Value;

use crate::problem::Problems;

pub use deployment::{Bake, DeploymentConfig};
pub use monitoring::MonitoringConfig;
pub use retraining::{Combination, RetrainConfig};
pub use training::{TrafficConfig, TrainingConfig};

/// What [`Document::decode`](crate::Document::decode) decodes into.
pub trait Envelope: DeserializeOwned + JsonSchema {
    /// Reports values that decode but make no sense.
    fn validate(&self, problems: &mut Problems<'_>);
}

/// A part that is chosen by its kind. Its settings are decoded by the kind itself.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// Which implementation; an unknown one is answered with the list of known ones.
    pub kind: String,
    /// What it is called in reports and records; its kind, unless given.
    #[serde(default)]
    pub name: Option<String>,
    /// The kind's own settings.
    #[serde(default)]
    pub settings: Value,
}

impl Component {
    /// The given name, else the kind.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.kind)
    }
}

/// The format of the file: 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(extend("const" = 1))]
pub struct FormatVersion(u64);

impl FormatVersion {
    /// The only one so far.
    const CURRENT: u64 = 1;
}

impl<'de> Deserialize<'de> for FormatVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let version = u64::deserialize(deserializer)?;
        if version == Self::CURRENT {
            return Ok(Self(version));
        }
        Err(de::Error::custom(format!(
            "format {version} is not known to this release, which reads format {}",
            Self::CURRENT
        )))
    }
}

/// Reports names that stand twice in a list of components.
fn check_names(list: &str, components: &[Component], problems: &mut Problems<'_>) {
    let mut seen = BTreeMap::new();
    for (index, component) in components.iter().enumerate() {
        if let Some(first) = seen.insert(component.name(), index) {
            let name = component.name();
            problems.add(
                &format!("{list}[{index}]"),
                format!("the name `{name}` is taken by {list}[{first}]; give each its own `name`"),
            );
        }
    }
}

/// Reports a list that must not be empty.
fn check_some(list: &str, components: &[Component], problems: &mut Problems<'_>) {
    if components.is_empty() {
        problems.add(list, "at least one is needed");
    }
}

/// Longest time that a key in hours may name: with more, moments would lie beyond what a date can hold.
const MOST_HOURS: f64 = 10_000_000.0;

/// Seconds that a lease lasts unless it is renewed.
fn lease_secs() -> u64 {
    60
}

/// Reports a lease that would be over at once, or hardly ever.
fn check_lease(secs: u64, problems: &mut Problems<'_>) {
    if !(1..=86_400).contains(&secs) {
        problems.add("lease_secs", format!("{secs} is out of range: from 1 to 86400, a day"));
    }
}

/// Reports a number outside of its range, bounds included.
fn check_range(path: &str, value: f64, range: [f64; 2], problems: &mut Problems<'_>) {
    let [low, high] = range;
    if !(low..=high).contains(&value) {
        problems.add(path, format!("{value} is out of range: from {low} to {high}"));
    }
}
