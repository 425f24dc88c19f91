//! The supervisor itself: one loop that owns every daemon and hears of everything through one channel.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rustix::fs::Mode;
use rustix::process::{Signal, setsid, umask};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::child::{self, Child, News, Place, how, spawn};
use super::client::CONTROL_SOCKET;
use super::log_file::{LogFile, MOST_BYTES};
use super::machine::{Action, Event, Machine, STOP};
use super::proto::{NodeStatus, Phase, Request, SCHEMA, Status};
use unibus_ops::local_state::State;
use unibus_ops::lock::Lock;
use unibus_ops::paths::Paths;

/// What each node is given when everything is taken down: the operator waits for it.
const DOWN: Duration = Duration::from_secs(10);
/// The longest that the loop sleeps.
const NAP: Duration = Duration::from_secs(60);
/// Nobody needs longer to write one line.
const ASKING: Duration = Duration::from_secs(5);
const LOCKING: Duration = Duration::from_secs(2);
const LONGEST_REQUEST: u64 = 4096;

/// Hidden: `local` starts this.
#[derive(clap::Args)]
pub struct Supervise {
    /// The cluster's state directory
    #[arg(long)]
    state: PathBuf,
    /// End when standard input ends
    #[arg(long)]
    lifeline: bool,
    /// The nodes to run
    #[arg(required = true)]
    nodes: Vec<String>,
}

enum Message {
    Node { node: String, life: u64, news: News },
    Asked { request: Request, reply: Sender<Status> },
    Down(String),
}

struct Node {
    machine: Machine,
    child: Option<Child>,
    /// Counts its lives.
    life: u64,
    frozen: bool,
    dir: PathBuf,
    log: Arc<Mutex<LogFile>>,
}

struct Supervisor {
    program: PathBuf,
    nodes: BTreeMap<String, Node>,
    order: Vec<String>,
    sockets: Arc<File>,
    sender: Sender<Message>,
    foreground: bool,
    since_unix: i64,
    /// Whoever waits for the end.
    ending: Option<Vec<Sender<Status>>>,
}

/// Runs until it is told to end.
///
/// `program` has the hidden verb `exec-child`, through which the daemons are started.
pub fn run(program: &Path, args: &Supervise) -> Result<()> {
    let state = State::at(&args.state);
    // Nothing made here is anybody else's business.
    umask(Mode::from_raw_mode(0o077));
    // A Ctrl-C at the terminal is for the foreground process, which ends us in good order. Fails only where
    // we lead a session already.
    let _ = setsid();
    let deadline = Instant::now() + LOCKING;
    // Whoever looks whether we run holds it for a moment.
    let lock = loop {
        let file = File::create(state.supervisor_lock()).context("opening supervisor.lock")?;
        if let Some(lock) = Lock::try_take(file).context("locking supervisor.lock")? {
            break lock;
        }
        if Instant::now() >= deadline {
            bail!("another supervisor runs in {}", Paths::shown(state.dir()));
        }
        thread::sleep(Duration::from_millis(10));
    };
    let (listener, sockets) = open_sockets(&state.sockets())?;
    let (sender, messages) = mpsc::channel();
    on_signals(sender.clone())?;
    if args.lifeline {
        on_lifeline(sender.clone());
    }
    on_requests(listener, sender.clone());
    let nodes = args.nodes.iter().map(|name| {
        let log = Arc::new(Mutex::new(LogFile::new(state.log(name), MOST_BYTES)));
        let dir = state.node(name);
        (name.clone(), Node { machine: Machine::default(), child: None, life: 0, frozen: false, dir, log })
    });
    let supervisor = Supervisor {
        program: program.to_path_buf(),
        nodes: nodes.collect(),
        order: args.nodes.clone(),
        sockets,
        sender,
        foreground: args.lifeline,
        since_unix: unix_seconds(),
        ending: None,
    };
    supervisor.run(&messages);
    // What is left of them would only be in the way of the next supervisor.
    let _ = fs::remove_dir_all(state.sockets());
    drop(lock);
    Ok(())
}

impl Supervisor {
    fn run(mut self, messages: &Receiver<Message>) {
        for name in self.order.clone() {
            self.event(&name, Event::Start);
        }
        loop {
            let wait = self.next_tick().map_or(NAP, |at| at.saturating_duration_since(Instant::now()));
            match messages.recv_timeout(wait) {
                Ok(Message::Node { node, life, news }) => self.news(&node, life, news),
                Ok(Message::Asked { request, reply }) => self.asked(&request, reply),
                Ok(Message::Down(why)) => self.down(&why, None),
                Err(RecvTimeoutError::Timeout) => {}
                // We hold a sender ourselves.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            for name in self.order.clone() {
                self.event(&name, Event::Tick);
            }
            let gone = self.nodes.values().all(|node| node.child.is_none());
            if gone && let Some(waiting) = &self.ending {
                say("everything is down");
                let status = self.status(None);
                for reply in waiting {
                    let _ = reply.send(status.clone());
                }
                // The answers go out on threads of their own.
                thread::sleep(Duration::from_millis(50));
                return;
            }
        }
    }

