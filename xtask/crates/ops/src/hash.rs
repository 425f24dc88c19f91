//! SHA-256 as files, plans and names have it: hexadecimal digits in lower case.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use ring::digest;

use crate::paths::Paths;

/// All digits of the hash of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// The first digits of that hash, as a name for the content.
pub fn short(bytes: &[u8], digits: usize) -> String {
    sha256(bytes).chars().take(digits).collect()
}

/// All digits of the hash of a file.
pub fn sha256_of(path: &Path) -> Result<String> {
    fs::read(path).map(|bytes| sha256(&bytes)).with_context(|| format!("reading {}", Paths::shown(path)))
}
