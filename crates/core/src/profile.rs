//! A window of traffic boiled down to exact integers.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::counts::{
    CategoricalCounts, GroupCounts, LossSums, NumericCounts, OutcomeCounts, VectorCounts,
};
use crate::digest::Sha256Digest;
use crate::ids::Subject;
use crate::latency::LatencyHistogram;
use crate::schema::{ColumnKind, PROFILE_FORMAT, ProfileSchema};
use crate::window::Window;

/// What a profile is a profile of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProfileKey {
    /// Model and target.
    #[serde(flatten)]
    pub subject: Subject,
    /// Digest of the version that answered.
    pub version: Sha256Digest,
}

/// Everything monitors need of a window of traffic: kilobytes, whatever the number of rows.
///
/// All counters are exact integers, so any order of rows, any partitioning and any tree of merges
/// give an equal profile with an equal [`digest`](Self::digest).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// [`PROFILE_FORMAT`] when it was made.
    pub format: u32,
    /// Digest of the schema that it was counted under.
    pub schema: Sha256Digest,
    /// Whose traffic.
    pub key: ProfileKey,
    /// When; for a reference made of a data set, the moment of its making and a second more.
    pub window: Window,
    /// Rows answered by this version.
    pub rows: u64,
    /// Records that could not be read and are counted nowhere else.
    pub quarantined: u64,
    /// Further records of a row that was counted, by its id.
    pub duplicates: u64,
    /// Rows of the window answered by another version that is known to have served in it.
    pub other_version: u64,
    /// Rows of the window answered by a version that is not known to have served in it.
    pub mixed: u64,
    /// Counts by column.
    pub columns: BTreeMap<String, ColumnCounts>,
    /// Outcomes of all rows.
    pub overall: OutcomeCounts,
    /// Losses of the labelled rows whose probabilities are known.
    pub losses: LossSums,
    /// Outcomes by group, in the order of the schema's groups.
    pub groups: Vec<GroupCounts>,
    /// Time the server needed for each request.
    pub latency: LatencyHistogram,
}

/// Counts of one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnCounts {
    /// Of a numeric column.
    Numeric(NumericCounts),
    /// Of a categorical column.
    Categorical(CategoricalCounts),
    /// Of a column of vectors.
    Vector(VectorCounts),
}

impl ColumnCounts {
    /// No rows yet.
    #[must_use]
    pub fn new(kind: &ColumnKind) -> Self {
        match kind {
            ColumnKind::Numeric(schema) => Self::Numeric(NumericCounts::new(schema)),
            ColumnKind::Categorical(schema) => {
                Self::Categorical(CategoricalCounts::new(schema.categories.len()))
            }
            ColumnKind::Vector(schema) => Self::Vector(VectorCounts::new(schema)),
        }
    }

    /// All rows, with or without a value.
    #[must_use]
    pub fn rows(&self) -> u64 {
        match self {
            Self::Numeric(counts) => counts.rows(),
            Self::Categorical(counts) => counts.rows(),
            Self::Vector(counts) => counts.rows + counts.missing + counts.unfit,
        }
    }

    /// Rows without a value.
    #[must_use]
    pub fn missing(&self) -> u64 {
        match self {
            Self::Numeric(counts) => counts.missing,
            Self::Categorical(counts) => counts.missing,
            Self::Vector(counts) => counts.missing,
        }
    }
}

/// Two profiles that do not belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// They were counted under different schemas.
    #[error(
        "profiles of the schemas {left} and {right} do not merge: bins differ; replay the windows under one schema"
    )]
    Schema {
        /// Schema of the first, shortened.
        left: String,
        /// Schema of the second, shortened.
        right: String,
    },
    /// They describe different versions or targets.
    #[error("profiles of different versions or targets do not merge")]
    Key,
}

impl Profile {
    /// An empty profile under a schema.
    #[must_use]
    pub fn new(schema: &ProfileSchema, key: ProfileKey, window: Window) -> Self {
        let columns = schema.columns.iter();
        Self {
            format: PROFILE_FORMAT,
            schema: schema.digest(),
            key,
            window,
            rows: 0,
            quarantined: 0,
            duplicates: 0,
            other_version: 0,
            mixed: 0,
            columns: columns.map(|c| (c.name.clone(), ColumnCounts::new(&c.kind))).collect(),
            overall: OutcomeCounts::new(schema.outcomes()),
            losses: LossSums::default(),
            groups: vec![GroupCounts::default(); schema.groups.len()],
            latency: LatencyHistogram::new(schema.latency_objective_micros),
        }
    }

