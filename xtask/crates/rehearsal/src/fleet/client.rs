//! Starts fleets and talks to them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::num::NonZero;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::socket_peercred;

use super::layout::Layout;
use super::members;
use super::preflight;
use super::proto::{MachineStatus, News, Request, SCHEMA, STAY, Spec, Status};
use super::sweep;
use unibus_ops::exit::BadInput;
use unibus_ops::paths::Paths;
use unibus_ops::topology::{RouteNetwork, Topology};
use unibus_ops::ui::Progress;

/// The slowest thing a holder is asked takes two minutes at most.
const ANSWER: Duration = Duration::from_secs(180);
/// How long killed processes and their disks may take to be gone.
const SWEEPING: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// What a fleet is to be.
pub(crate) struct Order {
    /// Its scratch directory.
    pub(crate) dir: PathBuf,
    /// The operator's nodes.toml: names and ssh hosts are taken from it, its addresses and placeholders are not.
    pub(crate) topology: PathBuf,
    /// Another network for the routes than the one the operator chose.
    pub(crate) routes: Option<RouteNetwork>,
    /// What every disk begins as.
    pub(crate) base: PathBuf,
}

/// A fleet that is up. One that was started here ends with this process, unless it is told to stay.
pub(crate) struct Fleet {
    layout: Layout,
    /// Its end is the end of the fleet.
    leash: Option<ChildStdin>,
    keeper: Option<Child>,
}

impl Fleet {
    /// Starts a fleet and waits until every machine takes logins.
    pub(crate) fn up(order: &Order, progress: &Progress) -> Result<Self> {
        let layout = Layout::new(&order.dir)?;
        let shown = Paths::shown(&order.topology);
        let typed = std::fs::read_to_string(&order.topology)
            .map_err(|error| BadInput::new(format!("reading the topology {shown}: {error}")))?;
        let (text, topology) = members::topology(&typed, &shown, order.routes)?;
        preflight::room_for(topology.nodes.len())?;
        let spec = serde_json::to_string(&Spec { topology: text, base: order.base.clone() })?;
        // Our own program, also when cargo has meanwhile put another one in its place.
        let mut keeper = Command::new("/proc/self/exe")
            .args(["fleet", "--dir"])
            .arg(layout.dir())
            .arg("keep")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the fleet's keeper")?;
        let mut leash = keeper.stdin.take().context("the keeper has no standard input")?;
        // One that has refused already does not listen, but tells why.
        let told = writeln!(leash, "{spec}");
        let news = keeper.stdout.take().context("the keeper has no standard output")?;
        let heard = hear(BufReader::new(news), &topology, progress);
        if let Err(error) = heard.and_then(|()| told.context("telling the keeper what to keep")) {
            // The keeper sweeps. Whatever else runs in that directory is not ours to end.
            drop(leash);
            let _ = keeper.wait();
            return Err(error);
        }
        Ok(Self { layout, leash: Some(leash), keeper: Some(keeper) })
    }

    /// The fleet in `dir`.
    pub(crate) fn find(dir: &Path) -> Result<Self> {
        let layout = Layout::new(dir)?;
        if !layout.is_held()? {
            let shown = Paths::shown(layout.dir());
            return Err(BadInput::new(format!(
                "there is no fleet in {shown}; start one: cargo xtask fleet --dir {shown} up"
            )));
        }
        Ok(Self { layout, leash: None, keeper: None })
    }

    /// Where its files are.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Lets it live on when this process ends.
    pub(crate) fn stay(&mut self) -> Result<()> {
        match self.leash.take() {
            Some(mut leash) => writeln!(leash, "{STAY}").context("telling the keeper that the fleet stays"),
            None => Ok(()),
        }
    }

