//! This machine: what each verb needs of it, and whether it is here.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Check, HERE, Level, clone};
use crate::build;
use crate::engine::{self, Pin};
use crate::paths::Paths;
use crate::prerequisites::{self, Manager, PREREQUISITES, Prerequisite, Probe, Source, Verb};
use crate::process::bounded;
use crate::search_path::find;
use crate::tools::Tool;
use crate::topology::Topology;

const WITHIN: Duration = Duration::from_secs(20);
const GIB: u64 = 1 << 30;
/// A debug build, a static build and what they fetch.
const DISK_GIB: u64 = 5;
/// With less, not even the static build ends well.
const LEAST_DISK_GIB: u64 = 2;

/// All that was found. Only reads, and starts nothing that stays.
pub fn this_machine(paths: &Paths, topology: &Path) -> Result<Vec<Check>> {
    let manager = Manager::find();
    let programs = |verb_is: fn(&Prerequisite) -> bool| {
        let rows = PREREQUISITES.iter().filter(move |row| verb_is(row));
        rows.filter_map(|row| program(paths, row, manager)).collect::<Vec<Check>>()
    };
    let mut checks = vec![rust(paths)];
    checks.extend(programs(is_for_servers));
    checks.push(ssh_key(topology));
    checks.extend(fetch(paths, manager)?);
    checks.push(builder(paths));
    checks.extend(disk(paths));
    checks.extend(clone::checks(paths, topology, manager)?);
    checks.push(cargo_deny(paths));
    if cfg!(target_os = "linux") {
        checks.push(loopback());
        checks.push(root());
        checks.extend(programs(|row| !is_for_servers(row)));
    }
    Ok(checks)
}

fn is_for_servers(row: &Prerequisite) -> bool {
    row.verbs.contains(&Verb::Deploy)
}

/// A row of the table of prerequisites, unless another check of the doctor says more of it.
fn program(paths: &Paths, row: &Prerequisite, manager: Manager) -> Option<Check> {
    let twice = PREREQUISITES.iter().any(|other| {
        other.name == row.name && matches!((other.source, row.source), (Source::Package(_), Source::Unpacked(_)))
    });
    if twice || row.name == "git" || !matches!(row.probe, Probe::Runs(..) | Probe::IsThere(_) | Probe::Rsync) {
        return None;
    }
    let (lack, remedy) = match row.source {
        Source::Package(package) if is_for_servers(row) => (Level::Fail, manager.install(package)),
        Source::Package(package) => (Level::Warn, manager.install(package)),
        _ => (Level::Info, "nothing; `test` unpacks it into deploy/build".to_owned()),
    };
    let purpose = format!("{}: {}", row.for_verbs(), row.purpose);
    Some(match prerequisites::look(paths, row) {
        Ok(said) => Check::new(row.name, HERE, Level::Ok, purpose, said),
        Err(why) => Check::new(row.name, HERE, lack, purpose, why).remedy(remedy),
    })
}

fn rust(paths: &Paths) -> Check {
    let purpose = "building xtask and membershipd";
    match build::rust(paths.root()) {
        Ok(version) => Check::new("rust", HERE, Level::Ok, purpose, version),
        Err(why) => Check::new("rust", HERE, Level::Fail, purpose, why)
            .remedy("install rustup (rustup.rs); rust-toolchain.toml names the release, which rustup then fetches"),
    }
}

/// ssh never asks for a password here, so it must have a key, or somebody who keeps one for it.
fn ssh_key(topology: &Path) -> Check {
    let purpose = "every verb that reaches servers: ssh never asks here";
    let agent = find("ssh-add").ok_or(()).and_then(|ssh_add| {
        let mut command = Command::new(ssh_add);
        command.arg("-l");
        bounded(command, b"", WITHIN).map_err(drop)
    });
    if let Ok(output) = agent
        && output.ok()
    {
        let keys = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
        return Check::new("ssh key", HERE, Level::Ok, purpose, format!("{keys} in ssh-agent"));
    }
    let hosts = Topology::load(topology)
        .map(|topology| topology.nodes.into_iter().map(|node| node.ssh).collect())
        .unwrap_or_else(|_| vec!["localhost".to_owned()]);
    let with_key = hosts.iter().find_map(|host| identity_file(host));
    match with_key {
        Some(file) => Check::new("ssh key", HERE, Level::Ok, purpose, file.display().to_string()),
        None => {
            Check::new("ssh key", HERE, Level::Warn, purpose, "no key in ssh-agent, and no file that ssh would use")
                .remedy("ssh-add your key, or make one (ssh-keygen -t ed25519) and give its public half to the servers")
        }
    }
}

/// The first key file that ssh would try for a host, by its own account; it connects to nothing for that.
fn identity_file(host: &str) -> Option<PathBuf> {
    let mut command = Command::new("ssh");
    command.args(["-G", "--", host]);
    let output = bounded(command, b"", WITHIN).ok().filter(crate::process::Output::ok)?;
    let home = std::env::home_dir()?;
    String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.strip_prefix("identityfile ")).find_map(
        |file| {
            let path = file.strip_prefix("~/").map_or_else(|| PathBuf::from(file), |below| home.join(below));
            path.is_file().then_some(path)
        },
    )
}

