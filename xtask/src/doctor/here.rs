//! This machine: what each verb needs of it, and whether it is here.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::packages::{Manager, Package};
use super::{Check, HERE, Level, clone};
use crate::build;
use crate::engine::{self, Pin};
use crate::paths::Paths;
use crate::tools::{self, on_path};
use crate::topology::Topology;
use crate::transport::bounded;

/// Enough of what a program says of itself.
const SHOWN: usize = 50;
const WITHIN: Duration = Duration::from_secs(20);
const GIB: u64 = 1 << 30;
/// A debug build, a static build and what they fetch.
const DISK_GIB: u64 = 5;
/// With less, not even the static build ends well.
const LEAST_DISK_GIB: u64 = 2;
/// The first with `--chown`; what macOS brings calls itself 2.6.9.
const OLDEST_RSYNC: (u32, u32) = (3, 1);
/// The system's own directories, which are not on everybody's PATH.
const SYSTEM_DIRS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// A program that some verb starts.
struct Tool {
    program: &'static str,
    /// Shows that it runs; none: that it is there is enough.
    proof: Option<&'static str>,
    package: Package,
    purpose: &'static str,
    /// What it means that it is not there.
    lack: Level,
}

const fn tool(
    program: &'static str,
    proof: &'static str,
    package: Package,
    purpose: &'static str,
    lack: Level,
) -> Tool {
    Tool { program, proof: Some(proof), package, purpose, lack }
}

/// What every deployment needs.
const ALWAYS: [Tool; 2] = [
    tool("cc", "--version", Package::debian("gcc libc6-dev"), "building xtask and membershipd", Level::Fail),
    tool("ssh", "-V", Package { debian: "openssh-client", brew: None }, "every verb that reaches servers", Level::Fail),
];

const NPM: Package = Package { debian: "nodejs npm", brew: Some("node") };

/// What only `test` starts.
const FOR_TEST: [Tool; 3] = [
    tool("openssl", "version", Package::same("openssl"), "test: judges certificates", Level::Warn),
    tool("curl", "--version", Package::same("curl"), "test: asks the API", Level::Warn),
    tool("npm", "--version", NPM, "test: a client in JavaScript", Level::Warn),
];

/// What only `rehearse` starts.
const FOR_REHEARSE: [Tool; 7] = [
    tool("systemd-nspawn", "--version", Package::debian("systemd-container"), "rehearse: machines", Level::Warn),
    tool("mmdebstrap", "--version", Package::debian("mmdebstrap"), "rehearse: the machines' system", Level::Warn),
    tool("nft", "--version", Package::debian("nftables"), "rehearse: faults of the network", Level::Warn),
    tool("ip", "-V", Package::debian("iproute2"), "rehearse: the machines' networks", Level::Warn),
    tool("zstd", "--version", Package::debian("zstd"), "rehearse: keeps the system packed", Level::Warn),
    Tool {
        program: "ssh-keygen",
        proof: None,
        package: Package::debian("openssh-client"),
        purpose: "rehearse: keys of the machines",
        lack: Level::Warn,
    },
    tool("systemd-analyze", "--version", Package::debian("systemd"), "test: judges the unit", Level::Warn),
];

/// All that was found. Only reads, and starts nothing that stays.
pub(crate) fn this_machine(paths: &Paths, topology: &Path) -> Result<Vec<Check>> {
    let manager = Manager::find();
    let mut checks = vec![rust(paths)];
    checks.extend(ALWAYS.iter().map(|tool| tool_check(tool, manager)));
    checks.push(rsync(manager));
    checks.push(ssh_key(topology));
    checks.extend(fetch(paths, manager)?);
    checks.push(builder(paths));
    checks.extend(disk(paths));
    checks.extend(clone::checks(paths, topology, manager)?);
    checks.push(cargo_deny(paths));
    checks.extend(FOR_TEST.iter().map(|tool| tool_check(tool, manager)));
    if cfg!(target_os = "linux") {
        checks.push(loopback());
        checks.push(root());
        checks.extend(FOR_REHEARSE.iter().map(|tool| tool_check(tool, manager)));
    }
    Ok(checks)
}

fn rust(paths: &Paths) -> Check {
    let purpose = "building xtask and membershipd";
    match build::rust(paths.root()) {
        Ok(version) => Check::new("rust", HERE, Level::Ok, purpose, version),
        Err(why) => Check::new("rust", HERE, Level::Fail, purpose, why)
            .remedy("install rustup (rustup.rs); rust-toolchain.toml names the release, which rustup then fetches"),
    }
}

