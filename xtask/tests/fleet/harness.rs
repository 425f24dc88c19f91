//! A fleet for a test, and what this host looks like while it is up and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Clone, Done, program};
use rustix::process::{Pid, Signal, kill_process};

const UNIT: &str = include_str!("../../../deploy/membershipd-cluster.service");
const SHIPPED: &str = include_str!("../../../deploy/nodes.toml");

/// What is waited for comes within this, or never.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The clone under test, whose cache has the machines' base tree.
pub(crate) fn clone() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A path for a scratch directory, on the disk that has the target directory: machines' disks lie in it.
pub(crate) fn scratch(name: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{number}", std::process::id()))
}

/// A clone to rehearse from, placeholders and all. Its machines begin as the base tree that the real clone has.
pub(crate) fn ready() -> Clone {
    let engine = std::env::var_os("UNIBUS_TEST_ENGINE");
    let engine =
        engine.map(PathBuf::from).unwrap_or_else(|| panic!("UNIBUS_TEST_ENGINE is not set; run: cargo xtask test"));
    let clone = Clone::new();
    clone.write("deploy/nodes.toml", SHIPPED);
    clone.write("deploy/membershipd-cluster.service", UNIT);
    clone.write("deploy/standalone.conf", include_str!("../../../deploy/standalone.conf"));
    let cached = clone.path("deploy/build/engine/2.15.1/nats-server");
    fs::create_dir_all(cached.parent().unwrap()).unwrap();
    fs::copy(engine, cached).unwrap();
    let cache = self::clone().join("deploy/build/rehearse");
    fs::create_dir_all(&cache).unwrap();
    std::os::unix::fs::symlink(cache, clone.path("deploy/build/rehearse")).unwrap();
    // It says its version to everything: what a server checks of it before a start succeeds, and no identity is made.
    program(&clone, "membershipd 0.1.0", &["-static", "-s"]);
    clone
}

/// A clone from which these machines can be staged with this program.
pub(crate) fn made_for(machines: &Machines, program: &str) -> Clone {
    let clone = ready();
    clone.write("deploy/nodes.toml", fs::read(machines.dir.join("nodes.toml")).unwrap());
    for verb in ["client-ca", "cluster-certs", "secrets", &format!("build --from {program}")] {
        clone.ok(verb);
    }
    clone
}

/// The real binary.
pub(crate) fn xtask(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.current_dir(clone()).env_remove("UNIBUS_ROOT").env_remove("CARGO_MANIFEST_DIR");
    command.args(words).stdin(Stdio::null());
    command
}

/// Waits for a condition.
pub(crate) fn wait(what: &str, met: impl Fn() -> bool) {
    wait_for(what, met, String::new);
}