    /// The digest over schema, key, window and all counts.
    ///
    /// # Panics
    /// Never: a profile serialises to JSON.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::of_json(self).expect("a profile has only string keys and integers")
    }

    /// Adds the counts of other traffic of the same version.
    ///
    /// # Errors
    /// [`MergeError`], and then nothing was added.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        if self.schema != other.schema {
            let (left, right) = (self.schema.short(12), other.schema.short(12));
            return Err(MergeError::Schema { left, right });
        }
        if self.key != other.key {
            return Err(MergeError::Key);
        }
        self.window = self.window.union(&other.window);
        self.rows += other.rows;
        self.quarantined += other.quarantined;
        self.duplicates += other.duplicates;
        self.other_version += other.other_version;
        self.mixed += other.mixed;
        for (name, counts) in &other.columns {
            match (self.columns.get_mut(name), counts) {
                (Some(ColumnCounts::Numeric(mine)), ColumnCounts::Numeric(more)) => {
                    mine.merge(more);
                }
                (Some(ColumnCounts::Categorical(mine)), ColumnCounts::Categorical(more)) => {
                    mine.merge(more);
                }
                (Some(ColumnCounts::Vector(mine)), ColumnCounts::Vector(more)) => mine.merge(more),
                // Equal schemas have equal columns; a profile that lies about its schema adds nothing.
                _ => {}
            }
        }
        self.overall.merge(&other.overall);
        self.losses.merge(&other.losses);
        for (groups, more) in self.groups.iter_mut().zip(&other.groups) {
            groups.merge(more);
        }
        self.latency.merge(&other.latency);
        Ok(())
    }
}

/// A profile as the ledger keeps it: a rerun over more input is a new revision, never an overwrite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredProfile {
    /// The counts.
    pub profile: Profile,
    /// The moment up to which input was looked for.
    pub as_of: DateTime<Utc>,
    /// The files read, sorted.
    pub inputs: Vec<InputFile>,
}

impl StoredProfile {
    /// Adds another profile of the same version: its counts, its files, and what was looked for later.
    ///
    /// # Errors
    /// [`MergeError`], and then nothing was added.
    pub fn merge(&mut self, other: &Self) -> Result<(), MergeError> {
        self.profile.merge(&other.profile)?;
        self.as_of = self.as_of.max(other.as_of);
        self.inputs.extend(other.inputs.iter().cloned());
        self.inputs.sort_unstable();
        self.inputs.dedup();
        Ok(())
    }
}

/// A file that a profile was counted from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InputFile {
    /// Path or address.
    pub path: String,
    /// Bytes read.
    pub size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ModelName, TargetName};
    use crate::schema::{ColumnSchema, NumericSchema};

    fn empty(edges: Vec<f64>) -> (ProfileSchema, Profile) {
        let schema = ProfileSchema {
            format: PROFILE_FORMAT,
            model: ModelName::new("m").expect("a name"),
            classes: vec!["a".to_owned(), "b".to_owned()],
            positive: None,
            columns: vec![ColumnSchema {
                name: "x".to_owned(),
                kind: ColumnKind::Numeric(NumericSchema { edges, step: 0.5 }),
            }],
            groups: vec![],
            latency_objective_micros: None,
        };
        let start = "2026-03-01T00:00:00Z".parse().expect("a moment");
        let end = "2026-03-01T01:00:00Z".parse().expect("a moment");
        let key = ProfileKey {
            subject: Subject {
                model: schema.model.clone(),
                target: TargetName::new("t").expect("a name"),
            },
            version: Sha256Digest::of(b"v"),
        };
        let profile = Profile::new(&schema, key, Window::new(start, end).expect("an hour"));
        (schema, profile)
    }

    #[test]
    fn merging_is_the_same_in_any_order_and_survives_json() {
        let (schema, zero) = empty(vec![0.0, 1.0]);
        let ColumnKind::Numeric(numeric) = &schema.columns[0].kind else { panic!("numeric") };
        let parts: Vec<Profile> = [0.25, 0.5, 7.0]
            .iter()
            .map(|value| {
                let mut part = zero.clone();
                part.rows = 1;
                if let Some(ColumnCounts::Numeric(counts)) = part.columns.get_mut("x") {
                    counts.observe(numeric, Some(*value));
                }
                part
            })
            .collect();
        let sum = |order: [usize; 3]| {
            let mut all = zero.clone();
            order.iter().for_each(|index| all.merge(&parts[*index]).expect("one schema"));
            all
        };
        assert_eq!(sum([0, 1, 2]).digest(), sum([2, 0, 1]).digest());
        let text = serde_json::to_string(&sum([0, 1, 2])).expect("json");
        let back: Profile = serde_json::from_str(&text).expect("json");
        assert_eq!((back.rows, back.digest()), (3, sum([0, 1, 2]).digest()));
    }

    #[test]
    fn other_bins_do_not_merge() {
        let (_, mut left) = empty(vec![0.0, 1.0]);
        let (_, right) = empty(vec![0.0, 2.0]);
        assert!(matches!(left.merge(&right), Err(MergeError::Schema { .. })));
    }
}
