//! apt: what an installation would bring, and the installation. What it needs of the disk is known before it begins, and
//! everything is downloaded before anything is unpacked, so that nothing is left half installed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::cargo;
use crate::exit::BadInput;
use crate::process::{Output, bounded};
use crate::search_path::on_path;
use crate::shell::{Cmd, Shell, cmd};
use crate::ui::Line;

/// Reading the package lists takes a second; a machine with a slow disk may take longer.
const WITHIN: Duration = Duration::from_secs(60);
/// An address that does not answer is given up soon, and another apt is waited for.
const OPTIONS: [&str; 10] = [
    "-o",
    "Acquire::Retries=1",
    "-o",
    "Acquire::http::Timeout=15",
    "-o",
    "Acquire::https::Timeout=15",
    "-o",
    "DPkg::Lock::Timeout=120",
    "-o",
    "Dpkg::Use-Pty=0",
];
const MIB: u64 = 1 << 20;
/// What stays free on a disk beside the packages.
const MARGIN: u64 = 100 * MIB;

/// How commands become root's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// This process is root's.
    Root,
    /// Through sudo, which asks for a password where it needs one.
    Sudo,
}

impl Privilege {
    /// How this user becomes root; none: there is no sudo.
    pub(crate) fn find() -> Option<Self> {
        if rustix::process::geteuid().is_root() {
            return Some(Self::Root);
        }
        on_path("sudo").map(|_| Self::Sudo)
    }

    /// Has sudo ask for the password now, on the terminal, where it needs one.
    pub(crate) fn confirm(self) -> Result<()> {
        if self == Self::Root {
            return Ok(());
        }
        let status = Command::new("sudo").arg("--validate").status().context("starting sudo")?;
        if status.success() { Ok(()) } else { Err(BadInput::new("sudo refuses; nothing was installed")) }
    }

    /// apt-get for what was agreed to: it asks no more.
    fn apt_get(self, shell: &Shell) -> Cmd<'_> {
        let (program, more): (_, &[&str]) = match self {
            Self::Root => ("env", &[]),
            Self::Sudo => ("sudo", &["env"]),
        };
        cmd!(
            shell,
            "{program} {more...} DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get --quiet --yes --no-install-recommends {OPTIONS...}"
        )
    }
}

/// What an installation would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    asked: Vec<String>,
    /// Not here at all so far; removing them undoes the installation.
    pub new: Vec<String>,
    /// Here in an older version.
    pub(crate) upgraded: Vec<String>,
}

/// What apt would do for these packages. Where its lists do not know them, the lists are fetched first.
pub(crate) fn plan(packages: &BTreeSet<&str>, privilege: Privilege, line: &Line) -> Result<Transaction> {
    let asked: Vec<String> = packages.iter().map(|name| (*name).to_owned()).collect();
    let first = simulate(&asked, &[])?;
    let output = if unknown(&first).is_empty() {
        first
    } else {
        update(privilege, line)?;
        simulate(&asked, &[])?
    };
    transaction(asked, &output)
}

fn transaction(asked: Vec<String>, output: &Output) -> Result<Transaction> {
    let unknown = unknown(output);
    if !unknown.is_empty() {
        return Err(BadInput::new(format!(
            "this system has no package {}; nothing was installed. unibus is set up on Debian 12 or Ubuntu 24.04 and later; \
             elsewhere bring these programs by other means, then run this again",
            unknown.join(", ")
        )));
    }
    if !output.ok() {
        return Err(BadInput::new(format!(
            "apt cannot install {}; nothing was installed: {}",
            asked.join(" "),
            complaint(&output.stderr)
        )));
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let removed: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("Remv ")?.split(' ').next()).collect();
    if !removed.is_empty() {
        return Err(BadInput::new(format!(
            "installing {} would remove {}, so nothing was installed; decide yourself: apt-get install {}",
            asked.join(" "),
            removed.join(", "),
            asked.join(" ")
        )));
    }
    let (mut new, mut upgraded) = (Vec::new(), Vec::new());
    for (name, is_here) in said.lines().filter_map(incoming) {
        if is_here { &mut upgraded } else { &mut new }.push(name.to_owned());
    }
    Ok(Transaction { asked, new, upgraded })
}

