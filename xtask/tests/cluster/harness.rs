//! A cluster for one test, and the ways to look at it and to break it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Client;
use rustix::process::{Pid, Signal, kill_process};

pub(crate) const NODES: [&str; 3] = ["magnus", "homer", "datardos"];

/// Which build of the daemon a cluster runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Build {
    Real,
    /// With the cargo feature `fault-injection`.
    Faults,
    /// That of the release before.
    #[allow(dead_code, reason = "the tests of an upgrade start it")]
    Previous,
}

impl Build {
    pub(crate) fn path(self) -> PathBuf {
        let variable = match self {
            Build::Real => "UNIBUS_TEST_MEMBERSHIPD",
            Build::Faults => "UNIBUS_TEST_MEMBERSHIPD_FAULTS",
            Build::Previous => "UNIBUS_TEST_PREVIOUS",
        };
        let path = std::env::var_os(variable).map(PathBuf::from);
        path.unwrap_or_else(|| panic!("{variable} names no daemon; remedy: cargo xtask test builds it and sets this"))
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

pub(crate) struct Cluster {
    pub(crate) state: PathBuf,
    pub(crate) base: Ipv4Addr,
    _address: TcpListener,
    _room: Room,
}

/// A listener on this port says that the addresses are taken. No node uses it, and an ordinary user may.
const CLAIM: u16 = 4249;

/// How much of this machine's time a test takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// It waits nearly all the time: for elections, leases, starts.
    Waits,
    /// A load uses its cluster without a pause. What its clients notice is judged, so few of these go on at once.
    Loads,
    /// The same for longer than a minute and a half on a quiet machine. These begin first, or all would wait for the last one.
    LoadsLong,
}

impl Work {
    /// Clusters of this kind at once. One under load takes half a processor, one that waits a tenth of one, so these leave two
    /// processors some time to spare: judged is the cluster, not a machine that has none.
    const fn most(self) -> usize {
        match self {
            Work::Waits => 4,
            Work::Loads | Work::LoadsLong => 3,
        }
    }
}

/// Who is there now, and who waits to be.
struct Clusters {
    waiting_ones: usize,
    under_load: usize,
    long_ones_to_come: usize,
}

impl Clusters {
    const fn of(&mut self, work: Work) -> &mut usize {
        match work {
            Work::Waits => &mut self.waiting_ones,
            Work::Loads | Work::LoadsLong => &mut self.under_load,
        }
    }

    const fn have_room(&mut self, work: Work) -> bool {
        *self.of(work) < work.most() && !(matches!(work, Work::Loads) && self.long_ones_to_come > 0)
    }
}

static CLUSTERS: (Mutex<Clusters>, Condvar) =
    (Mutex::new(Clusters { waiting_ones: 0, under_load: 0, long_ones_to_come: 0 }), Condvar::new());

/// A cluster's place on this machine.
struct Room(Work);

impl Room {
    fn wait(work: Work) -> Self {
        let (clusters, changed) = &CLUSTERS;
        let long = usize::from(work == Work::LoadsLong);
        let mut clusters = clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.long_ones_to_come += long;
        while !clusters.have_room(work) {
            clusters = changed.wait(clusters).unwrap_or_else(PoisonError::into_inner);
        }
        clusters.long_ones_to_come -= long;
        *clusters.of(work) += 1;
        changed.notify_all();
        Self(work)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let (clusters, changed) = &CLUSTERS;
        *clusters.lock().unwrap_or_else(PoisonError::into_inner).of(self.0) -= 1;
        changed.notify_all();
    }
}

/// A cluster that several tests look at; the last of them takes it down.
pub(crate) struct Shared(Arc<Cluster>);

/// A static is never dropped, so it does not keep the cluster: only the tests do.
static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

impl Shared {
    /// The cluster, which the first to ask brings up. Whoever has it may add users and connect, but must not break anything.
    pub(crate) fn cluster() -> Self {
        // Poisoned means that it did not come up: the next test that asks tries again.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        Self(shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Cluster::start(Build::Real));
            *shared = Arc::downgrade(&cluster);
            cluster
        }))
    }
}

impl Deref for Shared {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Where this is the last one, the cluster tells it by itself.
        if Arc::strong_count(&self.0) > 1 {
            self.0.tell_why();
        }
    }
}

impl Cluster {
    /// A verified cluster.
    pub(crate) fn start(build: Build) -> Self {
        Self::reserve(Work::Waits).started(build)
    }

    /// A verified cluster that a load is going to use.
    pub(crate) fn start_for(work: Work, build: Build) -> Self {
        Self::reserve(work).started(build)
    }

    fn started(self, build: Build) -> Self {
        let cluster = self;
        let up = cluster.up(build, &[]);
        assert!(up.status.success(), "{}", said(&up));
        cluster
    }

