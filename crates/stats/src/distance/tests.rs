//! Tests of the distances on unordered bins.

use proptest::prelude::*;

use super::*;
use crate::testing::{METHODS, Random};

/// Large samples, so that the correction for chance vanishes in the digits compared.
fn plain(method: Method, p: [u64; 3], q: [u64; 3]) -> f64 {
    let scale = |counts: [u64; 3]| counts.map(|count| count * 1_000_000_000);
    method.estimate(&scale(p), &scale(q), 0.95).expect("defined").value
}

#[test]
fn definitions_hold_on_hand_computed_shares() {
    let (p, q) = ([2, 3, 5], [1, 4, 5]);
    let psi = 0.1 * (2.0f64).ln() + (-0.1) * (0.75f64).ln();
    let h =
        ((0.2f64.sqrt() - 0.1f64.sqrt()).powi(2) + (0.3f64.sqrt() - 0.4f64.sqrt()).powi(2)) / 2.0;
    let term = |p: f64, q: f64| {
        let m = f64::midpoint(p, q);
        (p * (p / m).log2() + q * (q / m).log2()) / 2.0
    };
    let js = (term(0.2, 0.1) + term(0.3, 0.4)).sqrt();
    for (method, expected) in [
        (Method::Psi, psi),
        (Method::JensenShannon, js),
        (Method::Hellinger, h.sqrt()),
        (Method::TotalVariation, 0.1),
        (Method::LInfinity, 0.1),
    ] {
        let found = plain(method, p, q);
        assert!((found - expected).abs() < 1e-6, "{method:?}: {found} is not {expected}");
    }
}

#[test]
fn tests_agree_with_closed_forms() {
    let found = chi_square(&[20, 30, 50], &[35, 25, 40]).expect("defined");
    let expected: f64 = 225.0 / 4.0 / 27.5 * 2.0 + 6.25 / 27.5 * 2.0 + 25.0 / 45.0 * 2.0;
    assert!((found.statistic - expected).abs() < 1e-9, "{found:?} is not {expected}");
    // With two degrees of freedom the survival function is exp(-x/2).
    assert!((found.p_value - (-expected / 2.0).exp()).abs() < 1e-9);
}

#[test]
fn scipy_agrees() {
    // SciPy 1.17.1: a = [120, 340, 260, 180, 100]; b = [90, 150, 140, 80, 40]; p, q their shares;
    // distance.jensenshannon(p, q, 2), stats.chi2_contingency([a, b], correction=False), and with
    // NumPy ((p-q)*np.log(p/q)).sum(), np.sqrt(((p**.5-q**.5)**2).sum()/2).
    let (a, b) = ([120, 340, 260, 180, 100], [90, 150, 140, 80, 40]);
    let many = |counts: [u64; 5]| counts.map(|count| count * 1_000_000_000);
    for (method, expected) in [
        (Method::JensenShannon, 0.082_186_566_905_520_88),
        (Method::Psi, 0.037_635_123_387_136_43),
        (Method::Hellinger, 0.068_506_416_708_066_51),
        (Method::TotalVariation, 0.08),
        (Method::LInfinity, 0.06),
    ] {
        let found = method.estimate(&many(a), &many(b), 0.95).expect("defined").value;
        assert!((found - expected).abs() < 1e-9, "{method:?}: {found} is not {expected}");
    }
    let found = chi_square(&a, &b).expect("defined");
    assert!((found.statistic - 12.901_883_830_455_26).abs() < 1e-9, "{found:?}");
    assert!((found.p_value - 0.011_765_291_746_781_627).abs() < 1e-9, "{found:?}");
}

