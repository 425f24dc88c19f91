//! While a server is staged nobody there sees a secret: not in a file, not for a moment, nor in a command or the journal.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use crate::harness::{Machines, made_for, xtask};

const SPY: &str = include_str!("spy.pl");
const NODES: [&str; 3] = ["magnus", "homer", "datardos"];
/// Whoever is nobody.
const AS_NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups --";
/// How often everything is looked at while three servers are staged, at the very least; some hundred times as a rule.
const ROUNDS: u32 = 20;

/// The spy on one machine.
struct Spy {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Spy {
    /// Sends it, and waits until it looks.
    fn on(machines: &Machines, node: &str, texts: &[String]) -> Self {
        let script = SPY.replace('\'', "'\\''");
        let mut command = xtask(&[
            "fleet",
            "--dir",
            machines.dir.to_str().unwrap(),
            "ssh",
            node,
            &format!("{AS_NOBODY} nice perl -e '{script}'"),
        ]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(texts.join("\n").as_bytes()).unwrap();
        let mut says = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        says.read_line(&mut first).unwrap();
        assert_eq!(first, "looking\n");
        Self { child, says }
    }

    /// The next thing that it has seen.
    fn sees(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        line
    }

    /// Calls it home: how often it looked, and what it saw since it was last asked.
    fn home(mut self, machines: &Machines, node: &str) -> (u32, Vec<String>) {
        machines.ok(&["ssh", node, "touch /tmp/the-spy-goes-home"]);
        let mut said = String::new();
        self.says.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success());
        let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
        let rounds = lines.pop().unwrap();
        (rounds.strip_prefix("rounds ").unwrap().parse().unwrap(), lines)
    }
}

/// Every line of every file below `dir` that only the operator may read, by the file.
fn secrets(dir: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                open.push(path.clone());
            }
            // A link leads to a cache that is no part of this clone.
            if !kind.is_file() {
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap();
            if !(name.ends_with(".key") || name.ends_with(".nk") || name == "cluster.pass") {
                continue;
            }
            for line in fs::read_to_string(&path).unwrap().lines().filter(|line| !line.starts_with("-----")) {
                assert!(line.len() > 20, "{} is too short to look for", path.display());
                found.insert(line.to_owned(), path.display().to_string());
            }
        }
    }
    found
}

#[test]
fn no_secret_is_seen_on_a_server_while_it_is_staged() {
    let machines = Machines::up("secrets");
    let clone = made_for(&machines, "program");
    let secrets = secrets(&clone.path("deploy"));
    assert!(secrets.len() >= 3 + 3 * 6, "{:?}", secrets.values());
    // One more, which is shown on purpose: what sees nothing else must be able to see.
    let canary = "x-the-canary-that-everybody-may-see-x";
    let texts: Vec<String> = secrets.keys().cloned().chain([canary.to_owned()]).collect();
    let mut spies: Vec<(&str, Spy)> = NODES.iter().map(|node| (*node, Spy::on(&machines, node, &texts))).collect();
    for (node, spy) in &mut spies {
        // The words of the shell that writes it can be seen until the file was seen too.
        let script = format!(
            "mkdir -m 755 /opt/canary; echo {canary} > /opt/canary/file; until test -e /opt/canary/seen; do sleep 0.1; done"
        );
        let mut shown =
            xtask(&["fleet", "--dir", machines.dir.to_str().unwrap(), "ssh", node, &script]).spawn().unwrap();
        let (mut in_file, mut in_command) = (false, false);
        while !(in_file && in_command) {
            let seen = spy.sees();
            let place = seen.strip_prefix(&format!("line {} in ", secrets.len()));
            let place = place.unwrap_or_else(|| panic!("on {node}: {seen}"));
            in_file |= place == "/opt/canary/file\n";
            in_command |= place.starts_with("/proc/");
        }
        machines.ok(&["ssh", node, "touch /opt/canary/seen"]);
        assert!(shown.wait().unwrap().success());
    }

    let root = clone.root.to_str().unwrap();
    let stage = [env!("CARGO_BIN_EXE_xtask"), "--root", root, "stage", "--yes"];
    let said = machines.ok(&[&["sh"], stage.as_slice()].concat());
    assert!(said.contains("nothing was started"), "{said}");

    for (node, spy) in spies {
        let (rounds, seen) = spy.home(&machines, node);
        eprintln!("{node}: looked {rounds} times");
        let seen: Vec<&String> =
            seen.iter().filter(|seen| !seen.starts_with(&format!("line {} ", secrets.len()))).collect();
        assert!(seen.is_empty(), "on {node}: {seen:?} of {:?}", secrets.values().collect::<Vec<_>>());
        assert!(rounds >= ROUNDS, "{node} was looked at {rounds} times only");
        // They are there, all the same.
        let there = machines.ok(&["ssh", node, "cat /opt/unibus/secrets/* /opt/unibus/tls/*.key"]);
        assert!(there.lines().filter(|line| secrets.contains_key(*line)).count() >= 9, "{node}");
        let journal = machines.ok(&["ssh", node, "journalctl --boot --no-pager --output=verbose"]);
        assert!(journal.contains("sshd"), "{journal}");
        for (secret, file) in &secrets {
            assert!(!journal.contains(secret.as_str()), "{file} is in the journal of {node}");
        }
    }
}