/// `Inst name (version …)` or `Inst name [old] (version …)`: the name, and whether an older one is here.
fn incoming(line: &str) -> Option<(&str, bool)> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
    Some((name, rest.starts_with('[')))
}

/// Whether the package lists know all of these.
pub(super) fn knows(packages: &[String], options: &[String]) -> Result<bool> {
    Ok(unknown(&simulate(packages, options)?).is_empty())
}

/// All packages, with what they need, that are not here in the newest version.
pub(super) fn closure(packages: &[String], options: &[String]) -> Result<Vec<String>> {
    let output = simulate(packages, options)?;
    let transaction = transaction(packages.to_vec(), &output)?;
    Ok(transaction.new.into_iter().chain(transaction.upgraded).collect())
}

fn simulate(packages: &[String], options: &[String]) -> Result<Output> {
    let shell = Shell::new()?;
    let apt = cmd!(shell, "apt-get {options...} --simulate --no-install-recommends install {packages...}");
    bounded(apt.env("LC_ALL", "C"), b"", WITHIN)
        .map_err(|failure| anyhow!("asking apt what it would install: {failure}"))
}

/// Packages that the lists do not know.
fn unknown(output: &Output) -> Vec<String> {
    let name = |line: &str| -> Option<String> {
        let line = line.strip_prefix("E: ")?;
        if let Some(name) = line.strip_prefix("Unable to locate package ") {
            return Some(name.trim().to_owned());
        }
        let rest = line.strip_prefix("Package '")?;
        rest.ends_with("' has no installation candidate").then(|| rest.split('\'').next().map(str::to_owned))?
    };
    output.stderr.lines().filter_map(name).collect()
}

fn update(privilege: Privilege, line: &Line) -> Result<()> {
    line.set("fetching the package lists");
    let shell = Shell::new()?;
    cargo::run(privilege.apt_get(&shell).arg("update"), line).map(drop).map_err(|error| {
        BadInput::new(format!(
            "the package lists could not be fetched; nothing was installed: {}\nSee that this machine reaches its package \
             mirror (/etc/apt/sources.list*), then run this again",
            complaint(&error.to_string())
        ))
    })
}