#[test]
fn an_unseen_bin_is_finite_and_an_empty_sample_is_none() {
    for method in METHODS {
        let found = method.estimate(&[100, 0], &[0, 100], 0.95).expect("defined");
        assert!(found.value.is_finite() && found.value > 0.5, "{method:?}: {found:?}");
        assert_eq!(method.estimate(&[100, 100], &[0, 0], 0.95), None);
        assert_eq!(method.estimate(&[100; 9], &[1, 0, 0, 0, 1, 0, 0, 0, 0], 0.95), None);
        let constant = method.estimate(&[3, 0], &[1, 0], 0.95).expect("one bin");
        assert!(constant.value == 0.0 && constant.interval.upper == 0.0, "{constant:?}");
        assert!(method.resolution(10, 100, 0, 0.95).is_infinite());
    }
}

fn draw(random: &mut Random, bins: usize, rows: u64) -> Vec<u64> {
    random.counts(&vec![1.0; bins], rows)
}

#[test]
fn without_a_change_the_lower_end_rarely_leaves_zero() {
    // 2,000 windows of 500 rows against a reference of 1,000: the one-sided error of a 95 %
    // interval is 2.5 %; χ² is skewed, so somewhat more is allowed, and never twice that.
    let mut random = Random::new(7);
    for method in METHODS {
        let mut above = 0;
        for _ in 0..2000 {
            let (reference, current) = (draw(&mut random, 12, 1000), draw(&mut random, 12, 500));
            let found = method.estimate(&reference, &current, 0.95).expect("defined");
            above += u32::from(found.interval.lower > 0.0);
        }
        assert!(above < 100, "{method:?}: {above} of 2000");
    }
}

#[test]
fn two_samples_of_one_distribution_stay_below_the_resolution() {
    let mut random = Random::new(3);
    for method in METHODS {
        let limit = method.resolution(12, 500, 1000, 0.95);
        let beyond = (0..2000)
            .filter(|_| {
                let (a, b) = (draw(&mut random, 12, 1000), draw(&mut random, 12, 500));
                method.estimate(&a, &b, 0.95).expect("defined").value > limit
            })
            .count();
        assert!(beyond < 140, "{method:?}: {beyond} of 2000 beyond {limit}");
    }
}

#[test]
fn bins_that_change_alike_count_once() {
    let found = plain(Method::LInfinity, [2, 2, 0], [1, 3, 0]);
    assert!((found - 0.25).abs() < 1e-6, "{found}");
}

#[test]
fn a_real_change_is_not_corrected_away() {
    // One bin of twelve takes 0.15 more of the rows.
    let mut current = [50u64; 12];
    current[0] = 152;
    let found = Method::LInfinity.estimate(&[1000; 12], &current, 0.95).expect("defined");
    let plain = 152.0 / 702.0 - 1.0 / 12.0;
    assert!((found.value - plain).abs() < 0.01 && found.interval.contains(plain), "{found:?}");
}

#[test]
fn resolution_shrinks_with_rows() {
    for method in METHODS {
        let few = method.resolution(12, 100, 1000, 0.95);
        let many = method.resolution(12, 10_000, 1000, 0.95);
        assert!(many < few && many > 0.0, "{method:?}: {many} {few}");
    }
}

proptest! {
    #[test]
    fn distances_are_bounded_symmetric_and_zero_on_equal_samples(
        counts in prop::collection::vec((0u64..400, 0u64..400), 2..20)
    ) {
        let (p, q): (Vec<u64>, Vec<u64>) = counts.into_iter().unzip();
        for method in METHODS {
            let Some(found) = method.estimate(&p, &q, 0.95) else { continue };
            let Interval { lower, upper } = found.interval;
            prop_assert!(0.0 <= lower && lower <= found.value && found.value <= upper);
            prop_assert!(upper <= method.upper_bound() && upper.is_finite());
            let mirrored = method.estimate(&q, &p, 0.95).expect("both are filled");
            prop_assert!((found.value - mirrored.value).abs() < 1e-9);
            let Some(same) = method.estimate(&p, &p, 0.95) else { continue };
            prop_assert!(same.value == 0.0 && same.interval.lower == 0.0);
        }
    }

    #[test]
    fn the_order_of_bins_does_not_matter_to_unordered_distances(
        counts in prop::collection::vec((1u64..400, 1u64..400), 2..20)
    ) {
        let (p, q): (Vec<u64>, Vec<u64>) = counts.iter().copied().unzip();
        let (r, s): (Vec<u64>, Vec<u64>) = counts.iter().rev().copied().unzip();
        for method in METHODS {
            let one = method.estimate(&p, &q, 0.95).expect("filled");
            let other = method.estimate(&r, &s, 0.95).expect("filled");
            prop_assert!((one.value - other.value).abs() < 1e-9);
        }
        let (one, other) = (chi_square(&p, &q), chi_square(&r, &s));
        prop_assert!((one.expect("filled").statistic - other.expect("filled").statistic).abs() < 1e-6);
    }
}

