//! A small random generator whose numbers are a pure function of what it is made from.
//!
//! burn's own generator is one for the whole process, so that what it gives depends on what else
//! runs; this one makes a training run repeatable and resumable at any step.

/// Sebastiano Vigna's `SplitMix64`: <https://prng.di.unimi.it/splitmix64.c>
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The stream of these parts: purpose, seed, epoch and the like. Order counts.
    pub(crate) fn of(parts: &[u64]) -> Self {
        let mut random = Self(0x6D6C_6F6F_7000_0001);
        for part in parts {
            random.0 = random.bits() ^ part;
        }
        random
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// Uniform in [0, 1), a multiple of 2^-24, so that it is exact as f32.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// Uniform in 0..bound, for a bound above zero; the bias is below bound / 2^64.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.bits()) * bound as u128;
        usize::try_from(wide >> 64).expect("the high word is below the bound")
    }

    /// Fisher-Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_splitmix64() {
        // First outputs for seed 1234567 of the published C program.
        let mut random = Random(1_234_567);
        assert_eq!(random.bits(), 6_457_827_717_110_365_317);
        assert_eq!(random.bits(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_shuffle_keeps_every_item_and_depends_on_every_part() {
        let shuffled = |parts: &[u64]| {
            let mut items: Vec<u32> = (0..100).collect();
            Random::of(parts).shuffle(&mut items);
            items
        };
        assert_eq!(shuffled(&[1, 2]), shuffled(&[1, 2]));
        assert_ne!(shuffled(&[1, 2]), shuffled(&[2, 1]));
        assert_ne!(shuffled(&[1, 2]), shuffled(&[1, 3]));
        let mut sorted = shuffled(&[1, 2]);
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..100));
    }

    #[test]
    fn units_fill_the_interval_evenly() {
        let mut random = Random::of(&[7]);
        let mut bins = [0_u32; 10];
        for _ in 0..10_000 {
            bins[(random.unit() * 10.0) as usize] += 1;
        }
        // 1000 expected in each, standard deviation 30.
        assert!(bins.iter().all(|count| (850..1150).contains(count)), "{bins:?}");
    }
}
