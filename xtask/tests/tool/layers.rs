//! Which crate of the workspace may depend on which: what is not in the table is no dependency that anyone decided on.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Every package of the workspace, and all that it may depend on, for its tests and build scripts, too. Those that others depend on
/// come first, so there is no cycle.
const LAYERS: [(&str, &[&str]); 15] = [
    ("unibus-names", &[]),
    // What the daemon and its clients decide, compute and say to each other.
    ("unibus-core", &["unibus-names"]),
    ("unibus-crypto", &["unibus-core"]),
    ("unibus-http-signature", &["unibus-core"]),
    ("unibus-api-types", &["unibus-names", "unibus-core", "unibus-crypto"]),
    ("unibus-tls", &["unibus-names"]),
    // The clients.
    ("unibus-client", &["unibus-core", "unibus-crypto", "unibus-http-signature", "unibus-api-types", "unibus-tls"]),
    ("unibus-loadtest", &["unibus-core", "unibus-crypto", "unibus-api-types", "unibus-tls", "unibus-client"]),
    // The daemon, and its command line, which is a client.
    ("unibus-store", &["unibus-core", "unibus-tls"]),
    ("unibus-keeper", &["unibus-core", "unibus-crypto", "unibus-api-types", "unibus-tls", "unibus-store"]),
    (
        "membershipd",
        &[
            "unibus-names",
            "unibus-core",
            "unibus-crypto",
            "unibus-http-signature",
            "unibus-api-types",
            "unibus-tls",
            "unibus-client",
            "unibus-loadtest",
            "unibus-store",
            "unibus-keeper",
        ],
    ),
    // Its deployment tool.
    ("unibus-ops", &["unibus-names"]),
    ("unibus-local", &["unibus-ops"]),
    ("unibus-rehearsal", &["unibus-ops", "unibus-local"]),
    ("xtask", &["unibus-ops", "unibus-local"]),
];

/// What a crate is built without, whatever it depends on.
const WITHOUT: [(&str, &[&str]); 5] = [
    ("unibus-core", &["tokio", "axum", "clap", "rusqlite", "async-nats"]),
    ("unibus-crypto", &["tokio", "axum", "clap", "rusqlite", "async-nats"]),
    ("unibus-http-signature", &["tokio", "axum", "clap", "rusqlite", "async-nats"]),
    ("unibus-client", &["axum", "clap", "rusqlite", "rcgen", "unibus-store", "membershipd"]),
    ("xtask", &["unibus-rehearsal", "age", "tokio", "async-nats", "rusqlite"]),
];

/// All that the daemon and its deployment tool may share.
const SHARED: [&str; 1] = ["unibus-names"];

struct Package {
    name: String,
    /// The folder of the clone in which it lies.
    side: String,
    depends_on: BTreeSet<String>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn packages() -> Vec<Package> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let done = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["metadata", "--no-deps", "--locked", "--offline", "--format-version", "1"])
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    let packages = said["packages"].as_array().unwrap().iter().map(|package| {
        let manifest = text(&package["manifest_path"]);
        let below = Path::new(&manifest).strip_prefix(root).unwrap().to_owned();
        let dependencies = package["dependencies"].as_array().unwrap();
        Package {
            name: text(&package["name"]),
            side: below.components().next().unwrap().as_os_str().to_str().unwrap().to_owned(),
            depends_on: dependencies
                .iter()
                .filter(|dependency| dependency["path"].is_string())
                .map(|dependency| text(&dependency["name"]))
                .collect(),
        }
    });
    packages.collect()
}

#[test]
fn crates_depend_on_the_layers_below_them_only() {
    let mut wrong = Vec::new();
    let packages = packages();
    for Package { name, depends_on, .. } in &packages {
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| layer == name) else {
            wrong.push(format!("{name} has no row in the table"));
            continue;
        };
        let others = depends_on.iter().filter(|other| !allowed.contains(&other.as_str()));
        wrong.extend(others.map(|other| format!("{name} depends on {other}")));
    }
    let gone = LAYERS.iter().filter(|(layer, _)| !packages.iter().any(|package| package.name == *layer));
    wrong.extend(gone.map(|(layer, _)| format!("the table has a row for {layer}, which is no package")));
    assert!(
        wrong.is_empty(),
        "{}\nremedy: move what is needed to a crate below, or change the table in {} and say why",
        wrong.join("\n"),
        file!()
    );
}

#[test]
fn table_has_no_cycle() {
    for (place, (layer, allowed)) in LAYERS.iter().enumerate() {
        for below in *allowed {
            assert!(LAYERS[..place].iter().any(|(name, _)| name == below), "{below} stands below {layer}");
        }
    }
}

#[test]
fn daemon_and_tool_share_names_only() {
    let packages = packages();
    let side = |name: &str| packages.iter().find(|package| package.name == name).map(|package| package.side.as_str());
    for Package { name, side: own, depends_on } in &packages {
        for other in depends_on.iter().filter(|other| !SHARED.contains(&other.as_str())) {
            assert_eq!(side(other), Some(own.as_str()), "{name} depends on {other}, which is on the other side");
        }
    }
}

#[test]
fn crates_are_built_without_what_they_have_no_use_for() {
    for (name, without) in WITHOUT {
        let done = Command::new(env!("CARGO"))
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
            .args(["tree", "--package", name, "--edges", "no-dev", "--locked", "--offline", "--prefix", "none"])
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        let tree = String::from_utf8(done.stdout).unwrap();
        let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(names.contains(name), "{tree}");
        let there: Vec<&&str> = without.iter().filter(|other| names.contains(**other)).collect();
        assert!(there.is_empty(), "{name} is built with {there:?}; see: cargo tree --package {name} --invert");
    }
}

/// Two crates lie beside the workspace, with lock files that no build of the workspace renews.
#[test]
fn lock_files_beside_the_workspace_know_its_crates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (folder, package) in [("membershipd/fuzz", "membershipd"), ("examples/rust", "unibus-client")] {
        let lock = std::fs::read_to_string(root.join(folder).join("Cargo.lock")).unwrap();
        let (_, below) = LAYERS.iter().find(|(layer, _)| *layer == package).unwrap();
        for name in below.iter().chain([&package]) {
            assert!(
                lock.contains(&format!("name = \"{name}\"\n")),
                "{folder}/Cargo.lock lacks {name}; remedy: cd {folder} && cargo update --workspace"
            );
        }
    }
}
