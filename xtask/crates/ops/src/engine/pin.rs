//! deploy/engine.toml: which engine, from where, and by which hashes it is known.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use unibus_names::{SHA256_DIGITS, is_lower_hex};

use crate::exit::BadInput;
use crate::paths::Paths;

/// The one engine that the cluster runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Without a `v` before it.
    pub version: String,
    /// Of the binary.
    pub sha256: String,
    pub(super) pypi: Pypi,
    pub(super) tarball: Option<Tarball>,
}

/// A wheel that pip fetches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pypi {
    pub(super) package: String,
    pub(super) platform: String,
    pub(super) sha256: String,
}

/// A tarball that curl fetches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tarball {
    pub(super) url: String,
    pub(super) sha256: String,
}

impl Pin {
    /// Reads the pin.
    pub fn load(file: &Path) -> Result<Self> {
        let shown = Paths::shown(file);
        let text = fs::read_to_string(file).map_err(|error| BadInput::new(format!("reading {shown}: {error}")))?;
        Self::parse(&text).map_err(|(line, what)| BadInput::new(format!("{shown}:{line}: {what}")))
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let pin: Self = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            (line, error.message().to_owned())
        })?;
        let hashes = [Some(&pin.sha256), Some(&pin.pypi.sha256), pin.tarball.as_ref().map(|tarball| &tarball.sha256)];
        for hash in hashes.into_iter().flatten() {
            if !is_lower_hex(hash, SHA256_DIGITS) {
                return Err((
                    holding(text, hash),
                    format!("sha256 {hash:?} is not {SHA256_DIGITS} lower-case hex digits"),
                ));
            }
        }
        // These become a folder's name and words of a requirement for pip.
        for word in [&pin.version, &pin.pypi.package, &pin.pypi.platform] {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
            if !word.starts_with(|c: char| c.is_ascii_alphanumeric()) || !word.bytes().all(plain) {
                return Err((holding(text, word), format!("{word:?} must be letters, digits and . _ + -")));
            }
        }
        if let Some(tarball) = &pin.tarball
            && !tarball.url.contains("://")
        {
            return Err((holding(text, &tarball.url), format!("tarball.url {:?} is no URL", tarball.url)));
        }
        Ok(pin)
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The line on which a value that serde has taken out of the text was typed.
fn holding(text: &str, value: &str) -> usize {
    text.find(&format!("\"{value}\"")).map_or(1, |offset| line_of(text, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda";

    fn text() -> String {
        format!(
            "version = \"2.15.1\"\nsha256 = \"{HASH}\"\n[pypi]\npackage = \"p\"\nplatform = \"x\"\nsha256 = \"{HASH}\"\n"
        )
    }

    #[test]
    fn the_shipped_pin_is_sound() {
        let pin = Pin::parse(include_str!("../../../../../deploy/engine.toml")).unwrap();
        assert_eq!(pin.version, "2.15.1");
        assert!(pin.tarball.is_none());
    }

    #[test]
    fn a_tarball_needs_its_hash() {
        let with = |extra: &str| Pin::parse(&format!("{}[tarball]\nurl = \"https://x/y\"\n{extra}", text()));
        assert!(with(&format!("sha256 = \"{HASH}\"")).is_ok());
        let (line, what) = with("").unwrap_err();
        assert!(line >= 7 && what.contains("missing field `sha256`"), "{line}: {what}");
    }

    #[test]
    fn mistakes_name_their_line() {
        let (line, what) = Pin::parse(&text().replacen("2.15.1", "../x", 1)).unwrap_err();
        assert!(line == 1 && what.contains("../x"), "{line}: {what}");
        let (line, what) = Pin::parse(&text().replacen(HASH, "abc", 1)).unwrap_err();
        assert!(line == 2 && what.contains("64 lower-case hex"), "{line}: {what}");
        let (line, what) = Pin::parse(&text().replace("platform", "plattform")).unwrap_err();
        assert!(line == 5 && what.contains("plattform"), "{line}: {what}");
    }
}