impl Transaction {
    /// Whether nothing would change.
    pub(crate) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.upgraded.is_empty()
    }

    /// Downloads everything, then installs it.
    pub(crate) fn carry_out(&self, privilege: Privilege, line: &Line) -> Result<()> {
        self.must_fit()?;
        line.set(format!("downloading {} packages", self.new.len() + self.upgraded.len()));
        if self.download(privilege, line).is_err() {
            // Lists that are weeks old name files that the mirror has no more.
            update(privilege, line)?;
            self.download(privilege, line).map_err(|error| {
                BadInput::new(format!(
                    "packages could not be downloaded; nothing was installed: {}\nSee that this machine reaches its package \
                     mirror, then run this again",
                    complaint(&error.to_string())
                ))
            })?;
        }
        line.set(format!("installing {}", self.asked.join(" ")));
        let shell = Shell::new()?;
        let install = privilege.apt_get(&shell).arg("install").args(&self.asked);
        let Err(error) = cargo::run(install, line) else { return Ok(()) };
        line.set("taking back what was installed");
        let purge = privilege.apt_get(&shell).arg("purge").args(&self.new);
        let undone = match cargo::run(purge, line) {
            Ok(_) => "what was new is removed again".to_owned(),
            Err(_) => format!("see what is left: dpkg --audit; then: {}", self.undo(privilege)),
        };
        Err(error).context(format!("apt could not install {}; {undone}", self.asked.join(" ")))
    }

    fn download(&self, privilege: Privilege, line: &Line) -> Result<()> {
        let shell = Shell::new()?;
        let download = privilege.apt_get(&shell).args(["--download-only", "install"]).args(&self.asked);
        cargo::run(download, line).map(drop)
    }

    /// The command that takes the new packages away.
    pub(crate) fn undo(&self, privilege: Privilege) -> String {
        let sudo = if privilege == Privilege::Sudo { "sudo " } else { "" };
        format!("{sudo}apt-get purge {}", self.new.join(" "))
    }

    /// Refuses where the disk would be full before the end.
    fn must_fit(&self) -> Result<()> {
        // To ask needs no root, and so no lock.
        let (shell, asked) = (Shell::new()?, &self.asked);
        // Its question is answered with no; the sizes stand before it.
        let apt =
            cmd!(shell, "apt-get --quiet --no-install-recommends -o Debug::NoLocking=1 --assume-no install {asked...}");
        let output = bounded(apt.env("LC_ALL", "C"), b"", WITHIN)
            .map_err(|failure| anyhow!("asking apt for sizes: {failure}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (download, installed) = (size_after(&said, "Need to get "), size_after(&said, "After this operation, "));
        for (place, bytes) in [("/var/cache/apt/archives", download), ("/usr", installed)] {
            let Ok(stat) = rustix::fs::statvfs(Path::new(place)) else { continue };
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            // Often one file system, which then has to hold both.
            let wanted = download + installed + MARGIN;
            if bytes > 0 && free < wanted {
                return Err(BadInput::new(format!(
                    "the disk of {place} has {} MiB free, and the packages need {} MiB; nothing was installed. Make room \
                     there, then run this again",
                    free / MIB,
                    wanted / MIB
                )));
            }
        }
        Ok(())
    }
}

/// `Need to get 35.1 MB/40 MB of archives.`: the first size after the words, in bytes; 0 where there is none.
fn size_after(said: &str, words: &str) -> u64 {
    let size = |line: &str| -> Option<u64> {
        let mut parts = line.strip_prefix(words)?.split([' ', '/']);
        let number: f64 = parts.next()?.replace(',', "").parse().ok()?;
        let unit: f64 = match parts.next()? {
            "B" => 1.0,
            "kB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            _ => return None,
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes of packages are far below")]
        Some((number * unit) as u64)
    };
    said.lines().find_map(size).unwrap_or(0)
}

/// The lines in which apt says why, without its advice.
fn complaint(said: &str) -> String {
    let errors: Vec<&str> =
        said.lines().map(str::trim).filter(|line| line.starts_with("E: ") || line.starts_with("Err:")).collect();
    if errors.is_empty() { said.trim().to_owned() } else { errors.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        Output { code: Some(code), stdout: stdout.as_bytes().to_vec(), stderr: stderr.to_owned() }
    }

    #[test]
    fn new_and_upgraded_packages_are_told_apart() {
        let said = "Reading package lists...\nInst libssl3 [3.0.19] (3.0.22 Debian:12 [amd64])\nInst rsync (3.2.7 Debian:12 [amd64])\n\
                    Conf libssl3 (3.0.22 Debian:12 [amd64])\nConf rsync (3.2.7 Debian:12 [amd64])\n";
        let planned = transaction(vec!["rsync".to_owned()], &output(0, said, "")).unwrap();
        assert_eq!(
            (planned.new.clone(), planned.upgraded.clone()),
            (vec!["rsync".to_owned()], vec!["libssl3".to_owned()])
        );
        assert_eq!(planned.undo(Privilege::Root), "apt-get purge rsync");
        assert_eq!(planned.undo(Privilege::Sudo), "sudo apt-get purge rsync");
        assert!(!planned.is_empty());
    }

    #[test]
    fn a_package_that_this_system_lacks_is_named() {
        for said in ["E: Unable to locate package rustc-web", "E: Package 'rustc-web' has no installation candidate"] {
            let refused = transaction(vec!["rustc-web".to_owned()], &output(100, "", said)).unwrap_err();
            assert!(
                crate::exit::is_refusal(&refused) && refused.to_string().contains("no package rustc-web"),
                "{refused}"
            );
        }
    }

    #[test]
    fn what_would_remove_a_package_is_refused() {
        let said = "Remv other [1.0]\nInst rsync (3.2.7 Debian:12 [amd64])\n";
        let refused = transaction(vec!["rsync".to_owned()], &output(0, said, "")).unwrap_err();
        assert!(refused.to_string().contains("would remove other"), "{refused}");
    }

    #[test]
    fn sizes_are_read() {
        let said = "Need to get 35.1 MB/40 MB of archives.\nAfter this operation, 1,154 kB of additional disk space will be used.\n";
        assert_eq!(size_after(said, "Need to get "), 35_100_000);
        assert_eq!(size_after(said, "After this operation, "), 1_154_000);
        assert_eq!(size_after("After this operation, 0 B of", "After this operation, "), 0);
        assert_eq!(size_after("nothing", "Need to get "), 0);
    }
}
