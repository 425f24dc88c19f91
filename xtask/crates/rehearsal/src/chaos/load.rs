//! The load: one `membershipd load` on this side of the network, and what it has written down so far.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::history::History;

/// Time to make its user, on a cluster that may be electing.
const READY: Duration = Duration::from_secs(60);
/// Time to read what was said so far, on a cluster that is well.
const LOOKED: Duration = Duration::from_secs(60);
/// Time to finish what is under way, to read everything back and to remove its rooms and users; all of it has limits of its own,
/// which are reached where the cluster serves nobody.
const ENDING: Duration = Duration::from_secs(150);
const LOOK: Duration = Duration::from_millis(20);
/// Should everything else fail it ends by itself.
const MOST_SECONDS: u64 = 3600;

/// What the load is told: it goes in by standard input.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Orders {
    pub(crate) schema: u32,
    pub(crate) seed: u64,
    pub(crate) run: String,
    pub(crate) seconds: u64,
    pub(crate) nodes: Vec<NodeOrder>,
    pub(crate) ca_file: String,
}

/// A node, and the three ways to it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NodeOrder {
    pub(crate) name: String,
    pub(crate) url: String,
    /// Its signed API.
    pub(crate) api: String,
    /// The command that relays requests to its daemon.
    pub(crate) control: Vec<String>,
}

impl Orders {
    /// The usual orders for these nodes.
    pub(crate) fn new(seed: u64, run: String, nodes: Vec<NodeOrder>, ca_file: &Path) -> Self {
        Self { schema: 4, seed, run, seconds: MOST_SECONDS, nodes, ca_file: ca_file.display().to_string() }
    }
}

/// What the reading thread has so far.
#[derive(Default)]
struct Read {
    history: History,
    broken: Option<anyhow::Error>,
}

/// A load that runs.
pub(crate) struct Load {
    child: Child,
    orders: Option<ChildStdin>,
    read: Arc<Mutex<Read>>,
    said: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts it, and returns once it works. `raw` gets every line of the history as it is.
    pub(crate) fn start(program: &Path, orders: &Orders, raw: Option<File>) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["load", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A Ctrl-C at the terminal is ours: the faults are healed first, and the load ends in good order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let (read, said) = (Arc::<Mutex<Read>>::default(), Arc::<Mutex<String>>::default());
        let mut readers = Vec::new();
        if let Some(output) = child.stdout.take() {
            let read = Arc::clone(&read);
            readers.push(thread::spawn(move || take_lines(BufReader::new(output), &read, raw)));
        }
        if let Some(complaints) = child.stderr.take() {
            let said = Arc::clone(&said);
            readers.push(thread::spawn(move || {
                for line in BufReader::new(complaints).lines().map_while(Result::ok) {
                    *lock(&said) = line;
                }
            }));
        }
        let mut load = Self { orders: child.stdin.take(), child, read, said, readers };
        let mut line = serde_json::to_vec(orders).context("writing the orders of the load")?;
        line.push(b'\n');
        let sent = load.orders.as_mut().map(|stdin| stdin.write_all(&line).and_then(|()| stdin.flush()));
        // Why it does not listen is what it says itself.
        let _ = sent;
        load.await_event("ready", READY)?;
        Ok(load)
    }

    /// Looks at the history so far.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&History) -> T) -> T {
        at(&lock(&self.read).history)
    }

    /// Fails if it has ended before it was told to.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait().context("looking at the load")? {
            // Its last words may still be on their way.
            self.join_readers();
            let (said, why) = (lock(&self.said).clone(), self.complaint());
            bail!("the load ended by itself ({status}): {}", why.unwrap_or(said));
        }
        Ok(())
    }

    /// Has every member of the conversation read all that was said so far, and returns once they have.
    pub(crate) fn look_so_far(&mut self) -> Result<()> {
        const LOOKED_EVENT: &str = "looked";
        let before = self.look(|history| history.events_named(LOOKED_EVENT));
        let Some(orders) = &mut self.orders else { bail!("the load was told to end") };
        orders.write_all(b"look\n").and_then(|()| orders.flush()).context("asking the load to look")?;
        self.until(LOOKED_EVENT, LOOKED, |history| history.events_named(LOOKED_EVENT) > before)
    }

    /// Tells it to end, and returns all that it has written down.
    pub(crate) fn finish(mut self) -> Result<History> {
        self.orders.take();
        self.await_event("end", ENDING)?;
        let deadline = Instant::now() + ENDING;
        while self.child.try_wait().context("waiting for the load")?.is_none() {
            if Instant::now() >= deadline {
                bail!("the load does not end");
            }
            thread::sleep(LOOK);
        }
        self.join_readers();
        let mut read = lock(&self.read);
        match read.broken.take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut read.history)),
        }
    }

    fn await_event(&mut self, name: &str, within: Duration) -> Result<()> {
        self.until(name, within, |history| history.event(name).is_some())
    }

    /// Waits until its history shows that it is at `name`.
    fn until(&mut self, name: &str, within: Duration, is_there: impl Fn(&History) -> bool) -> Result<()> {
        let deadline = Instant::now() + within;
        while !self.look(&is_there) {
            let over = self.check();
            // Its last words come with its end.
            if self.look(&is_there) {
                break;
            }
            over?;
            if Instant::now() >= deadline {
                bail!("the load is not at '{name}' after {} s: {}", within.as_secs(), lock(&self.said));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn join_readers(&mut self) {
        for reader in self.readers.drain(..) {
            // One that broke has left a history without an end.
            let _ = reader.join();
        }
    }

    fn complaint(&self) -> Option<String> {
        self.look(|history| history.event("failed").and_then(|event| event.detail.clone()))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Its standard input first: it then removes its users, if it still can.
        self.orders.take();
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn take_lines(lines: impl BufRead, read: &Mutex<Read>, mut raw: Option<File>) {
    for line in lines.lines() {
        let taken = line.context("reading the history").and_then(|line| {
            if let Some(raw) = &mut raw {
                writeln!(raw, "{line}").context("writing the raw history")?;
            }
            lock(read).history.push(&line)
        });
        if let Err(error) = taken {
            lock(read).broken.get_or_insert(error);
        }
    }
}

// A line is taken whole; nothing is half changed under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
