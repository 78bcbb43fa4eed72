//! Two windows of one column side by side, coarse enough to be seen.

use mloop_core::counts::{CategoricalCounts, NumericCounts, VectorCounts};
use mloop_core::profile::ColumnCounts;
use mloop_core::schema::{CategoricalSchema, ColumnKind, NumericSchema, VectorSchema};
use mloop_stats::distance::Method;

use crate::words::number;

/// Bars over the range of a numeric column.
const BARS: usize = 24;

/// Distinct numbers up to which each has a bar of its own.
const OWN_BARS: usize = 12;

/// Categories that are shown; the rest is one bar.
const CATEGORIES: usize = 8;

/// Share of the reference beyond each end of the axis where its tails are long.
const TAIL: f64 = 0.01;

/// Shares of the rows of both windows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Histogram {
    /// What exactly is shown, where it is a part of the column.
    pub(crate) part: Option<String>,
    /// Ends of the axis, of a numeric one.
    pub(crate) range: Option<[f64; 2]>,
    /// The bars along the axis, or the categories, most frequent first.
    pub(crate) bars: Vec<Bar>,
    /// Bars for what has no place on the axis; those that are empty are left out.
    pub(crate) beside: Vec<Bar>,
}

/// What share of either window lies in one bar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) reference: f64,
    pub(crate) current: f64,
}

impl Histogram {
    /// None when there are no rows on either side, or the counts are not of the column.
    pub(crate) fn of(
        kind: &ColumnKind,
        reference: &ColumnCounts,
        current: &ColumnCounts,
    ) -> Option<Self> {
        let found = match (kind, reference, current) {
            (
                ColumnKind::Numeric(schema),
                ColumnCounts::Numeric(reference),
                ColumnCounts::Numeric(current),
            ) => numeric(schema, reference, current),
            (
                ColumnKind::Categorical(schema),
                ColumnCounts::Categorical(reference),
                ColumnCounts::Categorical(current),
            ) => categorical(schema, reference, current),
            (
                ColumnKind::Vector(schema),
                ColumnCounts::Vector(reference),
                ColumnCounts::Vector(current),
            ) => return vector(schema, reference, current),
            _ => return None,
        };
        let sides = Sides { reference: reference.rows(), current: current.rows() };
        (sides.reference + sides.current > 0).then(|| found.scaled(sides))
    }

    /// All bars.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Bar> {
        self.bars.iter().chain(&self.beside)
    }

    /// The largest share of any bar.
    pub(crate) fn highest(&self) -> f64 {
        self.all().map(|bar| bar.reference.max(bar.current)).fold(0.0, f64::max)
    }

    /// Turns rows into shares, and drops what is empty beside the axis.
    fn scaled(mut self, sides: Sides) -> Self {
        let share = |rows: f64, all: u64| if all == 0 { 0.0 } else { rows / all as f64 };
        for bar in self.bars.iter_mut().chain(&mut self.beside) {
            bar.reference = share(bar.reference, sides.reference);
            bar.current = share(bar.current, sides.current);
        }
        self.beside.retain(|bar| bar.reference > 0.0 || bar.current > 0.0);
        self
    }
}

#[derive(Clone, Copy)]
struct Sides {
    reference: u64,
    current: u64,
}

fn bar(name: &str, reference: u64, current: u64) -> Bar {
    Bar { name: name.to_owned(), reference: reference as f64, current: current as f64 }
}

