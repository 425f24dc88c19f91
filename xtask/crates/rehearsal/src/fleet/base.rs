//! The tree that every machine's disk begins as: a small Debian, made once and cached.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use ring::digest;

use super::preflight;
use unibus_ops::cargo;
use unibus_ops::lock::Lock;
use unibus_ops::paths::Paths;
use unibus_ops::ui::Line;

const SUITE: &str = "bookworm";

/// What a provider's smallest image has, and what the runbook asks for: rsync.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,openssh-server,rsync,iproute2,iputils-ping,procps,sudo";

/// A user who may become root, and one who may not.
pub(super) const USERS: [(&str, u32); 2] = [("op", 1000), ("nosudo", 1001)];

/// What mmdebstrap does in the tree at its end; `$1` is the tree.
const HOOKS: [&str; 5] = [
    // Every machine gets its own.
    "rm -f \"$1\"/etc/ssh/ssh_host_* \"$1\"/etc/hostname \"$1\"/etc/resolv.conf",
    "chroot \"$1\" useradd --create-home --uid 1000 --shell /bin/bash op",
    "chroot \"$1\" useradd --create-home --uid 1001 --shell /bin/bash nosudo",
    "echo 'op ALL=(ALL) NOPASSWD: ALL' > \"$1/etc/sudoers.d/op\"",
    "install -d \"$1/var/log/journal\"",
];

/// The base tree in the cache of a clone.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    dir: PathBuf,
    id: String,
}

impl Base {
    /// The tree of today's recipe.
    pub(crate) fn new(paths: &Paths) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        for part in [SUITE, PACKAGES].iter().chain(&HOOKS) {
            hash.update(part.as_bytes());
            hash.update(b"\0");
        }
        let id = HEXLOWER.encode(hash.finish().as_ref()).chars().take(12).collect();
        Self { dir: paths.build().join("rehearse"), id }
    }

    /// Whether it need not be made.
    pub(crate) fn is_there(&self) -> bool {
        self.tree().is_dir()
    }

    /// The tree, made or unpacked if need be. All machines of all fleets share it and none can write it.
    pub(crate) fn obtain(&self, line: &Line) -> Result<PathBuf> {
        let tree = self.tree();
        if self.is_there() {
            return Ok(tree);
        }
        let shown = Paths::shown(&self.dir);
        // Root's setuid programs lie in there: nobody else gets at them.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).with_context(|| format!("making {shown}"))?;
        let file = File::open(&self.dir).with_context(|| format!("opening {shown}"))?;
        let _one_at_a_time = Lock::take(file, || line.set("another xtask is making the base tree; waiting"))
            .with_context(|| format!("locking {shown}"))?;
        if self.is_there() {
            return Ok(tree);
        }
        let archive = self.dir.join(format!("base-{}.tar.zst", self.id));
        if !archive.is_file() {
            line.set(format!("making the machines' base tree (Debian {SUITE}), about a minute, once"));
            self.make(&archive, line)?;
        }
        line.set("unpacking the base tree");
        self.unpack(&archive, &tree, line)?;
        Ok(tree)
    }

    fn tree(&self) -> PathBuf {
        self.dir.join(format!("base-{}", self.id))
    }

    fn make(&self, archive: &Path, line: &Line) -> Result<()> {
        let new = self.dir.join(format!("new-{}.tar.zst", self.id));
        let scratch = self.fresh("scratch")?;
        // It mounts things in the tree. In namespaces that end with us nobody else sees them, and none is left if we are killed.
        let mut make = tool("/proc/self/exe");
        make.args(["exec-child", "--parent", &process::id().to_string(), "--"])
            .args([
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child=SIGKILL",
                "--propagation=private",
                "--mount-proc",
            ])
            .arg("mmdebstrap");
        make.args(["--variant=minbase", &format!("--include={PACKAGES}")])
            .args(HOOKS.iter().map(|hook| format!("--customize-hook={hook}")))
            .arg(SUITE)
            .arg(&new)
            // What an interrupted run leaves is found and removed by the next.
            .env("TMPDIR", &scratch);
        cargo::run(make, line).context("making the base tree; the host needs its way to a Debian mirror for that")?;
        fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", Paths::shown(&scratch)))?;
        put(&new, archive)
    }

    fn unpack(&self, archive: &Path, tree: &Path, line: &Line) -> Result<()> {
        let new = self.fresh("tree")?;
        let mut tar = tool("tar");
        tar.args(["--extract", "--zstd", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--directory"]);
        tar.arg(&new).arg("--file").arg(archive);
        cargo::run(tar, line).context("unpacking the base tree")?;
        put(&new, tree)
    }

    /// An empty directory; the lock is ours, so what is there is of one that was interrupted.
    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(format!("new-{name}-{}", self.id));
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("removing {}", Paths::shown(&dir)))?;
        }
        DirBuilder::new().mode(0o755).create(&dir).with_context(|| format!("making {}", Paths::shown(&dir)))?;
        Ok(dir)
    }
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", preflight::PATH).current_dir("/");
    command
}

fn put(new: &Path, place: &Path) -> Result<()> {
    fs::rename(new, place).with_context(|| format!("putting {} in place", Paths::shown(place)))
}
