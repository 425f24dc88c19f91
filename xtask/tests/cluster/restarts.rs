//! A minute of use with a node restarted every fifteen seconds: nothing acknowledged is lost, and nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::Client;
use super::harness::{Build, Cluster, NODES, Work, holds, said, wait};
use super::tls::curl;

/// From one restart to the next; there are four, and the load goes on as long after the last one.
const BETWEEN: Duration = Duration::from_secs(15);
/// Each node watches the users, the rooms and the members.
const WATCHES: u64 = 3 * 3;
/// Subscriptions of an engine for its copy of a stream, at most: those of a consensus group, and of what is asked about it.
const OF_A_COPY: u64 = 30;
/// Registers that the load writes, each read from each node at the end.
const REGISTERS: usize = 16;

#[test]
fn a_minute_of_restarts_loses_nothing_and_leaves_nothing_behind() {
    let cluster = Cluster::start_for(Work::LoadsLong, Build::Real);
    let before = settled(&cluster, |now| now["consumers"] <= WATCHES);
    println!("before: {before:?}");

    let (took, history) = used_while(&cluster, || {
        let begun = Instant::now();
        let ways: [&[&str]; 4] =
            [&["restart", "magnus"], &["kill", "homer"], &["restart", "datardos"], &["kill", "magnus"]];
        for (turn, way) in (1..).zip(ways) {
            restart(&cluster, way);
            thread::sleep((BETWEEN * turn).saturating_sub(begun.elapsed()));
        }
    });
    assert!(took >= 4 * BETWEEN, "{took:?}");
    let acknowledged = nothing_is_lost(&history);
    println!("{acknowledged} writes were acknowledged within {took:.1?}");
    // A shard is made when something is first said in it, and stays: what its copies take is no remainder.
    let is_given_back = |now: &Held, (what, count): (&&str, &u64)| match *what {
        "copies" => true,
        "subscriptions" => *count <= before[what] + OF_A_COPY * (now["copies"] - before["copies"]),
        _ => *count <= before[what],
    };
    let after = settled(&cluster, |now| now.iter().all(|held| is_given_back(now, held)));
    println!("after:  {after:?}");
}

/// Ends a node, in good order or not, and waits until all is well again.
fn restart(cluster: &Cluster, way: &[&str]) {
    cluster.control(way);
    cluster.wait_until_verified();
}

/// What a node holds that it has to give back: its engine's consumers, subscriptions and connections, the daemon's tasks, and
/// the descriptors of both.
fn held(cluster: &Cluster, node: &str) -> Result<BTreeMap<&'static str, u64>, String> {
    let metrics = curl(cluster, node, "/metrics");
    let tasks = metrics.lines().find_map(|line| line.strip_prefix("unibus_tasks ")?.parse().ok());
    let mut system = Client::new();
    let seed = fs::read_to_string(cluster.node(node).join("secrets/system.nk")).map_err(|error| error.to_string())?;
    let answer = system.connect(cluster, node, seed.trim());
    if answer["ok"] != true {
        return Err(answer.to_string());
    }
    let server = system.say(json!({ "op": "state" }))["server_id"].as_str().unwrap().to_owned();
    let mut of_engine = |of: &str, count: &str| -> Result<u64, String> {
        let subject = format!("$SYS.REQ.SERVER.{server}.{of}");
        let answer = system.say(json!({ "op": "request", "subject": subject, "timeout": 5 }));
        let value: Value = serde_json::from_str(answer["data"].as_str().ok_or_else(|| answer.to_string())?).unwrap();
        value["data"][count].as_u64().ok_or_else(|| format!("{of} without {count}"))
    };
    let descriptors = |pid: u32, counts: &dyn Fn(PathBuf) -> bool| -> Result<u64, String> {
        let all = fs::read_dir(format!("/proc/{pid}/fd")).map_err(|error| error.to_string())?;
        let counted = all.flatten().filter(|entry| fs::read_link(entry.path()).is_ok_and(counts));
        Ok(counted.count() as u64)
    };
    let (daemon, engine) = cluster.pids(node);
    // How many files of its store the engine has open is its own affair: it closes them when they rest.
    let store = cluster.node(node);
    Ok(BTreeMap::from([
        ("consumers", of_engine("JSZ", "consumers")?),
        ("copies", of_engine("JSZ", "streams")?),
        ("subscriptions", of_engine("VARZ", "subscriptions")?),
        ("connections", of_engine("VARZ", "connections")?),
        ("tasks", tasks.ok_or("no metrics")?),
        ("descriptors of the daemon", descriptors(daemon, &|_| true)?),
        ("descriptors of the engine", descriptors(engine, &|file| !file.starts_with(&store))?),
    ]))
}