    fn next_tick(&self) -> Option<Instant> {
        self.nodes.values().filter_map(|node| node.machine.wakes()).min()
    }

    fn news(&mut self, name: &str, life: u64, news: News) {
        if self.nodes.get(name).is_none_or(|node| node.life != life) {
            return;
        }
        match news {
            News::Said(text) => {
                for line in text.lines() {
                    match line {
                        "READY=1" => self.event(name, Event::Ready),
                        "WATCHDOG=1" => self.event(name, Event::Alive),
                        _ => {}
                    }
                }
            }
            News::Ended(status) => {
                if let Some(node) = self.nodes.get_mut(name) {
                    node.child = None;
                    node.frozen = false;
                }
                self.remove_socket(name, life);
                self.event(name, Event::Exited(status.code(), how(status)));
            }
        }
    }

    /// Lets a node's machine decide, and does what it says.
    fn event(&mut self, name: &str, event: Event) {
        let now = Instant::now();
        let Some(node) = self.nodes.get_mut(name) else { return };
        let before = node.machine.phase;
        let action = node.machine.on(event, now);
        let done = match (action, &node.child) {
            (Some(Action::Spawn), _) => {
                self.spawn(name);
                Ok(())
            }
            (Some(Action::Terminate), Some(child)) => terminate(child),
            (Some(Action::Kill), Some(child)) => child.signal(Signal::KILL),
            _ => Ok(()),
        };
        if let Err(error) = done {
            say(&format!("{name}: {error:#}"));
        }
        let Some(node) = self.nodes.get(name) else { return };
        if node.machine.phase != before {
            let exit = match (node.machine.phase, &node.machine.last_exit) {
                (Phase::Waiting | Phase::Failed | Phase::Stopped, Some(exit)) => format!(", {exit}"),
                _ => String::new(),
            };
            say(&format!("{name}: {:?}{exit}", node.machine.phase));
        }
    }

    fn spawn(&mut self, name: &str) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.life += 1;
        let life = node.life;
        if let Ok(mut log) = node.log.lock() {
            log.forget();
        }
        let place = Place {
            program: self.program.clone(),
            dir: node.dir.clone(),
            log: Arc::clone(&node.log),
            sockets: Arc::clone(&self.sockets),
            socket: socket_of(name, life),
        };
        let about = name.to_owned();
        let wrap = move |news| Message::Node { node: about.clone(), life, news };
        match spawn(&place, &child::teller(self.sender.clone(), wrap)) {
            Ok(child) => node.child = Some(child),
            Err(error) => self.event(name, Event::NotStarted(format!("{error:#}"))),
        }
    }

    fn asked(&mut self, request: &Request, reply: Sender<Status>) {
        if *request == Request::Down {
            return self.down("asked to", Some(reply));
        }
        let error = self.carry_out(request).err().map(|error| format!("{error:#}"));
        // Whoever asked may have given up.
        let _ = reply.send(self.status(error));
    }

    fn carry_out(&mut self, request: &Request) -> Result<()> {
        let (node, event) = match request {
            Request::Status | Request::Down => return Ok(()),
            Request::Start { node } => (node, Some(Event::Start)),
            Request::Stop { node } => (node, Some(Event::Stop(STOP))),
            Request::Restart { node } => (node, Some(Event::Restart)),
            Request::Kill { node, stay_down } => (node, Some(Event::Kill { stay_down: *stay_down })),
            Request::Freeze { node } | Request::Thaw { node } => (node, None),
        };
        if self.ending.is_some() {
            bail!("the cluster is being taken down");
        }
        let Some(known) = self.nodes.get_mut(node) else {
            bail!("there is no node '{node}'; this cluster has {}", self.order.join(", "));
        };
        let needs_process = !matches!(request, Request::Start { .. } | Request::Stop { .. } | Request::Restart { .. });
        let waits = known.machine.phase == Phase::Waiting && matches!(request, Request::Kill { stay_down: true, .. });
        match (&known.child, request) {
            (None, _) if needs_process && !waits => bail!("{node} is not running"),
            (Some(child), Request::Freeze { .. }) => {
                child.freeze()?;
                known.frozen = true;
                say(&format!("{node}: frozen"));
            }
            (Some(child), Request::Thaw { .. }) => {
                child.thaw()?;
                known.frozen = false;
                say(&format!("{node}: thawed"));
            }
            _ => {}
        }
        if let Some(event) = event {
            self.event(node, event);
        }
        Ok(())
    }

    fn down(&mut self, why: &str, reply: Option<Sender<Status>>) {
        if self.ending.is_none() {
            say(&format!("taking everything down: {why}"));
            for name in self.order.clone() {
                self.event(&name, Event::Stop(DOWN));
            }
        }
        self.ending.get_or_insert_default().extend(reply);
    }

    fn status(&self, error: Option<String>) -> Status {
        let nodes = self.order.iter().filter_map(|name| self.nodes.get(name).map(|node| (name, node)));
        let nodes = nodes.map(|(name, node)| NodeStatus {
            name: name.clone(),
            phase: node.machine.phase,
            pid: node.child.as_ref().and_then(Child::id),
            frozen: node.frozen,
            starts: node.machine.starts,
            last_exit: node.machine.last_exit.clone(),
            last_lines: node.log.lock().map(|log| log.last_lines()).unwrap_or_default(),
        });
        Status {
            schema: SCHEMA,
            pid: std::process::id(),
            foreground: self.foreground,
            since_unix: self.since_unix,
            nodes: nodes.collect(),
            error,
        }
    }

    fn remove_socket(&self, name: &str, life: u64) {
        let _ = fs::remove_file(below(&self.sockets, &socket_of(name, life)));
    }
}

