//! What moved, and where: a distance and a change of a rate, split into parts that sum to the whole.

use crate::distance::Method;

/// What each segment adds to a distance of two samples, or to its square where the distance is a root
/// (as [`Method::terms`]); the parts sum to that of all segments together. Counts are by segment, then
/// by bin.
///
/// What a bin adds goes to segments in proportion to the change of their rows' share in it, so a
/// segment that counters the change has a part below 0. `None` when either sample is empty, segments
/// or bins differ in number, and where [`Method::terms`] has none.
#[must_use]
pub fn segments(method: Method, reference: &[Vec<u64>], current: &[Vec<u64>]) -> Option<Vec<f64>> {
    let bins = reference.first()?.len();
    let fits = reference.len() == current.len()
        && reference.iter().chain(current).all(|segment| segment.len() == bins);
    if !fits {
        return None;
    }
    let margin = |counts: &[Vec<u64>]| -> Vec<u64> {
        (0..bins).map(|bin| counts.iter().map(|segment| segment[bin]).sum()).collect()
    };
    let (was, is) = (margin(reference), margin(current));
    let terms = method.terms(&was, &is)?;
    let rows = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
    let (n, m) = (rows(&was), rows(&is));
    let change = |a: u64, b: u64| a as f64 / n - b as f64 / m;
    // What one unit of change of a bin weighs; a bin that did not change adds nothing.
    let weight = |bin: usize| {
        let change = change(was[bin], is[bin]);
        if change == 0.0 { 0.0 } else { terms[bin] / change }
    };
    let weights: Vec<f64> = (0..bins).map(weight).collect();
    let part = |(was, is): (&Vec<u64>, &Vec<u64>)| {
        let counts = was.iter().zip(is).zip(&weights);
        counts.map(|((a, b), weight)| weight * change(*a, *b)).sum()
    };
    Some(reference.iter().zip(current).map(part).collect())
}

/// What a segment adds to the change of a rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Since there are more or fewer rows of it.
    pub mix: f64,
    /// Since its own rate changed.
    pub behaviour: f64,
}

/// Splits the change of a rate, current minus reference, exactly into what the mix of segments and what
/// each segment's own rate did (Kitagawa 1955). Segments are (events, trials).
///
/// A segment without rows on one side changed the mix alone. `None` when either side has no rows, or
/// the segments differ in number.
#[must_use]
pub fn kitagawa(reference: &[(u64, u64)], current: &[(u64, u64)]) -> Option<Vec<Part>> {
    let trials = |side: &[(u64, u64)]| side.iter().map(|(_, trials)| *trials as f64).sum::<f64>();
    let events = |side: &[(u64, u64)]| side.iter().map(|(events, _)| *events as f64).sum::<f64>();
    let (n, m) = (trials(reference), trials(current));
    if reference.len() != current.len() || n <= 0.0 || m <= 0.0 {
        return None;
    }
    let overall = f64::midpoint(events(reference) / n, events(current) / m);
    let rate = |(events, trials): (u64, u64)| (trials > 0).then(|| events as f64 / trials as f64);
    let part = |(was, is): (&(u64, u64), &(u64, u64))| {
        let shares = (was.1 as f64 / n, is.1 as f64 / m);
        let before = rate(*was).or(rate(*is)).unwrap_or(overall);
        let after = rate(*is).unwrap_or(before);
        Part {
            // Rates are taken from the overall one, so that a growing segment counts by how it
            // differs; over all segments the shares' changes cancel.
            mix: (shares.1 - shares.0) * (f64::midpoint(before, after) - overall),
            behaviour: (after - before) * f64::midpoint(shares.0, shares.1),
        }
    };
    Some(reference.iter().zip(current).map(part).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::METHODS;

    #[test]
    fn the_segment_that_moved_is_named() {
        // The second of three segments moved from the first bin to the last; the others are as before.
        let reference = vec![vec![50, 30, 20], vec![40, 30, 30], vec![10, 10, 80]];
        let mut current = reference.clone();
        current[1] = vec![5, 30, 65];
        for method in METHODS {
            let parts = segments(method, &reference, &current).expect("rows");
            let whole: f64 = parts.iter().sum();
            assert!(parts[1] > 0.999 * whole && whole > 0.0, "{method:?}: {parts:?}");
        }
        assert_eq!(segments(Method::Psi, &reference, &current[..2]), None);
        assert_eq!(segments(Method::Hellinger, &[vec![0]], &[vec![1]]), None);
    }

    #[test]
    fn mix_and_behaviour_are_told_apart() {
        // More rows of the segment with the higher rate, and no segment changed.
        let parts = kitagawa(&[(10, 100), (50, 100)], &[(5, 50), (75, 150)]).expect("rows");
        let behaviour: f64 = parts.iter().map(|part| part.behaviour).sum();
        let mix: f64 = parts.iter().map(|part| part.mix).sum();
        assert!(behaviour.abs() < 1e-12 && (mix - 0.1).abs() < 1e-12, "{parts:?}");
        // The same mix, and the first segment changed.
        let parts = kitagawa(&[(10, 100), (50, 100)], &[(30, 100), (50, 100)]).expect("rows");
        assert!((parts[0].behaviour - 0.1).abs() < 1e-12 && parts[0].mix.abs() < 1e-12);
        assert_eq!(kitagawa(&[(0, 0)], &[(1, 2)]), None);
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_whole(
            cells in prop::collection::vec((1u64..200, 1u64..200), 12), gaps in any::<bool>()
        ) {
            let side = |pick: fn(&(u64, u64)) -> u64| -> Vec<Vec<u64>> {
                cells.chunks(4).map(|segment| segment.iter().map(pick).collect()).collect()
            };
            let (mut was, is) = (side(|cell| cell.0), side(|cell| cell.1));
            if gaps {
                was.iter_mut().for_each(|segment| segment[0] = 0);
            }
            let margin = |counts: &[Vec<u64>]| -> Vec<u64> {
                (0..4).map(|bin| counts.iter().map(|segment| segment[bin]).sum()).collect()
            };
            for method in METHODS {
                let whole = method.terms(&margin(&was), &margin(&is));
                let parts = segments(method, &was, &is);
                prop_assert_eq!(whole.is_none(), parts.is_none());
                let (Some(whole), Some(parts)) = (whole, parts) else { continue };
                let (whole, parts) = (whole.iter().sum::<f64>(), parts.iter().sum::<f64>());
                prop_assert!((whole - parts).abs() < 1e-9, "{method:?}: {whole} {parts}");
            }
        }

        #[test]
        fn a_change_of_a_rate_is_split_exactly(
            cells in prop::collection::vec((0u64..50, 0u64..50, 0u64..50, 0u64..50), 1..8)
        ) {
            let was: Vec<_> = cells.iter().map(|(a, b, _, _)| (*a, a + b)).collect();
            let is: Vec<_> = cells.iter().map(|(_, _, a, b)| (*a, a + b)).collect();
            let Some(parts) = kitagawa(&was, &is) else { return Ok(()) };
            let rate = |side: &[(u64, u64)]| {
                let sums = side.iter().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
                sums.0 as f64 / sums.1 as f64
            };
            let sum: f64 = parts.iter().map(|part| part.mix + part.behaviour).sum();
            prop_assert!((sum - (rate(&is) - rate(&was))).abs() < 1e-9, "{parts:?}");
        }
    }
}
