//! How long `stage` takes beside the bare tools and beside pyinfra: ratios of one run on three machines. A benchmark, so it is
//! ignored unless asked for, and says how it stands to what is wanted instead of failing. It needs what `cargo xtask build` has
//! built, and pyinfra where PATH or PYTHONPATH finds it, without which that column is missing:
//! `cargo test -p xtask --test fleet -- --ignored --nocapture ratios`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Machines, made_for};

/// All that is measured is measured so often, in turn, and the median counts: other work disturbs all alike.
const ROUNDS: usize = 3;
/// Longer than xtask's connections outlive it: each run shall make its own, as the others do.
const CONNECTIONS_END: Duration = Duration::from_secs(11);
/// Test addresses (RFC 5737). What is measured is wiped first, so no other machine may be meant.
const MACHINES: &str = "198.51.100.";
const BARE: &str = "/opt/bare";
const PYINFRA: &str = "/opt/pyinfra";

struct Node {
    ssh: String,
    /// File here, path below the install directory, owner, mode.
    files: Vec<(PathBuf, String, String, String)>,
}

fn stage(clone: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.current_dir(clone).env_remove("UNIBUS_ROOT").arg("stage").args(args);
    command
}

/// The machines and their files, as the plan has them.
fn nodes(clone: &Path) -> Vec<Node> {
    let text = fs::read_to_string(clone.join("deploy/nodes.toml")).unwrap();
    let topology: toml::Table = text.parse().unwrap();
    let out = stage(clone, &["--json"]).output().unwrap();
    let plan: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {out:?}"));
    let nodes = topology["node"].as_array().unwrap().iter().map(|node| {
        let word = |key: &str| node[key].as_str().unwrap().to_owned();
        assert!(word("public").starts_with(MACHINES), "{} is no rehearsal machine", word("name"));
        let steps = plan["steps"].as_array().unwrap().iter().filter(|step| step["node"] == word("name").as_str());
        let files = steps.filter(|step| step["effect"]["kind"] == "sync_files").flat_map(|step| {
            let effect = &step["effect"];
            let text = |key: &str| effect[key].as_str().unwrap().to_owned();
            let below = text("to").trim_start_matches("/opt/unibus").trim_start_matches('/').to_owned();
            let files = effect["files"].as_array().unwrap().iter();
            let files: Vec<_> = files
                .map(|file| (clone.join(file["from"].as_str().unwrap()), below.clone(), text("owner"), text("mode")))
                .collect();
            files
        });
        let mut files: Vec<_> = files.collect();
        let unit = clone.join("deploy/membershipd-cluster.service");
        files.push((unit, "unit".to_owned(), "root:root".to_owned(), "0644".to_owned()));
        Node { ssh: word("ssh"), files }
    });
    nodes.collect()
}

