//! Choices that are the same for the same seed.

/// A generator of choices (SplitMix64); good enough to spread work, and for nothing secret.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// Choices of `whose` in the run with this seed.
    pub(super) fn new(seed: u64, whose: &str) -> Self {
        // FNV-1a, so that two that ask in the same run choose differently.
        let mixed = whose
            .bytes()
            .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self(mixed)
    }

    /// One of `0..among`; 0 where there is nothing to choose.
    pub(super) fn choose(&mut self, among: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let among = u64::try_from(among).unwrap_or(u64::MAX).max(1);
        usize::try_from(z % among).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_chooses_the_same_and_everything_is_chosen() {
        let choices = |seed, whose| {
            let mut dice = Dice::new(seed, whose);
            (0..60).map(|_| dice.choose(3)).collect::<Vec<_>>()
        };
        assert_eq!(choices(7, "a"), choices(7, "a"));
        assert_ne!(choices(7, "a"), choices(7, "b"));
        assert_ne!(choices(7, "a"), choices(8, "a"));
        for wanted in 0..3 {
            assert!(choices(7, "a").contains(&wanted));
        }
        assert_eq!(Dice::new(1, "").choose(0), 0);
    }
}
