//! What carries a change, in a few words for people.

use mloop_core::counts::{CategoricalCounts, VectorCounts};
use mloop_core::schema::CategoricalSchema;
use mloop_core::{Evidence, Profile};
use mloop_stats::attribution::segments;
use mloop_stats::distance::Method;

use crate::finding::{number, percent};

/// Changes are split up by what each bin adds to the Jensen-Shannon divergence, by whichever method
/// they were found: it is finite for every bin.
const SPLIT: Method = Method::JensenShannon;

/// The coarse bin of a numeric column that moved most; the counts end with those below, above, missing
/// and not finite.
pub(crate) fn bin(
    edges: &[f64],
    borders: &[usize],
    reference: &[u64],
    current: &[u64],
) -> Option<String> {
    let most = largest(&SPLIT.terms(reference, current)?)?;
    let edge = |index: usize| edges.get(index).copied().map_or("?".to_owned(), number);
    let start = |index: usize| index.checked_sub(1).map_or(0, |before| borders[before]);
    let name = match most.checked_sub(borders.len()) {
        None => match [edge(start(most)), edge(borders[most])] {
            [from, to] if from == to || is_single(edges, start(most), borders[most]) => from,
            [from, to] => format!("{from} to {to}"),
        },
        Some(0) => format!("below {}", edge(0)),
        Some(1) => format!("above {}", edges.last().copied().map_or("?".to_owned(), number)),
        Some(2) => "missing".to_owned(),
        Some(_) => "not finite".to_owned(),
    };
    Some(format!("{name}: {}", shares(reference, current, most)))
}

/// Whether a bin was made for a single number: it ends at the next one there is.
fn is_single(edges: &[f64], start: usize, end: usize) -> bool {
    let ends = edges.get(start).zip(edges.get(end));
    ends.is_some_and(|(from, to)| from.next_up().to_bits() == to.to_bits())
}

/// The value of a categorical column that moved most.
pub(crate) fn value(
    schema: &CategoricalSchema,
    reference: &CategoricalCounts,
    current: &CategoricalCounts,
) -> Option<String> {
    let all = |counts: &CategoricalCounts| -> Vec<u64> {
        counts.categories.iter().copied().chain([counts.unseen, counts.missing]).collect()
    };
    let (before, now) = (all(reference), all(current));
    let most = largest(&SPLIT.terms(&before, &now)?)?;
    let shares = shares(&before, &now, most);
    Some(match schema.categories.get(most) {
        Some(value) => format!("`{value}`: {shares}"),
        None if most == schema.categories.len() => {
            let named = current.named.most_frequent();
            let named = named.map_or(String::new(), |(value, _)| format!(" (such as `{value}`)"));
            format!("unseen values{named}: {shares}")
        }
        None => format!("missing: {shares}"),
    })
}

/// The component of a vector that moved most.
pub(crate) fn component(reference: &VectorCounts, current: &VectorCounts) -> Option<String> {
    let both = reference.components.iter().zip(&current.components);
    let plain: Vec<f64> =
        both.map(|(before, now)| SPLIT.plain(before, now).unwrap_or_default()).collect();
    let most = largest(&plain)?;
    Some(format!("component {most} most, by a distance of {}", number(plain[most])))
}

/// The group that carries most of a change of the predictions.
pub(crate) fn groups(evidence: &Evidence) -> Option<String> {
    let schemas = evidence.schema.groups.iter().enumerate();
    let found = schemas.filter(|(_, group)| group.values.len() > 1).filter_map(|(place, group)| {
        let of = |profile: &Profile| -> Option<Vec<Vec<u64>>> {
            let counts = profile.groups.get(place)?;
            let empty = || vec![0; evidence.schema.classes.len()];
            let predicted = |index| {
                counts.values.get(&index).map_or_else(empty, |one| one.confusion.predicted())
            };
            Some((0..group.values.len()).map(predicted).collect())
        };
        let parts = segments(SPLIT, &of(&evidence.reference)?, &of(&evidence.current)?)?;
        let whole: f64 = parts.iter().sum();
        let most = largest(&parts)?;
        let share = parts[most] / whole;
        // A group that is as large as its share of the change explains nothing.
        let rows = of(&evidence.current)?;
        let of_rows =
            rows[most].iter().sum::<u64>() as f64 / rows.iter().flatten().sum::<u64>() as f64;
        (whole > 0.0 && share > of_rows + 0.1)
            .then(|| (share, format!("{}={}", group.name(), group.value(most))))
    });
    let (share, name) = found.max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(format!("{} of it in {name}", percent(share.min(1.0))))
}

/// Several hints in one line.
pub(crate) fn joined(one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) => Some(format!("{one}, {other}")),
        (one, other) => one.or(other),
    }
}

fn largest(terms: &[f64]) -> Option<usize> {
    let found = terms.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    found.filter(|(_, term)| **term > 0.0).map(|(index, _)| index)
}

fn shares(reference: &[u64], current: &[u64], bin: usize) -> String {
    let share = |counts: &[u64]| counts[bin] as f64 / counts.iter().sum::<u64>() as f64;
    format!("{} → {}", percent(share(reference)), percent(share(current)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_of_a_single_number_is_named_by_it() {
        let edges: Vec<f64> = [0.0f64, 3.0].iter().flat_map(|n| [*n, n.next_up()]).collect();
        let (before, now) = ([50, 0, 50, 0, 0, 0, 0], [100, 0, 0, 0, 0, 0, 0]);
        let found = bin(&edges, &[1, 2, 3], &before, &now);
        assert_eq!(found.as_deref(), Some("3: 50 % → 0 %"));
        let found = bin(&[0.0, 1.0, 2.0], &[1, 2], &[50, 50, 0, 0, 0, 0], &[10, 90, 0, 0, 0, 0]);
        assert_eq!(found.as_deref(), Some("0 to 1: 50 % → 10 %"));
    }
}
