//! Image statistics: the one function that computes them, used by the server and by training, so
//! that traffic and reference can never disagree about what a feature means.

use std::collections::BTreeMap;

use crate::pixels::{InputSpec, Pixels};

/// A feature: its name, its range and what it measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Feature {
    /// Key in the answer of the server and column of a profile.
    pub name: &'static str,
    /// Smallest possible value.
    pub low: f64,
    /// Largest possible value.
    pub high: f64,
    /// What it measures, with its unit.
    pub meaning: &'static str,
}

/// All features, sorted by name.
///
/// Every one is taken of the luma of the image: the grey value itself, or
/// `round(0.299 R + 0.587 G + 0.114 B)` (ITU-R BT.601), a whole number from 0 to 255.
pub const FEATURES: [Feature; 6] = [
    Feature {
        name: "bright_share",
        low: 0.0,
        high: 1.0,
        meaning: "share of pixels with luma of 224 and above",
    },
    Feature { name: "brightness", low: 0.0, high: 1.0, meaning: "mean luma over 255" },
    Feature {
        name: "contrast",
        low: 0.0,
        high: 0.5,
        meaning: "standard deviation of luma over 255",
    },
    Feature {
        name: "dark_share",
        low: 0.0,
        high: 1.0,
        meaning: "share of pixels with luma below 32",
    },
    Feature {
        name: "entropy",
        low: 0.0,
        high: 8.0,
        meaning: "Shannon entropy of the luma histogram, bits a pixel",
    },
    Feature {
        name: "sharpness",
        low: 0.0,
        high: 16.0,
        meaning: "variance of the 4-neighbour Laplacian of luma over 255, over pixels that have 4 neighbours",
    },
];

const DARK_BELOW: usize = 32;
const BRIGHT_FROM: usize = 224;

/// Computes every one of [`FEATURES`].
///
/// Sums are whole numbers, rounded once at the end, so that the values do not depend on any order
/// of evaluation.
#[must_use]
pub fn image_features(image: &Pixels) -> BTreeMap<String, f64> {
    features_of(image.spec(), image.data())
}

