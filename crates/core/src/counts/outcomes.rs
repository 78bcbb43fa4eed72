//! Predictions against labels, of all rows or of those of one group.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FixedSum, add_all, to_fixed};

/// Equal bins of scores from 0 to 1: they join into 10, 12, 15, 20 or 30.
pub const SCORE_BINS: usize = 60;

/// Resolution of summed scores.
pub const SCORE_STEP: f64 = 1.0 / (1u64 << 30) as f64;

/// Resolution of summed losses.
pub const LOSS_STEP: f64 = 1.0 / (1u64 << 30) as f64;

/// Smallest probability that a logarithm is taken of, as scikit-learn's smallest of double precision.
const LEAST_PROBABILITY: f64 = f64::EPSILON;

/// Steps that one coarse step of [`ErrorSums::fourth_powers`] holds.
const COARSE: i64 = 1 << 16;

/// Largest error in steps; its square still sums over 2^33 rows.
const MAX_ERROR: i64 = 1 << 46;

/// Largest error in coarse steps; its fourth power still sums over 2^31 rows.
const MAX_COARSE_ERROR: i64 = 1 << 24;

/// What the outcomes of a schema look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutcomeLayout {
    /// Number of classes; 0 for predictions that are numbers, and where there are none.
    pub classes: usize,
    /// Index of the positive one of two classes, where scores are its probability.
    pub positive: Option<usize>,
}

/// Outcomes of some rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeCounts {
    /// Prediction against label, of classes.
    pub confusion: Confusion,
    /// Rows by score.
    pub scores: ScoreCounts,
    /// Errors of predictions that are numbers.
    #[serde(default, skip_serializing_if = "ErrorSums::is_empty")]
    pub errors: ErrorSums,
}

impl OutcomeCounts {
    /// No rows yet.
    #[must_use]
    pub fn new(layout: OutcomeLayout) -> Self {
        Self {
            confusion: Confusion::new(layout.classes),
            scores: ScoreCounts::new(layout),
            errors: ErrorSums::default(),
        }
    }

    /// Counts one row: indices of the predicted class and, where known, of the true one, and the score.
    pub fn observe(
        &mut self,
        layout: OutcomeLayout,
        prediction: usize,
        truth: Option<usize>,
        score: Option<f64>,
    ) {
        self.confusion.observe(prediction, truth);
        if let Some(score) = score {
            self.scores.observe(layout, prediction, truth, score);
        }
    }

    /// Adds the counts of other rows.
    pub fn merge(&mut self, other: &Self) {
        self.confusion.merge(&other.confusion);
        self.scores.merge(&other.scores);
        self.errors.merge(&other.errors);
    }

    /// Rows whose label has arrived.
    #[must_use]
    pub fn labelled_rows(&self) -> u64 {
        self.confusion.labelled_rows() + self.errors.rows
    }
}

/// What was predicted against what was true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confusion {
    /// `labelled[truth][prediction]`: rows whose label has arrived.
    pub labelled: Vec<Vec<u64>>,
    /// Rows without a label, by prediction.
    pub unlabelled: Vec<u64>,
}

impl Confusion {
    /// No rows yet.
    #[must_use]
    pub fn new(classes: usize) -> Self {
        Self { labelled: vec![vec![0; classes]; classes], unlabelled: vec![0; classes] }
    }

    /// Counts one row; indices of the classes. A class that is out of range is the caller's bug
    /// and counts nowhere.
    pub fn observe(&mut self, prediction: usize, truth: Option<usize>) {
        let row = match truth {
            Some(truth) => self.labelled.get_mut(truth),
            None => Some(&mut self.unlabelled),
        };
        if let Some(count) = row.and_then(|row| row.get_mut(prediction)) {
            *count += 1;
        }
    }

    /// Adds the counts of other rows.
    pub fn merge(&mut self, other: &Self) {
        for (row, more) in self.labelled.iter_mut().zip(&other.labelled) {
            add_all(row, more);
        }
        add_all(&mut self.unlabelled, &other.unlabelled);
    }

    /// Rows whose label has arrived.
    #[must_use]
    pub fn labelled_rows(&self) -> u64 {
        self.labelled.iter().flatten().sum()
    }

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.labelled_rows() + self.unlabelled.iter().sum::<u64>()
    }

    /// Rows predicted as each class, with or without a label.
    #[must_use]
    pub fn predicted(&self) -> Vec<u64> {
        let mut totals = self.unlabelled.clone();
        for row in &self.labelled {
            add_all(&mut totals, row);
        }
        totals
    }
}

