//! Do columns and predictions look as they did on the reference?

use std::collections::BTreeMap;

use async_trait::async_trait;
use mloop_core::counts::{CategoricalCounts, FEATURE_STEP, NumericCounts, VectorCounts};
use mloop_core::profile::ColumnCounts;
use mloop_core::schema::{ColumnKind, ColumnSchema, PREDICTION_COLUMN};
use mloop_core::{Evidence, Finding, Status};
use mloop_monitor::{BuildError, Monitor, MonitorError, Spec};
use mloop_stats::distance::{self, cramers_v};
use mloop_stats::embedding::{FeatureSums, discrepancy};
use mloop_stats::ordered::{
    Measured, kolmogorov_smirnov_distance, normed_wasserstein, wasserstein_distance,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::finding::{About, Bound};
use crate::moved;
use crate::settings::{comparable, confidence, valid_confidence, within};

/// Settings of kind `drift`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftConfig {
    /// Columns to check; all of the schema, the prediction among them, when left out.
    #[serde(default)]
    columns: Option<Vec<String>>,
    /// Distance of two distributions of a numeric column.
    #[serde(default = "method")]
    method: Method,
    /// Distance for categorical columns, the prediction among them; `method` when left out.
    #[serde(default)]
    categorical_method: Option<Method>,
    /// Distance up to which a change is tolerated, in the unit of the method.
    #[serde(default = "tolerance")]
    tolerance: f64,
    /// Distance up to which a change of vectors is tolerated: their maximum mean discrepancy, 0 to √2.
    #[serde(default = "tolerance")]
    vector_tolerance: f64,
    /// Tolerances of single columns, instead of `tolerance` and `vector_tolerance`.
    #[serde(default)]
    tolerances: BTreeMap<String, f64>,
    /// Bins that a numeric column is compared on, merged from the finer bins of its profile so
    /// that each holds about the same share of the reference. When left out, 10 with fewer than 2,000
    /// rows on either side, 20 with fewer than 20,000, else 30.
    #[serde(default)]
    bins: Option<usize>,
    /// Rows below which a window is not judged.
    #[serde(default = "min_rows")]
    min_rows: u64,
    /// Confidence of the intervals.
    #[serde(default = "confidence")]
    confidence: f64,
}

fn method() -> Method {
    Method::JensenShannon
}

/// Half of the largest change that a window of a few hundred rows can hide (about 0.1 on 12 bins),
/// and well above what chance does to one of a thousand.
fn tolerance() -> f64 {
    0.1
}

fn min_rows() -> u64 {
    100
}

/// Names of the distances in settings and findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method {
    /// Population stability index; 0.1 is a small and 0.25 a large change by convention.
    Psi,
    /// Jensen-Shannon distance in bits, 0 to 1.
    JensenShannon,
    /// Hellinger distance, 0 to 1.
    Hellinger,
    /// Total variation, 0 to 1: the share of rows that moved.
    TotalVariation,
    /// Largest change of the share of one bin, 0 to 1.
    LInfinity,
    /// Two-sample χ² as an effect: Cramér's V, 0 to 1.
    ChiSquare,
    /// Largest gap between the cumulative shares of a numeric column, 0 to 1; takes no notice of
    /// missing values, nor of the bins' number in the settings.
    KolmogorovSmirnov,
    /// How far a numeric column moved, in its own unit; takes no notice of missing values, and counts
    /// what lies outside the reference's range at its border.
    Wasserstein,
    /// The same in standard deviations of the reference.
    NormedWasserstein,
}

impl Method {
    /// Its distance over bins in any order; none when it is no distance or needs their order.
    fn distance(self) -> Option<distance::Method> {
        match self {
            Self::Psi => Some(distance::Method::Psi),
            Self::JensenShannon => Some(distance::Method::JensenShannon),
            Self::Hellinger => Some(distance::Method::Hellinger),
            Self::TotalVariation => Some(distance::Method::TotalVariation),
            Self::LInfinity => Some(distance::Method::LInfinity),
            Self::ChiSquare
            | Self::KolmogorovSmirnov
            | Self::Wasserstein
            | Self::NormedWasserstein => None,
        }
    }

    fn needs_order(self) -> bool {
        matches!(self, Self::KolmogorovSmirnov | Self::Wasserstein | Self::NormedWasserstein)
    }

    /// The largest tolerance that makes sense.
    fn largest_tolerance(self) -> f64 {
        match self {
            Self::Psi | Self::NormedWasserstein => 100.0,
            Self::Wasserstein => f64::MAX,
            _ => 1.0,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Psi => "psi",
            Self::JensenShannon => "jensen_shannon",
            Self::Hellinger => "hellinger",
            Self::TotalVariation => "total_variation",
            Self::LInfinity => "l_infinity",
            Self::ChiSquare => "chi_square",
            Self::KolmogorovSmirnov => "kolmogorov_smirnov",
            Self::Wasserstein => "wasserstein",
            Self::NormedWasserstein => "normed_wasserstein",
        }
    }
}

