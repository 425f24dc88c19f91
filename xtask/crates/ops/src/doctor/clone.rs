//! The clone itself: what is filled in, what is made, and whether others could read what is secret.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Check, HERE, Level};
use crate::paths::Paths;
use crate::prerequisites::{Manager, Package};
use crate::process::{Output, bounded};
use crate::secrets::{PER_NODE, SHARED};
use crate::topology::Topology;

const WITHIN: Duration = Duration::from_secs(20);
const OTHERS: u32 = 0o077;

/// All that was found.
pub(super) fn checks(paths: &Paths, topology: &Path, manager: Manager) -> Result<Vec<Check>> {
    let mut checks = git(paths, manager);
    checks.extend(topology_checks(topology)?);
    checks.push(client_ca(paths));
    if let Ok(topology) = Topology::load(topology) {
        checks.extend(made(paths, &topology.cluster.name));
    }
    checks.push(permissions(paths)?);
    Ok(checks)
}

/// Placeholders are the operator's to fill in; a mistake stops every verb.
fn topology_checks(file: &Path) -> Result<Vec<Check>> {
    let (left, wrong) = Topology::unfinished(file)?;
    let purpose = "the machines, for every verb but local, build, engine and test";
    if wrong.is_empty() && left.is_empty() {
        return Ok(vec![Check::new(
            "topology",
            HERE,
            Level::Ok,
            purpose,
            format!("{} is filled in", Paths::shown(file)),
        )]);
    }
    let mut checks = Vec::new();
    if !wrong.is_empty() {
        let got = format!("{} mistake(s)\n{}", wrong.len(), wrong.join("\n"));
        checks.push(Check::new("topology", HERE, Level::Fail, purpose, got).remedy("put each line right"));
    }
    if !left.is_empty() {
        let got = format!("{} placeholder(s) left\n{}", left.len(), left.join("\n"));
        let remedy = "put the real value in place of each; until then refuse: cluster-certs, secrets, stage, seed-admin, \
                      up, verify, status, and whatever else needs an address";
        checks.push(Check::new("placeholders", HERE, Level::Info, purpose, got).remedy(remedy));
    }
    Ok(checks)
}

fn git(paths: &Paths, manager: Manager) -> Vec<Check> {
    let purpose = "names what was built; never holds a secret";
    let ask = |args: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(paths.root()).args(args);
        bounded(command, b"", WITHIN)
    };
    let check = |level, got: String| Check::new("git", HERE, level, purpose, got);
    let status = match ask(&["status", "--porcelain"]) {
        Err(failure) => {
            return vec![check(Level::Warn, failure.to_string()).remedy(manager.install(Package::same("git")))];
        }
        Ok(output) if !output.ok() => {
            return vec![
                check(Level::Warn, output.reason().to_owned())
                    .remedy("work in a clone made by git: then each build says which commit it is of"),
            ];
        }
        Ok(output) => String::from_utf8_lossy(&output.stdout).lines().count(),
    };
    let dirs: Vec<String> = paths.key_material().iter().map(|dir| dir.display().to_string()).collect();
    let args: Vec<&str> = ["ls-files", "--"].into_iter().chain(dirs.iter().map(String::as_str)).collect();
    let known = ask(&args).ok().filter(Output::ok).map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let known = known.unwrap_or_default();
    if !known.is_empty() {
        let got = format!("git knows what must stay secret\n{}", known.trim_end());
        return vec![check(Level::Fail, got).remedy(
            "git rm --cached each of them; if they were ever pushed, count them as stolen: new CAs and secrets",
        )];
    }
    let got = if status == 0 { "a clean clone".to_owned() } else { format!("{status} change(s) not committed") };
    vec![check(Level::Ok, got)]
}

fn client_ca(paths: &Paths) -> Check {
    let (cert, key) = (paths.client_ca_cert(), paths.client_ca_key());
    let check = |level, got: String| Check::new("client CA", HERE, level, "what clients of the bus trust", got);
    match (cert.exists(), key.exists()) {
        (true, true) => check(Level::Ok, Paths::shown(&cert)),
        (false, false) => check(Level::Info, "not here yet".to_owned()).remedy(format!(
            "bring yours to {} and {}, or: cargo xtask client-ca",
            Paths::shown(&cert),
            Paths::shown(&key)
        )),
        (has_cert, _) => {
            let (have, lack) = if has_cert { (cert, key) } else { (key, cert) };
            check(Level::Fail, format!("{} is here, {} is not", Paths::shown(&have), Paths::shown(&lack)))
                .remedy("bring the other half back from where the CA was made")
        }
    }
}

/// What the verbs before `stage` make.
fn made(paths: &Paths, cluster: &str) -> Vec<Check> {
    let parts = [
        ("certificates", paths.cluster_ca_key(cluster), "cargo xtask cluster-certs"),
        ("secrets", paths.secrets(cluster).join(crate::secrets::CLUSTER_ID.file), "cargo xtask secrets"),
    ];
    let one = |(id, proof, verb): (&str, PathBuf, &str)| {
        let purpose = format!("what the nodes of {cluster} get");
        if proof.exists() {
            Check::new(id, HERE, Level::Ok, purpose, "made; `stage` proves whether they still fit")
        } else {
            Check::new(id, HERE, Level::Info, purpose, "not made yet").remedy(verb)
        }
    };
    parts.map(one).to_vec()
}

/// Every secret file must be its owner's alone.
fn permissions(paths: &Paths) -> Result<Check> {
    let mut secret = Vec::new();
    for dir in paths.key_material() {
        collect(&dir, &mut secret)?;
    }
    let mut open: Vec<String> = Vec::new();
    for file in &secret {
        let shown = Paths::shown(file);
        let mode = fs::symlink_metadata(file).with_context(|| format!("looking at {shown}"))?.permissions().mode();
        if mode & OTHERS != 0 {
            open.push(format!("{shown} {:04o}", mode & 0o7777));
        }
    }
    let purpose = "secrets are their owner's alone";
    if open.is_empty() {
        let got = if secret.is_empty() { "none yet".to_owned() } else { format!("{} files, all 0600", secret.len()) };
        return Ok(Check::new("modes", HERE, Level::Ok, purpose, got));
    }
    let files: Vec<&str> = open.iter().filter_map(|line| line.rsplit_once(' ').map(|(file, _)| file)).collect();
    let remedy = format!("if nobody has read them, run: chmod 600 {}", files.join(" "));
    Ok(Check::new("modes", HERE, Level::Fail, purpose, format!("others may read\n{}", open.join("\n"))).remedy(remedy))
}

fn collect(dir: &Path, secret: &mut Vec<PathBuf>) -> Result<()> {
    let shown = Paths::shown(dir);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("reading {shown}")),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {shown}"))?;
        let path = entry.path();
        if entry.file_type().with_context(|| format!("looking at {}", Paths::shown(&path)))?.is_dir() {
            collect(&path, secret)?;
        } else if is_secret(&entry.file_name().to_string_lossy()) {
            secret.push(path);
        }
    }
    secret.sort();
    Ok(())
}

fn is_secret(name: &str) -> bool {
    name.ends_with(".key") || SHARED.iter().chain(&PER_NODE).any(|secret| secret.file == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_seeds_and_the_route_password_are_secret() {
        for name in ["ca.key", "route.key", "cluster.pass", "issuer.nk", "bus.nk"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["ca.crt", "cluster.id", "cluster.env"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