fn numeric(
    schema: &NumericSchema,
    reference: &NumericCounts,
    current: &NumericCounts,
) -> Histogram {
    let beside = [
        bar("missing", reference.missing, current.missing),
        bar("not finite", reference.non_finite, current.non_finite),
    ];
    if let Some(bars) = single_numbers(&schema.edges, &reference.bins, &current.bins) {
        let below = bar("below", reference.below, current.below);
        let above = bar("above", reference.above, current.above);
        let beside = [below, above].into_iter().chain(beside).collect();
        return Histogram { part: None, range: None, bars, beside };
    }
    let [low, high] = shown(&schema.edges, reference);
    let width = (high - low) / BARS as f64;
    let mut bars: Vec<Bar> = (0..BARS)
        .map(|index| {
            let from = low + index as f64 * width;
            bar(&format!("{} to {}", number(from), number(from + width)), 0, 0)
        })
        .collect();
    let mut below = bar(&format!("below {}", number(low)), reference.below, current.below);
    let mut above = bar(&format!("above {}", number(high)), reference.above, current.above);
    for (index, edges) in schema.edges.windows(2).enumerate() {
        let rows = |counts: &NumericCounts| counts.bins.get(index).map_or(0.0, |n| *n as f64);
        let (before, now) = (rows(reference), rows(current));
        for (place, share) in spread([edges[0], edges[1]], low, width) {
            let into = match place {
                Place::Below => &mut below,
                Place::Bar(index) => &mut bars[index],
                Place::Above => &mut above,
            };
            into.reference += before * share;
            into.current += now * share;
        }
    }
    let beside = [below, above].into_iter().chain(beside).collect();
    Histogram { part: None, range: Some([low, high]), bars, beside }
}

/// A bar for each number, where bins were made for single numbers and these are few; one more for what
/// lies between them.
fn single_numbers(edges: &[f64], reference: &[u64], current: &[u64]) -> Option<Vec<Bar>> {
    let is_single = |index: usize| edges.get(index + 1) == Some(&edges[index].next_up());
    let singles: Vec<usize> = (0..edges.len()).filter(|index| is_single(*index)).collect();
    let bins = edges.len().checked_sub(1)?;
    if singles.len() > OWN_BARS || singles.len() * 2 < bins || singles.len() < 2 {
        return None;
    }
    let rows = |counts: &[u64], index: usize| counts.get(index).copied().unwrap_or(0);
    let mut bars: Vec<Bar> = singles
        .iter()
        .map(|index| bar(&number(edges[*index]), rows(reference, *index), rows(current, *index)))
        .collect();
    let between = |counts: &[u64]| -> u64 {
        (0..bins).filter(|index| !is_single(*index)).map(|index| rows(counts, index)).sum()
    };
    let between = bar("between", between(reference), between(current));
    bars.extend((between.reference + between.current > 0.0).then_some(between));
    Some(bars)
}

/// The ends of the axis: all of the range, unless a hundredth of the rows at an end takes up more than
/// half of it.
fn shown(edges: &[f64], reference: &NumericCounts) -> [f64; 2] {
    let (Some(&first), Some(&last)) = (edges.first(), edges.last()) else { return [0.0, 1.0] };
    let rows: u64 = reference.bins.iter().sum();
    let end_of = |share: f64| {
        let mut below = 0;
        let wanted = rows as f64 * share;
        let found = reference.bins.iter().position(|count| {
            below += count;
            below as f64 >= wanted
        });
        found.unwrap_or(0)
    };
    let low = edges.get(end_of(TAIL)).copied().unwrap_or(first);
    let high = edges.get(end_of(1.0 - TAIL) + 1).copied().unwrap_or(last);
    let has_long_tails = rows > 0 && low < high && last - first > 2.0 * (high - low);
    let [low, high] = if has_long_tails { [low, high] } else { [first, last] };
    if (high - low).is_finite() && high > low { [low, high] } else { [first, first + 1.0] }
}

enum Place {
    Below,
    Bar(usize),
    Above,
}

/// Which shares of a bin lie in which bars, its rows being even within it.
fn spread([from, to]: [f64; 2], low: f64, width: f64) -> Vec<(Place, f64)> {
    let place = |value: f64| ((value - low) / width).floor();
    let (first, last) = (place(from), place(to));
    let size = to - from;
    if first >= last || !size.is_finite() || size <= width * 1e-9 {
        return vec![(named(place(f64::midpoint(from, to))), 1.0)];
    }
    let (begin, end) = (first.max(-1.0) as i64, last.min(BARS as f64) as i64);
    let cut = |index: i64| {
        let start = if index < 0 { from } else { (low + index as f64 * width).max(from) };
        let is_open = index >= BARS as i64;
        let stop = if is_open { to } else { (low + (index + 1) as f64 * width).min(to) };
        (named(index as f64), ((stop - start) / size).max(0.0))
    };
    (begin..=end).map(cut).filter(|(_, share)| *share > 0.0).collect()
}