/// Waits for a condition, and tells how it is instead when it does not come.
fn wait_for(what: &str, met: impl Fn() -> bool, instead: impl Fn() -> String) {
    let deadline = Instant::now() + SOON;
    while !met() {
        assert!(Instant::now() < deadline, "not within {} s: {what}\n{}", SOON.as_secs(), instead());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Machines at once: a host has only so many inotify instances for root, and others may have machines too.
const MOST: usize = 9;
static RUNNING: Mutex<usize> = Mutex::new(0);
static FEWER: Condvar = Condvar::new();

/// The right to have a number of machines.
pub(crate) struct Room(usize);

impl Room {
    /// Waits until other tests have few enough.
    pub(crate) fn for_machines(count: usize) -> Self {
        let running = RUNNING.lock().unwrap();
        let mut running = FEWER.wait_while(running, |running| *running + count > MOST).unwrap();
        *running += count;
        Self(count)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap() -= self.0;
        FEWER.notify_all();
    }
}

/// A fleet that goes with the test.
pub(crate) struct Machines {
    pub(crate) dir: PathBuf,
    _room: Room,
}

impl Machines {
    /// Three machines of the shipped topology.
    pub(crate) fn up(name: &str) -> Self {
        Self::of(name, &clone().join("deploy/nodes.toml"), Room::for_machines(3))
    }

    /// The machines of a topology.
    pub(crate) fn of(name: &str, topology: &Path, room: Room) -> Self {
        let machines = Self::none(name, room);
        machines.ok(&["--topology", topology.to_str().unwrap(), "up"]);
        machines
    }

    /// A place for machines.
    pub(crate) fn none(name: &str, room: Room) -> Self {
        Self { dir: scratch(name), _room: room }
    }

    pub(crate) fn run(&self, words: &[&str]) -> Done {
        let fleet = ["fleet", "--dir", self.dir.to_str().unwrap()];
        Done::of(xtask(&[&fleet, words].concat()))
    }

    /// What must succeed; returns what it prints.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let done = self.run(words);
        assert_eq!(done.code, Some(0), "{words:?}: {done:?}");
        done.stdout
    }

    /// What must be refused; returns why.
    pub(crate) fn refused(&self, words: &[&str]) -> String {
        let done = self.run(words);
        assert_eq!(done.code, Some(2), "{words:?}: {done:?}");
        done.stderr
    }

    /// A shell script on a machine.
    pub(crate) fn on(&self, node: &str, script: &str) -> Done {
        self.run(&["ssh", node, script])
    }

    /// Whether one machine reaches an address.
    pub(crate) fn pings(&self, node: &str, address: &str) -> bool {
        self.on(node, &format!("ping -q -c 1 -W 1 {address}")).code == Some(0)
    }

    /// Whether the operator's ssh reaches a host.
    pub(crate) fn answers(&self, host: &str) -> bool {
        self.run(&["sh", "ssh", "-o", "ConnectTimeout=2", "-o", "BatchMode=yes", host, "true"]).code == Some(0)
    }

    /// What the holder says of a machine.
    pub(crate) fn status(&self, node: &str) -> Value {
        let said: Value = serde_json::from_str(&self.ok(&["status", "--json"])).unwrap();
        said["nodes"].as_array().unwrap().iter().find(|one| one["name"] == node).unwrap().clone()
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        // A test that failed is the news, not what it could not take down.
        let _ = self.run(&["down"]);
    }
}

/// What one fleet is to this host while it is up.
#[derive(Debug)]
pub(crate) struct Traces {
    dir: PathBuf,
    cgroup: String,
    pub(crate) keeper: u32,
    pub(crate) holder: u32,
    /// Process and when it began: a number is used again.
    processes: BTreeSet<(i32, String)>,
    /// What everybody sees, before.
    host: Host,
}

/// What a fleet must not change of this host at any moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    mounts: String,
    netns: Vec<String>,
    interfaces: Vec<String>,
    ssh: Vec<String>,
}

impl Host {
    pub(crate) fn look() -> Self {
        let names = |dir: &str| {
            let mut names: Vec<String> = fs::read_dir(dir)
                .map(|all| all.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect())
                .unwrap_or_default();
            names.sort();
            names
        };
        Self {
            mounts: fs::read_to_string("/proc/self/mountinfo").unwrap(),
            netns: names("/run/netns"),
            interfaces: names("/sys/class/net"),
            ssh: names("/root/.ssh"),
        }
    }
}

