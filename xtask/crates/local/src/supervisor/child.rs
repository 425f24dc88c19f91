//! One life of a daemon: its process, its log, its notify socket.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child as Process, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::env_file;
use super::log_file::LogFile;
use super::machine::WATCHDOG;
use unibus_ops::install_dir::CLUSTER_ENV;

/// What systemd gives its services.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A longer line of a log is cut in two.
const MOST_LINE: u64 = 64 * 1024;
/// How often a listener looks whether its daemon has ended.
const LOOK: Duration = Duration::from_millis(500);

/// What a daemon's threads tell the supervisor's loop.
#[derive(Debug)]
pub(super) enum News {
    /// A datagram to the notify socket.
    Said(String),
    /// The process has ended.
    Ended(ExitStatus),
}

/// Tells which daemon, and which of its lives, news is about.
pub(super) type Tell = Arc<dyn Fn(News) + Send + Sync>;

/// A running daemon.
#[derive(Debug)]
pub(super) struct Child {
    pid: Pid,
    handle: OwnedFd,
    over: Arc<AtomicBool>,
}

/// Where a daemon is started.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The program that has the verb `exec-child`.
    pub(super) program: PathBuf,
    pub(super) dir: PathBuf,
    pub(super) log: Arc<Mutex<LogFile>>,
    /// The directory of sockets. Paths through its descriptor are short however deep the clone lies
    /// (a socket's path has 107 bytes at most).
    pub(super) sockets: Arc<File>,
    /// The notify socket of this life, so that no word of a former one is taken for this one's.
    pub(super) socket: String,
}

/// Starts a daemon. The calling thread must live as long as the supervisor: PDEATHSIG is about threads.
pub(super) fn spawn(place: &Place, tell: &Tell) -> Result<Child> {
    let env = env_file::read(&place.dir.join(CLUSTER_ENV))?;
    let notify = listen(place)?;
    let fd = place.sockets.as_raw_fd();
    let own = std::process::id();
    let mut command = Command::new(&place.program);
    command
        .arg0("xtask")
        .args(["exec-child", "--parent", &own.to_string(), "--", "./membershipd", "serve"])
        .current_dir(&place.dir)
        .env_clear()
        .env("PATH", PATH)
        .envs(env)
        .env("NOTIFY_SOCKET", format!("/proc/{own}/fd/{fd}/{}", place.socket))
        .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut process = command.spawn().context("starting the daemon")?;
    let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw).context("the daemon has no process id")?;
    // Nobody has waited for it yet, so the id is still its own; from here on the handle is what is signalled.
    let handle = pidfd_open(pid, PidfdFlags::empty()).context("taking hold of the daemon")?;
    let over = Arc::new(AtomicBool::new(false));
    let logged = process.stderr.take().map(|stderr| keep_log(stderr, Arc::clone(&place.log)));
    hear(notify, Arc::clone(&over), Arc::clone(tell));
    await_end(process, logged, Arc::clone(tell));
    Ok(Child { pid, handle, over })
}

impl Child {
    /// Its process id.
    pub(super) fn id(&self) -> Option<u32> {
        u32::try_from(self.pid.as_raw_nonzero().get()).ok()
    }

    /// Signals the daemon alone.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.handle, signal) {
            // It has ended just now, and its end is on the way to us.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("sending {signal:?} to the daemon")),
        }
    }

    /// Stops the daemon and its engine, and returns once they stand still.
    pub(super) fn freeze(&self) -> Result<()> {
        // The daemon first: it must not see its engine stand still.
        self.signal(Signal::STOP)?;
        self.signal_children(Signal::STOP)?;
        let deadline = Instant::now() + LOOK;
        // A process that is on a processor stops a moment after the signal was sent.
        while Instant::now() < deadline {
            if children(self.pid)?.into_iter().chain([self.pid]).all(is_stopped) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(1));
        }
        bail!("the processes do not stand still")
    }

    /// Lets them run on.
    pub(super) fn thaw(&self) -> Result<()> {
        self.signal_children(Signal::CONT)?;
        self.signal(Signal::CONT)
    }

    /// Signals what the daemon has started: the engine.
    fn signal_children(&self, signal: Signal) -> Result<()> {
        for child in children(self.pid)? {
            let Ok(handle) = pidfd_open(child, PidfdFlags::empty()) else { continue };
            // The id may have passed to a stranger before we took hold of it.
            if children(self.pid)?.contains(&child) {
                match pidfd_send_signal(&handle, signal) {
                    Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                    Err(error) => return Err(error).context("signalling the engine"),
                }
            }
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// The processes whose parent is `parent`.
fn children(parent: Pid) -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let entry = entry.context("reading /proc")?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        // A process that has ended meanwhile is nobody's child.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if parent_of(&stat) == Some(parent.as_raw_nonzero().get()) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// One that has ended stands still too.
fn is_stopped(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, after)| after.starts_with(['T', 't', 'Z', 'X']))
}