fn named(place: f64) -> Place {
    if place < 0.0 {
        Place::Below
    } else if place < BARS as f64 {
        Place::Bar(place as usize)
    } else {
        Place::Above
    }
}

fn categorical(
    schema: &CategoricalSchema,
    reference: &CategoricalCounts,
    current: &CategoricalCounts,
) -> Histogram {
    let both = reference.categories.iter().zip(&current.categories);
    let mut bars: Vec<Bar> =
        schema.categories.iter().zip(both).map(|(name, (a, b))| bar(name, *a, *b)).collect();
    let sides = [reference.rows().max(1) as f64, current.rows().max(1) as f64];
    let weight = |bar: &Bar| (bar.reference / sides[0]).max(bar.current / sides[1]);
    bars.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    if bars.len() > CATEGORIES {
        let rest = bars.split_off(CATEGORIES - 1);
        let sum = |of: fn(&Bar) -> f64| rest.iter().map(of).sum();
        bars.push(Bar {
            name: format!("{} others", rest.len()),
            reference: sum(|bar| bar.reference),
            current: sum(|bar| bar.current),
        });
    }
    let unseen = match current.named.most_frequent() {
        Some((value, _)) => format!("unseen, such as {value}"),
        None => "unseen".to_owned(),
    };
    let beside = vec![
        bar(&unseen, reference.unseen, current.unseen),
        bar("missing", reference.missing, current.missing),
    ];
    Histogram { part: None, range: None, bars, beside }
}