fn ok(mut command: Command) {
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn ssh(host: &str, script: &str) {
    let mut command = Command::new("ssh");
    command.args(["-o", "BatchMode=yes", host, script]);
    ok(command);
}

fn everywhere(nodes: &[Node], work: impl Fn(&Node) + Sync) {
    thread::scope(|scope| {
        for node in nodes {
            scope.spawn(|| work(node));
        }
    });
}

/// Makes the machines forget all of it.
fn wipe(nodes: &[Node]) {
    everywhere(nodes, |node| {
        let unit = "/etc/systemd/system/membershipd-cluster.service";
        ssh(
            &node.ssh,
            &format!("rm -rf /opt/unibus {BARE} {PYINFRA} {unit}; systemctl daemon-reload; userdel unibus || true"),
        );
    });
}

/// The least that anybody could do: one ssh and one rsync a machine, side by side.
fn bare(nodes: &[Node], trees: &Path) {
    everywhere(nodes, |node| {
        ssh(&node.ssh, &format!("mkdir -p {BARE}; id unibus >/dev/null 2>&1 || useradd --system unibus"));
        let mut rsync = Command::new("rsync");
        let from = format!("{}/", trees.join(&node.ssh).display());
        rsync.args(["-a", "-e", "ssh -o BatchMode=yes", &from, &format!("{}:{BARE}/", node.ssh)]);
        ok(rsync);
    });
}

fn trees(nodes: &[Node], at: &Path) {
    for node in nodes {
        for (from, below, _, mode) in &node.files {
            let dir = at.join(&node.ssh).join(below);
            fs::create_dir_all(&dir).unwrap();
            let mut install = Command::new("install");
            install.args(["-m", mode]).arg(from).arg(dir);
            ok(install);
        }
    }
}

/// The same files, user and unit as a pyinfra deploy.
fn pyinfra_deploy(nodes: &[Node], at: &Path) {
    let mut deploy = "from pyinfra import host\nfrom pyinfra.operations import files, server, systemd\n\
                      server.user(name='user', user='unibus', system=True, home='/opt/unibus', shell='/usr/sbin/nologin')\n\
                      for src, dest, user, group, mode in FILES[host.name]:\n    \
                      files.put(name=dest, src=src, dest=dest, user=user, group=group, mode=mode, create_remote_dir=True)\n"
        .to_owned();
    let mut table = "FILES = {\n".to_owned();
    for node in nodes {
        writeln!(table, "  '{}': [", node.ssh).unwrap();
        for (from, below, owner, mode) in &node.files {
            let name = from.file_name().unwrap().to_str().unwrap();
            let (user, group) = owner.split_once(':').unwrap();
            let dest = format!("{PYINFRA}/{below}/{name}");
            let from = from.canonicalize().unwrap();
            writeln!(table, "    ('{}', '{dest}', '{user}', '{group}', '{mode}'),", from.display()).unwrap();
        }
        table.push_str("  ],\n");
    }
    deploy.insert_str(0, &format!("{table}}}\n"));
    fs::write(at.join("deploy.py"), deploy).unwrap();
    let hosts: Vec<String> = nodes.iter().map(|node| format!("'{}'", node.ssh)).collect();
    fs::write(at.join("inventory.py"), format!("hosts = [{}]\n", hosts.join(", "))).unwrap();
}

fn pyinfra(at: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("python3");
    command.current_dir(at).args(["-m", "pyinfra"]).args(args);
    command
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

/// Not a number where nothing was measured.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(f64::NAN, Duration::as_secs_f64)
}

/// Says how a figure stands to what is wanted.
fn judged(what: &str, is: f64, most: f64) {
    let word = if is <= most { "within" } else { "OVER" };
    println!("{what}: {is:.2}, {word} {most:.2}");
}

/// Names the clone to the part that runs at the operator's place.
const CLONE: &str = "UNIBUS_RATIOS_CLONE";

#[test]
#[ignore = "a benchmark: two minutes, and nothing else should run beside it"]
fn ratios() {
    let machines = Machines::up("ratios");
    let built = crate::harness::clone().join("deploy/build/membershipd");
    let clone = made_for(&machines, built.to_str().unwrap());
    let me = std::env::current_exe().unwrap();
    let place = format!("{CLONE}={}", clone.root.display());
    // ssh looks into /etc/passwd for the operator's home, pyinfra into the environment.
    let home = format!("HOME={}", machines.dir.join("home").display());
    let inside = ["--ignored", "--nocapture", "--exact", "ratios::at_the_operators_place"];
    let said =
        machines.ok(&[["sh", "env", place.as_str(), home.as_str(), me.to_str().unwrap()].as_slice(), &inside].concat());
    println!("{said}");
}

#[test]
#[ignore = "the part of `ratios` that runs among the machines"]
fn at_the_operators_place() {
    // Asked for by itself, with `--ignored` alone, there are no machines.
    let Some(clone) = std::env::var_os(CLONE).map(PathBuf::from) else { return };
    let scratch = clone.join("ratios");
    fs::create_dir(&scratch).unwrap();
    let nodes = nodes(&clone);
    trees(&nodes, &scratch);
    pyinfra_deploy(&nodes, &scratch);
    let has_pyinfra = pyinfra(&scratch, &["--version"]).output().is_ok_and(|out| out.status.success());

    let (mut first, mut second): ([Vec<Duration>; 3], [Vec<Duration>; 3]) = Default::default();
    for _ in 0..ROUNDS {
        wipe(&nodes);
        for times in [&mut first, &mut second] {
            thread::sleep(CONNECTIONS_END);
            times[0].push(timed(|| ok(stage(&clone, &["--yes"]))));
            times[1].push(timed(|| bare(&nodes, &scratch)));
            if has_pyinfra {
                times[2].push(timed(|| ok(pyinfra(&scratch, &["-y", "inventory.py", "deploy.py"]))));
            }
        }
    }
    let [stage_first, bare_first, pyinfra_first] = first.map(median);
    let [stage_second, bare_second, pyinfra_second] = second.map(median);
    println!("seconds, medians of {ROUNDS}     stage   bare  pyinfra");
    println!("first, from nothing     {stage_first:8.2} {bare_first:6.2} {pyinfra_first:8.2}");
    println!("second, nothing to do   {stage_second:8.2} {bare_second:6.2} {pyinfra_second:8.2}");
    judged("a first stage, seconds more than the bare tools", stage_first - bare_first, 2.0);
    judged("a second stage, times the bare tools", stage_second / bare_second, 2.0);
    if has_pyinfra {
        judged("a second stage, times pyinfra", stage_second / pyinfra_second, 1.0 / 3.0);
    } else {
        println!("pyinfra is not here: not compared (pip install pyinfra)");
    }
}
