//! The supervisor with a small daemon of our own in membershipd's place: what ends, what starts again, what is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{self, Clone, NODES, TOPOLOGY};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A daemon that speaks the notify protocol and has an 'engine' that dies with it, like the real one.
/// Its cluster.env says how it behaves; what it sees is written to files in its directory.
const DAEMON: &str = r#"
import ctypes, json, os, signal, socket, subprocess, sys, time
def say(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
print("line one", file=sys.stderr, flush=True)
if os.environ.get("UNIBUS_TEST_REFUSE"):
    print("flag --bind: it is wrong", file=sys.stderr, flush=True)
    sys.exit(64)
with open("environment.json", "w") as f:
    json.dump(dict(os.environ), f)
def with_me():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
engine = subprocess.Popen(["sleep", "300"], preexec_fn=with_me)
with open("pids.new", "w") as f:
    f.write(f"{os.getpid()} {engine.pid}")
os.rename("pids.new", "pids")
def stop(*_):
    say("STOPPING=1")
    if os.environ.get("UNIBUS_TEST_STUBBORN"):
        return
    engine.kill()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
say("READY=1\nSTATUS=up")
while True:
    if not os.path.exists("silent"):
        say("WATCHDOG=1")
    if os.path.exists("die"):
        os.remove("die")
        print("last words", file=sys.stderr, flush=True)
        os._exit(3)
    time.sleep(0.1)
"#;

/// A supervisor with three nodes; everything ends with the value.
struct Cluster {
    clone: Clone,
    state: PathBuf,
    supervisor: Child,
    lifeline: Option<ChildStdin>,
}

impl Cluster {
    fn start(env: &str) -> Self {
        Self::start_in(env, "state")
    }

    fn start_in(env: &str, dir: &str) -> Self {
        let clone = Clone::new();
        let state = clone.path(dir);
        clone.write(&format!("{dir}/nodes.toml"), TOPOLOGY);
        let python = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
        let python = String::from_utf8(python.stdout).unwrap();
        for node in NODES {
            clone.script(&format!("{dir}/nodes/{node}/membershipd"), &format!("#!{}\n{DAEMON}", python.trim()));
            clone.write(&format!("{dir}/nodes/{node}/cluster.env"), format!("# made\nUNIBUS_NODE_NAME={node}\n{env}"));
        }
        let mut command = clone.command(["supervise", "--lifeline", "--state"]);
        command.arg(&state).args(NODES).env("UNIBUS_LEAK", "must not be seen").stdin(Stdio::piped());
        let log = fs::File::create(clone.path("supervisor.log")).unwrap();
        let mut supervisor = command.stderr(log).spawn().unwrap();
        let lifeline = supervisor.stdin.take();
        Self { clone, state, supervisor, lifeline }
    }

    /// All nodes are up.
    fn ready(env: &str) -> Self {
        let cluster = Self::start(env);
        cluster.all_ready();
        cluster
    }

    fn all_ready(&self) {
        self.until("all are ready", |status| NODES.iter().all(|node| phase(status, node) == "ready"));
    }

    fn local(&self, line: &str) -> common::Done {
        let mut words = vec!["local", "--state", self.state.to_str().unwrap()];
        words.extend(line.split_whitespace());
        common::Done::of(self.clone.command(words))
    }

    fn status(&self) -> Option<Value> {
        let done = self.local("ps --json");
        (done.code == Some(0)).then(|| serde_json::from_str(&done.stdout).unwrap())
    }

    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..600 {
            if let Some(status) = self.status() {
                if holds(&status) {
                    return status;
                }
                last = status;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let log = self.clone.read("supervisor.log");
        panic!("not within 30 s: {what}; last seen: {last}\n{log}");
    }

    fn node(&self, node: &str) -> PathBuf {
        self.state.join("nodes").join(node)
    }

    /// The daemon and its engine.
    fn pids(&self, node: &str) -> [u32; 2] {
        let text = fs::read_to_string(self.node(node).join("pids")).unwrap();
        let pids: Vec<u32> = text.split(' ').map(|pid| pid.parse().unwrap()).collect();
        [pids[0], pids[1]]
    }

    fn all_pids(&self) -> Vec<u32> {
        NODES.iter().flat_map(|node| self.pids(node)).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let begun = Instant::now();
        while self.supervisor.try_wait().unwrap().is_none() {
            if begun.elapsed() > Duration::from_secs(20) {
                let _ = self.supervisor.kill();
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn find<'a>(status: &'a Value, node: &str) -> &'a Value {
    status["nodes"].as_array().unwrap().iter().find(|found| found["name"] == node).unwrap()
}

fn phase<'a>(status: &'a Value, node: &str) -> &'a str {
    find(status, node)["phase"].as_str().unwrap()
}

/// Whether a process runs; one that has ended but is not reaped does not.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, after)| !after.starts_with(['Z', 'X']))
}

fn state_of(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

#[track_caller]
fn all_gone(pids: &[u32], within: Duration) {
    let begun = Instant::now();
    while pids.iter().any(|&pid| runs(pid)) {
        assert!(begun.elapsed() < within, "still running: {:?}", pids.iter().filter(|&&pid| runs(pid)));
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_daemon_sees_its_cluster_env_and_nothing_of_ours() {
    let cluster = Cluster::ready("UNIBUS_TEST_X=a b\n");
    let seen: Value = serde_json::from_slice(&fs::read(cluster.node("b").join("environment.json")).unwrap()).unwrap();
    let mut names: Vec<&str> = seen.as_object().unwrap().keys().map(String::as_str).collect();
    // Python's own doing, where the locale is C.
    names.retain(|name| *name != "LC_CTYPE");
    names.sort_unstable();
    assert_eq!(names, ["NOTIFY_SOCKET", "PATH", "UNIBUS_NODE_NAME", "UNIBUS_TEST_X", "WATCHDOG_USEC"]);
    assert_eq!(seen["UNIBUS_NODE_NAME"], "b");
    assert_eq!(seen["UNIBUS_TEST_X"], "a b");
    assert_eq!(seen["WATCHDOG_USEC"], "10000000");
}

#[test]
fn stop_start_and_restart_do_what_they_say() {
    let cluster = Cluster::ready("");
    let before = cluster.pids("b");
    let done = cluster.local("stop b");
    assert_eq!(done.stdout, "b: stopped\n", "{done:?}");
    all_gone(&before, Duration::from_secs(2));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(phase(&cluster.status().unwrap(), "b"), "stopped", "what was stopped on purpose stays down");
    assert_eq!(cluster.local("start b --no-wait").code, Some(0));
    let again = cluster.pids("b");
    assert_ne!(before, again);
    assert_eq!(cluster.local("restart b --no-wait").code, Some(0));
    assert_ne!(again, cluster.pids("b"));
    let done = cluster.local("stop nobody");
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("this cluster has a, b, c"), "{done:?}");
}

#[test]
fn what_ends_by_itself_is_started_again_and_its_last_words_are_kept() {
    let cluster = Cluster::ready("");
    fs::write(cluster.node("a").join("die"), "").unwrap();
    let status = cluster.until("a was started twice", |status| find(status, "a")["starts"] == 2);
    assert_eq!(find(&status, "a")["last_exit"], "exit code 3");
    cluster.all_ready();
    let done = cluster.local("logs a");
    assert_eq!(done.stdout, "line one\nlast words\nline one\n");
}

#[test]
fn a_kill_takes_the_engine_along() {
    let cluster = Cluster::ready("");
    let before = cluster.pids("c");
    assert_eq!(cluster.local("kill c --stay-down").stdout, "c: stopped\n");
    all_gone(&before, Duration::from_secs(2));
    assert_eq!(cluster.local("start c --no-wait").code, Some(0));
    let before = cluster.pids("c");
    assert_eq!(cluster.local("kill c").code, Some(0));
    all_gone(&before, Duration::from_secs(2));
    cluster.all_ready();
    assert_ne!(before, cluster.pids("c"));
}

#[test]
fn silence_is_ended_by_the_watchdog() {
    let cluster = Cluster::ready("");
    let before = cluster.pids("a");
    fs::write(cluster.node("a").join("silent"), "").unwrap();
    let begun = Instant::now();
    thread::sleep(Duration::from_secs(8));
    assert!(runs(before[0]), "killed after {:?}", begun.elapsed());
    cluster.until("the watchdog ended it", |status| {
        find(status, "a")["last_exit"].as_str().is_some_and(|exit| exit.contains("watchdog"))
    });
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    all_gone(&before, Duration::from_secs(2));
}

#[test]
fn a_frozen_node_stands_still_with_its_engine_until_thawed_or_watched() {
    let cluster = Cluster::ready("");
    let before = cluster.pids("b");
    assert!(cluster.local("freeze b").stdout.contains("frozen"));
    assert_eq!(before.map(state_of), ['T', 'T']);
    assert_eq!(cluster.local("thaw b --no-wait").code, Some(0));
    thread::sleep(Duration::from_secs(1));
    assert!(!before.map(state_of).contains(&'T'));
    cluster.local("freeze b");
    cluster.until("the watchdog ended it", |status| find(status, "b")["starts"] == 2);
    all_gone(&before, Duration::from_secs(2));
    assert_eq!(find(&cluster.status().unwrap(), "b")["frozen"], false);
}

#[test]
fn a_frozen_node_can_be_stopped() {
    let cluster = Cluster::ready("");
    cluster.local("freeze b");
    let begun = Instant::now();
    assert_eq!(cluster.local("stop b").stdout, "b: stopped\n");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_refused_configuration_is_reported_and_not_tried_again() {
    let cluster = Cluster::start("UNIBUS_TEST_REFUSE=1\n");
    cluster.until("all have failed", |status| NODES.iter().all(|node| phase(status, node) == "failed"));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(find(&cluster.status().unwrap(), "a")["starts"], 1);
    let done = cluster.local("start a --no-wait");
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("exit code 64") && done.stderr.contains("--bind: it is wrong"), "{done:?}");
    cluster.clone.write("state/nodes/a/cluster.env", "UNIBUS_NODE_NAME=a\nnonsense\n");
    let done = cluster.local("start a --no-wait");
    assert!(done.stderr.contains("cluster.env:2"), "{done:?}");
    cluster.clone.write("state/nodes/a/cluster.env", "UNIBUS_NODE_NAME=a\n");
    assert_eq!(cluster.local("start a --no-wait").code, Some(0));
}

#[test]
fn when_the_supervisor_is_killed_nothing_is_left() {
    let mut cluster = Cluster::ready("");
    let pids = cluster.all_pids();
    cluster.supervisor.kill().unwrap();
    cluster.supervisor.wait().unwrap();
    all_gone(&pids, Duration::from_secs(2));
    let done = cluster.local("ps");
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("no local cluster runs"), "{done:?}");
    assert!(cluster.state.join("sockets").exists(), "a kill leaves the sockets");
    let done = cluster.local("--down");
    assert_eq!(done.code, Some(0));
    assert!(done.stdout.contains("no local cluster runs"), "{done:?}");
    assert!(!cluster.state.join("sockets").exists());
}

#[test]
fn when_the_lifeline_ends_everything_does() {
    let mut cluster = Cluster::ready("");
    let pids = cluster.all_pids();
    drop(cluster.lifeline.take());
    all_gone(&pids, Duration::from_secs(5));
    assert!(cluster.supervisor.wait().unwrap().success());
    assert!(!cluster.state.join("sockets").exists());
}

#[test]
fn down_ends_what_will_not_end_by_itself() {
    let mut cluster = Cluster::ready("UNIBUS_TEST_STUBBORN=1\n");
    let pids = cluster.all_pids();
    let begun = Instant::now();
    let done = cluster.local("--down");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    all_gone(&pids, Duration::from_secs(1));
    assert!(cluster.supervisor.wait().unwrap().success());
}

#[test]
fn a_signal_ends_everything_in_good_order() {
    let mut cluster = Cluster::ready("");
    let pids = cluster.all_pids();
    let pid = Pid::from_raw(cluster.supervisor.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    all_gone(&pids, Duration::from_secs(5));
    assert!(cluster.supervisor.wait().unwrap().success());
}

#[test]
fn there_is_one_supervisor_and_its_state_may_lie_deep() {
    // A socket's path has 107 bytes at most.
    let deep = format!("{}/{}", "a".repeat(60), "b".repeat(60));
    let cluster = Cluster::start_in("", &deep);
    cluster.all_ready();
    let mut second = cluster.clone.command(["supervise", "--state"]);
    second.arg(&cluster.state).args(NODES).stdin(Stdio::null());
    let done = common::Done::of(second);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("another supervisor runs"), "{done:?}");
    assert!(private(&cluster.state.join("sockets")));
    assert!(private(&cluster.node("a").join("log")));
}

fn private(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode().trailing_zeros() >= 6
}