impl Spec<Box<dyn Monitor>> for DriftConfig {
    const KIND: &'static str = "drift";

    fn build(self, name: String, _deps: &()) -> Result<Box<dyn Monitor>, BuildError> {
        valid_confidence(self.confidence)?;
        within("bins", self.bins.unwrap_or(10) as f64, 2.0, 120.0)?;
        let categorical = self.categorical_method.unwrap_or(self.method);
        if categorical.needs_order() {
            let problem = format!(
                "{} needs values that have an order; name another for categorical columns, such as \
                 jensen_shannon",
                categorical.name()
            );
            return Err(BuildError::invalid("categorical_method", problem));
        }
        let most = self.method.largest_tolerance().max(categorical.largest_tolerance());
        within("tolerance", self.tolerance, 0.0, most)?;
        within("vector_tolerance", self.vector_tolerance, 0.0, std::f64::consts::SQRT_2)?;
        for (column, tolerance) in &self.tolerances {
            within(&format!("tolerances.{column}"), *tolerance, 0.0, most.max(2.0))?;
        }
        Ok(Box::new(DriftMonitor { name, settings: self }))
    }
}

/// Compares every column of a window with the reference, and the predictions too.
pub struct DriftMonitor {
    name: String,
    settings: DriftConfig,
}

/// A distance of two columns, and what carries it.
struct Change {
    measured: Measured,
    detail: Option<String>,
}

#[async_trait]
impl Monitor for DriftMonitor {
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self, evidence: &Evidence) -> Result<Vec<Finding>, MonitorError> {
        let confidence = evidence.confidence(self.settings.confidence);
        let settings = DriftConfig { confidence, ..self.settings.clone() };
        Self { name: self.name.clone(), settings }.findings(evidence)
    }
}

impl DriftMonitor {
    fn findings(&self, evidence: &Evidence) -> Result<Vec<Finding>, MonitorError> {
        comparable(evidence)?;
        let known = || evidence.schema.columns.iter().map(|column| column.name.clone()).collect();
        let find = |name: &String| {
            evidence.schema.column(name).ok_or_else(|| MonitorError::NotInSchema {
                what: "column",
                name: name.clone(),
                known: known(),
            })
        };
        for name in self.settings.tolerances.keys() {
            find(name)?;
        }
        let wanted: Vec<&ColumnSchema> = match &self.settings.columns {
            Some(names) => names.iter().map(find).collect::<Result<_, _>>()?,
            None => evidence.schema.columns.iter().collect(),
        };
        Ok(wanted.into_iter().map(|column| self.column(evidence, column)).collect())
    }

    fn column(&self, evidence: &Evidence, column: &ColumnSchema) -> Finding {
        let (settings, name) = (&self.settings, column.name.as_str());
        let (method, tolerance) = match column.kind {
            ColumnKind::Numeric(_) => (settings.method.name(), settings.tolerance),
            ColumnKind::Categorical(_) => (self.categorical().name(), settings.tolerance),
            ColumnKind::Vector(_) => ("mmd", settings.vector_tolerance),
        };
        let is_prediction = name == PREDICTION_COLUMN;
        let about = About {
            monitor: &self.name,
            check: if is_prediction { "prediction_drift" } else { "column_drift" },
            column: Some(name),
            group: None,
            method,
        };
        let tolerance = *settings.tolerances.get(name).unwrap_or(&tolerance);
        let (bound, n) = (Bound::AtMost(tolerance), evidence.current.rows);
        let counts = (evidence.reference.columns.get(name), evidence.current.columns.get(name));
        let change = match (&column.kind, counts) {
            (
                ColumnKind::Numeric(schema),
                (Some(ColumnCounts::Numeric(reference)), Some(ColumnCounts::Numeric(current))),
            ) => self.numeric(&schema.edges, reference, current),
            (
                ColumnKind::Categorical(known),
                (
                    Some(ColumnCounts::Categorical(reference)),
                    Some(ColumnCounts::Categorical(current)),
                ),
            ) => {
                let sides = (values(reference), values(current));
                self.binned(self.categorical(), &sides.0, &sides.1).map(|measured| {
                    let groups = is_prediction.then(|| moved::groups(evidence)).flatten();
                    let values = moved::value(known, reference, current);
                    Change { measured, detail: moved::joined(values, groups) }
                })
            }
            (
                ColumnKind::Vector(_),
                (Some(ColumnCounts::Vector(reference)), Some(ColumnCounts::Vector(current))),
            ) => self.vector(reference, current),
            _ => return about.finding(None, None, bound, n, Status::Broken),
        };
        match change {
            Some(Change { measured: found, detail }) if n >= settings.min_rows => {
                let finding = about.judged(found.estimate, bound, n);
                // A change that shows above all that chance can do is told, however few the rows.
                let is_blind = finding.status == Status::Ok && found.resolution > tolerance;
                let status = if is_blind { Status::InsufficientData } else { finding.status };
                let detail = detail.filter(|_| status == Status::Drifted);
                Finding { status, detail, ..finding }
            }
            _ => about.unknown(bound, n),
        }
    }

