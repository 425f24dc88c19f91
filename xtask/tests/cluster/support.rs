//! `support-bundle` and `operations` on a real cluster: no secret and no member in what leaves the machine.

use std::fs;
use std::path::{Path, PathBuf};

use super::harness::{Build, Cluster, NODES, said};

/// All files below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn verb(cluster: &Cluster, words: &[&str]) -> String {
    let output = cluster.xtask(&[words, &["--local", "--state", cluster.state.to_str().unwrap()]].concat());
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn bundle_has_no_secret_and_no_member_and_operations_are_noted() {
    let cluster = Cluster::start(Build::Real);
    let alice = cluster.add_user("homer", "alicia");
    drop(cluster.connected("homer", &alice.seed));
    verb(&cluster, &["roll", "--restart", "--node", "homer", "--yes"]);

    let bundle = |name: &str| {
        let file = cluster.state.join(name);
        let told = verb(&cluster, &["support-bundle", "--out", file.to_str().unwrap()]);
        assert!(told.contains("will have:") && told.contains("read it before you give it away"), "{told}");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        fs::read_to_string(&file).unwrap()
    };
    let text = bundle("bundle.txt");
    for section in ["versions", "doctor", "status", "verify", "settings", "log", "operations", "stage"] {
        assert!(text.contains(&format!("== {section} ==")), "{section}:\n{text}");
    }
    assert!(text.contains("roll --restart") || text.contains("roll"), "{text}");
    let mut secrets = 0;
    let admin = fs::read_to_string(cluster.state.join("admin.toml")).unwrap();
    let mut lines: Vec<String> = admin.split('"').map(str::to_owned).collect();
    for file in files(&cluster.state.join("secrets")).iter().chain(&files(&cluster.state.join("tls"))) {
        if file.extension().is_some_and(|end| ["nk", "key", "pass"].iter().any(|name| end == *name)) {
            lines.extend(fs::read_to_string(file).unwrap().lines().map(str::to_owned));
        }
    }
    lines.push(alice.seed.clone());
    for line in lines.iter().map(|line| line.trim()).filter(|line| line.len() >= 16 && !line.starts_with("-----")) {
        assert!(!text.contains(line), "a secret is in it");
        secrets += 1;
    }
    assert!(secrets > 3 * NODES.len(), "only {secrets} secrets were looked for");
    let shown: Vec<&str> = text.lines().filter(|line| line.contains("alicia")).collect();
    assert!(shown.is_empty(), "a member is named: {shown:?}");

    let operations = verb(&cluster, &["operations"]);
    assert!(operations.contains("roll") && operations.contains("done at"), "{operations}");

    // No node can say whose names are to be hidden: no word of a log is shown.
    for node in NODES {
        cluster.control(&["stop", node]);
    }
    let text = bundle("down.txt");
    let log = text.split("== log ==").nth(1).unwrap().split("== operations ==").next().unwrap();
    assert!(log.contains(": …") && !log.contains("lease "), "{log}");
}