/// Rows by score on [`SCORE_BINS`] equal bins from 0 to 1.
///
/// With a positive class, a score is its probability, a row *is one* when its label is that class, and
/// rows are counted by predicted class. Else a score is the probability of the predicted class, and a
/// row is one when that was right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<SparseBins>", into = "Vec<SparseBins>")]
pub struct ScoreCounts {
    /// By predicted class, where there is a positive one; else all in one. Each has [`SCORE_BINS`].
    pub bins: Vec<Vec<ScoreBin>>,
}

/// Bins that hold rows, with their indices, as they are written down.
type SparseBins = BTreeMap<usize, ScoreBin>;

/// Rows of one bin of scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreBin {
    /// Rows without a label.
    pub unlabelled: u64,
    /// Labelled rows that are not one.
    pub negative: u64,
    /// Labelled rows that are one.
    pub positive: u64,
    /// Sum of the scores of labelled rows, in [`SCORE_STEP`]s.
    pub labelled_sum: FixedSum,
    /// Sum of the scores of rows without a label, in [`SCORE_STEP`]s.
    pub unlabelled_sum: FixedSum,
    /// Sum of score · (1 − score) of all rows, in [`SCORE_STEP`]s.
    pub spread: FixedSum,
}

impl ScoreBin {
    /// All rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.unlabelled + self.negative + self.positive
    }

    /// Labelled rows.
    #[must_use]
    pub fn labelled(&self) -> u64 {
        self.negative + self.positive
    }

    /// Adds the rows of another.
    pub fn merge(&mut self, other: &Self) {
        self.unlabelled += other.unlabelled;
        self.negative += other.negative;
        self.positive += other.positive;
        self.labelled_sum.0 += other.labelled_sum.0;
        self.unlabelled_sum.0 += other.unlabelled_sum.0;
        self.spread.0 += other.spread.0;
    }
}

impl ScoreCounts {
    /// No rows yet.
    #[must_use]
    pub fn new(layout: OutcomeLayout) -> Self {
        let sides = if layout.positive.is_some() { layout.classes } else { 1 };
        Self { bins: vec![vec![ScoreBin::default(); SCORE_BINS]; sides] }
    }

    /// Counts one row; a score outside 0..=1 counts nowhere.
    fn observe(
        &mut self,
        layout: OutcomeLayout,
        prediction: usize,
        truth: Option<usize>,
        score: f64,
    ) {
        if !(0.0..=1.0).contains(&score) {
            return;
        }
        let side = if layout.positive.is_some() { prediction } else { 0 };
        let index = ((score * SCORE_BINS as f64) as usize).min(SCORE_BINS - 1);
        let Some(bin) = self.bins.get_mut(side).and_then(|bins| bins.get_mut(index)) else {
            return;
        };
        let fixed = to_fixed(score, SCORE_STEP);
        match truth {
            None => {
                bin.unlabelled += 1;
                bin.unlabelled_sum.0 += fixed;
            }
            Some(truth) => {
                let is_one = truth == layout.positive.unwrap_or(prediction);
                *(if is_one { &mut bin.positive } else { &mut bin.negative }) += 1;
                bin.labelled_sum.0 += fixed;
            }
        }
        bin.spread.0 += to_fixed(score * (1.0 - score), SCORE_STEP);
    }

    /// Adds the counts of other rows.
    fn merge(&mut self, other: &Self) {
        for (bin, more) in self.bins.iter_mut().flatten().zip(other.bins.iter().flatten()) {
            bin.merge(more);
        }
    }
}

impl From<ScoreCounts> for Vec<SparseBins> {
    fn from(counts: ScoreCounts) -> Self {
        let filled = |bins: Vec<ScoreBin>| {
            bins.into_iter().enumerate().filter(|(_, bin)| bin.rows() > 0).collect()
        };
        counts.bins.into_iter().map(filled).collect()
    }
}

impl TryFrom<Vec<SparseBins>> for ScoreCounts {
    type Error = String;

    fn try_from(sides: Vec<SparseBins>) -> Result<Self, String> {
        let mut bins = vec![vec![ScoreBin::default(); SCORE_BINS]; sides.len()];
        for (side, filled) in bins.iter_mut().zip(sides) {
            for (index, bin) in filled {
                *side
                    .get_mut(index)
                    .ok_or_else(|| format!("there is no bin {index} of scores"))? = bin;
            }
        }
        Ok(Self { bins })
    }
}

/// Losses of labelled rows whose probabilities are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossSums {
    /// Rows.
    pub rows: u64,
    /// Sum of −ln of the probability of the true class, in [`LOSS_STEP`]s.
    pub log_loss: FixedSum,
    /// Sum of its squares, in [`LOSS_STEP`]s.
    pub log_loss_squares: FixedSum,
    /// Sum of the Brier scores, in [`LOSS_STEP`]s: of two classes with a positive one the squared error
    /// of its probability, else the sum of squared errors over the classes (Brier 1950).
    pub brier: FixedSum,
    /// Sum of their squares, in [`LOSS_STEP`]s.
    pub brier_squares: FixedSum,
}