fn tool_check(tool: &Tool, manager: Manager) -> Check {
    let said = match (find(tool.program), tool.proof) {
        (None, _) => Err("not on PATH".to_owned()),
        (Some(path), None) => Ok(path.display().to_string()),
        (Some(path), Some(proof)) => says(&path, &[proof]),
    };
    let check = |level, got: &str| Check::new(tool.program, HERE, level, tool.purpose, got);
    match said {
        Ok(said) => check(Level::Ok, &said),
        Err(why) => check(tool.lack, &why).remedy(manager.install(tool.package)),
    }
}

fn find(program: &str) -> Option<PathBuf> {
    on_path(program).or_else(|| SYSTEM_DIRS.iter().map(|dir| Path::new(dir).join(program)).find(|file| file.is_file()))
}

/// The first line that a program says of itself, on whichever stream; or why it does not run.
fn says(program: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(args);
    let output = bounded(command, b"", WITHIN).map_err(|failure| failure.to_string())?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |text: &str| text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
    let said = line(&stdout).or_else(|| line(&output.stderr)).unwrap_or_else(|| "it said nothing".to_owned());
    let said = if said.chars().count() > SHOWN { said.chars().take(SHOWN).chain(['…']).collect() } else { said };
    if output.ok() { Ok(said) } else { Err(format!("{} does not run: {said}", program.display())) }
}

fn rsync(manager: Manager) -> Check {
    let purpose = "stage: sends what differs";
    let package = Package::same("rsync");
    let tool = Tool { program: "rsync", proof: Some("--version"), package, purpose, lack: Level::Fail };
    let check = tool_check(&tool, manager);
    if check.level != Level::Ok || release(&check.got).is_some_and(|has| has >= OLDEST_RSYNC) {
        return check;
    }
    let (major, minor) = OLDEST_RSYNC;
    Check::new(
        "rsync",
        HERE,
        Level::Fail,
        purpose,
        format!("{}; older than {major}.{minor}, without --chown", check.got),
    )
    .remedy(manager.install(tool.package))
}

/// `rsync  version 3.2.7  protocol version 31`, or `openrsync: protocol version 29, rsync version 2.6.9 compatible`.
fn release(said: &str) -> Option<(u32, u32)> {
    let number = |text: &str| -> Option<(u32, u32)> {
        let mut parts = text.trim_start_matches('v').split(['.', '-']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let words: Vec<&str> = said.split_whitespace().collect();
    words.windows(2).filter(|pair| pair.first() == Some(&"version")).find_map(|pair| number(pair.get(1)?))
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
    let output = bounded(command, b"", WITHIN).ok().filter(crate::transport::Output::ok)?;
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
    let python = python();
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
    let python = match python {
        Ok(said) => Check::new("python3 with pip", HERE, Level::Ok, purpose, said),
        Err(why) => Check::new("python3 with pip", HERE, if here { Level::Warn } else { Level::Fail }, purpose, why)
            .remedy(manager.install(Package { debian: "python3-pip", brew: Some("python3") })),
    };
    Ok(vec![engine, python])
}

fn python() -> Result<String, String> {
    let python = find("python3").ok_or("no python3 on PATH")?;
    says(&python, &["-m", "pip", "--version"])
}

fn builder(paths: &Paths) -> Check {
    let purpose = "build: the static membershipd";
    match (build::load(paths), build::builder(paths.root())) {
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
    let purpose = "test: judges the dependencies";
    match tools::cargo_deny_here(paths) {
        Some(path) => Check::new("cargo-deny", HERE, Level::Ok, purpose, Paths::shown(&path)),
        None => Check::new("cargo-deny", HERE, Level::Info, purpose, "not here; `test` builds it, in two minutes")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_of_every_rsync_is_read() {
        assert_eq!(release("rsync  version 3.2.7  protocol version 31"), Some((3, 2)));
        assert_eq!(release("rsync  version v3.4.1  protocol version 32"), Some((3, 4)));
        assert_eq!(release("openrsync: protocol version 29, rsync version 2.6.9 compatible"), Some((2, 6)));
        assert_eq!(release("rsync"), None);
        assert!(release("rsync  version 3.10.0-pre  protocol version 31").is_some_and(|has| has >= OLDEST_RSYNC));
    }

    #[test]
    fn a_program_that_does_not_run_is_not_called_there() {
        let sh = find("sh").unwrap();
        assert_eq!(says(&sh, &["-c", "echo; echo one; echo two"]).unwrap(), "one");
        let why = says(&sh, &["-c", "echo broken >&2; exit 1"]).unwrap_err();
        assert!(why.contains("does not run: broken"), "{why}");
        let absent = tool("no-such-program", "-V", Package::same("thing"), "x", Level::Warn);
        let check = tool_check(&absent, Manager::Apt);
        assert_eq!((check.level, check.remedy.as_str()), (Level::Warn, "apt-get install thing"));
    }
}
