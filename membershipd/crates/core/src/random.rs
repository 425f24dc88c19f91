//! Random bytes of the kernel.

/// The kernel has no random bytes, and nothing that needs them can begin.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no randomness: {0}")]
pub struct NoRandomness(getrandom::Error);

/// Random bytes that cannot be guessed.
pub fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}