/// What all nodes hold together: an engine's consumers move with those who lead.
type Held = BTreeMap<&'static str, u64>;

fn held_by_all(cluster: &Cluster) -> Result<Held, String> {
    let mut all = Held::new();
    for node in NODES {
        for (what, count) in held(cluster, node)? {
            *all.entry(what).or_default() += count;
        }
    }
    Ok(all)
}

/// What is held once that is as it is to be. The engine forgets a consumer some time after the last who listened, and later where
/// its own node was away.
fn settled(cluster: &Cluster, is_so: impl Fn(&Held) -> bool) -> Held {
    let mut last = Held::new();
    wait("end of all that was begun", 60, || {
        last = held_by_all(cluster)?;
        holds(is_so(&last), format!("{last:?}"))
    });
    last
}

/// Uses the cluster as `chaos` does, while `work` is done; how long that took, and what the load has written down.
fn used_while(cluster: &Cluster, work: impl FnOnce()) -> (Duration, Vec<Value>) {
    // How each node is reached is what `chaos` would tell its load.
    let shown = cluster.xtask(&["chaos", "--local", "--state", cluster.state.to_str().unwrap(), "--json"]);
    let schedule: Value = serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| panic!("{}", said(&shown)));
    let (nodes, ca) = (&schedule["load"], cluster.ca());
    let orders = json!({ "schema": 4, "seed": 1, "run": "restarts", "seconds": 300, "nodes": nodes, "ca_file": ca });
    let mut load = Command::new(Build::Real.path())
        .args(["load", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = load.stdin.take().unwrap();
    writeln!(stdin, "{orders}").unwrap();
    let (lines, written) = mpsc::channel::<Value>();
    let output = BufReader::new(load.stdout.take().unwrap());
    let reader = thread::spawn(move || {
        for line in output.lines() {
            lines.send(serde_json::from_str(&line.unwrap()).unwrap()).unwrap();
        }
    });
    let ready = || written.recv_timeout(Duration::from_secs(60)).expect("the load does not begin")["event"] == "ready";
    while !ready() {}
    let begun = Instant::now();
    work();
    let took = begun.elapsed();
    drop(stdin);
    let history: Vec<Value> = written.iter().collect();
    reader.join().unwrap();
    assert!(load.wait().unwrap().success(), "{:?}", history.last());
    (took, history)
}

/// Whether every register is, on every node, at least where an acknowledgement has put it. Returns how many there were.
fn nothing_is_lost(history: &[Value]) -> usize {
    let at_end = history.iter().position(|line| line["event"] == "reading-back").expect("what is there at the end");
    let of = |line: &Value| -> (String, u64, String) {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        (text("key"), line["revision"].as_u64().unwrap(), text("value"))
    };
    let acknowledged = |kind: &str| -> Vec<&Value> {
        history.iter().filter(|line| line["kind"] == kind && line["outcome"] == "ok").collect()
    };
    let writes = acknowledged("write");
    let replaced: BTreeSet<_> =
        writes.iter().map(|w| (w["key"].to_string(), w["expected"].as_u64().unwrap())).collect();
    assert_eq!(replaced.len(), writes.len(), "two acknowledged writes have replaced the same revision");
    let finals: Vec<_> =
        history[at_end..].iter().filter(|line| line["kind"] == "read" && line["outcome"] == "ok").map(of).collect();
    let failed = || history[at_end..].iter().find(|line| line["kind"] == "read" && line["outcome"] != "ok");
    assert_eq!(finals.len(), REGISTERS * NODES.len(), "not everything was read back: {:?}", failed());
    for (key, revision, value) in writes.iter().map(|write| of(write)) {
        for (_, now, found) in finals.iter().filter(|read| read.0 == key) {
            let there = *now > revision || (*now == revision && *found == value);
            assert!(there, "{value} was acknowledged at {revision}; {key} is {found} at {now}");
        }
    }
    for kind in ["write", "connect", "message", "api_write"] {
        assert!(acknowledged(kind).len() >= 30, "too few of {kind}: {}", acknowledged(kind).len());
    }
    writes.len()
}
