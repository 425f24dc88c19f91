//! Who runs this xtask: the name, machine and process that a lock is held by.

use std::env;
use std::fs;
use std::time::Duration;

use anyhow::Result;
use data_encoding::HEXLOWER;

use super::lock::{Process, Record};
use super::noting;
use crate::hash;
use crate::random::{self, System};

/// Random bytes of a token: two runs never have the same.
const TOKEN_BYTES: usize = 16;
const PAUSE: Duration = Duration::from_secs(1);

/// The one who asks for a lock.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    pub(super) holder: String,
    pub(super) process: Process,
    /// When a process of this machine began; none when there is none, or it has ended.
    pub(super) started: fn(u32) -> Option<String>,
    /// Between two looks at a lock that somebody else holds; up to as much again is added, so that two who wait do not meet.
    pub(super) pause: Duration,
}

impl Operator {
    /// Whoever runs this process.
    pub(super) fn this() -> Self {
        let uid = rustix::process::getuid().as_raw();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        // Not every system lists its people there.
        let typed = || env::var("USER").ok().filter(|user| !user.is_empty());
        let user = name_of(uid, &passwd).or_else(typed).unwrap_or_else(|| format!("uid-{uid}"));
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let pid = std::process::id();
        let process = Process {
            pid,
            started: system::started(pid).unwrap_or_default(),
            boot: system::boot(),
            space: system::space(),
            machine: system::machine(),
        };
        Self { holder: format!("{user}@{host}"), process, started: system::started, pause: PAUSE }
    }

    /// A record for this run, with a token of its own.
    pub(super) fn record(&self, verb: &str) -> Result<Record> {
        let since = noting::now()?;
        let token = HEXLOWER.encode(&random::bytes::<TOKEN_BYTES>(&System::new())?);
        Ok(Record::new(self.holder.clone(), self.process.clone(), since, verb, token))
    }
}

/// The name that a list of users has for `uid`.
fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// A file of one line; empty where there is none.
fn line_of(file: &str) -> String {
    fs::read_to_string(file).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// A machine's identity is confidential, so only its hash leaves it.
fn hashed(identity: &str) -> Option<String> {
    (!identity.is_empty()).then(|| hash::short(format!("unibus lock {identity}").as_bytes(), 16))
}

#[cfg(target_os = "linux")]
mod system {
    use super::{fs, hashed, line_of};

    /// In clock ticks since the boot. The second field, a name, may hold anything, so count from its end.
    pub(super) fn started(pid: u32) -> Option<String> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        // What was killed and not yet waited for works on nothing any more.
        let state = fields.next()?;
        (!matches!(state, "Z" | "X")).then_some(())?;
        fields.nth(18).map(str::to_owned)
    }

    pub(super) fn boot() -> String {
        line_of("/proc/sys/kernel/random/boot_id")
    }

    pub(super) fn space() -> String {
        fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default()
    }

    pub(super) fn machine() -> Option<String> {
        hashed(&line_of("/etc/machine-id"))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::hashed;

    fn said(program: &str, args: &[&str]) -> Option<String> {
        let mut command = std::process::Command::new(program);
        let output = command.args(args).env("LC_ALL", "C").env("TZ", "UTC").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    }

    pub(super) fn started(pid: u32) -> Option<String> {
        let text = said("ps", &["-o", "stat=,lstart=", "-p", &pid.to_string()])?;
        let (state, began) = text.split_once(' ')?;
        (!state.starts_with('Z')).then(|| began.trim().to_owned())
    }

    pub(super) fn boot() -> String {
        said("sysctl", &["-n", "kern.bootsessionuuid"]).unwrap_or_default()
    }

    pub(super) fn space() -> String {
        String::new()
    }

    pub(super) fn machine() -> Option<String> {
        hashed(&said("sysctl", &["-n", "kern.hostuuid"]).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_when_it_began_until_it_ends() {
        let me = Operator::this();
        assert_eq!((me.started)(me.process.pid).as_deref(), Some(me.process.started.as_str()));
        assert!(!me.process.started.is_empty() && !me.process.boot.is_empty());
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!((me.started)(child.id()).is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((me.started)(child.id()), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_was_killed_and_not_waited_for_is_over() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let begun = std::time::Instant::now();
        while (Operator::this().started)(child.id()).is_some() {
            assert!(begun.elapsed() < std::time::Duration::from_secs(10));
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(fs::exists(format!("/proc/{}", child.id())).unwrap(), "it is a zombie");
        child.wait().unwrap();
    }

    #[test]
    fn a_user_is_named_by_the_number_that_counts() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# no user\nanna:x:1000:0::/home/anna:/bin/sh\n";
        assert_eq!(name_of(1000, passwd).as_deref(), Some("anna"));
        assert_eq!(name_of(0, passwd).as_deref(), Some("root"));
        assert_eq!(name_of(1, passwd), None);
    }

    #[test]
    fn every_run_has_a_token_of_its_own() {
        let me = Operator::this();
        let (a, b) = (me.record("stage").unwrap(), me.record("stage").unwrap());
        assert_ne!(a.token, b.token);
        assert_eq!((a.token.len(), a.since.len()), (2 * TOKEN_BYTES, "2026-11-23T00:05:41Z".len()));
    }
}
