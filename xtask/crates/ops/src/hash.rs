//! SHA-256 as files, plans and names have it: hexadecimal digits in lower case.

use std::fs::File;
use std::io;
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

/// All digits of the hash of a file, which is never in memory whole.
pub fn sha256_of(path: &Path) -> Result<String> {
    struct Hash(digest::Context);
    impl io::Write for Hash {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hash = Hash(digest::Context::new(&digest::SHA256));
    let read = File::open(path).and_then(|mut file| io::copy(&mut file, &mut hash));
    read.with_context(|| format!("reading {}", Paths::shown(path)))?;
    Ok(HEXLOWER.encode(hash.0.finish().as_ref()))
}