    /// A directory and three addresses that no other test has, of this or another run.
    pub(crate) fn reserve(work: Work) -> Self {
        let room = Room::wait(work);
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let [high, low] = u16::try_from(std::process::id() % 65_536).unwrap().to_be_bytes();
            let base = Ipv4Addr::new(127, 16 + high % 48, low, u8::try_from(1 + 4 * (number % 60)).unwrap());
            // Held for as long as the cluster: a port that nothing else uses marks the addresses as taken.
            let Ok(address) = TcpListener::bind((base, CLAIM)) else { continue };
            let state = std::env::temp_dir().join(format!("{PREFIX}{}-{number}", std::process::id()));
            fs::create_dir_all(&state).unwrap();
            return Self { state, base, _address: address, _room: room };
        }
    }

    /// `local --detach` with these flags more.
    pub(crate) fn up(&self, build: Build, flags: &[&str]) -> Output {
        let (base, daemon) = (self.base.to_string(), build.path());
        let mut all = vec!["--detach", "--base-address", &base, "--membershipd", daemon.to_str().unwrap()];
        all.extend(flags);
        self.local(&all)
    }

    /// A verb of xtask.
    pub(crate) fn xtask(&self, arguments: &[&str]) -> Output {
        xtask().args(arguments).output().unwrap()
    }

    /// `local` and its subcommands, for this cluster.
    pub(crate) fn local(&self, arguments: &[&str]) -> Output {
        self.xtask(&[&["local", "--state", self.state.to_str().unwrap()], arguments].concat())
    }

    /// A subcommand of `local` that must succeed.
    pub(crate) fn control(&self, arguments: &[&str]) {
        let output = self.local(arguments);
        assert!(output.status.success(), "local {arguments:?}: {}", said(&output));
    }

    /// The verdict of `verify` and its exit code.
    pub(crate) fn verify(&self) -> (Value, Option<i32>) {
        let output = self.xtask(&["verify", "--local", "--state", self.state.to_str().unwrap(), "--json"]);
        let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        (value, output.status.code())
    }

    /// Waits until `verify` is content.
    pub(crate) fn wait_until_verified(&self) {
        wait("a verified cluster", 60, || {
            let (verdict, code) = self.verify();
            if code == Some(0) { Ok(()) } else { Err(failures(&verdict).join("\n")) }
        });
    }

    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.state.join("nodes").join(name)
    }

    pub(crate) fn address(&self, name: &str) -> IpAddr {
        let index = NODES.iter().position(|node| *node == name).unwrap();
        IpAddr::from(Ipv4Addr::from(u32::from(self.base) + u32::try_from(index).unwrap()))
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.state.join("tls/ca.crt")
    }

    /// A verb of the daemon's binary in a node's directory.
    pub(crate) fn membershipd(&self, node: &str, arguments: &[&str]) -> Output {
        Command::new(self.node(node).join("membershipd"))
            .args(arguments)
            .env_clear()
            .current_dir(self.node(node))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// `membershipd user …` on a node.
    pub(crate) fn user(&self, node: &str, arguments: &[&str]) -> Output {
        self.membershipd(node, &[&["user"], arguments, &["--runtime-dir", "run"]].concat())
    }

    /// The posture of a node whose daemon answers.
    pub(crate) fn posture(&self, node: &str) -> Option<Value> {
        let output = self.membershipd(node, &["status", "--json", "--runtime-dir", "run"]);
        serde_json::from_slice(&output.stdout).ok().filter(|posture: &Value| posture["node"] == node)
    }

    /// A node's processes: daemon and engine.
    pub(crate) fn pids(&self, node: &str) -> (u32, u32) {
        let output = self.local(&["ps", "--json"]);
        let ps: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        let nodes = ps["nodes"].as_array().unwrap();
        let daemon = nodes.iter().find(|n| n["name"] == node).unwrap()["pid"].as_u64().unwrap();
        let engine = self.posture(node).unwrap()["engine"]["pid"].as_u64().unwrap();
        (u32::try_from(daemon).unwrap(), u32::try_from(engine).unwrap())
    }

    pub(crate) fn log(&self, node: &str) -> String {
        fs::read_to_string(self.node(node).join("log")).unwrap_or_default()
    }

    /// Sets variables in a node's cluster.env (an empty value: takes it out) and restarts the node.
    pub(crate) fn reconfigure(&self, node: &str, settings: &[(&str, &str)]) {
        self.set_env(node, settings);
        self.control(&["restart", node]);
    }

    /// Restarts all nodes, of the test build, with these safeguards switched off, and waits until the cluster is well but for its
    /// posture, which names them.
    pub(crate) fn without(&self, safeguards: &str) {
        std::thread::scope(|scope| {
            for node in NODES {
                scope.spawn(move || self.reconfigure(node, &[("UNIBUS_FAULT", safeguards)]));
            }
        });
        wait("a cluster with a fault", 60, || {
            let failed = failures(&self.verify().0);
            let only_posture = failed.iter().all(|check| check.starts_with("posture@"));
            holds(only_posture && failed.len() == NODES.len(), failed.join(" "))
        });
    }

    pub(crate) fn set_env(&self, node: &str, settings: &[(&str, &str)]) {
        let file = self.node(node).join("cluster.env");
        let mut lines: Vec<String> = fs::read_to_string(&file).unwrap().lines().map(str::to_owned).collect();
        for (name, value) in settings {
            lines.retain(|line| !line.starts_with(&format!("{name}=")));
            if !value.is_empty() {
                lines.push(format!("{name}={value}"));
            }
        }
        fs::write(&file, lines.join("\n") + "\n").unwrap();
    }

    /// The seed of the admin that `local` made.
    pub(crate) fn admin_seed(&self) -> String {
        seed_of(&self.state.join("admin.toml"))
    }

    /// A new identity: its seed, its public key and its nkey.
    pub(crate) fn identity(&self, handle: &str) -> Identity {
        let file = self.state.join(format!("{handle}.toml"));
        let output = self
            .membershipd(NODES[0], &["identity", "new", "--handle", handle, "--out", file.to_str().unwrap(), "--json"]);
        let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        Identity { seed: seed_of(&file), sign_pub: text("sign_pub"), nkey: text("nkey") }
    }

    /// A new user in the cluster.
    pub(crate) fn add_user(&self, node: &str, handle: &str) -> Identity {
        let identity = self.identity(handle);
        let output = self.user(node, &["add", "--handle", handle, "--sign-pub", &identity.sign_pub]);
        assert!(output.status.success(), "{}", said(&output));
        identity
    }

    /// A stock client that connects to a node with a seed; it must be let in.
    pub(crate) fn connected(&self, node: &str, seed: &str) -> Client {
        let mut client = Client::new();
        let answer = client.connect(self, node, seed);
        assert_eq!(answer["ok"], true, "{node}: {answer}");
        client
    }

    /// Whether a node lets somebody in who has this seed.
    pub(crate) fn admits(&self, node: &str, seed: &str) -> bool {
        Client::new().connect(self, node, seed)["ok"] == true
    }
}

