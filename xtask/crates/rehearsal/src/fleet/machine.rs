//! One machine: its disk, its power switch, and whether it takes logins.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::base::USERS;
use super::cgroup::Cgroup;
use super::enter;
use super::layout::Layout;
use super::members::Member;
use super::mounts;
use super::operator;
use super::preflight;
use super::proto::Power;
use unibus_ops::exit::BadInput;
use unibus_ops::hash;
use unibus_ops::process::bounded;

/// How long a machine may take to take logins, on a loaded host.
const BOOTING: Duration = Duration::from_secs(120);
/// How long it may take to power off in good order: what a unit may take, and some.
const STOPPING: Duration = Duration::from_secs(100);
/// How long killing, freezing and thawing may take.
const AT_ONCE: Duration = Duration::from_secs(20);
/// How systemd-nspawn ends when the machine restarts: it is for its caller to start it again.
const RESTART: i32 = 133;
const SSH_PORT: u16 = 22;
/// Lines of the console that tell why a machine did not come up.
const LAST_WORDS: usize = 15;

/// A machine, on or off.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) member: Member,
    layout: Layout,
    base: PathBuf,
    /// Names that resolve on every machine.
    hosts: String,
    cgroup: Cgroup,
    /// One thing at a time.
    doing: Mutex<()>,
    life: Mutex<Life>,
}

#[derive(Debug, Default)]
struct Life {
    mounted: bool,
    boots: u32,
    /// Somebody waits for systemd-nspawn, and will start it again after a restart.
    attended: bool,
    nspawn: Option<OwnedFd>,
    last_end: Option<String>,
}

impl Machine {
    /// The machine, off.
    pub(super) fn new(layout: &Layout, base: &Path, member: &Member, hosts: &str) -> Result<Arc<Self>> {
        let cgroup = Cgroup::make(Path::new(mounts::CGROUPS).join(format!("machine-{}", member.name)))?;
        Ok(Arc::new(Self {
            member: member.clone(),
            layout: layout.clone(),
            base: base.to_path_buf(),
            hosts: hosts.to_owned(),
            cgroup,
            doing: Mutex::default(),
            life: Mutex::default(),
        }))
    }

    /// Powers it on and waits until it takes logins.
    pub(super) fn boot(self: &Arc<Self>) -> Result<()> {
        let _one = self.one_at_a_time();
        // The only truth: systemd-nspawn may be gone and its machine run on.
        if self.cgroup.populated()? || self.life().attended {
            return Err(BadInput::new(format!("{} is on already", self.member.name)));
        }
        // A power cut leaves a frozen machine's cgroup frozen.
        self.cgroup.freeze(false, AT_ONCE)?;
        self.disk().with_context(|| format!("making the disk of {}", self.member.name))?;
        let before = self.life().boots;
        self.life().attended = true;
        let machine = Arc::clone(self);
        thread::spawn(move || machine.attend());
        self.await_logins(before)
    }

    /// Powers it off in good order.
    pub(super) fn stop(&self) -> Result<()> {
        let _one = self.one_at_a_time();
        self.must_be_on()?;
        self.cgroup.freeze(false, AT_ONCE)?;
        // It passes the wish on to the machine's systemd.
        match &self.life().nspawn {
            Some(nspawn) => pidfd_send_signal(nspawn, Signal::TERM).context("asking the machine to power off")?,
            None => bail!("nobody attends {}; cut its power", self.member.name),
        }
        if !self.cgroup.wait(STOPPING, || self.is_off())? {
            bail!("{} is not off after {} s; cut its power: fleet kill", self.member.name, STOPPING.as_secs());
        }
        Ok(())
    }

    /// Cuts its power.
    pub(super) fn kill(&self) -> Result<()> {
        let _one = self.one_at_a_time();
        self.must_be_on()?;
        self.cgroup.kill(AT_ONCE)?;
        if !self.cgroup.wait(AT_ONCE, || self.is_off())? {
            bail!("{} is still attended after its power was cut", self.member.name);
        }
        Ok(())
    }

    /// Restarts it in good order and waits until it takes logins again.
    pub(super) fn reboot(&self) -> Result<()> {
        let _one = self.one_at_a_time();
        self.must_be_on()?;
        self.must_not_be_frozen()?;
        let before = self.life().boots;
        // What Ctrl-Alt-Del is on a console.
        let leader = self.leader().with_context(|| format!("{} has no process 1 yet", self.member.name))?;
        kill_process(leader, Signal::INT).context("asking the machine to restart")?;
        self.await_logins(before)
    }

