//! What a node or its programs say reaches the operator's terminal: nothing of it acts there, none of it passes for a line of the tool,
//! and none of it has no end. An ssh that says so stands in the place of the real one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::common::{Clone, Done};

/// Clears the screen, sets the title, colours, turns the order round, hides, and begins another line.
const HARMFUL: &str =
    "\u{1b}[2J\u{1b}]0;t\u{7}\u{1b}[32m\u{9b}2J\u{202e}\u{2067}\u{200b}\u{feff}\u{e0041}\r\nall 76 checks hold";
/// The first of it, as it is shown.
const SHOWN: &str = r"\u001b[2J\u001b]0;t\u0007\u001b[32m\u009b2J\u202e\u2067\u200b\ufeff\udb40\udc41";

/// A clone whose ssh is that script; `$host` is the host.
fn with_ssh(script: &str) -> Clone {
    let clone = Clone::new();
    clone.script(
        "bin/ssh",
        &format!("#!/bin/sh\nfor last; do [ \"$previous\" = -- ] && host=$last; previous=$last; done\n{script}\n"),
    );
    clone
}

/// A verb with little memory: what is kept without a bound ends it.
fn run(clone: &Clone, line: &str) -> Done {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 1500000; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_xtask")]);
    command.args(line.split_whitespace()).current_dir(&clone.root);
    command.env_remove("UNIBUS_ROOT").env_remove("CARGO_MANIFEST_DIR");
    let path = format!("{}:{}", clone.path("bin").display(), std::env::var("PATH").unwrap());
    Done::of({
        command.env("PATH", path);
        command
    })
}

fn assert_harmless(done: &Done) {
    for c in format!("{}{}", done.stdout, done.stderr).chars() {
        let harmful = c.is_control() && c != '\n'
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
            || matches!(c, '\u{e0000}'..='\u{e007f}');
        assert!(!harmful, "{c:?}: {done:?}");
    }
    let mut lines = done.stdout.lines().chain(done.stderr.lines());
    assert!(!lines.any(|line| line.starts_with("all 76 checks hold")), "{done:?}");
}

/// A posture with that text wherever a node may write one.
fn posture(text: &str) -> String {
    json!({
        "schema": 1, "node": "NODE", "boot": text, "version": text, "store": text, "bus_auth": text, "acl": true, "tls": true,
        "engine": { "version": text, "sha256": text, "server_id": text, "pid": 7 },
        "cluster": { "name": text, "id": text, "size": 3, "leader": text, "peers": [text] },
        "kv_replicas": 3, "replicas": [{ "bucket": text, "want": 3, "current": 1, "leader": text }],
        "damaged": [{ "room": text, "why": text }], "stays_out": text,
        "lease": { "valid": false, "age_ms": 1, "lease_ms": 12_000, "bound_ms": 13_130 },
        "admins": 1, "clients": 1, "certificates": [{ "name": text, "file": text, "not_after": text, "not_after_unix": 0 }],
        "unix_ms": 0, "bootstrap_pending": true, "faults": [text],
    })
    .to_string()
}

#[test]
fn what_a_node_says_cannot_act_on_the_terminal_of_the_operator() {
    // In an answer, where JSON hides it from the shell's eyes; in the complaints of ssh, and in those of the daemon.
    let answers = with_ssh("echo unibus: ready; sed \"s/NODE/${host#host-}/\" \"${0%/*}/posture\"");
    answers.write("bin/posture", posture(HARMFUL));
    let error = json!({ "schema": 1, "error": { "code": "x", "message": HARMFUL, "remedy": HARMFUL } }).to_string();
    let fails = with_ssh("echo unibus: ready; cat \"${0%/*}/error\"; exit 1");
    fails.write("bin/error", error);
    let complains = |code: u8| {
        let clone = with_ssh(&format!("cat \"${{0%/*}}/complaints\" >&2; exit {code}"));
        clone.write("bin/complaints", format!("{HARMFUL}\r\nssh: connect to host {HARMFUL}: Connection refused\r\n"));
        clone
    };
    for (clone, shown) in [(answers, true), (fails, true), (complains(255), false), (complains(1), false)] {
        for verb in ["verify", "verify --json", "status", "seed-admin --handle root --sign-pub 0", "doctor"] {
            let done = run(&clone, verb);
            assert_harmless(&done);
            if shown && verb == "verify" {
                assert!(format!("{}{}", done.stdout, done.stderr).contains(SHOWN), "{done:?}");
            }
        }
    }
}