impl LossSums {
    /// Counts a row: probabilities of all classes, and the true one.
    pub fn observe(&mut self, layout: OutcomeLayout, probabilities: &[f64], truth: usize) {
        let is_sound = |p: &f64| (0.0..=1.0).contains(p);
        let of_truth = probabilities.get(truth);
        let (Some(of_truth), true) = (of_truth, probabilities.iter().all(is_sound)) else { return };
        let log_loss = -of_truth.clamp(LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY).ln();
        let error = |(class, p): (usize, &f64)| (p - f64::from(u8::from(class == truth))).powi(2);
        let brier = match layout.positive {
            Some(positive) => {
                error((positive, &probabilities[positive.min(probabilities.len() - 1)]))
            }
            None => probabilities.iter().enumerate().map(error).sum(),
        };
        self.rows += 1;
        self.log_loss.0 += to_fixed(log_loss, LOSS_STEP);
        self.log_loss_squares.0 += to_fixed(log_loss * log_loss, LOSS_STEP);
        self.brier.0 += to_fixed(brier, LOSS_STEP);
        self.brier_squares.0 += to_fixed(brier * brier, LOSS_STEP);
    }

    /// Adds the sums of other rows.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.log_loss.0 += other.log_loss.0;
        self.log_loss_squares.0 += other.log_loss_squares.0;
        self.brier.0 += other.brier.0;
        self.brier_squares.0 += other.brier_squares.0;
    }

    /// Whether no row was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }
}

/// Errors of predictions that are numbers, prediction less label, in steps of the prediction's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorSums {
    /// Labelled rows.
    pub rows: u64,
    /// Rows without a label.
    pub unlabelled: u64,
    /// Sum of the errors.
    pub errors: FixedSum,
    /// Sum of their absolute values.
    pub absolute: FixedSum,
    /// Sum of their squares.
    pub squares: FixedSum,
    /// Sum of their fourth powers, in steps of [`ErrorSums::COARSE_STEPS`]: how sure the mean square is.
    pub fourth_powers: FixedSum,
}

impl ErrorSums {
    /// Steps in a coarse step, of which fourth powers are summed.
    pub const COARSE_STEPS: i64 = COARSE;

    /// Counts one row: its error in whole steps, where the label is known.
    pub fn observe(&mut self, error: Option<i64>) {
        let Some(error) = error else {
            self.unlabelled += 1;
            return;
        };
        let error = error.clamp(-MAX_ERROR, MAX_ERROR);
        let coarse = i128::from((error / COARSE).clamp(-MAX_COARSE_ERROR, MAX_COARSE_ERROR));
        let error = i128::from(error);
        self.rows += 1;
        self.errors.0 += error;
        self.absolute.0 += error.abs();
        self.squares.0 += error * error;
        self.fourth_powers.0 += coarse.pow(4);
    }

    /// Adds the sums of other rows.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.unlabelled += other.unlabelled;
        self.errors.0 += other.errors.0;
        self.absolute.0 += other.absolute.0;
        self.squares.0 += other.squares.0;
        self.fourth_powers.0 += other.fourth_powers.0;
    }

    /// Whether no row was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0 && self.unlabelled == 0
    }
}

/// Outcomes by the values of one group attribute, or of several together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupCounts {
    /// Rows of the schema's values, by their index; those without rows are left out.
    pub values: BTreeMap<usize, OutcomeCounts>,
    /// Rows with a value that the schema does not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<OutcomeCounts>,
    /// Rows without a value of one of the attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<OutcomeCounts>,
}

/// To which group a row belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The schema's value of this index.
    Known(usize),
    /// A value that the schema does not have.
    Other,
    /// No value of one of the attributes.
    Missing,
}

impl GroupCounts {
    /// The outcomes of a group, made where there are none yet.
    pub fn of(&mut self, group: Group, layout: OutcomeLayout) -> &mut OutcomeCounts {
        let new = || OutcomeCounts::new(layout);
        match group {
            Group::Known(index) => self.values.entry(index).or_insert_with(new),
            Group::Other => self.other.get_or_insert_with(new),
            Group::Missing => self.missing.get_or_insert_with(new),
        }
    }

    /// Adds the counts of other rows.
    pub fn merge(&mut self, other: &Self) {
        for (index, more) in &other.values {
            match self.values.get_mut(index) {
                Some(mine) => mine.merge(more),
                None => drop(self.values.insert(*index, more.clone())),
            }
        }
        for (mine, more) in [(&mut self.other, &other.other), (&mut self.missing, &other.missing)] {
            match (mine, more) {
                (Some(mine), Some(more)) => mine.merge(more),
                (mine @ None, Some(more)) => *mine = Some(more.clone()),
                (_, None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
