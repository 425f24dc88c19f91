//! README's two commands on a Debian 12 that has nothing else, in a root directory of its own with this host's network.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use unibus_ops::cargo;
use unibus_ops::exit::BadInput;
use unibus_ops::paths::Paths;
use unibus_ops::prerequisites::{self, Consent, Verb};
use unibus_ops::search_path::find;
use unibus_ops::ui::{Progress, took};

const SUITE: &str = "bookworm";
/// What README asks for beside Rust.
const PACKAGES: &str = "git,gcc,libc6-dev,ca-certificates,python3,python3-pip";
/// What the machine's directory is called; the process that made it follows.
const MACHINE: &str = "bare-";
/// Where the clone lies in there.
const CLONE: &str = "/src/unibus";
/// What a host may need to reach its registries; it is taken along where it is there.
const FILES: [&str; 6] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pip.conf",
    "/etc/npmrc",
    "/etc/apt/apt.conf.d/95proxies",
];
const VARIABLES: [&str; 9] = [
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTPS_PROXY",
    "PIP_INDEX_URL",
    "PIP_CERT",
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO",
];

/// The scripts that are run in there: the commands that README names first, the first of them told to return.
fn scripts(readme: &str) -> Result<Vec<(String, String)>> {
    let commands: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("    ")).take(2).collect();
    let [first, second] = commands[..] else { bail!("README.md names no two commands at its beginning") };
    if first != "cargo xtask local" || second != "cargo xtask test" {
        bail!("README.md begins with {first:?} and {second:?}, not with `cargo xtask local` and `cargo xtask test`");
    }
    let local = format!("{first} --detach && cargo xtask verify --local && cargo xtask local --down");
    Ok(vec![(first.to_owned(), local), (second.to_owned(), second.to_owned())])
}

/// Makes the machine, runs the commands in it, and takes it away.
pub(super) fn run(paths: &Paths, progress: &Progress) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(BadInput::new("a bare machine is made and entered by root: sudo cargo xtask prove bare"));
    }
    let readme = fs::read_to_string(paths.root().join("README.md")).context("reading README.md")?;
    let scripts = scripts(&readme)?;
    prerequisites::ensure(paths, &[Verb::Rehearse], Consent::Ask, progress)?;
    for gone in left_over(&paths.build())? {
        drop(Removed(gone));
    }
    let root = paths.build().join(format!("{MACHINE}{}", process::id()));
    let gone = Removed(root.clone());
    let line = progress.line("machine");
    line.set(format!("making a Debian {SUITE} with {PACKAGES}"));
    let mut make = Command::new("mmdebstrap");
    make.args(["--variant=minbase", &format!("--include={PACKAGES}"), SUITE]).arg(&root);
    cargo::run(make, &line).context("making the bare machine; does this host reach its Debian mirror?")?;
    let mut clone = Command::new("git");
    clone.args(["clone", "--quiet", "--no-hardlinks"]).arg(paths.root()).arg(root.join("src/unibus"));
    cargo::run(clone, &line).context("cloning into the bare machine")?;
    for file in FILES.iter().map(Path::new).filter(|file| file.is_file()) {
        let to = root.join(file.strip_prefix("/").unwrap_or(file));
        let copied = to.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::copy(file, &to));
        copied.with_context(|| format!("copying {}", file.display()))?;
    }
    line.done("made");
    let mut done = Vec::new();
    for (command, script) in scripts {
        errln!("\non the bare machine: {command}");
        let begun = Instant::now();
        let status = enter(&root, &script)?.status().context("entering the bare machine")?;
        if !status.success() {
            bail!(
                "on a bare machine, {command} ended with {status} after {}; what it said is above",
                took(begun.elapsed())
            );
        }
        done.push(format!("{command}: {}", took(begun.elapsed())));
    }
    drop(gone);
    outln!("\non a bare Debian 12, nothing else typed:\n  {}", done.join("\n  "));
    Ok(())
}

/// Machines of runs that were killed: their process is gone.
fn left_over(build: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(build).with_context(|| format!("reading {}", Paths::shown(build)))?;
    let dirs = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(dirs.filter(|dir| owner(dir).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())).collect())
}

fn owner(machine: &Path) -> Option<u32> {
    machine.file_name()?.to_str()?.strip_prefix(MACHINE)?.parse().ok()
}

/// A shell in there, with this host's Rust bound in read-only. All that it starts ends with it.
fn enter(root: &Path, script: &str) -> Result<Command> {
    let home = env::home_dir().context("finding the home directory")?;
    let rustup = env::var_os("RUSTUP_HOME").map_or_else(|| home.join(".rustup"), PathBuf::from);
    let programs = find("cargo").and_then(|cargo| Some(cargo.parent()?.to_path_buf())).context("finding cargo")?;
    let bind = r#"
set -e
root=$1 rustup=$2 programs=$3
mount --make-rprivate /
mount --bind "$root" "$root"
mkdir -p "$root/root/.rustup" "$root/root/.cargo/bin" "$root/proc" "$root/dev" "$root/tmp"
for pair in "$rustup:/root/.rustup" "$programs:/root/.cargo/bin"; do
    mount --bind "${pair%%:*}" "$root${pair#*:}"
    mount -o remount,bind,ro "$root${pair#*:}"
done
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
shift 3
exec chroot "$root" "$@"
"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child=SIGKILL", "sh", "-c", bind, "sh"]);
    command.arg(root).arg(rustup).arg(programs);
    command.args(["env", "--ignore-environment", "HOME=/root", "TERM=dumb"]);
    command.arg("PATH=/root/.cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    for name in VARIABLES {
        if let Some(value) = env::var_os(name) {
            let mut word = std::ffi::OsString::from(format!("{name}="));
            word.push(value);
            command.arg(word);
        }
    }
    command.args(["sh", "-c", &format!("cd {CLONE} && {script}")]).stdin(process::Stdio::null());
    Ok(command)
}

/// A directory that goes away with this value, whatever comes before.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // What was mounted in it was so in a namespace that has ended.
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            errln!("warning: {} could not be removed: {error}", Paths::shown(&self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_machines_whose_process_is_gone_are_left_over() {
        let build = tempfile::tempdir().unwrap();
        let ours = format!("{MACHINE}{}", process::id());
        for name in [ours.as_str(), "bare-4294967295", "bare-x", "engine"] {
            fs::create_dir(build.path().join(name)).unwrap();
        }
        assert_eq!(left_over(build.path()).unwrap(), [build.path().join("bare-4294967295")]);
    }

    #[test]
    fn readme_names_the_two_commands_first() {
        let found = scripts(include_str!("../../../README.md")).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].1.contains("--detach") && found[1].1 == "cargo xtask test", "{found:?}");
        assert!(scripts("# unibus\n\n    cargo run\n").is_err());
    }
}
