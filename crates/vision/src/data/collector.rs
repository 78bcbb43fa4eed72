//! Gathers the good records of a source and counts the bad ones.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{DataError, Dataset, Loaded, Sample};
use crate::network::MAX_CLASSES;
use crate::pixels::{InputSpec, Pixels};

/// Bad records that are named; all are counted.
const NAMED: usize = 20;

/// What a reader expects.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadOptions {
    /// Size and colour of the images; none takes those of the first good one.
    pub spec: Option<InputSpec>,
    /// Names of the classes in order; none takes the labels that occur, sorted.
    pub classes: Option<Vec<String>>,
    /// Largest share of bad records, 0 to 1, that is not an error.
    pub max_bad_share: f64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { spec: None, classes: None, max_bad_share: 0.01 }
    }
}

/// A record that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadRecord {
    /// File, row or id.
    pub place: String,
    /// Why it cannot be used.
    pub reason: String,
}

/// How many records were seen and left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Quarantine {
    /// Records seen, good and bad.
    pub total: u64,
    /// Records left out.
    pub bad: u64,
    /// The first 20 of them.
    pub named: Vec<BadRecord>,
}

impl Quarantine {
    /// Adds the counts of another source.
    pub fn merge(&mut self, other: Self) {
        self.total += other.total;
        self.bad += other.bad;
        let room = NAMED.saturating_sub(self.named.len());
        self.named.extend(other.named.into_iter().take(room));
    }
}

/// A label as sources write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Label {
    /// The name of the class.
    Name(String),
    /// The place of the class in the list of classes.
    Index(u64),
}

/// A good record whose label is not yet looked up.
struct Record {
    id: String,
    label: Label,
    attributes: BTreeMap<String, String>,
    image: Pixels,
}

pub(super) struct Collector<'a> {
    place: String,
    options: &'a ReadOptions,
    spec: Option<InputSpec>,
    records: Vec<Record>,
    quarantine: Quarantine,
}

impl<'a> Collector<'a> {
    /// `place` names the source in messages.
    pub(super) fn new(place: String, options: &'a ReadOptions) -> Self {
        Self {
            place,
            options,
            spec: options.spec,
            records: Vec::new(),
            quarantine: Quarantine::default(),
        }
    }

    /// Counts a bad record.
    pub(super) fn reject(&mut self, place: &str, reason: &str) {
        self.quarantine.total += 1;
        self.quarantine.bad += 1;
        if self.quarantine.named.len() < NAMED {
            let (place, reason) = (place.to_owned(), reason.to_owned());
            self.quarantine.named.push(BadRecord { place, reason });
        }
    }

    /// Takes an encoded image.
    pub(super) fn encoded(
        &mut self,
        id: String,
        bytes: &[u8],
        label: Label,
        attributes: BTreeMap<String, String>,
    ) {
        match Pixels::decode(bytes, self.spec) {
            Ok(image) => self.accept(id, image, label, attributes),
            Err(error) => self.reject(&id, &mloop_core::error_chain(&error)),
        }
    }

    /// Takes a decoded image, unless its label is no class.
    pub(super) fn accept(
        &mut self,
        id: String,
        image: Pixels,
        label: Label,
        attributes: BTreeMap<String, String>,
    ) {
        if let Some(problem) = self.problem_of(&label) {
            return self.reject(&id, &problem);
        }
        self.spec.get_or_insert(image.spec());
        self.quarantine.total += 1;
        self.records.push(Record { id, label, attributes, image });
    }

    fn problem_of(&self, label: &Label) -> Option<String> {
        let known = self.options.classes.as_deref();
        let is_class = match (label, known) {
            (Label::Name(name), Some(classes)) => classes.contains(name),
            (Label::Name(_), None) => true,
            // A wild number must not become a list of as many classes.
            (Label::Index(index), classes) => {
                *index < classes.map_or(MAX_CLASSES, <[String]>::len) as u64
            }
        };
        if is_class {
            return None;
        }
        let label = match label {
            Label::Name(name) => format!("`{name}`"),
            Label::Index(index) => index.to_string(),
        };
        let known =
            known.map_or_else(|| format!("0 to {}", MAX_CLASSES - 1), |known| known.join(", "));
        Some(format!("label {label} is none of the classes {known}"))
    }

    /// Looks labels up and holds the bad records against what is allowed.
    pub(super) fn finish(self) -> Result<Loaded, DataError> {
        let Quarantine { total, bad, named } = &self.quarantine;
        if *bad as f64 > *total as f64 * self.options.max_bad_share {
            let first = named.first().map(|bad| format!("{}: {}", bad.place, bad.reason));
            return Err(DataError::TooManyBad {
                place: self.place,
                bad: *bad,
                total: *total,
                allowed: self.options.max_bad_share,
                first: first.unwrap_or_default(),
            });
        }
        let Some(spec) = self.spec.filter(|_| !self.records.is_empty()) else {
            return Err(DataError::Empty { place: self.place });
        };
        let classes = match &self.options.classes {
            Some(classes) => classes.clone(),
            None => occurring(&self.records),
        };
        let places: BTreeMap<&str, usize> =
            classes.iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
        let mut dataset = Dataset::new(spec, classes.clone());
        for Record { id, label, attributes, image } in self.records {
            let label = match label {
                Label::Name(name) => places[name.as_str()],
                Label::Index(index) => usize::try_from(index).expect("checked or counted"),
            };
            dataset.push(Sample { id, label, attributes }, &image);
        }
        for bad in &self.quarantine.named {
            tracing::warn!(source = self.place, place = bad.place, reason = bad.reason, "left out");
        }
        let Quarantine { total, bad, .. } = self.quarantine;
        if bad > 0 {
            tracing::warn!(source = self.place, "{bad} of {total} records were left out");
        }
        Ok(Loaded { dataset, quarantine: self.quarantine })
    }
}

/// Classes from labels: names sorted, or all numbers up to the highest.
fn occurring(records: &[Record]) -> Vec<String> {
    let labels: BTreeSet<&Label> = records.iter().map(|record| &record.label).collect();
    match labels.last() {
        Some(Label::Index(highest)) => (0..=*highest).map(|index| index.to_string()).collect(),
        _ => labels
            .into_iter()
            .filter_map(|label| match label {
                Label::Name(name) => Some(name.clone()),
                Label::Index(_) => None,
            })
            .collect(),
    }
}
