//! What scores make one expect of rows without labels (confidence-based performance estimation).

use mloop_core::Profile;
use mloop_core::counts::{SCORE_STEP, ScoreBin};
use mloop_stats::Estimate;
use mloop_stats::estimated::{Believed, Binary, auc};

/// Labelled rows of the reference in a bin from which its scores are corrected; with fewer, they are
/// taken at their word.
const ENOUGH: u64 = 30;

/// The rows of a window by score, each bin with the share of its rows that is expected to be positive
/// (without a positive class: to be predicted right). That share is what the bin had on the reference,
/// where labels are in, so that scores need not be calibrated, only mean the same still.
pub(crate) struct Believing {
    /// By predicted class, where there is a positive one; else all in one.
    sides: Vec<Vec<Believed>>,
    /// Index of the positive class.
    positive: Option<usize>,
}

impl Believing {
    /// Both profiles are of one schema.
    pub(crate) fn new(reference: &Profile, current: &Profile, positive: Option<usize>) -> Self {
        let pairs = reference.overall.scores.bins.iter().zip(&current.overall.scores.bins);
        let side = |(before, now): (&Vec<ScoreBin>, &Vec<ScoreBin>)| {
            before.iter().zip(now).map(|(before, now)| believed(before, now)).collect()
        };
        Self { sides: pairs.map(side).collect(), positive }
    }

    /// Rows with a score.
    pub(crate) fn rows(&self) -> u64 {
        self.sides.iter().flatten().map(|bin| bin.rows).sum()
    }

    /// All rows together.
    pub(crate) fn all(&self) -> Believed {
        together(self.sides.iter().flatten())
    }

    /// Rows by predicted class, where there is a positive one.
    pub(crate) fn binary(&self) -> Option<Binary> {
        let positive = self.positive?;
        let side = |index: usize| self.sides.get(index).map(together);
        Some(Binary { positive: side(positive)?, negative: side(1 - positive.min(1))? })
    }

    /// The area under the ROC curve.
    pub(crate) fn auc(&self, confidence: f64) -> Option<Estimate> {
        let mut bins = self.sides.first()?.clone();
        for side in self.sides.iter().skip(1) {
            bins.iter_mut().zip(side).for_each(|(bin, more)| bin.merge(more));
        }
        auc(&bins, confidence)
    }
}

fn believed(before: &ScoreBin, now: &ScoreBin) -> Believed {
    let rows = now.rows();
    if before.labelled() < ENOUGH {
        let sum = now.labelled_sum.times(SCORE_STEP) + now.unlabelled_sum.times(SCORE_STEP);
        return Believed { rows, sum, spread: now.spread.times(SCORE_STEP) };
    }
    let (n, size) = (before.labelled() as f64, rows as f64);
    // Laplace's rule keeps a bin that had no positive row from promising none.
    let share = (before.positive as f64 + 1.0) / (n + 2.0);
    // Each row by itself, and all of them with the share, which is known from so many rows only.
    let spread = share * (1.0 - share) * (size + size * size / n);
    Believed { rows, sum: size * share, spread }
}

fn together<'a>(bins: impl IntoIterator<Item = &'a Believed>) -> Believed {
    let mut all = Believed::default();
    bins.into_iter().for_each(|bin| all.merge(bin));
    all
}