    /// Asks for something and waits until it is so.
    pub(crate) fn ask(&self, request: &Request) -> Result<Status> {
        let stream = self.connect()?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        (&stream).write_all(line.as_bytes()).context("asking the fleet")?;
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).context("the fleet does not answer")?;
        if answer.is_empty() {
            bail!("the fleet ended without an answer");
        }
        let status: Status = serde_json::from_str(&answer).context("reading the fleet's answer")?;
        if status.schema != SCHEMA {
            bail!("the fleet was started by another version of xtask: take it down with that one");
        }
        match status.error {
            Some(error) if status.refused => Err(BadInput::new(error)),
            Some(error) => bail!(error),
            None => Ok(status),
        }
    }

    /// One machine, as it is now.
    pub(crate) fn machine(&self, name: &str) -> Result<MachineStatus> {
        let status = self.ask(&Request::Status)?;
        let known: Vec<String> = status.nodes.iter().map(|node| node.name.clone()).collect();
        status
            .nodes
            .into_iter()
            .find(|node| node.name == name)
            .ok_or_else(|| BadInput::new(format!("there is no machine {name:?}; the fleet has {}", known.join(", "))))
    }

    /// A command at the operator's place in the fleet: its network, its ssh configuration; in the directory `here`.
    pub(crate) fn command(&self, here: &Path, program: &str) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.holder()?));
        command.args(["--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup"]);
        command.arg(format!("--wdns={}", here.display())).args(["--", program]);
        Ok(command)
    }

    fn holder(&self) -> Result<NonZero<i32>> {
        let holder = socket_peercred(self.connect()?).context("asking which process holds the fleet")?.pid;
        Ok(holder.as_raw_nonzero())
    }

    /// The number of the fleet's network among those of this host.
    pub(crate) fn network(&self) -> Result<String> {
        let link = format!("/proc/{}/ns/net", self.holder()?);
        let name = fs::read_link(&link).with_context(|| format!("reading {link}"))?;
        Ok(name.to_string_lossy().chars().filter(char::is_ascii_digit).collect())
    }

    /// Ends everything, and waits until nothing is left.
    pub(crate) fn down(mut self) -> Result<()> {
        take_down(&self.layout)?;
        drop(self.leash.take());
        if let Some(mut keeper) = self.keeper.take() {
            keeper.wait().context("waiting for the keeper")?;
        }
        Ok(())
    }

    fn connect(&self) -> Result<UnixStream> {
        let dir = self.layout.dir();
        let open = File::open(dir).with_context(|| format!("opening {}", Paths::shown(dir)))?;
        let short = Path::new("/proc/self/fd").join(open.as_raw_fd().to_string()).join(Layout::SOCKET);
        UnixStream::connect(short).with_context(|| format!("the fleet in {} does not answer", Paths::shown(dir)))
    }
}

/// Ends the fleet in a directory, whatever state it is in, and removes what is left. Says whether there was anything.
pub(crate) fn take_down(layout: &Layout) -> Result<bool> {
    let was_there = layout.is_fleet() || sweep::cgroup(layout)?.is_some();
    // The end of the holder is the keeper's sign to sweep.
    sweep::end(layout)?;
    let deadline = Instant::now() + SWEEPING;
    while layout.is_held()? {
        if Instant::now() >= deadline {
            bail!("{} is still in use after {} s", Paths::shown(layout.dir()), SWEEPING.as_secs());
        }
        thread::sleep(LOOK);
        // It may have been about to start the holder.
        sweep::end(layout)?;
    }
    if layout.is_fleet() {
        // Its keeper is dead.
        sweep::sweep(layout.clone().claim()?)?;
    } else {
        sweep::clear(layout)?;
        if was_there {
            // The keeper's last deed, which we may be ahead of.
            let _ = std::fs::remove_dir(layout.dir());
        }
    }
    Ok(was_there)
}

/// Shows what keeper and holder tell, until the fleet is up.
fn hear(news: impl BufRead, topology: &Topology, progress: &Progress) -> Result<()> {
    let begun = Instant::now();
    let lines: Vec<_> = topology.nodes.iter().map(|node| (node.name.as_str(), progress.line(&node.name))).collect();
    for (_, line) in &lines {
        line.set("booting");
    }
    for line in news.lines() {
        match serde_json::from_str(&line.context("listening to the keeper")?).context("listening to the keeper")? {
            News::Up { node } => {
                if let Some((_, line)) = lines.iter().find(|(name, _)| *name == node) {
                    line.done(&unibus_ops::ui::took(begun.elapsed()));
                }
            }
            News::Ready => return Ok(()),
            News::Failed { why, refused } => {
                for (_, line) in &lines {
                    line.failed("");
                }
                return Err(if refused { BadInput::new(why) } else { anyhow::anyhow!(why) });
            }
        }
    }
    bail!("the fleet's keeper ended without a word")
}