/// Shares of many kinds: even, few, skewed, with a long tail of rare ones.
fn kinds() -> Vec<(&'static str, Vec<f64>)> {
    let zipf = |bins: i32| (1..=bins).map(|rank| 1.0 / f64::from(rank)).collect();
    let mut spiked = vec![0.001; 12];
    spiked[0] = 0.989;
    vec![
        ("two", vec![0.5, 0.5]),
        ("ten even", vec![0.1; 10]),
        ("spiked", spiked),
        ("zipf 30", zipf(30)),
        ("zipf 300", zipf(300)),
    ]
}

#[test]
fn the_lower_end_leaves_zero_as_seldom_as_it_says() {
    // 2,000 windows each: 50 above 0 are expected at 95 %, 10 at 99 %, and a χ² law is met where a bin
    // has five rows in the mean. Wider bounds than for chance alone tell how well.
    for (name, shares) in kinds() {
        for (n, m) in [(5000, 50), (1000, 400)] {
            let (mut random, mut above) = (Random::new(4), [[0u32; 2]; 5]);
            for _ in 0..2000 {
                let (a, b) = (random.counts(&shares, n), random.counts(&shares, m));
                for (method, above) in METHODS.iter().zip(&mut above) {
                    for (confidence, above) in [0.95, 0.99].iter().zip(above) {
                        let found = method.estimate(&a, &b, *confidence).expect("defined");
                        *above += u32::from(found.interval.lower > 0.0);
                    }
                }
            }
            let holds = above.iter().all(|[at_95, at_99]| *at_95 <= 80 && *at_99 <= 30);
            assert!(holds, "{name} {n} {m}: {above:?} of 2000");
        }
    }
}

#[test]
fn a_change_is_covered_also_by_few_rows() {
    // Even bins, and a window that a fifth of the first bin's rows left for the last.
    let (was, mut is) = (vec![0.1; 10], vec![0.1; 10]);
    (is[0], is[9]) = (0.02, 0.18);
    let many = |shares: &[f64]| -> Vec<u64> {
        shares.iter().map(|share| (share * 1e12).round() as u64).collect()
    };
    for (n, m) in [(5000, 100), (1000, 1000), (20_000, 5000)] {
        let (mut random, mut covered) = (Random::new(14), [0u32; 5]);
        for _ in 0..1000 {
            let (a, b) = (random.counts(&was, n), random.counts(&is, m));
            for (method, covered) in METHODS.iter().zip(&mut covered) {
                let truth = method.plain(&many(&was), &many(&is)).expect("defined");
                let found = method.estimate(&a, &b, 0.95).expect("defined");
                *covered += u32::from(found.interval.contains(truth));
            }
        }
        assert!(covered.iter().all(|covered| *covered >= 915), "{n} {m}: {covered:?} of 1000");
    }
}

#[test]
fn rare_categories_of_a_small_window_are_no_drift() {
    // Three hundred categories of which fifty rows can show few: what is not there has not gone.
    let (_, shares) = kinds().pop().expect("the long tail");
    let (mut random, mut shown) = (Random::new(2), 0);
    for _ in 0..200 {
        let (a, b) = (random.counts(&shares, 5000), random.counts(&shares, 50));
        let found = Method::JensenShannon.estimate(&a, &b, 0.95).expect("defined");
        let plain = Method::JensenShannon.plain(&a, &b).expect("defined");
        assert!(plain > 0.4, "the plain distance of so few rows is {plain}");
        shown += u32::from(found.value > 0.2);
    }
    assert!(shown < 10, "{shown} of 200");
}

