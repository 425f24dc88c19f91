//! Every dependency is compiled once, whichever crates are built, tested or run: with the same features each time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// The packages of a selection, and each one's features: more than one list where it is compiled for macros, too.
fn packages(selection: &[&str], edges: &str) -> BTreeMap<String, BTreeSet<String>> {
    let done = Command::new(env!("CARGO"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p}|{f}|", "--edges", edges])
        .args(selection)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let mut packages: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8(done.stdout).unwrap().lines().filter(|line| !line.is_empty()) {
        let (package, features) = line.split_once('|').unwrap();
        let features = features.split('|').next().unwrap();
        packages.entry(package.to_owned()).or_default().insert(features.to_owned());
    }
    packages
}

#[test]
fn no_selection_compiles_a_dependency_again() {
    const BUILT: &str = "normal,build";
    const TESTED: &str = "normal,build,dev";
    let all = packages(&["--workspace"], TESTED);
    let mut again = Vec::new();
    for (selection, edges) in [
        (&["--package", "membershipd"][..], BUILT),
        (&["--package", "membershipd"], TESTED),
        (&["--package", "xtask"], BUILT),
        (&["--package", "xtask"], TESTED),
        (&["--package", "unibus-ops"], TESTED),
        (&["--package", "unibus-rehearsal"], BUILT),
        (&["--package", "unibus-rehearsal"], TESTED),
        (&["--workspace"], BUILT),
    ] {
        for (package, features) in packages(selection, edges) {
            // Our own crates have helpers for the tests of others, which no release may have in it.
            for other in features.difference(&all[&package]).filter(|_| !package.contains("/crates/")) {
                again.push(format!("{} ({edges}): {package} with {other:?}", selection.join(" ")));
            }
        }
    }
    assert!(
        again.is_empty(),
        "compiled again, since cargo test --workspace compiles them with other features:\n{}\nremedy: name the features \
         that are missing in Cargo.toml or xtask/crates/ops/Cargo.toml; cargo tree --workspace --edges features --invert PACKAGE \
         says who asks for them",
        again.join("\n")
    );
}