/// The component that moved most.
fn vector(
    schema: &VectorSchema,
    reference: &VectorCounts,
    current: &VectorCounts,
) -> Option<Histogram> {
    let moved = |(before, now): (&Vec<u64>, &Vec<u64>)| {
        Method::JensenShannon.plain(before, now).unwrap_or_default()
    };
    let both = reference.components.iter().zip(&current.components);
    let most = both.map(moved).enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?.0;
    let (before, now) = (&reference.components[most], &current.components[most]);
    let edges = schema.components.get(most)?;
    let edge = |index: usize| edges.get(index).copied().map_or("–".to_owned(), number);
    let name = |index: usize| match index {
        0 => format!("below {}", edge(0)),
        _ if index == edges.len() => format!("above {}", edge(index - 1)),
        _ => format!("{} to {}", edge(index - 1), edge(index)),
    };
    let both = before.iter().zip(now).enumerate();
    let bars = both.map(|(index, (a, b))| bar(&name(index), *a, *b)).collect();
    let beside = vec![
        bar("missing", reference.missing, current.missing),
        bar("unfit", reference.unfit, current.unfit),
    ];
    let part = Some(format!("component {most}, which moved most"));
    let rows = |counts: &VectorCounts| counts.rows + counts.missing + counts.unfit;
    let sides = Sides { reference: rows(reference), current: rows(current) };
    let found = Histogram { part, range: None, bars, beside };
    (sides.reference + sides.current > 0).then(|| found.scaled(sides))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(edges: Vec<f64>, reference: &[u64], current: &[u64], above: u64) -> Histogram {
        let schema = NumericSchema { edges, step: 0.5 };
        let counts =
            |bins: &[u64]| NumericCounts { bins: bins.to_vec(), ..NumericCounts::new(&schema) };
        let current = NumericCounts { above, ..counts(current) };
        let (reference, current) =
            (ColumnCounts::Numeric(counts(reference)), ColumnCounts::Numeric(current));
        Histogram::of(&ColumnKind::Numeric(schema), &reference, &current).expect("rows")
    }

    fn sums(histogram: &Histogram) -> [f64; 2] {
        let sum = |of: fn(&Bar) -> f64| histogram.all().map(of).sum();
        [sum(|bar| bar.reference), sum(|bar| bar.current)]
    }

    #[test]
    fn every_row_of_a_numeric_column_is_in_one_bar() {
        let found = numbers(vec![0.0, 5.0, 10.0, 30.0], &[10, 20, 10], &[0, 0, 40], 10);
        assert_eq!(found.range, Some([0.0, 30.0]));
        for sum in sums(&found) {
            assert!((sum - 1.0).abs() < 1e-9, "{found:?}");
        }
        let above = found.beside.iter().find(|bar| bar.name == "above 30").expect("above");
        assert!((above.current - 0.2).abs() < 1e-9 && above.reference == 0.0, "{above:?}");
        let first = &found.bars[0];
        assert!((first.reference - 0.25 * 1.25 / 5.0).abs() < 1e-9, "even within a bin: {first:?}");
    }

    #[test]
    fn long_tails_do_not_squeeze_the_rest() {
        let edges = vec![0.0, 1.0, 2.0, 3.0, 1e6];
        let found = numbers(edges, &[400, 400, 195, 5], &[400, 400, 195, 5], 0);
        assert_eq!(found.range, Some([0.0, 3.0]));
        let tail = found.beside.iter().find(|bar| bar.name == "above 3").expect("a tail");
        assert!((tail.reference - 0.005).abs() < 1e-9, "{tail:?}");
    }

    #[test]
    fn few_numbers_have_a_bar_each() {
        let edges: Vec<f64> = [0.0f64, 1.0, 2.0].iter().flat_map(|n| [*n, n.next_up()]).collect();
        let found = numbers(edges, &[5, 0, 5, 0, 10], &[0, 10, 0, 0, 10], 0);
        let names: Vec<&str> = found.bars.iter().map(|bar| bar.name.as_str()).collect();
        assert_eq!(names, ["0", "1", "2", "between"]);
        assert_eq!((found.bars[2].reference, found.bars[3].current), (0.5, 0.5));
    }

    #[test]
    fn extreme_edges_make_no_nonsense() {
        for edges in [vec![f64::MIN, f64::MAX], vec![-1e300, 1e300], vec![0.0, 1e-300]] {
            let found = numbers(edges, &[7], &[3], 0);
            assert!(found.all().all(|bar| bar.reference.is_finite()), "{found:?}");
            assert!(sums(&found).iter().all(|sum| (sum - 1.0).abs() < 1e-6), "{found:?}");
        }
    }

    #[test]
    fn of_many_categories_the_largest_are_shown_and_none_is_lost() {
        let categories: Vec<String> = (0..20).map(|index| format!("c{index}")).collect();
        let schema = CategoricalSchema { categories };
        let mut reference = CategoricalCounts::new(20);
        reference.categories = (1..=20).collect();
        let mut current = reference.clone();
        current.add(mloop_core::counts::Category::Unseen("new"), 100);
        let kind = ColumnKind::Categorical(schema);
        let (reference, current) =
            (ColumnCounts::Categorical(reference), ColumnCounts::Categorical(current));
        let found = Histogram::of(&kind, &reference, &current).expect("rows");
        let names: Vec<&str> = found.all().map(|bar| bar.name.as_str()).collect();
        assert_eq!((names.len(), names[0]), (CATEGORIES + 1, "c19"));
        assert_eq!(names[CATEGORIES - 1..], ["13 others", "unseen, such as new"]);
        for sum in sums(&found) {
            assert!((sum - 1.0).abs() < 1e-9, "{found:?}");
        }
    }

    #[test]
    fn of_vectors_the_component_that_moved_most_is_shown() {
        let components = vec![vec![0.0], vec![0.0], vec![0.0]];
        let schema = VectorSchema { dimension: 3, pairs: 1, bandwidth: 1.0, seed: 1, components };
        let counts = |second: [u64; 2]| {
            let components = vec![vec![5, 5], second.to_vec(), vec![5, 5]];
            ColumnCounts::Vector(VectorCounts {
                rows: 10,
                components,
                ..VectorCounts::new(&schema)
            })
        };
        let (reference, current) = (counts([5, 5]), counts([1, 9]));
        let kind = ColumnKind::Vector(schema.clone());
        let found = Histogram::of(&kind, &reference, &current).expect("rows");
        assert!(found.part.is_some_and(|part| part.starts_with("component 1,")));
        assert!((found.bars[1].current - 0.9).abs() < 1e-9);
        assert_eq!(found.bars[0].name, "below 0");
    }
}
