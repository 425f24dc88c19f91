//! Starts a supervisor and talks to it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::proto::{NodeStatus, Phase, Request, SCHEMA, Status};
use unibus_ops::local_state::State;
use unibus_ops::lock;
use unibus_ops::paths::Paths;

pub(super) const CONTROL_SOCKET: &str = "control.sock";

/// How long the supervisor may take to say something; it does nothing slow while it does.
const ANSWER: Duration = Duration::from_secs(10);
/// How long everything may take to end; then the supervisor has killed what was left.
const ENDING: Duration = Duration::from_secs(30);
/// How long a supervisor may take to open its socket.
const STARTING: Duration = Duration::from_secs(10);
/// How long a node may take: the unit's own limits for start and stop, and some.
const SETTLING: Duration = Duration::from_secs(100);
const LOOK: Duration = Duration::from_millis(50);

/// A connection to a running supervisor.
#[derive(Clone, Debug)]
pub struct Control {
    state: State,
}

impl Control {
    /// The supervisor of `state`, if one runs.
    pub fn find(state: &State) -> Result<Option<Self>> {
        let control = Self { state: state.clone() };
        let file = match File::open(state.supervisor_lock()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("opening supervisor.lock"),
        };
        // The lock is the truth: a socket may be left from one that was killed.
        let runs = lock::is_held(file).context("looking at supervisor.lock")?;
        Ok(runs.then_some(control))
    }

    /// Whether the supervisor still runs.
    pub(crate) fn alive(&self) -> Result<bool> {
        Ok(Self::find(&self.state)?.is_some())
    }

    /// Removes what a supervisor that was killed has left.
    pub(crate) fn clean_up(state: &State) -> Result<()> {
        match fs::remove_dir_all(state.sockets()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", Paths::shown(&state.sockets())))
            }
            _ => Ok(()),
        }
    }

    /// Asks something; what the supervisor refuses is an error.
    pub fn ask(&self, request: &Request) -> Result<Status> {
        let within = if *request == Request::Down { ENDING } else { ANSWER };
        let deadline = Instant::now() + ANSWER;
        let stream = loop {
            match connect(&self.state.sockets()) {
                // It has taken its lock and opens its socket next.
                Err(error) if is_absent(&error) && Instant::now() < deadline && self.alive()? => thread::sleep(LOOK),
                other => break other.context("asking the supervisor")?,
            }
        };
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(ANSWER))?;
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        (&stream).write_all(line.as_bytes()).context("asking the supervisor")?;
        let mut answer = String::new();
        BufReader::new(&stream)
            .read_line(&mut answer)
            .with_context(|| format!("the supervisor of {} does not answer", Paths::shown(self.state.dir())))?;
        if answer.is_empty() {
            bail!("the supervisor ended without an answer; see {}", Paths::shown(&self.state.supervisor_log()));
        }
        let status: Status = serde_json::from_str(&answer).context("reading the supervisor's answer")?;
        if status.schema != SCHEMA {
            bail!("the supervisor was started by another version of xtask: take it down with that one");
        }
        match status.error {
            Some(error) => bail!(error),
            None => Ok(status),
        }
    }

    /// Ends everything and waits until the supervisor itself is gone.
    pub fn down(&self) -> Result<()> {
        let asked = self.ask(&Request::Down);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Self::find(&self.state)?.is_some() {
            if Instant::now() >= deadline {
                asked?;
                bail!("the supervisor of {} does not end", Paths::shown(self.state.dir()));
            }
            thread::sleep(LOOK);
        }
        // It may have been killed before it could answer; gone is gone.
        Self::clean_up(&self.state)
    }

    /// Asks for something to happen to a node and waits until it did.
    pub fn carry_out(&self, request: &Request) -> Result<NodeStatus> {
        let (Request::Start { node: name }
        | Request::Restart { node: name }
        | Request::Stop { node: name }
        | Request::Kill { node: name, .. }
        | Request::Freeze { node: name }
        | Request::Thaw { node: name }) = request
        else {
            bail!("that is about no single node");
        };
        let before = find_node(&self.ask(&Request::Status)?, name)?;
        let mut status = self.ask(request)?;
        let deadline = Instant::now() + SETTLING;
        loop {
            let node = find_node(&status, name)?;
            let settled = match request {
                // While it ends for a restart it is 'stopping', so 'ready' means the next life.
                Request::Start { .. } | Request::Restart { .. } => matches!(node.phase, Phase::Ready | Phase::Failed),
                Request::Stop { .. } | Request::Kill { stay_down: true, .. } => node.phase == Phase::Stopped,
                Request::Kill { .. } => node.pid != before.pid,
                _ => true,
            };
            if settled {
                return Ok(node);
            }
            if node.starts > before.starts.saturating_add(2) && node.phase == Phase::Waiting {
                let exit = node.last_exit.as_deref().unwrap_or("for no known reason");
                bail!("{name} ends again and again ({exit}){}", last_lines(&node));
            }
            if Instant::now() >= deadline {
                bail!("{name} is still {:?} after {} s", node.phase, SETTLING.as_secs());
            }
            thread::sleep(LOOK);
            status = self.ask(&Request::Status)?;
        }
    }
}

fn find_node(status: &Status, name: &str) -> Result<NodeStatus> {
    let known: Vec<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
    let found = status.nodes.iter().find(|node| node.name == name).cloned();
    found.with_context(|| format!("there is no node '{name}'; this cluster has {}", known.join(", ")))
}

/// The last words of a node, for a message about its end.
pub fn last_lines(node: &NodeStatus) -> String {
    if node.last_lines.is_empty() { String::new() } else { format!(":\n  {}", node.last_lines.join("\n  ")) }
}

/// Starts a supervisor. In the foreground the child must be kept: when its standard input closes, everything ends.
///
/// `program` has the hidden verbs `supervise` and `exec-child`.
pub fn start(program: &Path, state: &State, nodes: &[String], foreground: bool) -> Result<(Control, Child)> {
    let shown = Paths::shown(&state.supervisor_log());
    let log = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(state.supervisor_log())
        .with_context(|| format!("opening {shown}"))?;
    let error_log = log.try_clone().with_context(|| format!("opening {shown}"))?;
    let mut command = Command::new(program);
    command.arg0("xtask").arg("supervise").arg("--state").arg(state.dir());
    if foreground {
        command.arg("--lifeline").stdin(Stdio::piped());
    } else {
        command.stdin(Stdio::null());
    }
    command.args(nodes).stdout(log).stderr(error_log).current_dir(state.dir());
    let mut child = command.spawn().context("starting the supervisor")?;
    let deadline = Instant::now() + STARTING;
    loop {
        if let Some(control) = Control::find(state)?
            && connect(&state.sockets()).is_ok()
        {
            return Ok((control, child));
        }
        if let Some(status) = child.try_wait().context("waiting for the supervisor")? {
            let said = fs::read_to_string(state.supervisor_log()).unwrap_or_default();
            bail!("the supervisor ended ({status}): {}", said.trim());
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            bail!("the supervisor did not start within {} s; see {shown}", STARTING.as_secs());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Through a descriptor of the directory, because a socket's path has 107 bytes at most.
fn connect(sockets: &Path) -> io::Result<UnixStream> {
    let dir = File::open(sockets)?;
    UnixStream::connect(Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(CONTROL_SOCKET))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