    fn categorical(&self) -> Method {
        self.settings.categorical_method.unwrap_or(self.settings.method)
    }

    fn numeric(
        &self,
        edges: &[f64],
        reference: &NumericCounts,
        current: &NumericCounts,
    ) -> Option<Change> {
        let (method, confidence) = (self.settings.method, self.settings.confidence);
        let bins = self.settings.bins.unwrap_or_else(|| bins_for(reference, current));
        let borders = coarse_borders(&reference.bins, bins);
        let measured = match method {
            Method::KolmogorovSmirnov => {
                kolmogorov_smirnov_distance(&ordered(reference), &ordered(current), confidence)
            }
            Method::Wasserstein => {
                wasserstein_distance(&inside(reference), &inside(current), edges, confidence)
            }
            Method::NormedWasserstein => {
                normed_wasserstein(&inside(reference), &inside(current), edges, confidence)
            }
            _ => self.binned(method, &coarse(reference, &borders), &coarse(current, &borders)),
        }?;
        let detail =
            moved::bin(edges, &borders, &coarse(reference, &borders), &coarse(current, &borders));
        Some(Change { measured, detail })
    }

    /// `None` when either side has no rows.
    fn binned(&self, method: Method, reference: &[u64], current: &[u64]) -> Option<Measured> {
        let confidence = self.settings.confidence;
        let Some(distance) = method.distance() else {
            return cramers_v(reference, current, confidence);
        };
        let rows = |counts: &[u64]| counts.iter().sum::<u64>();
        let filled = reference.iter().zip(current).filter(|(a, b)| **a + **b > 0).count();
        let resolution = distance.resolution(filled, rows(current), rows(reference), confidence);
        let estimate = distance.estimate(reference, current, confidence)?;
        Some(Measured { estimate, resolution })
    }

    fn vector(&self, reference: &VectorCounts, current: &VectorCounts) -> Option<Change> {
        let measured = discrepancy(&sums(reference), &sums(current), self.settings.confidence)?;
        Some(Change { measured, detail: moved::component(reference, current) })
    }
}

fn sums(counts: &VectorCounts) -> FeatureSums {
    let of = |sums: &[mloop_core::counts::FixedSum]| {
        sums.iter().map(|sum| sum.times(FEATURE_STEP)).collect()
    };
    FeatureSums { rows: counts.rows, sums: of(&counts.sums), products: of(&counts.products) }
}

/// Few rows tell few bins apart: with a thousand, each of ten holds a hundred.
fn bins_for(reference: &NumericCounts, current: &NumericCounts) -> usize {
    match reference.rows().min(current.rows()) {
        0..2_000 => 10,
        2_000..20_000 => 20,
        _ => 30,
    }
}

/// A numeric column on coarse bins, and one each for what lies below and above them, for missing
/// values and for those that are no number: everything that a row can be is a bin.
fn coarse(counts: &NumericCounts, borders: &[usize]) -> Vec<u64> {
    let mut histogram = merged(&counts.bins, borders);
    histogram.extend([counts.below, counts.above, counts.missing, counts.non_finite]);
    histogram
}

/// The finite values in order.
fn ordered(counts: &NumericCounts) -> Vec<u64> {
    let bins = counts.bins.iter().copied();
    std::iter::once(counts.below).chain(bins).chain([counts.above]).collect()
}

/// The finite values between the edges, those outside at the border.
fn inside(counts: &NumericCounts) -> Vec<u64> {
    let mut bins = counts.bins.clone();
    if let Some(first) = bins.first_mut() {
        *first += counts.below;
    }
    if let Some(last) = bins.last_mut() {
        *last += counts.above;
    }
    bins
}

/// A categorical column, with unseen and missing values.
fn values(counts: &CategoricalCounts) -> Vec<u64> {
    counts.categories.iter().copied().chain([counts.unseen, counts.missing]).collect()
}

/// Ends (exclusive) of coarse bins: fine bins are joined until each holds its share of the
/// reference's rows, so that merging depends on the reference alone.
fn coarse_borders(reference: &[u64], bins: usize) -> Vec<usize> {
    let total: u64 = reference.iter().sum();
    let mut borders = vec![];
    let mut below = 0;
    for (index, count) in reference.iter().enumerate() {
        below += count;
        let wanted = total as f64 * (borders.len() + 1) as f64 / bins as f64;
        if below as f64 >= wanted && borders.len() + 1 < bins {
            borders.push(index + 1);
        }
    }
    if borders.last() != Some(&reference.len()) {
        borders.push(reference.len());
    }
    borders
}

fn merged(counts: &[u64], borders: &[usize]) -> Vec<u64> {
    let starts = std::iter::once(0).chain(borders.iter().copied());
    let sum =
        |(start, end): (usize, &usize)| counts.get(start..*end).map_or(0, |part| part.iter().sum());
    starts.zip(borders).map(sum).collect()
}

#[cfg(test)]
mod tests;
