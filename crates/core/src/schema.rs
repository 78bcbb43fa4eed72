//! What is counted in a profile: columns, bins, groups; frozen on the reference.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::counts::OutcomeLayout;
use crate::digest::Sha256Digest;
use crate::ids::ModelName;

/// Version of the format of schemas and profiles; another number is refused, never guessed at.
pub const PROFILE_FORMAT: u32 = 2;

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
    /// Classes of the prediction and of the label, in the model's order, at least two; none where
    /// predictions are numbers (the column [`PREDICTION_COLUMN`] is numeric then), and where nothing is
    /// predicted.
    pub classes: Vec<String>,
    /// The one of two classes whose probability is the score, such as `approved`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<String>,
    /// Columns, sorted by name; never two of one name.
    pub columns: Vec<ColumnSchema>,
    /// Group attributes and intersections of them, with the values seen on the reference; sorted.
    pub groups: Vec<GroupSchema>,
    /// Bound of the latency objective in microseconds; requests at or below it are counted exactly.
    pub latency_objective_micros: Option<u64>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnSchema {
    /// Name of the feature, or [`PREDICTION_COLUMN`], [`CONFIDENCE_COLUMN`], [`SCORE_COLUMN`] or
    /// [`EMBEDDING_COLUMN`].
    pub name: String,
    /// How it is counted.
    pub kind: ColumnKind,
}

/// The predicted class, a categorical column that every profile of a classifier has.
pub const PREDICTION_COLUMN: &str = "prediction";

/// The probability of the predicted class where no class is the positive one: a numeric column.
pub const CONFIDENCE_COLUMN: &str = "confidence";

/// The score where there is a positive class, its probability: a numeric column.
pub const SCORE_COLUMN: &str = "score";

/// The activations that a classifier of images answers with: a column of vectors.
pub const EMBEDDING_COLUMN: &str = "embedding";

/// How a column is counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ColumnKind {
    /// Real numbers on frozen bins.
    Numeric(NumericSchema),
    /// Texts out of a frozen list.
    Categorical(CategoricalSchema),
    /// Vectors of one dimension, such as embeddings.
    Vector(VectorSchema),
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

/// How vectors are counted: by the sums of random Fourier features, whose means are as far apart as the
/// vectors' distributions are, and by a histogram of each component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorSchema {
    /// Numbers of a vector, 1 to [`MAX_DIMENSION`].
    pub dimension: usize,
    /// Pairs of features, a cosine and a sine each, 1 to [`MAX_PAIRS`].
    pub pairs: usize,
    /// Width of the Gaussian kernel that the features stand for, above 0: about the median distance of
    /// two vectors of the reference.
    pub bandwidth: f64,
    /// What the features are drawn with.
    pub seed: u64,
    /// Of each component, ascending finite edges of its bins, of which the outer two are open.
    pub components: Vec<Vec<f64>>,
}

/// Longest vector that is counted.
pub const MAX_DIMENSION: usize = 4096;

/// Most pairs of random features: the products of 128 features are 8,256 sums.
pub const MAX_PAIRS: usize = 64;

/// A group attribute carried by the request, such as the site of the camera; or several, whose values
/// together make groups.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSchema {
    /// Names of the attributes, sorted.
    pub attributes: Vec<String>,
    /// Values seen on the reference, sorted, each with one of every attribute; rows with others count
    /// as other, those that lack one of the attributes as missing.
    pub values: Vec<Vec<String>>,
}

impl GroupSchema {
    /// Groups by one attribute.
    #[must_use]
    pub fn of(attribute: &str, values: &[&str]) -> Self {
        let values = values.iter().map(|value| vec![(*value).to_owned()]).collect();
        Self { attributes: vec![attribute.to_owned()], values }
    }

    /// For people: `sex`, or `race & sex`.
    #[must_use]
    pub fn name(&self) -> String {
        self.attributes.join(" & ")
    }

    /// A group for people: `F`, or `Black & F`.
    #[must_use]
    pub fn value(&self, index: usize) -> String {
        self.values.get(index).map_or_else(|| OTHER_GROUP.to_owned(), |values| values.join(" & "))
    }
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

    /// What its outcomes look like.
    #[must_use]
    pub fn outcomes(&self) -> OutcomeLayout {
        let positive = self.positive.as_deref().and_then(|class| self.class_index(class));
        OutcomeLayout { classes: self.classes.len(), positive }
    }

    /// The column of numbers that are predicted, where they are numbers.
    #[must_use]
    pub fn predicted_numbers(&self) -> Option<&NumericSchema> {
        match &self.column(PREDICTION_COLUMN)?.kind {
            ColumnKind::Numeric(numeric) => Some(numeric),
            ColumnKind::Categorical(_) | ColumnKind::Vector(_) => None,
        }
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
        if self.classes.len() == 1 || !all_distinct(&self.classes) {
            return fail("classes", "at least two, all different, are needed, or none".to_owned());
        }
        if let Some(positive) = &self.positive
            && (self.classes.len() != 2 || !self.classes.contains(positive))
        {
            return fail("positive", format!("`{positive}` must be one of two classes"));
        }
        if !self.columns.windows(2).all(|pair| pair[0].name < pair[1].name) {
            return fail("columns", "they must be sorted by name, without repeats".to_owned());
        }
        for column in &self.columns {
            let problem = column.kind.problem().or_else(|| self.prediction_problem(column));
            if let Some(problem) = problem {
                return fail(&format!("columns.{}", column.name), problem);
            }
        }
        if !self.groups.windows(2).all(|pair| pair[0].attributes < pair[1].attributes) {
            return fail("groups", "they must be sorted by attributes, without repeats".to_owned());
        }
        for group in &self.groups {
            if let Some(problem) = group.problem() {
                return fail(&format!("groups.{}", group.name()), problem);
            }
        }
        Ok(())
    }