#[test]
fn a_node_that_never_ends_is_ended_and_named() {
    for (script, word) in [
        ("yes", "more than 33554432 bytes of output"),
        ("echo unibus: ready; tr '\\0' x </dev/zero", "more than 33554432 bytes of output"),
        // A greeting without an end.
        ("tr '\\0' x </dev/zero", "gave no answer within 15 s"),
        ("yes >&2", "more than 4194304 bytes of complaints"),
    ] {
        let done = run(&with_ssh(script), "verify");
        assert_eq!(done.code, Some(1), "{done:?}");
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(said.contains(word) && said.contains("host-b"), "{script}: {done:?}");
    }
    // A session, on which all that changes something is done.
    let done = run(&with_ssh("yes"), "up --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(format!("{}{}", done.stdout, done.stderr).contains("more than 1048576 bytes of a greeting"), "{done:?}");
}

/// An entry of a journal.
fn entry(at: u64, message: &str) -> String {
    json!({ "__REALTIME_TIMESTAMP": at.to_string(), "MESSAGE": message, "__CURSOR": "s=1" }).to_string()
}

#[test]
fn logs_of_servers_are_one_and_harmless_and_a_server_that_is_not_reached_is_named() {
    // The shell of a server may talk before.
    let clone = with_ssh(
        "echo \"$last\" > \"${0%/*}/asked.$host\"\n\
         case $host in host-b) echo 'ssh: connect to host host-b port 22: Connection refused' >&2; exit 255 ;; esac\n\
         echo Welcome; echo '{}'; echo 'unibus: ready'; echo 'unibus: log'; cat \"${0%/*}/$host\"",
    );
    let second = 1_795_997_647_000_000;
    let of_a = [entry(second, "Started unibus."), entry(second + 9, "2026-11-30T00:14:10.5Z  INFO x: later")];
    clone.write("bin/host-a", of_a.join("\n"));
    let of_c =
        [entry(second + 1_000_000, HARMFUL), entry(second + 2_000_000, "2026-11-30T00:14:08.5Z  WARN x: between")];
    clone.write("bin/host-c", of_c.join("\n"));
    let done = run(&clone, "logs --since 2026-11-30T00:00:00Z");
    assert_harmless(&done);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("b: no log: ") && done.stderr.contains("Connection refused"), "{done:?}");
    assert!(done.stderr.ends_with("error: no log of b\n"), "{done:?}");
    let lines: Vec<&str> = done.stdout.lines().collect();
    let order = [("a  ", "Started unibus."), ("c  ", SHOWN), ("c  ", "WARN x: between"), ("a  ", "INFO x: later")];
    assert_eq!(lines.len(), order.len(), "{done:?}");
    for (line, (node, text)) in lines.iter().zip(order) {
        assert!(line.starts_with(node) && line.contains(text), "{line}: {done:?}");
    }
    let asked = clone.read("bin/asked.host-a");
    for word in ["journalctl --unit membershipd-cluster.service --output=json", "--lines=all --since=@1795996800"] {
        assert!(asked.contains(word), "{asked}");
    }
    let done = run(&clone, "status");
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.stdout.starts_with("no node tells how it is, so nothing proves that the bus works"), "{done:?}");
}

#[test]
fn ctrl_c_ends_what_follows_logs_and_all_that_it_started() {
    let clone = with_ssh(
        "echo $$ > \"${0%/*}/pid.$host\"; echo 'unibus: ready'; echo 'unibus: log'; cat \"${0%/*}/entries\"; exec sleep 1000",
    );
    clone.write("bin/entries", entry(1_795_997_647_000_000, "Started unibus.") + "\n");
    let path = format!("{}:{}", clone.path("bin").display(), std::env::var("PATH").unwrap());
    let mut command = clone.command(["logs", "--follow"]);
    let mut child = command.env("PATH", path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (begun, mut pids) = (Instant::now(), Vec::new());
    while pids.len() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(30), "not all are asked");
        thread::sleep(Duration::from_millis(20));
        let pid =
            |host: &str| fs::read_to_string(clone.path(&format!("bin/pid.{host}"))).ok()?.trim().parse::<u32>().ok();
        pids = ["host-a", "host-b", "host-c"].into_iter().filter_map(pid).collect();
    }
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut shown = String::new();
    for _ in 0..3 {
        out.read_line(&mut shown).unwrap();
    }
    kill_process(Pid::from_raw(child.id().try_into().unwrap()).unwrap(), Signal::INT).unwrap();
    let done = Done::from(child.wait_with_output().unwrap());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    assert_eq!(shown.matches("Started unibus.").count(), 3, "{shown}");
    for pid in pids {
        // The process that takes over what is left of another may need a moment to reap it.
        let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let is_gone = || stat().rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'));
        let begun = Instant::now();
        while !is_gone() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{pid} was left running");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
