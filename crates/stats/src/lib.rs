//! Distances, tests and intervals over exact counts: pure mathematics, no I/O.
//!
//! Every quantity comes with an interval, since a number alone cannot say whether it is more than
//! chance. What is undefined (0/0) is `None` and never 0, NaN or infinite.

pub mod attribution;
pub mod budget;
pub mod burn;
pub mod classification;
pub mod distance;
pub mod embedding;
pub mod estimated;
pub mod fairness;
pub mod interval;
pub mod losses;
pub mod mcnemar;
pub mod ordered;
pub mod ranking;
#[cfg(test)]
mod testing;

pub use interval::Interval;

/// A quantity with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The quantity.
    pub value: f64,
    /// Where it lies with the confidence that was asked for.
    pub interval: Interval,
}