    /// Another machine in its place: its power is cut if it is on, its disk is as new, and so is its host key.
    pub(super) fn reinstall(self: &Arc<Self>) -> Result<()> {
        if !self.is_off()? {
            self.kill()?;
        }
        {
            let _one = self.one_at_a_time();
            if self.life().mounted {
                mounts::no_disk(&self.layout.machine(&self.member.name))
                    .with_context(|| format!("taking away the disk of {}", self.member.name))?;
                self.life().mounted = false;
            }
            operator::another_host_key(&self.layout, &self.member)?;
        }
        self.boot()
    }

    /// Stops everything on it where it is.
    pub(super) fn freeze(&self) -> Result<()> {
        let _one = self.one_at_a_time();
        self.must_be_on()?;
        self.cgroup.freeze(true, AT_ONCE)
    }

    /// Lets it run on.
    pub(super) fn thaw(&self) -> Result<()> {
        let _one = self.one_at_a_time();
        self.must_be_on()?;
        self.cgroup.freeze(false, AT_ONCE)
    }

    /// What it is doing.
    pub(super) fn power(&self) -> Result<Power> {
        Ok(match (self.cgroup.populated()?, self.cgroup.frozen()?) {
            (false, _) => Power::Off,
            (true, true) => Power::Frozen,
            (true, false) if self.takes_logins() => Power::Up,
            (true, false) => Power::Booting,
        })
    }

    /// Times it was powered on or restarted.
    pub(super) fn boots(&self) -> u32 {
        self.life().boots
    }

    fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.doing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_off(&self) -> Result<bool> {
        Ok(!self.life().attended && !self.cgroup.populated()?)
    }

    fn must_be_on(&self) -> Result<()> {
        if self.cgroup.populated()? {
            return Ok(());
        }
        Err(BadInput::new(format!("{} is off", self.member.name)))
    }

    fn must_not_be_frozen(&self) -> Result<()> {
        if self.cgroup.frozen()? {
            return Err(BadInput::new(format!("{} is frozen; thaw it first", self.member.name)));
        }
        Ok(())
    }

    /// The machine's process 1.
    fn leader(&self) -> Option<Pid> {
        self.cgroup.first_process("payload/init.scope").and_then(Pid::from_raw)
    }

    /// sshd listens, and nobody is turned away because the machine still boots. Looked up from outside: no fault of the
    /// networks and no changed host key can hide it.
    fn takes_logins(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let proc = PathBuf::from(format!("/proc/{}", leader.as_raw_nonzero()));
        let listens = ["net/tcp", "net/tcp6"]
            .iter()
            .any(|table| fs::read_to_string(proc.join(table)).is_ok_and(|table| is_listened_on(&table, SSH_PORT)));
        listens && !proc.join("root/run/nologin").exists()
    }

