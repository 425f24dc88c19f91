//! A node on its own, and its backups: what the previous release wrote this one reads, to the last byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use super::harness::{Build, Cluster, Work, holds, said, signal, wait};

/// A daemon on its own, in a directory of a place that is a test's own.
struct Node<'a> {
    place: &'a Cluster,
    dir: PathBuf,
    build: Build,
    child: Child,
}

impl<'a> Node<'a> {
    fn start(place: &'a Cluster, dir: &str, build: Build, flags: &[&str]) -> Self {
        let dir = place.state.join(dir);
        fs::create_dir_all(&dir).unwrap();
        let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
        let engine = std::env::var_os("UNIBUS_TEST_ENGINE").expect("cargo xtask test sets UNIBUS_TEST_ENGINE");
        let mut command = Command::new(build.path());
        command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(&dir).stdin(Stdio::null()).stderr(log);
        command.args(["--runtime-dir", "run", "--bind", &place.base.to_string()]);
        // The previous release has a monitor, and this one takes the flag that says where.
        command.args(["--monitor", &format!("{}:8250", place.base), "--engine"]).arg(engine).args(flags);
        let node = Self { place, dir, build, child: command.spawn().unwrap() };
        wait("a lease", 30, || {
            let status: Value = serde_json::from_slice(&node.ask("status --json").stdout).unwrap_or_default();
            holds(status["lease"]["valid"] == true, fs::read_to_string(node.dir.join("log")).unwrap())
        });
        node
    }

    fn ask(&self, line: &str) -> Output {
        let mut command = Command::new(self.build.path());
        command.env_clear().current_dir(&self.dir).stdin(Stdio::null());
        command.args(line.split_whitespace()).args(["--runtime-dir", "run"]).output().unwrap()
    }

    fn done(&self, line: &str) -> String {
        let output = self.ask(line);
        assert!(output.status.success(), "{line}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A verb of root's at this node.
    fn as_root(&self, line: &str) -> String {
        let mut command = Command::new(self.build.path());
        command.env_clear().current_dir(&self.dir).stdin(Stdio::null()).args(line.split_whitespace());
        let identity = self.place.state.join("root.toml");
        let url = format!("http://{}:8470", self.place.base);
        let output = command.arg("--identity").arg(identity).args(["--url", &url]).output().unwrap();
        assert!(output.status.success(), "{line}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes all that it holds into a new file; the hash of that.
    fn export(&self, file: &Path) -> String {
        content(&self.done(&format!("export --json --db {}", file.display())))
    }

    fn stop(mut self) {
        signal(self.child.id(), Signal::TERM);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        // Its engine goes with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn content(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["content_sha256"].as_str().unwrap().to_owned()
}

/// Fills a node of the previous release, and returns the hash of what it holds and its backup.
fn filled(place: &Cluster, flags: &[&str]) -> (String, PathBuf) {
    let node = Node::start(place, "node", Build::Previous, flags);
    let root = place.state.join("root.toml");
    let made = Command::new(Build::Previous.path())
        .args(["identity", "new", "--handle", "root", "--json", "--out"])
        .arg(&root)
        .output()
        .unwrap();
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    node.done(&format!("user add --handle root --role admin --sign-pub {}", made["sign_pub"].as_str().unwrap()));
    fs::write(node.dir.join("photo"), "a picture").unwrap();
    for line in [
        "room create kitchen --subject room.kitchen",
        "room create cellar --subject room.cellar --persist false",
        "say kitchen before the upgrade",
        "blob put kitchen photo",
        "room remove cellar",
    ] {
        node.as_root(line);
    }
    let backup = place.state.join("backup.db");
    let hash = node.export(&backup);
    node.stop();
    (hash, backup)
}

#[test]
fn a_store_in_a_file_and_its_backup_are_read_as_they_were_written() {
    let place = Cluster::reserve(Work::Waits);
    let (hash, backup) = filled(&place, &[]);

    let node = Node::start(&place, "node", Build::Real, &[]);
    assert_eq!(node.export(&place.state.join("again.db")), hash, "the store");
    let said = node.as_root("tail kitchen --no-follow");
    assert!(said.contains("before the upgrade"), "{said}");
    node.as_root("say kitchen after the upgrade");
    node.stop();

    // The backup is the store of another node on its own.
    let other = place.state.join("other/local_files");
    fs::create_dir_all(&other).unwrap();
    fs::copy(&backup, other.join("unibus.db")).unwrap();
    let node = Node::start(&place, "other", Build::Real, &[]);
    assert_eq!(node.export(&place.state.join("third.db")), hash, "the backup");
    node.stop();

    // And it goes into a cluster's store.
    let node = Node::start(&place, "kv", Build::Real, &["--store", "kv"]);
    assert_eq!(content(&node.done(&format!("migrate-to-kv --json --db {}", backup.display()))), hash, "migrated");
}

#[test]
fn a_store_on_jetstream_is_read_as_it_was_written() {
    let place = Cluster::reserve(Work::Waits);
    let kv = ["--store", "kv"];
    let (hash, _) = filled(&place, &kv);
    let node = Node::start(&place, "node", Build::Real, &kv);
    assert_eq!(node.export(&place.state.join("again.db")), hash);
    let said = node.as_root("tail kitchen --no-follow");
    assert!(said.contains("before the upgrade"), "{said}");
}
