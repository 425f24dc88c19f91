//! `operator`: what an operator has is sealed, taken up elsewhere, and replaced, by the real program.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::Clone;

/// Every file below these directories of the clone, with its content.
fn files(clone: &Clone) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { drop(found.insert(path.clone(), fs::read(&path).unwrap())) }
        }
    }
    let mut found = BTreeMap::new();
    for dir in ["deploy/tls", "deploy/secrets", "deploy/out"] {
        walk(&clone.path(dir), &mut found);
    }
    found
}

#[test]
fn what_an_operator_has_comes_back_from_the_sealed_file_and_is_replaced_as_a_whole() {
    let clone = Clone::new();
    for verb in ["client-ca", "cluster-certs", "secrets"] {
        clone.ok(verb);
    }
    clone.write("words", "correct horse battery staple\n");
    clone.chmod("words", 0o600);
    let (words, sealed) = (clone.path("words").display().to_string(), clone.path("operator.age").display().to_string());
    clone.ok(&format!("operator export --passphrase-file {words} --out {sealed}"));
    assert_eq!(clone.mode("operator.age"), 0o600);
    let before = files(&clone);
    assert!(before.len() > 25, "{before:?}");
    let text = fs::read(&sealed).unwrap();
    assert!(text.starts_with(b"age-encryption.org/v1"));

    let import = format!("operator import {sealed} --passphrase-file {words}");
    clone.ok(&import);
    let key = clone.path("deploy/secrets/test/issuer.nk");
    fs::write(&key, "another\n").unwrap();
    let said = clone.refused(&import);
    assert!(said.contains("nothing was written") && said.contains("issuer.nk"), "{said}");
    for dir in ["tls", "secrets", "out"] {
        fs::remove_dir_all(clone.path(&format!("deploy/{dir}"))).unwrap();
    }
    let said = clone.refused("operator replace-keys --yes");
    assert!(said.contains("cluster.id is not there"), "without the id the stores would be refused: {said}");
    clone.ok(&import);
    assert!(files(&clone) == before, "something is not as it was");
    assert_eq!(clone.mode("deploy/secrets/test/issuer.nk"), 0o600);

    clone.ok("operator replace-keys");
    assert!(files(&clone) == before, "a dry run changed something");
    clone.ok("operator replace-keys --yes");
    let after = files(&clone);
    assert_eq!(
        after.keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>(),
        "the same files, and nothing aside"
    );
    let same = after.iter().filter(|(path, content)| before[*path] == **content).map(|(path, _)| path);
    let same: Vec<&str> = same.map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert!(same.iter().all(|name| ["cluster.id", "cluster.env"].contains(name)), "{same:?}");
    clone.ok("cluster-certs");
    assert!(files(&clone) == after, "what was made is whole");
}

/// Its own tests: it is no part of the workspace.
#[test]
fn program_that_seals_passes_its_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root).args(["test", "--locked", "--manifest-path", "xtask/operator/Cargo.toml"]);
    let done = cargo.args(["--target-dir", "target/operator"]).output().unwrap();
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}
