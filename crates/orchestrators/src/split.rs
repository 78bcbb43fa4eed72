//! Which rows of labelled traffic are used, which of them are trained on, and which are held out.

use chrono::{DateTime, Utc};
use mloop_core::Sha256Digest;
use mloop_platform::LabelledRow;

/// Of rows sorted by time, those that a job is to learn from; the older ones go. `asked` is when the
/// first window began that asked for the job and when it was decided (none: no window asked), and
/// `enough` how many rows its verdict needs.
///
/// Those since the evidence began, if they are enough: they show what the model is to be made good
/// for. Where labels are late they are not; then as long a time as the evidence spans, up to the
/// newest row with a label, and at least `enough` rows.
#[must_use]
pub fn newest(
    mut rows: Vec<LabelledRow>,
    asked: Option<(DateTime<Utc>, DateTime<Utc>)>,
    enough: usize,
) -> Vec<LabelledRow> {
    let (Some((from, decided)), Some(last)) = (asked, rows.last().map(|row| row.time)) else {
        return rows;
    };
    let since = |from| rows.len() - rows.partition_point(|row| row.time < from);
    let mut kept = since(from);
    if kept < enough {
        let earlier = last.checked_sub_signed(decided - from).unwrap_or(DateTime::<Utc>::MIN_UTC);
        kept = since(earlier.min(from)).max(enough).min(rows.len());
    }
    rows.split_off(rows.len() - kept)
}

/// Labelled traffic in two parts, each in its order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Split {
    /// Held out: the gate and the reference see them, training never does.
    pub fresh: Vec<LabelledRow>,
    /// To be trained on.
    pub training: Vec<LabelledRow>,
}

/// Parts rows by the hash of their inference id, so that a row is on the same side in every job,
/// whatever the window: what was held out once is never trained on later.
///
/// A row is held out when the first 8 bytes of the SHA-256 of its id, as a big-endian share of
/// 2^64, lie below `fresh_share` (0 to 1).
#[must_use]
pub fn split(rows: Vec<LabelledRow>, fresh_share: f64) -> Split {
    let (fresh, training) = rows.into_iter().partition(|row| position(&row.id) < fresh_share);
    Split { fresh, training }
}

/// Where an id lies in [0, 1).
fn position(id: &str) -> f64 {
    let digest = Sha256Digest::of(id.as_bytes());
    let (head, _) = digest.as_bytes().split_at(8);
    let number = head.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    // 53 bits, so that the quotient is exact and stays below 1.
    (number >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn rows(ids: impl Iterator<Item = u32>) -> Vec<LabelledRow> {
        let row = |id: u32| LabelledRow {
            id: format!("request-{id}"),
            time: "2026-03-01T00:00:00Z".parse().expect("a moment"),
            content_type: "image/png".to_owned(),
            body: vec![],
            label: "a".to_owned(),
            attributes: std::collections::BTreeMap::new(),
        };
        ids.map(row).collect()
    }

    #[test]
    fn late_labels_make_older_rows_count() {
        let noon: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().expect("a moment");
        let at = |hour: i64| noon + TimeDelta::hours(hour);
        // Ten rows an hour, those of the hours 0 to `end`.
        let labelled = |end: i64| -> Vec<LabelledRow> {
            let time = |number: u32| noon + TimeDelta::minutes(6 * i64::from(number));
            let count = u32::try_from(10 * end).expect("small");
            (0..count)
                .zip(rows(0..count))
                .map(|(n, row)| LabelledRow { time: time(n), ..row })
                .collect()
        };
        // Labels up to which hour, evidence since which, rows that are enough, rows that are used.
        let table = [
            ("nobody asked", 30, None, 50, 300),
            ("in time", 30, Some(20), 50, 100),
            ("in time, just enough", 30, Some(25), 50, 50),
            ("in time, too few", 30, Some(28), 50, 50),
            ("half an hour late, enough", 29, Some(20), 50, 90),
            ("late: as long a time as the evidence spans", 10, Some(24), 50, 61),
            ("late, at least enough", 10, Some(29), 50, 50),
            ("late, and fewer than enough", 3, Some(29), 50, 30),
            ("no label at all", 0, Some(29), 50, 0),
        ];
        for (name, end, from, enough, expected) in table {
            let all = labelled(end);
            let used = newest(all.clone(), from.map(|from| (at(from), at(30))), enough);
            assert_eq!(used.len(), expected, "{name}");
            assert!(all.ends_with(&used), "{name}: the newest");
        }
    }

    #[test]
    fn the_share_is_met_and_no_row_is_on_both_sides_or_lost() {
        for (share, expected) in [(0.0, 0..=0), (0.2, 1880..=2120), (1.0, 10_000..=10_000)] {
            let parts = split(rows(0..10_000), share);
            assert!(expected.contains(&parts.fresh.len()), "{share}: {}", parts.fresh.len());
            assert_eq!(parts.fresh.len() + parts.training.len(), 10_000);
        }
    }

    #[test]
    fn a_row_keeps_its_side_whatever_comes_with_it() {
        let all = split(rows(0..1000), 0.3);
        let some = split(rows(500..1000), 0.3);
        assert!(!some.fresh.is_empty() && some.fresh.iter().all(|row| all.fresh.contains(row)));
        assert!(some.training.iter().all(|row| all.training.contains(row)));
    }

    #[test]
    fn a_larger_share_only_adds() {
        let (small, large) = (split(rows(0..1000), 0.1), split(rows(0..1000), 0.2));
        assert!(small.fresh.len() < large.fresh.len());
        assert!(small.fresh.iter().all(|row| large.fresh.contains(row)));
    }
}