#[test]
fn plain_distances_know_gaps() {
    for method in METHODS {
        let found = method.plain(&[10, 0, 5], &[5, 0, 0]);
        assert_eq!(found.is_none(), method == Method::Psi, "{method:?}: {found:?}");
        assert_eq!(method.plain(&[1, 0], &[0, 0]), None);
        assert_eq!(method.plain(&[1, 0], &[1]), None);
        assert!(method == Method::Psi || method.plain(&[9, 0], &[0, 4]) == Some(1.0));
    }
}

proptest! {
    #[test]
    fn merging_bins_never_adds(counts in prop::collection::vec((1u64..400, 1u64..400), 4..20)) {
        let (p, q): (Vec<u64>, Vec<u64>) = counts.into_iter().unzip();
        let merged = |counts: &[u64]| -> Vec<u64> {
            counts.chunks(2).map(|pair| pair.iter().sum()).collect()
        };
        for method in METHODS {
            let terms = method.terms(&p, &q).expect("filled");
            prop_assert!(terms.iter().all(|term| *term >= 0.0));
            let fine = method.plain(&p, &q).expect("filled");
            prop_assert!((0.0..=method.upper_bound()).contains(&fine));
            // A bin of two that move together moves by more, and L∞ is about bins.
            if method != Method::LInfinity {
                let coarse = method.plain(&merged(&p), &merged(&q)).expect("filled");
                prop_assert!(coarse <= fine + 1e-12);
            }
        }
    }
}

#[test]
fn cramers_v_covers_and_takes_chance_off() {
    // Two thirds of the rows in the first bin, then a half: χ² per row of the pooled table.
    let shares = [[0.667, 0.2, 0.133], [0.5, 0.3, 0.2]];
    let many = |shares: &[f64], rows: f64| -> Vec<u64> {
        shares.iter().map(|share| (share * rows * 1e6).round() as u64).collect()
    };
    let (n, m) = (400, 200);
    let truth = chi_square(&many(&shares[0], n as f64), &many(&shares[1], m as f64));
    let truth = (truth.expect("rows").statistic / 600e6).sqrt();
    let (mut random, mut covered, mut above) = (Random::new(21), 0, 0);
    for _ in 0..1000 {
        let was = random.counts(&shares[0], n);
        let found = cramers_v(&was, &random.counts(&shares[1], m), 0.95).expect("rows").estimate;
        covered += u32::from(found.interval.contains(truth));
        let found = cramers_v(&was, &random.counts(&shares[0], m), 0.95).expect("rows").estimate;
        above += u32::from(found.interval.lower > 0.0);
    }
    assert!(covered >= 930 && (8..=45).contains(&above), "{covered} and {above} of 1000");
    assert_eq!(cramers_v(&[5, 0], &[3, 0], 0.95), None);
    let apart = cramers_v(&[500, 0], &[0, 500], 0.95).expect("rows").estimate;
    assert!(apart.value > 0.99 && apart.interval.upper <= 1.0, "{apart:?}");
}

#[test]
fn alarms_are_as_rare_as_they_should_be_far_out() {
    // A month of hourly windows of many columns asks for errors of one in thousands: here one in
    // 4,000, of 60,000 windows, so 15 are expected.
    let shares = [0.2, 0.2, 0.15, 0.15, 0.1, 0.1, 0.05, 0.03, 0.015, 0.005];
    let (mut random, mut above) = (Random::new(31), [0u32; 3]);
    for _ in 0..60_000 {
        let (a, b) = (random.counts(&shares, 600), random.counts(&shares, 300));
        for (method, above) in METHODS.iter().zip(&mut above) {
            let found = method.estimate(&a, &b, 0.9995).expect("defined");
            *above += u32::from(found.interval.lower > 0.0);
        }
    }
    assert!(above.iter().all(|above| *above <= 30), "{above:?} of 60000");
}