impl Cluster {
    /// Shows what the nodes have said last, where a test has failed.
    fn tell_why(&self) {
        if std::thread::panicking() {
            for node in NODES {
                let log = self.log(node);
                let tail: Vec<&str> = log.lines().rev().take(15).collect();
                eprintln!("--- end of the log of {node}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tell_why();
        let _ = self.local(&["--down"]);
        let _ = fs::remove_dir_all(&self.state);
    }
}

/// Names of the clusters' directories begin with this; the process that made them follows.
const PREFIX: &str = "unibus-cluster-";

/// Takes down what an earlier run left because it was killed: clusters whose test process is gone.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let made_by = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        if made_by.is_some_and(|pid: u32| !alive(pid)) {
            let _ = xtask().args(["local", "--down", "--state"]).arg(entry.path()).output();
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

pub(crate) struct Identity {
    pub(crate) seed: String,
    pub(crate) sign_pub: String,
    pub(crate) nkey: String,
}

fn seed_of(identity: &Path) -> String {
    let text = fs::read_to_string(identity).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("sign = \"")).unwrap();
    line.trim_end_matches('"').to_owned()
}

/// The xtask under test, for this clone.
pub(crate) fn xtask() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.env("UNIBUS_ROOT", root()).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

pub(crate) fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("exit {:?}\n{out}\n{err}", output.status.code())
}

/// The failed checks of a verdict, each as `id@node`.
pub(crate) fn failures(verdict: &Value) -> Vec<String> {
    let checks = verdict["checks"].as_array().unwrap();
    let failed = checks.iter().filter(|check| check["ok"] == false);
    failed.map(|check| format!("{}@{}", check["id"].as_str().unwrap(), check["node"].as_str().unwrap())).collect()
}

/// Waits for a condition, which says what is still missing.
pub(crate) fn wait(what: &str, seconds: u64, mut condition: impl FnMut() -> Result<(), String>) -> Duration {
    let started = Instant::now();
    loop {
        match condition() {
            Ok(()) => return started.elapsed(),
            Err(missing) => {
                assert!(started.elapsed() < Duration::from_secs(seconds), "no {what} after {seconds} s: {missing}");
            }
        }
        // Most conditions ask the daemons of a whole cluster: oftener than this it is the asking that takes the machine's time.
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// `Ok` where it holds.
pub(crate) fn holds(condition: bool, missing: impl Into<String>) -> Result<(), String> {
    if condition { Ok(()) } else { Err(missing.into()) }
}

/// Whether a process lives; a zombie does not.
pub(crate) fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}