/// proc(5): pid (comm) state ppid …, where comm may hold anything.
fn parent_of(stat: &str) -> Option<i32> {
    let (_, after) = stat.rsplit_once(") ")?;
    after.split(' ').nth(1)?.parse().ok()
}

fn listen(place: &Place) -> Result<UnixDatagram> {
    let path = Path::new("/proc/self/fd").join(place.sockets.as_raw_fd().to_string()).join(&place.socket);
    let socket = UnixDatagram::bind(&path).context("opening the notify socket")?;
    socket.set_read_timeout(Some(LOOK)).context("opening the notify socket")?;
    Ok(socket)
}

fn hear(socket: UnixDatagram, over: Arc<AtomicBool>, tell: Tell) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while !over.load(Ordering::Relaxed) {
            // A time-out is the chance to look whether it is over.
            let Ok(length) = socket.recv(&mut buffer) else { continue };
            if let Some(said) = buffer.get(..length) {
                tell(News::Said(String::from_utf8_lossy(said).into_owned()));
            }
        }
    });
}

/// Copies a daemon's log; the receiver hears when there is no more of it.
fn keep_log(stderr: ChildStderr, log: Arc<Mutex<LogFile>>) -> mpsc::Receiver<()> {
    let (end, ended) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stderr);
        let mut line = Vec::new();
        let mut complained = false;
        while matches!(reader.by_ref().take(MOST_LINE).read_until(b'\n', &mut line), Ok(1..)) {
            if !line.ends_with(b"\n") {
                line.push(b'\n');
            }
            let Ok(mut log) = log.lock() else { break };
            // A full disk must not stop the daemon; one word about it is enough.
            if let Err(error) = log.line(&line)
                && !std::mem::replace(&mut complained, true)
            {
                errln!("a node's log cannot be written: {error}");
            }
            drop(log);
            line.clear();
        }
        drop(end);
    });
    ended
}

fn await_end(mut process: Process, logged: Option<mpsc::Receiver<()>>, tell: Tell) {
    thread::spawn(move || {
        let Ok(status) = process.wait() else { return };
        if let Some(logged) = logged {
            // Its last words say why it ended. Whoever else holds the pipe is not waited for.
            let _ = logged.recv_timeout(LOOK);
        }
        tell(News::Ended(status));
    });
}

/// An exit in words.
pub(super) fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}

/// Where the sender of news is cloned from.
pub(super) fn teller<T: Send + 'static>(sender: Sender<T>, wrap: impl Fn(News) -> T + Send + Sync + 'static) -> Tell {
    let sender = Mutex::new(sender);
    Arc::new(move |news| {
        if let Ok(sender) = sender.lock() {
            // The loop is gone only when the supervisor ends.
            let _ = sender.send(wrap(news));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_whatever_the_program_is_called() {
        assert_eq!(parent_of("12 (nats-server) S 7 1 1 0"), Some(7));
        assert_eq!(parent_of("12 (a) S 9 (b)) R 7 1 1"), Some(7));
        assert_eq!(parent_of("nonsense"), None);
    }

    #[test]
    fn our_own_children_are_found() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap();
        let found = children(own).unwrap();
        let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&id));
    }
}
