//! `rehearse`, with a daemon that cannot do what the runbook asks of it: how a rehearsal fails, and how it is killed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::common::{Clone, Done};
use crate::harness::{Host, Room, Traces, ready, signal, wait};
use rustix::process::Signal;

fn rehearse(clone: &Clone, words: &[&str]) -> Command {
    // One chapter is enough, and so one set of machines.
    let mut command = clone.command(["rehearse", "--membershipd", "program", "--only", "rooms"]);
    command.args(words).stdin(Stdio::null());
    command
}

#[test]
fn a_command_that_does_not_answer_as_it_should_ends_the_rehearsal_and_is_shown() {
    let _room = Room::for_machines(3);
    let clone = ready();
    let done = Done::of(rehearse(&clone, &["--report", "report.html"]));
    assert_eq!(done.code, Some(1), "{done:?}");
    for said in ["chapter 'first admin'", "`membershipd identity new", "no text at /sign_pub", "--keep"] {
        assert!(done.stderr.contains(said), "{said}: {done:?}");
    }
    // What came before went well, on real machines.
    assert!(done.stderr.contains("stage: ok"), "{done:?}");
    let log = done.stderr.split_whitespace().find(|word| word.ends_with(".log") || word.ends_with(".log:")).unwrap();
    let log = clone.path(log.trim_end_matches(':'));
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("$ cargo xtask stage --yes") && text.contains("===== journal of homer"), "{text}");
    fs::remove_file(log).unwrap();
    let page = clone.read("report.html");
    assert!(page.contains("Rehearsal failed") && page.contains("cargo xtask stage --diff"), "{page}");
    assert!(!clone.path("deploy/tls").exists(), "the operator's own clone gets no keys");
    let fleets = fs::read_dir(clone.path("deploy/build/rehearse/fleets")).unwrap();
    let ours: Vec<_> = fleets
        .map(|entry| entry.unwrap().path())
        .filter(|path| done.stderr.contains(path.file_name().unwrap().to_str().unwrap()))
        .collect();
    assert!(ours.is_empty(), "{ours:?}");
}

/// A rehearsal that goes with the test, also where it stands still when the test fails.
struct Rehearsal(Child);

impl Rehearsal {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Rehearsal {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn nothing_is_left_when_a_rehearsal_is_killed() {
    let _room = Room::for_machines(3);
    let host = Host::look();
    let clone = ready();
    let child = rehearse(&clone, &[]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut killed = Rehearsal(child);
    let pid = killed.0.id();
    let dir = crate::harness::clone().join(format!("deploy/build/rehearse/fleets/rehearsal-{pid}"));
    let mut lines = BufReader::new(killed.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut said = Vec::new();
    // In the middle of putting files on the machines: ssh and rsync are under way.
    let so_far = lines.any(|line| {
        said.push(line);
        said.last().is_some_and(|line| line.contains("cargo xtask stage --yes"))
    });
    assert!(so_far, "it never came so far:\n{}", said.join("\n"));
    // It stands still, so it cannot come to its own end before it is killed, however slow this test is.
    signal(pid, Signal::STOP);
    let traces = Traces::of(&dir, host);
    killed.kill();
    traces.wait_until_gone();
    wait("nobody works for it any more", || crate::harness::processes_of(&dir).is_empty());
    fs::remove_file(clone.path(&format!("deploy/build/rehearse/logs/rehearsal-{pid}.log"))).unwrap();
}
