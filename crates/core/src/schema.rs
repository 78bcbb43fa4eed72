//! What is counted in a profile: columns, bins, groups; frozen on the reference.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::ids::ModelName;

/// Version of the format of schemas and profiles; another number is refused, never guessed at.
pub const PROFILE_FORMAT: u32 = 1;

/// Name under which ungrouped rows of a capped group attribute are counted.
pub const OTHER_GROUP: &str = "(other)";

/// Group of rows that carry no value of the attribute.
pub const MISSING_GROUP: &str = "(missing)";

/// The frozen plan of a profile. Made once, on the reference, and inherited by the next version
/// of the model, so that their profiles compare; profiles merge only under one schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileSchema {
    /// [`PROFILE_FORMAT`] when it was made.
    pub format: u32,
    /// The model whose traffic this describes.
    pub model: ModelName,
    /// Classes of the prediction and of the label, in the model's order; at least two.
    pub classes: Vec<String>,
    /// Columns, sorted by name; never two of one name.
    pub columns: Vec<ColumnSchema>,
    /// Group attributes with the values seen on the reference, sorted by attribute.
    pub groups: Vec<GroupSchema>,
    /// Bound of the latency objective in microseconds; requests at or below it are counted exactly.
    pub latency_objective_micros: Option<u64>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnSchema {
    /// Name of the feature, or [`PREDICTION_COLUMN`] or [`CONFIDENCE_COLUMN`].
    pub name: String,
    /// How it is counted.
    pub kind: ColumnKind,
}

/// The predicted class, a categorical column that every profile of a classifier has.
pub const PREDICTION_COLUMN: &str = "prediction";

/// The probability of the predicted class, a numeric column.
pub const CONFIDENCE_COLUMN: &str = "confidence";

/// How a column is counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ColumnKind {
    /// Real numbers on frozen bins.
    Numeric(NumericSchema),
    /// Texts out of a frozen list.
    Categorical(CategoricalSchema),
}

/// Bins and resolution of a numeric column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumericSchema {
    /// Strictly ascending, finite edges `e[0] < … < e[k]`, k ≥ 1; bin i holds `e[i] <= x < e[i+1]`,
    /// the last one its upper edge too.
    pub edges: Vec<f64>,
    /// Resolution of the fixed-point sums, a positive power of two: a value counts as
    /// `round(x / step)` steps.
    pub step: f64,
}

/// The values of a categorical column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CategoricalSchema {
    /// Known values, in order; all others count as unseen.
    pub categories: Vec<String>,
}

/// A group attribute carried by the request, such as the site of the camera.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSchema {
    /// Name of the attribute.
    pub attribute: String,
    /// Values seen on the reference, sorted; others count under [`OTHER_GROUP`], absent ones under
    /// [`MISSING_GROUP`].
    pub values: Vec<String>,
}

/// A schema that no profile can be counted under.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the profile schema is invalid at {place}: {problem}")]
pub struct InvalidSchema {
    place: String,
    problem: String,
}

impl ProfileSchema {
    /// Its own digest, under which profiles are kept apart.
    ///
    /// # Panics
    /// Never: a schema serialises to JSON.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::of_json(self).expect("a schema has only string keys and finite numbers")
    }

    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&ColumnSchema> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Index of a class.
    #[must_use]
    pub fn class_index(&self, class: &str) -> Option<usize> {
        self.classes.iter().position(|known| known == class)
    }

    /// Checks what the types cannot: call it on every schema that was read.
    ///
    /// # Errors
    /// [`InvalidSchema`] with the first place that is wrong.
    pub fn validate(&self) -> Result<(), InvalidSchema> {
        let fail =
            |place: &str, problem: String| Err(InvalidSchema { place: place.to_owned(), problem });
        if self.format != PROFILE_FORMAT {
            let problem = format!("{} is not {PROFILE_FORMAT}, the only known one", self.format);
            return fail("format", problem);
        }
        if self.classes.len() < 2 || !all_distinct(&self.classes) {
            return fail("classes", "at least two, all different, are needed".to_owned());
        }
        if !self.columns.windows(2).all(|pair| pair[0].name < pair[1].name) {
            return fail("columns", "they must be sorted by name, without repeats".to_owned());
        }
        for column in &self.columns {
            if let Some(problem) = column.kind.problem() {
                return fail(&format!("columns.{}", column.name), problem);
            }
        }
        match self.groups.iter().find(|group| !all_distinct(&group.values)) {
            Some(group) => fail(&format!("groups.{}", group.attribute), "repeats".to_owned()),
            None => Ok(()),
        }
    }
}

impl ColumnKind {
    fn problem(&self) -> Option<String> {
        match self {
            Self::Numeric(numeric) => numeric.problem(),
            Self::Categorical(known) if !all_distinct(&known.categories) => {
                Some("a category stands twice".to_owned())
            }
            Self::Categorical(_) => None,
        }
    }
}

impl NumericSchema {
    /// Number of bins between the edges.
    #[must_use]
    pub fn bins(&self) -> usize {
        self.edges.len().saturating_sub(1)
    }

    fn problem(&self) -> Option<String> {
        let ascending = self.edges.windows(2).all(|pair| pair[0] < pair[1]);
        if self.edges.len() < 2 || !ascending || self.edges.iter().any(|edge| !edge.is_finite()) {
            return Some("edges must be two or more, finite and ascending".to_owned());
        }
        let power_of_two = self.step.is_finite() && self.step > 0.0 && {
            let mantissa = self.step.to_bits() & ((1 << 52) - 1);
            mantissa == 0 && self.step.is_normal()
        };
        (!power_of_two).then(|| format!("step {} is no positive power of two", self.step))
    }
}

fn all_distinct(values: &[String]) -> bool {
    values.iter().collect::<BTreeSet<_>>().len() == values.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(edges: Vec<f64>, step: f64) -> ProfileSchema {
        ProfileSchema {
            format: PROFILE_FORMAT,
            model: ModelName::new("m").expect("a name"),
            classes: vec!["a".to_owned(), "b".to_owned()],
            columns: vec![ColumnSchema {
                name: "x".to_owned(),
                kind: ColumnKind::Numeric(NumericSchema { edges, step }),
            }],
            groups: vec![],
            latency_objective_micros: None,
        }
    }

    #[test]
    fn bad_edges_and_steps_are_refused_with_their_place() {
        assert_eq!(schema(vec![0.0, 1.0], 0.25).validate(), Ok(()));
        for (edges, step) in [
            (vec![0.0], 1.0),
            (vec![1.0, 1.0], 1.0),
            (vec![0.0, f64::NAN], 1.0),
            (vec![0.0, 1.0], 0.3),
        ] {
            let error = schema(edges, step).validate().expect_err("invalid");
            assert!(error.to_string().contains("columns.x"), "{error}");
        }
    }

    #[test]
    fn schemas_survive_json_bit_for_bit() {
        let before = schema(vec![0.1, 0.1 + f64::EPSILON, 1.0 / 3.0], 2f64.powi(-20));
        let text = serde_json::to_string(&before).expect("json");
        let after: ProfileSchema = serde_json::from_str(&text).expect("json");
        assert_eq!(before.digest(), after.digest());
    }
}
