//! However a fleet ends, nothing of it is left. `side_by_side` ends two more: one whose holder is killed, one whose keeper is told
//! to end; and `faults` one by `down`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::harness::{Host, Machines, Room, Traces, signal, wait, xtask};
use rustix::process::Signal;

#[test]
fn a_killed_keeper_takes_the_machines_along_and_the_rest_goes_with_the_next_command() {
    let host = Host::look();
    let machines = Machines::up("keeper");
    let traces = Traces::of(&machines.dir, host.clone());
    signal(traces.keeper, Signal::KILL);
    traces.wait_until_dead();
    assert!(traces.is_left_over(), "this test would prove nothing");
    // The next one in that directory is a new one.
    machines.ok(&["up"]);
    let traces = Traces::of(&machines.dir, host);
    signal(traces.keeper, Signal::KILL);
    traces.wait_until_dead();
    machines.ok(&["down"]);
    traces.wait_until_gone();
}

#[test]
fn nothing_is_left_when_whoever_starts_a_fleet_is_killed_half_way() {
    let host = Host::look();
    let machines = Machines::none("half-way", Room::for_machines(3));
    let dir = machines.dir.to_str().unwrap();
    let mut up = xtask(&["fleet", "--dir", dir, "up"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut said = BufReader::new(up.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|line| line.contains("booting")), "it never came so far");
    // It stands still, so it cannot be done before it is killed, however slow this test is.
    signal(up.id(), Signal::STOP);
    wait("a machine is up", || {
        let done = machines.run(&["status", "--json"]);
        done.code == Some(0) && done.stdout.contains("\"power\":\"up\"")
    });
    let traces = Traces::of(&machines.dir, host);
    up.kill().unwrap();
    up.wait().unwrap();
    traces.wait_until_gone();
}
