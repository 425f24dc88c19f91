//! The engine process: started, signalled, waited for.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::{oneshot, watch};

use super::binary::Binary;
use super::log;

/// Name of the hidden verb that becomes the engine.
pub const CHILD_VERB: &str = "engine-child";

/// Time for the engine to hand over its leaderships and send its clients away before it is told to stop at once. The
/// leaderships go first, within a second. The engine then closes one client after the other, up to a second apart, and would
/// spread many over its whole 30 s (its shortest): those that are left after this time connect elsewhere all at once, which a
/// hundred do in a quarter of a second.
const LAME_DUCK: Duration = Duration::from_secs(4);
/// Time to end after an interrupt before it is killed. It only has to close what it has written already.
const INTERRUPTED: Duration = Duration::from_secs(20);

type Launch = oneshot::Sender<io::Result<Engine>>;

/// Starts engines. One thread does that for as long as the process lives, because the death signal of a child is sent when
/// the thread that spawned it ends, not only when the process does (prctl(2)).
#[derive(Debug)]
pub struct EngineHost {
    launches: mpsc::Sender<Launch>,
}

impl EngineHost {
    /// Prepares to run `binary` with the configuration file `config`. Above `memory` bytes the engine collects its garbage as often as it
    /// takes (GOMEMLIMIT): a limit of the operating system has to lie above that.
    pub fn new(binary: Binary, config: PathBuf, memory: u64) -> Result<Self> {
        let (launches, requests) = mpsc::channel::<Launch>();
        std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || {
                for reply in requests {
                    match spawn(&binary, &config, memory) {
                        Ok((mut child, engine, exit)) => {
                            // Nobody waits for it any more: then it must not run.
                            if let Err(Ok(engine)) = reply.send(Ok(engine)) {
                                engine.kill();
                            }
                            let ended = child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
                            exit.send_replace(Some(ended));
                        }
                        Err(error) => drop(reply.send(Err(error))),
                    }
                }
            })
            .context("cannot start the thread of the engine")?;
        Ok(Self { launches })
    }

    /// Starts an engine; the one before must have ended.
    pub async fn launch(&self) -> Result<Engine> {
        let (reply, launched) = oneshot::channel();
        self.launches.send(reply).ok().context("the thread of the engine is gone")?;
        launched.await.context("the thread of the engine is gone")?.context("cannot start the engine")
    }
}

fn spawn(binary: &Binary, config: &PathBuf, memory: u64) -> io::Result<(Child, Engine, watch::Sender<Option<String>>)> {
    // Not current_exe(): an upgrade may have moved this binary away, and the link still leads to it.
    let mut child = Command::new("/proc/self/exe")
        .arg(CHILD_VERB)
        .arg("--parent")
        .arg(std::process::id().to_string())
        .arg("--")
        .arg(&binary.path)
        .arg("-c")
        .arg(config)
        .env_clear()
        .env("GOMEMLIMIT", memory.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(stderr) = child.stderr.take() {
        std::thread::Builder::new().name("engine-log".to_owned()).spawn(move || log::forward(stderr))?;
    }
    let pid = child.id();
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no process id"))?;
    // Opened before anybody can reap the child, so that it can never come to mean another process.
    let pidfd = Arc::new(pidfd_open(raw, PidfdFlags::empty())?);
    let (exit, exited) = watch::channel(None);
    Ok((child, Engine { pid, pidfd, exited }, exit))
}

/// A running engine.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Process id.
    pub pid: u32,
    pidfd: Arc<OwnedFd>,
    exited: watch::Receiver<Option<String>>,
}

impl Engine {
    /// Ends it at once. Its clients are cut, its data stays.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Waits until it has ended and says how.
    pub async fn exited(&self) -> String {
        let mut exited = self.exited.clone();
        match exited.wait_for(Option::is_some).await {
            Ok(status) => status.clone().unwrap_or_default(),
            Err(_) => "its thread ended".to_owned(),
        }
    }

    /// Stops it by lame duck: leaderships and clients move first. Escalates, because the engine ignores a termination signal
    /// during lame duck.
    pub async fn stop(&self) {
        self.signal(Signal::USR2);
        if tokio::time::timeout(LAME_DUCK, self.exited()).await.is_ok() {
            return;
        }
        tracing::info!(pid = self.pid, "sending away the clients that are left");
        self.signal(Signal::INT);
        if tokio::time::timeout(INTERRUPTED, self.exited()).await.is_ok() {
            return;
        }
        tracing::warn!(pid = self.pid, "the engine did not stop in time: killing it");
        self.kill();
        self.exited().await;
    }

    fn signal(&self, signal: Signal) {
        // Fails only where it has ended already, which is what the signal wants.
        let _ = pidfd_send_signal(&*self.pidfd, signal);
    }
}
