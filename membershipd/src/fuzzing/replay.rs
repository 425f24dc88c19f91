//! The targets in the tests: every seed as it is, and seeds that were changed, a bounded number of them.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use data_encoding::HEXUPPER_PERMISSIVE;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

use super::TARGETS;

/// Changed seeds that each target is given.
const CASES: u32 = 1500;

fn crate_of_targets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The seeds of a target, by name.
fn seeds(name: &str) -> Vec<Bytes> {
    let files = std::fs::read_dir(crate_of_targets().join("seeds").join(name)).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 4, "{name} has {} seeds", files.len());
    files.iter().map(|file| std::fs::read(file).unwrap().into()).collect()
}

/// The words of a dictionary of libFuzzer: one in quotes a line, in which `\\`, `\"` and `\xAB` stand for a byte.
fn words(name: &str) -> Vec<Bytes> {
    let text = std::fs::read_to_string(crate_of_targets().join("dictionaries").join(format!("{name}.dict"))).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| word(line).unwrap_or_else(|| panic!("{name}: {line}")))
        .collect()
}

fn word(line: &str) -> Option<Bytes> {
    let mut rest = line.strip_prefix('"')?.strip_suffix('"')?;
    let mut word = Vec::new();
    while let Some(next) = rest.chars().next() {
        let (bytes, length) = match rest.get(..2) {
            Some("\\x") => (HEXUPPER_PERMISSIVE.decode(rest.get(2..4)?.as_bytes()).ok()?, 4),
            Some("\\\\" | "\\\"") => (rest.as_bytes()[1..2].to_vec(), 2),
            _ if matches!(next, '\\' | '"') => return None,
            _ => (next.to_string().into_bytes(), next.len_utf8()),
        };
        word.extend(bytes);
        rest = &rest[length..];
    }
    Some(word.into())
}

/// A change of some bytes: where it begins, how many go, and what comes in their place.
type Edit = (Index, usize, Bytes);

fn edit(name: &str) -> impl Strategy<Value = Edit> + use<> {
    let word = select(words(name));
    let byte = any::<u8>().prop_map(|byte| Bytes::from(vec![byte]));
    let some = vec(any::<u8>(), 0..8).prop_map(Bytes::from);
    let piece = (select(seeds(name)), any::<Index>(), 0..40usize).prop_map(|(seed, from, length)| {
        let from = from.index(seed.len());
        seed.slice(from..(from + length).min(seed.len()))
    });
    let gone = prop_oneof![3 => Just(0), 3 => Just(1), 2 => 0..20usize];
    (any::<Index>(), gone, prop_oneof![4 => word, 2 => byte, 1 => some, 2 => piece, 1 => Just(Bytes::new())])
}

fn changed(name: &str) -> impl Strategy<Value = Bytes> + use<> {
    (select(seeds(name)), vec(edit(name), 1..6)).prop_map(|(seed, edits)| {
        let mut data = seed.to_vec();
        for (at, gone, put) in edits {
            let from = at.index(data.len() + 1);
            let to = (from + gone).min(data.len());
            data.splice(from..to, put);
        }
        data.into()
    })
}

/// What is found is shrunk and shown; no file is left beside the sources.
fn replay(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    for seed in seeds(name) {
        target(&seed);
    }
    let config = ProptestConfig { failure_persistence: None, cases: CASES, ..ProptestConfig::default() };
    let held = TestRunner::new(config).run(&changed(name), |data| {
        target(&data);
        Ok(())
    });
    held.unwrap_or_else(|found| panic!("{name}: {found}"));
}

#[test]
fn heads() {
    replay("headers");
}

#[test]
fn bodies() {
    replay("bodies");
}

#[test]
fn callouts() {
    replay("callouts");
}

#[test]
fn subjects() {
    replay("subjects");
}

#[test]
fn frames() {
    replay("frames");
}

#[test]
fn every_target_has_its_binary() {
    let manifest = std::fs::read_to_string(crate_of_targets().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let binaries = manifest["bin"].as_array().unwrap();
    let named: Vec<&str> = binaries.iter().map(|binary| binary["name"].as_str().unwrap()).collect();
    assert_eq!(named, TARGETS.map(|(name, _)| name));
    for binary in binaries {
        let source = std::fs::read_to_string(crate_of_targets().join(binary["path"].as_str().unwrap())).unwrap();
        let name = binary["name"].as_str().unwrap();
        assert!(source.contains(&format!("membershipd::fuzzing::{name}")), "{name}: {source}");
    }
}