/// The engine, and what fetches it where it is not here yet.
fn fetch(paths: &Paths, manager: Manager) -> Result<Vec<Check>> {
    let pin = Pin::load(&paths.engine_pin())?;
    let pip = PREREQUISITES.iter().find(|row| row.probe == Probe::Pip).context("the table has no pip")?;
    let here = engine::cached(paths, &pin);
    let engine = match engine::obtain_cached(paths, &pin) {
        Ok(Some(engine)) => Check::new(
            "engine",
            HERE,
            Level::Ok,
            "what runs on the servers",
            format!("nats-server {}, pinned", engine.version),
        ),
        Ok(None) => Check::new("engine", HERE, Level::Info, "what runs on the servers", "not fetched yet")
            .remedy("cargo xtask engine"),
        Err(error) => Check::new("engine", HERE, Level::Fail, "what runs on the servers", format!("{error:#}"))
            .remedy("remove it and fetch it again: cargo xtask engine"),
    };
    let purpose = if here { "test: its clients" } else { "fetching the engine" };
    let python = match (prerequisites::look(paths, pip), pip.source) {
        (Ok(said), _) => Check::new(pip.name, HERE, Level::Ok, purpose, said),
        (Err(why), Source::Package(package)) => {
            Check::new(pip.name, HERE, if here { Level::Warn } else { Level::Fail }, purpose, why)
                .remedy(manager.install(package))
        }
        (Err(why), _) => Check::new(pip.name, HERE, Level::Fail, purpose, why),
    };
    Ok(vec![engine, python])
}

fn builder(paths: &Paths) -> Check {
    let purpose = "build: the static membershipd";
    match (build::load(paths), build::builder(paths)) {
        (_, Ok(builder)) => Check::new("builder", HERE, Level::Ok, purpose, builder),
        (Ok(built), Err(_)) => Check::new(
            "builder",
            HERE,
            Level::Info,
            purpose,
            format!("none, but membershipd {} is built", built.version),
        ),
        (Err(_), Err(why)) => {
            let (what, ways) = why.split_once(":\n").unwrap_or((&why, ""));
            Check::new("builder", HERE, Level::Fail, purpose, what).remedy(format!("one of these:\n{ways}"))
        }
    }
}

/// Room where things are built; both places may lie on one file system.
fn disk(paths: &Paths) -> Vec<Check> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| paths.root().join("target"), PathBuf::from);
    let mut checks: Vec<Check> = Vec::new();
    for (id, dir) in [("disk: deploy/build", paths.build()), ("disk: target", target)] {
        let Some(there) = dir.ancestors().find(|dir| dir.exists()) else { continue };
        let purpose = format!("{DISK_GIB} GiB for what is built and fetched");
        let check = match rustix::fs::statvfs(there) {
            Err(error) => Check::new(id, HERE, Level::Warn, purpose, error.to_string()),
            Ok(stat) => {
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                let level = match free / GIB {
                    0..LEAST_DISK_GIB => Level::Fail,
                    LEAST_DISK_GIB..DISK_GIB => Level::Warn,
                    _ => Level::Ok,
                };
                Check::new(id, HERE, level, purpose, format!("{} GiB free", free / GIB))
            }
        };
        checks.push(check.remedy(format!("make room on the file system of {}", Paths::shown(there))));
    }
    checks
}

fn cargo_deny(paths: &Paths) -> Check {
    let purpose = "check: judges the dependencies";
    match Tool::CargoDeny.here(paths) {
        Some(path) => Check::new("cargo-deny", HERE, Level::Ok, purpose, Paths::shown(&path)),
        None => Check::new("cargo-deny", HERE, Level::Info, purpose, "not here; `check` builds it, in a minute")
            .remedy("nothing; or put one on PATH: cargo install cargo-deny --locked"),
    }
}

/// The addresses that `local` gives its nodes.
fn loopback() -> Check {
    let purpose = "local: three nodes on this machine";
    let refused = Ipv4Addr::new(127, 0, 0, 11);
    match TcpListener::bind((IpAddr::from(refused), 0)) {
        Ok(_) => Check::new("loopback", HERE, Level::Ok, purpose, format!("{refused} can be bound")),
        Err(error) => Check::new("loopback", HERE, Level::Warn, purpose, format!("{refused}: {error}"))
            .remedy("ip link set lo up"),
    }
}

fn root() -> Check {
    let purpose = "rehearse: makes namespaces and mounts";
    if rustix::process::geteuid().is_root() {
        return Check::new("root", HERE, Level::Ok, purpose, "this is root");
    }
    Check::new("root", HERE, Level::Warn, purpose, "this is not root").remedy("run `cargo xtask rehearse` as root")
}