impl Traces {
    /// Looks at a fleet that is up. `host` is from before.
    pub(crate) fn of(dir: &Path, host: Host) -> Self {
        let dir = dir.canonicalize().unwrap();
        let cgroup = fs::read_to_string(dir.join("unibus-fleet")).unwrap().trim().to_owned();
        assert!(!cgroup.is_empty());
        let home = cgroups(&cgroup);
        assert_eq!(home.len(), 1, "one cgroup a fleet: {home:?}");
        let mut pids: BTreeSet<i32> = BTreeSet::new();
        collect(&home[0], &mut pids);
        let named = processes_of(&dir);
        let one = |place: usize, word: &str| -> u32 {
            let found = named.iter().find(|(_, words)| {
                words.get(1).is_some_and(|verb| verb == "fleet") && words.get(place).is_some_and(|it| it == word)
            });
            found.unwrap_or_else(|| panic!("no {word} among {named:?}")).0.unsigned_abs()
        };
        let (keeper, holder) = (one(4, "keep"), one(2, "hold"));
        pids.extend(named.iter().map(|(pid, _)| *pid));
        let spaces: BTreeSet<String> = pids.iter().flat_map(|pid| namespaces(*pid)).collect();
        let spaces: BTreeSet<String> = spaces.difference(&namespaces_of_self()).cloned().collect();
        // Of every kind the fleet's own, and on top those of at least one machine.
        assert!(pids.len() > 8 && spaces.len() >= 12, "{pids:?} {spaces:?}");
        // What came in from outside, such as an operator's command. Whether it is inside is asked while the namespaces live: the
        // kernel gives the numbers of dead ones to new ones, of anybody.
        pids.extend(all_pids().into_iter().filter(|pid| namespaces(*pid).iter().any(|space| spaces.contains(space))));
        let processes = pids.into_iter().filter_map(|pid| Some((pid, began(pid)?))).collect();
        Self { dir, cgroup, keeper, holder, processes, host }
    }

    /// Waits until no process or mount of the fleet is left; its cgroup and directory may be.
    pub(crate) fn wait_until_dead(&self) {
        let left = || -> Vec<i32> {
            // Also what came since we looked: what a process in the cgroup starts is there, too.
            let mut pids = BTreeSet::new();
            cgroups(&self.cgroup).iter().for_each(|cgroup| collect(cgroup, &mut pids));
            let looked_at = self.processes.iter().filter(|(pid, then)| began(*pid).as_ref() == Some(then));
            pids.into_iter().filter(|pid| began(*pid).is_some()).chain(looked_at.map(|(pid, _)| *pid)).collect()
        };
        let told = || left().into_iter().map(told).collect::<Vec<_>>().join("\n");
        wait_for("its processes end", || left().is_empty(), told);
        assert_eq!(Host::look(), self.host);
    }

    /// Waits until nothing at all is left.
    pub(crate) fn wait_until_gone(&self) {
        self.wait_until_dead();
        wait("its directory goes", || !self.dir.exists());
        wait("its cgroup goes", || cgroups(&self.cgroup).is_empty());
        wait("its keeper ends", || processes_of(&self.dir).is_empty());
    }

    /// Whether its directory and cgroup are still there.
    pub(crate) fn is_left_over(&self) -> bool {
        self.dir.exists() && !cgroups(&self.cgroup).is_empty()
    }
}

/// Signals one process.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// Every process that was started with the directory, or something in it, among its words.
pub(crate) fn processes_of(dir: &Path) -> Vec<(i32, Vec<String>)> {
    let dir = dir.to_str().unwrap();
    let of = |pid: i32| -> Option<(i32, Vec<String>)> {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<String> = String::from_utf8_lossy(&line).split('\0').map(str::to_owned).collect();
        let ours = words.iter().any(|word| word.split('=').next_back().is_some_and(|word| word.starts_with(dir)));
        (ours && Some(pid) != i32::try_from(std::process::id()).ok()).then_some((pid, words))
    };
    all_pids().into_iter().filter_map(of).collect()
}

fn all_pids() -> Vec<i32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok()).collect()
}

/// When a process began, unless it has ended: a zombie is only a number.
fn began(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    (fields[0] != "Z").then(|| fields[19].to_owned())
}

/// A process in words.
fn told(pid: i32) -> String {
    let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    format!("{} {}", String::from_utf8_lossy(&file("cmdline")), String::from_utf8_lossy(&file("cgroup")))
        .replace(['\0', '\n'], " ")
}

fn namespaces(pid: i32) -> Vec<String> {
    ["net", "mnt", "pid", "ipc", "uts", "cgroup"]
        .iter()
        .filter_map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect()
}

fn namespaces_of_self() -> BTreeSet<String> {
    namespaces(i32::try_from(std::process::id()).unwrap()).into_iter().collect()
}

/// Every cgroup of that name, in all hierarchies.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == name {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    found
}

fn collect(cgroup: &Path, pids: &mut BTreeSet<i32>) {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids);
        }
    }
}