    fn await_logins(&self, boots_before: u32) -> Result<()> {
        let came = self.cgroup.wait(BOOTING, || {
            let Life { boots, attended, ref last_end, .. } = *self.life();
            if !attended {
                let how = last_end.as_deref().unwrap_or_default();
                bail!("{} went off while it booted ({how}); its console:\n{}", self.member.name, self.last_words());
            }
            Ok(boots > boots_before && self.takes_logins())
        })?;
        if !came {
            let seconds = BOOTING.as_secs();
            bail!("{} takes no logins after {seconds} s; its console:\n{}", self.member.name, self.last_words());
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let text = fs::read(self.layout.console(&self.member.name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default().join("\n")
    }

    /// Runs the machine until it is off; through restarts.
    fn attend(&self) {
        loop {
            let ended = self.run();
            let again = ended.as_ref().is_ok_and(|status| status.code() == Some(RESTART));
            let mut life = self.life();
            life.nspawn = None;
            life.last_end = Some(match ended {
                Ok(status) => format!("systemd-nspawn: {status}"),
                Err(error) => format!("{error:#}"),
            });
            if !again {
                life.attended = false;
                return;
            }
        }
    }

    fn run(&self) -> Result<ExitStatus> {
        let console = self.layout.console(&self.member.name);
        let log = OpenOptions::new().create(true).append(true).open(&console);
        let log = log.with_context(|| format!("opening {}", console.display()))?;
        let mut command = Command::new(self.layout.program());
        command
            .args(enter::words(self.cgroup.dir()))
            .args(nspawn(&self.member, &self.root()))
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .stdin(Stdio::null())
            .stderr(log.try_clone().context("opening the console")?)
            .stdout(log);
        let mut child = command.spawn().context("starting systemd-nspawn")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("systemd-nspawn has no process id")?;
        {
            let mut life = self.life();
            // Nobody has waited for it yet, so the id is still its own.
            life.nspawn = Some(pidfd_open(pid, PidfdFlags::empty()).context("taking hold of systemd-nspawn")?);
            life.boots += 1;
        }
        child.wait().context("waiting for systemd-nspawn")
    }

    fn root(&self) -> PathBuf {
        self.layout.machine(&self.member.name).join("root")
    }

    /// Mounts the disk, and the first time does what a provider's image does when it boots first.
    fn disk(&self) -> Result<()> {
        if self.life().mounted {
            return Ok(());
        }
        mounts::disk(&self.base, &self.layout.machine(&self.member.name))?;
        self.seed()?;
        self.life().mounted = true;
        Ok(())
    }

    fn seed(&self) -> Result<()> {
        let Member { name, .. } = &self.member;
        let (root, key) = (self.root(), self.layout.host_key(name));
        let own = |file: &Path| fs::read(file).with_context(|| format!("reading {}", file.display()));
        put(&root.join("etc/ssh/ssh_host_ed25519_key"), 0o600, &own(&key)?)?;
        put(&root.join("etc/ssh/ssh_host_ed25519_key.pub"), 0o644, &own(&key.with_extension("pub"))?)?;
        put(&root.join("etc/hostname"), 0o644, format!("{name}\n").as_bytes())?;
        let id = hash::short(name.as_bytes(), 32);
        put(&root.join("etc/machine-id"), 0o444, format!("{id}\n").as_bytes())?;
        put(&root.join("etc/hosts"), 0o644, self.hosts.as_bytes())?;
        let let_in = own(&operator::public_key(&self.layout))?;
        admit(&root.join("root"), 0, &let_in)?;
        for (user, id) in USERS {
            admit(&root.join("home").join(user), id, &let_in)?;
        }
        let user = self.member.user();
        if user != "root" && !USERS.iter().any(|(name, _)| *name == user) {
            add_user(&root, user)?;
            let id = fs::metadata(root.join("home").join(user)).map(|meta| std::os::unix::fs::MetadataExt::uid(&meta));
            admit(
                &root.join("home").join(user),
                id.with_context(|| format!("looking for the home of {user}"))?,
                &let_in,
            )?;
        }
        Ok(())
    }
}

/// A user of the operator's own topology, who may become root as on the real server.
fn add_user(root: &Path, user: &str) -> Result<()> {
    let mut command = Command::new("chroot");
    command.env("PATH", preflight::PATH).arg(root).args([
        "useradd",
        "--create-home",
        "--shell",
        "/bin/bash",
        "--",
        user,
    ]);
    let output = bounded(command, b"", AT_ONCE)?;
    if !output.ok() {
        bail!("making the user {user}: {}", output.reason());
    }
    put(&root.join("etc/sudoers.d").join(user), 0o440, format!("{user} ALL=(ALL) NOPASSWD: ALL\n").as_bytes())
}

/// Lets the owner of `key` log in.
fn admit(home: &Path, id: u32, key: &[u8]) -> Result<()> {
    let dir = home.join(".ssh");
    if !dir.exists() {
        fs::DirBuilder::new().mode(0o700).create(&dir).with_context(|| format!("making {}", dir.display()))?;
    }
    put(&dir.join("authorized_keys"), 0o600, key)?;
    for path in [&dir, &dir.join("authorized_keys")] {
        chown(path, Some(id), Some(id)).with_context(|| format!("giving {} its owner", path.display()))?;
    }
    Ok(())
}

fn put(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// The command that is the machine's power supply.
fn nspawn(member: &Member, root: &Path) -> Vec<String> {
    let fixed = [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        // Files of that name on this host are about other machines.
        "--settings=no",
        "--register=no",
        "--keep-unit",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--console=pipe",
        // What a server lets root do that a container does not.
        "--capability=CAP_NET_ADMIN,CAP_BPF",
        "--system-call-filter=bpf",
    ];
    let mut words: Vec<String> = fixed.map(str::to_owned).into();
    words.push(format!("--directory={}", root.display()));
    words.extend([format!("--machine={}", member.name), format!("--hostname={}", member.name)]);
    words.push(format!("--network-namespace-path=/run/netns/{}", member.netns()));
    words.extend(preflight::tun().map(|device| format!("--bind={}", device.display())));
    words
}

/// Whether a table of sockets (proc(5), net/tcp) has one that listens on the port.
fn is_listened_on(table: &str, port: u16) -> bool {
    const LISTENS: &str = "0A";
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let here = fields.get(1).and_then(|address| address.rsplit_once(':')).map(|(_, port)| port);
        here.and_then(|here| u16::from_str_radix(here, 16).ok()) == Some(port) && fields.get(3) == Some(&LISTENS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_told_from_a_connection() {
        let table =
            "  sl  local_address rem_address   st tx_queue\n   0: 00000000:0016 00000000:0000 0A 00000000:00000000\n";
        assert!(is_listened_on(table, 22));
        assert!(!is_listened_on(table, 23));
        assert!(!is_listened_on(&table.replace(" 0A ", " 01 "), 22));
    }
}