/// As systemd does: whoever is stopped must run on to hear of it.
fn terminate(child: &Child) -> Result<()> {
    child.signal(Signal::TERM)?;
    child.thaw()
}

fn socket_of(node: &str, life: u64) -> String {
    format!("{node}.{life}.notify")
}

fn below(dir: &File, name: &str) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name)
}

/// A fresh directory of sockets: the lock says that whatever is there is of a supervisor that died.
fn open_sockets(dir: &Path) -> Result<(UnixListener, Arc<File>)> {
    let shown = Paths::shown(dir);
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("removing the old {shown}"))?;
    }
    fs::create_dir(dir).with_context(|| format!("making {shown}"))?;
    fs::set_permissions(dir, Permissions::from_mode(0o700)).with_context(|| format!("closing {shown} to others"))?;
    let sockets = File::open(dir).with_context(|| format!("opening {shown}"))?;
    let listener = UnixListener::bind(below(&sockets, CONTROL_SOCKET))
        .with_context(|| format!("opening {shown}/{CONTROL_SOCKET}"))?;
    Ok((listener, Arc::new(sockets)))
}

fn on_signals(sender: Sender<Message>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("listening to signals")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let _ = sender.send(Message::Down(format!("signal {signal}")));
        }
    });
    Ok(())
}

/// The foreground process holds the other end, and the kernel closes it however that process ends.
fn on_lifeline(sender: Sender<Message>) {
    thread::spawn(move || {
        let mut buffer = [0; 64];
        loop {
            match io::stdin().read(&mut buffer) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
            }
        }
        let _ = sender.send(Message::Down("the process in the foreground is gone".to_owned()));
    });
}

fn on_requests(listener: UnixListener, sender: Sender<Message>) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            match stream {
                Ok(stream) => {
                    let sender = sender.clone();
                    thread::spawn(move || {
                        if let Err(error) = answer(&stream, &sender) {
                            say(&format!("a request failed: {error:#}"));
                        }
                    });
                }
                Err(error) => {
                    say(&format!("accepting a request failed: {error}"));
                    // Out of descriptors, most likely: asking again at once would only make noise.
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    });
}

fn answer(stream: &UnixStream, sender: &Sender<Message>) -> Result<()> {
    stream.set_read_timeout(Some(ASKING))?;
    stream.set_write_timeout(Some(ASKING))?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST_REQUEST)).read_line(&mut line).context("reading it")?;
    if line.is_empty() {
        // Somebody only looked whether we are here.
        return Ok(());
    }
    let request = serde_json::from_str(&line).with_context(|| format!("'{}'", line.trim()))?;
    let (reply, replied) = mpsc::channel();
    sender.send(Message::Asked { request, reply }).context("the supervisor is ending")?;
    let status = replied.recv().context("the supervisor has ended")?;
    let mut text = serde_json::to_string(&status)?;
    text.push('\n');
    let mut stream = stream;
    stream.write_all(text.as_bytes()).context("answering it")
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// To the supervisor's own log.
fn say(text: &str) {
    errln!("{} {text}", unix_seconds());
}