pub(crate) fn features_of(spec: InputSpec, data: &[u8]) -> BTreeMap<String, f64> {
    let luma = luma(spec, data);
    let mut histogram = [0_u64; 256];
    for value in &luma {
        histogram[usize::from(*value)] += 1;
    }
    let pixels = luma.len() as u64;
    let share = |bins: &[u64]| ratio(bins.iter().sum(), pixels);
    let sum = weighted(&histogram, |value| value);
    let square_sum = weighted(&histogram, |value| value * value);
    // n * sum(x^2) - sum(x)^2 is exact in whole numbers and never negative.
    let spread = u128::from(pixels) * u128::from(square_sum) - u128::from(sum) * u128::from(sum);
    BTreeMap::from(
        [
            ("bright_share", share(&histogram[BRIGHT_FROM..])),
            ("brightness", ratio(sum, pixels * 255)),
            ("contrast", (spread as f64).sqrt() / (pixels as f64 * 255.0)),
            ("dark_share", share(&histogram[..DARK_BELOW])),
            ("entropy", entropy(&histogram, pixels)),
            ("sharpness", laplacian_variance(&luma, spec)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    )
}

fn luma(spec: InputSpec, data: &[u8]) -> Vec<u8> {
    if spec.channels == 1 {
        return data.to_vec();
    }
    let of_pixel = |rgb: &[u8]| {
        let [red, green, blue] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
        u8::try_from((299 * red + 587 * green + 114 * blue + 500) / 1000).unwrap_or(u8::MAX)
    };
    data.chunks_exact(3).map(of_pixel).collect()
}

fn weighted(histogram: &[u64; 256], weight: impl Fn(u64) -> u64) -> u64 {
    (0..).zip(histogram).map(|(value, count)| weight(value) * count).sum()
}

fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

fn entropy(histogram: &[u64; 256], pixels: u64) -> f64 {
    let bits = |count: &u64| {
        let share = ratio(*count, pixels);
        share * -share.log2()
    };
    // A full bin gives -0.0: the absolute value is the same number without its sign.
    histogram.iter().filter(|count| **count > 0).map(bits).sum::<f64>().abs()
}

fn laplacian_variance(luma: &[u8], spec: InputSpec) -> f64 {
    let (height, width) = (spec.height, spec.width);
    if height < 3 || width < 3 {
        return 0.0;
    }
    let (mut sum, mut square_sum) = (0_i64, 0_i64);
    for row in 1..height - 1 {
        for column in 1..width - 1 {
            let at = row * width + column;
            let around = [at - width, at - 1, at + 1, at + width];
            let neighbours: i64 = around.iter().map(|place| i64::from(luma[*place])).sum();
            let value = neighbours - 4 * i64::from(luma[at]);
            sum += value;
            square_sum += value * value;
        }
    }
    let count = ((height - 2) * (width - 2)) as i64;
    let spread = i128::from(count) * i128::from(square_sum) - i128::from(sum) * i128::from(sum);
    let scale = count as f64 * 255.0;
    spread as f64 / (scale * scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(height: usize, width: usize, data: &[u8]) -> BTreeMap<String, f64> {
        let spec = InputSpec { channels: data.len() / (height * width), height, width };
        image_features(&Pixels::new(spec, data.to_vec()).expect("fits"))
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-12
    }

    #[test]
    fn values_match_a_computation_by_hand() {
        // Luma 0, 0, 0 / 0, 255, 0 / 0, 0, 51: one bright pixel in the middle.
        let found = features(3, 3, &[0, 0, 0, 0, 255, 0, 0, 0, 51]);
        assert!(close(found["brightness"], 306.0 / (9.0 * 255.0)));
        // Over 255: values 0 (7 times), 1 and 0.2; mean 1.2/9, mean square 1.04/9.
        assert!(close(found["contrast"], (1.04 / 9.0 - (1.2_f64 / 9.0).powi(2)).sqrt()));
        assert!(close(found["dark_share"], 7.0 / 9.0));
        assert!(close(found["bright_share"], 1.0 / 9.0));
        // Shares 7/9, 1/9, 1/9.
        let entropy = 7.0 / 9.0 * (9.0_f64 / 7.0).log2() + 2.0 / 9.0 * 9.0_f64.log2();
        assert!(close(found["entropy"], entropy));
        // One inner pixel only, so the Laplacian does not vary.
        assert!(close(found["sharpness"], 0.0));
    }

    #[test]
    fn sharpness_is_the_variance_of_the_laplacian() {
        // Inner pixels of 3 x 4: Laplacians 0+0+255+0 - 0 = 255 and 0+0+0+0 - 4*255 = -1020.
        let found = features(3, 4, &[0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0]);
        // Over 255: 1 and -4, mean -1.5, variance 6.25.
        assert!(close(found["sharpness"], 6.25), "{}", found["sharpness"]);
    }

    #[test]
    fn colours_count_by_their_luma() {
        let found = features(1, 2, &[255, 0, 0, 0, 0, 255]);
        // 0.299 * 255 = 76.2 and 0.114 * 255 = 29.1, rounded.
        assert!(close(found["brightness"], (76.0 + 29.0) / 510.0));
        assert!(close(found["dark_share"], 0.5));
    }

    #[test]
    fn names_and_ranges_are_the_documented_ones() {
        let images: [(usize, usize, Vec<u8>); 4] = [
            (1, 1, vec![255]),
            (8, 8, vec![0; 64]),
            (
                8,
                8,
                (0..64).map(|place| if (place + place / 8) % 2 == 0 { 0 } else { 255 }).collect(),
            ),
            (16, 16, (0..=255).collect()),
        ];
        for (height, width, data) in images {
            let found = features(height, width, &data);
            assert!(found.keys().eq(FEATURES.iter().map(|feature| feature.name)));
            for feature in FEATURES {
                let value = found[feature.name];
                assert!((feature.low..=feature.high).contains(&value), "{}: {value}", feature.name);
            }
        }
    }
}
