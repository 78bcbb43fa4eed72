//! Counts of a categorical column.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::add_all;

/// Values beyond the schema's that are counted by name.
const NAMED: usize = 32;

/// Longest part of such a value that is kept, bytes.
const LONGEST: usize = 64;

/// Counts of one categorical column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CategoricalCounts {
    /// Rows of each category of the schema.
    pub categories: Vec<u64>,
    /// Rows with a value that the schema does not know.
    pub unseen: u64,
    /// Rows without a value.
    pub missing: u64,
    /// Some of the values that the schema does not know, or all while they are few.
    #[serde(default, skip_serializing_if = "NamedCounts::is_empty")]
    pub named: NamedCounts,
}

/// What a categorical column holds in one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category<'a> {
    /// The schema's category of this index.
    Known(usize),
    /// A value that the schema does not know.
    Unseen(&'a str),
    /// No value.
    Missing,
}

impl CategoricalCounts {
    /// No rows yet.
    #[must_use]
    pub fn new(categories: usize) -> Self {
        let categories = vec![0; categories];
        Self { categories, unseen: 0, missing: 0, named: NamedCounts::default() }
    }

    /// Counts one row.
    pub fn observe(&mut self, category: Category<'_>) {
        self.add(category, 1);
    }

    /// Counts so many rows of one value. An index that is out of range is the caller's bug and counts
    /// nowhere.
    pub fn add(&mut self, category: Category<'_>, rows: u64) {
        match category {
            Category::Missing => self.missing += rows,
            Category::Known(index) => {
                if let Some(count) = self.categories.get_mut(index) {
                    *count += rows;
                }
            }
            Category::Unseen(value) => {
                self.unseen += rows;
                self.named.add(value, rows);
            }
        }
    }

    /// Adds the counts of other rows.
    pub fn merge(&mut self, other: &Self) {
        add_all(&mut self.categories, &other.categories);
        self.unseen += other.unseen;
        self.missing += other.missing;
        self.named.merge(&other.named);
    }

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.categories.iter().sum::<u64>() + self.unseen + self.missing
    }

    /// Whether all values are one; there are two or more.
    #[must_use]
    pub fn is_constant(&self) -> bool {
        let rows = self.categories.iter().sum::<u64>() + self.unseen;
        rows > 1 && self.categories.iter().chain(self.named.0.values()).any(|count| *count == rows)
    }
}

/// Rows by value, for at most 32 values: those whose hashes are the smallest. Whether a value is among
/// them does not depend on how often it comes, nor on order or partitioning, so that each count is
/// exact and merges in any tree; of more values than that, these are an even sample.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<(String, u64)>", into = "Vec<(String, u64)>")]
pub struct NamedCounts(BTreeMap<(u64, String), u64>);

impl NamedCounts {
    /// Counts so many rows of a value; of a long one its beginning is kept, with a mark.
    fn add(&mut self, value: &str, rows: u64) {
        let value = shortened(value);
        let hash = hash(&value);
        let is_full = self.0.len() >= NAMED;
        if is_full && self.0.last_key_value().is_some_and(|((last, _), _)| hash > *last) {
            return;
        }
        *self.0.entry((hash, value.into_owned())).or_default() += rows;
        if self.0.len() > NAMED {
            self.0.pop_last();
        }
    }

    /// Adds the counts of other rows.
    fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|((_, value), rows)| self.add(value, *rows));
    }

    /// Whether no value was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The most frequent value with its rows; of equal ones the first by the alphabet.
    #[must_use]
    pub fn most_frequent(&self) -> Option<(&str, u64)> {
        let values = self.0.iter().map(|((_, value), rows)| (value.as_str(), *rows));
        values.max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(a.0)))
    }

    /// Whether these may be only a sample of all values.
    #[must_use]
    pub fn is_sample(&self) -> bool {
        self.0.len() >= NAMED
    }
}

impl From<Vec<(String, u64)>> for NamedCounts {
    fn from(values: Vec<(String, u64)>) -> Self {
        let mut counts = Self::default();
        values.iter().for_each(|(value, rows)| counts.add(value, *rows));
        counts
    }
}

impl From<NamedCounts> for Vec<(String, u64)> {
    fn from(counts: NamedCounts) -> Self {
        counts.0.into_iter().map(|((_, value), rows)| (value, rows)).collect()
    }
}

fn shortened(value: &str) -> std::borrow::Cow<'_, str> {
    // One that was shortened before stays as it is.
    if value.len() <= LONGEST + '…'.len_utf8() {
        return value.into();
    }
    let end = (0..=LONGEST).rev().find(|end| value.is_char_boundary(*end)).unwrap_or_default();
    format!("{}…", &value[..end]).into()
}

/// FNV-1a with a last mix (the finaliser of `MurmurHash3`), since FNV's upper bits are poor for short texts.
fn hash(value: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in value.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(values: &[&str]) -> CategoricalCounts {
        let mut counts = CategoricalCounts::new(1);
        values.iter().for_each(|value| counts.observe(Category::Unseen(value)));
        counts
    }

    #[test]
    fn unseen_values_are_named_and_the_most_frequent_told() {
        let found = counts(&["b", "a", "b", "c"]);
        assert_eq!((found.unseen, found.named.most_frequent()), (4, Some(("b", 2))));
        assert!(!found.named.is_sample());
        assert_eq!(counts(&["b", "a"]).named.most_frequent(), Some(("a", 1)));
        let long = "x".repeat(1000);
        let found = counts(&[&long]).named;
        assert_eq!(found.most_frequent().map(|(value, _)| value.len()), Some(LONGEST + 3));
    }

    #[test]
    fn whatever_the_order_and_the_parts_the_same_values_are_kept() {
        let values: Vec<String> = (0..500).map(|i| format!("v{}", i * 7 % 101)).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let whole = counts(&values);
        let reversed: Vec<&str> = values.iter().rev().copied().collect();
        assert_eq!(whole, counts(&reversed));
        for parts in [2, 7] {
            let mut merged = CategoricalCounts::new(1);
            values.chunks(values.len() / parts).rev().for_each(|part| merged.merge(&counts(part)));
            assert_eq!(whole, merged);
        }
        let text = serde_json::to_string(&whole).expect("JSON");
        assert_eq!(serde_json::from_str::<CategoricalCounts>(&text).expect("read"), whole);
        // Each count is the value's own.
        for ((_, value), rows) in &whole.named.0 {
            let expected = values.iter().filter(|other| *other == value).count() as u64;
            assert_eq!(*rows, expected, "{value}");
        }
        assert!(whole.named.is_sample());
    }

    #[test]
    fn a_column_is_constant_by_what_it_holds() {
        assert!(counts(&["a", "a"]).is_constant());
        assert!(!counts(&["a", "b"]).is_constant());
        let mut known = CategoricalCounts::new(2);
        known.add(Category::Known(1), 3);
        known.observe(Category::Missing);
        assert!(known.is_constant());
        known.observe(Category::Known(0));
        assert!(!known.is_constant());
    }
}
