//! Randomness, as a parameter of what needs it.

use anyhow::{Result, anyhow};
use ring::rand::{SecureRandom, SystemRandom};

/// Where random bytes come from.
pub trait Random {
    /// Fills `bytes`, or fails; it never leaves them as they were.
    fn fill(&self, bytes: &mut [u8]) -> Result<()>;
}

/// The operating system's generator.
pub struct System(SystemRandom);

impl Default for System {
    fn default() -> Self {
        Self::new()
    }
}

impl System {
    /// The generator, ready to use.
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Random for System {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        self.0.fill(bytes).map_err(|_| anyhow!("the operating system gave no random bytes"))
    }
}

/// `N` random bytes.
pub fn bytes<const N: usize>(random: &dyn Random) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    random.fill(&mut bytes)?;
    Ok(bytes)
}