    /// Classes are what the column of predictions holds, where there are any.
    fn prediction_problem(&self, column: &ColumnSchema) -> Option<String> {
        let fits = match &column.kind {
            _ if column.name != PREDICTION_COLUMN => true,
            ColumnKind::Categorical(known) => known.categories == self.classes,
            ColumnKind::Numeric(_) => self.classes.is_empty(),
            ColumnKind::Vector(_) => false,
        };
        let problem = "its categories must be the classes, or it must be numeric and there be none";
        (!fits).then(|| problem.to_owned())
    }
}

impl GroupSchema {
    fn problem(&self) -> Option<String> {
        let ascending = self.values.windows(2).all(|pair| pair[0] < pair[1]);
        let attributes = self.attributes.windows(2).all(|pair| pair[0] < pair[1]);
        let width = self.attributes.len();
        let fits = width > 0 && self.values.iter().all(|values| values.len() == width);
        (!(ascending && attributes && fits)).then(|| {
            "attributes and values must be sorted, without repeats, each value with one of every attribute"
                .to_owned()
        })
    }
}

impl VectorSchema {
    /// Number of random features.
    #[must_use]
    pub fn features(&self) -> usize {
        2 * self.pairs
    }

    fn problem(&self) -> Option<String> {
        let ascending = |edges: &Vec<f64>| {
            edges.windows(2).all(|pair| pair[0] < pair[1])
                && edges.iter().all(|edge| edge.is_finite())
        };
        if !(1..=MAX_DIMENSION).contains(&self.dimension) || !(1..=MAX_PAIRS).contains(&self.pairs)
        {
            return Some(format!("dimension must be 1 to {MAX_DIMENSION}, pairs 1 to {MAX_PAIRS}"));
        }
        if !(self.bandwidth > 0.0 && self.bandwidth.is_finite()) {
            return Some("bandwidth must be a finite number above 0".to_owned());
        }
        let fits = self.components.len() == self.dimension && self.components.iter().all(ascending);
        (!fits).then(|| "each component needs ascending finite edges".to_owned())
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
            Self::Vector(vector) => vector.problem(),
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
            positive: None,
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
    fn what_does_not_fit_together_is_refused_with_its_place() {
        let known = |categories: &[&str]| {
            let categories = categories.iter().map(|one| (*one).to_owned()).collect();
            ColumnKind::Categorical(CategoricalSchema { categories })
        };
        let number = || ColumnKind::Numeric(NumericSchema { edges: vec![0.0, 1.0], step: 1.0 });
        let vector = |dimension, bandwidth| {
            let components = vec![vec![0.0, 1.0]; 2];
            ColumnKind::Vector(VectorSchema { dimension, pairs: 4, bandwidth, seed: 1, components })
        };
        let prediction = |kind| {
            let column = ColumnSchema { name: PREDICTION_COLUMN.to_owned(), kind };
            ProfileSchema { columns: vec![column], ..schema(vec![0.0, 1.0], 1.0) }
        };
        let of_groups = |groups| ProfileSchema { groups, ..schema(vec![0.0, 1.0], 1.0) };
        let numbers = |schema: ProfileSchema| ProfileSchema { classes: vec![], ..schema };
        let positive = |positive: &str| ProfileSchema {
            positive: Some(positive.to_owned()),
            ..schema(vec![0.0, 1.0], 1.0)
        };
        let both = GroupSchema {
            attributes: vec!["race".to_owned(), "sex".to_owned()],
            values: vec![vec!["x".to_owned(), "f".to_owned()]],
        };
        let uneven = GroupSchema { values: vec![vec!["x".to_owned()]], ..both.clone() };
        let table = [
            (prediction(known(&["a", "b"])), None),
            (prediction(known(&["b", "a"])), Some("columns.prediction")),
            (prediction(number()), Some("columns.prediction")),
            (numbers(prediction(number())), None),
            (numbers(prediction(vector(2, 1.0))), Some("columns.prediction")),
            (positive("b"), None),
            (positive("c"), Some("positive")),
            (of_groups(vec![both.clone(), GroupSchema::of("sex", &["f", "m"])]), None),
            (of_groups(vec![GroupSchema::of("sex", &["m", "f"])]), Some("groups.sex")),
            (of_groups(vec![GroupSchema::of("sex", &[]), both]), Some("groups")),
            (of_groups(vec![uneven]), Some("groups.race & sex")),
        ];
        for (schema, place) in table {
            let found = schema.validate().err().map(|error| error.place);
            assert_eq!(found.as_deref(), place, "{schema:?}");
        }
        for (kind, sound) in
            [(vector(2, 1.0), true), (vector(3, 1.0), false), (vector(2, 0.0), false)]
        {
            assert_eq!(kind.problem().is_none(), sound, "{kind:?}");
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
