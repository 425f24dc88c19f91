//! The process that holds a fleet: lays the networks, powers the machines, and does what it is asked.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::layout::Layout;
use super::machine::Machine;
use super::members::{self, Member};
use super::mounts;
use super::net::Switch;
use super::proto::{MachineStatus, News, Request, SCHEMA, Status};
use unibus_ops::exit::{self, BadInput};
use unibus_ops::topology::Topology;

/// How long whoever connects may take to say what it wants.
const ASKING: Duration = Duration::from_secs(10);

/// Hidden: holds a fleet, in namespaces that are its own already.
#[derive(clap::Args)]
pub(crate) struct Hold {
    /// The fleet's scratch directory
    #[arg(long)]
    dir: PathBuf,
    /// What every disk begins as
    #[arg(long)]
    base: PathBuf,
}

#[derive(Debug)]
struct Holder {
    layout: Layout,
    switch: Switch,
    machines: Vec<Arc<Machine>>,
}

/// Starts everything, and serves until it is killed.
pub(crate) fn hold(args: &Hold) -> Result<()> {
    let started = start(args);
    match &started {
        Ok(_) => News::Ready.tell(),
        Err(error) => News::Failed { why: format!("{error:#}"), refused: exit::is_refusal(error) }.tell(),
    }
    started?.join().map_err(|_| anyhow!("serving requests"))?
}

/// What serves requests, which it does already while the machines boot.
fn start(args: &Hold) -> Result<thread::JoinHandle<Result<()>>> {
    let layout = Layout::new(&args.dir)?;
    let members = members::members(&Topology::load(&layout.topology())?);
    mounts::private(&layout)?;
    let switch = Switch::lay(&members)?;
    let hosts = hosts(&members);
    let machines = members.iter().map(|member| Machine::new(&layout, &args.base, member, &hosts));
    let machines = machines.collect::<Result<Vec<_>>>()?;
    let listener = listen(layout.dir())?;
    let holder = Arc::new(Holder { layout, switch, machines });
    let serving = Arc::clone(&holder);
    let serving = thread::spawn(move || serving.serve(&listener));
    holder.boot_all()?;
    Ok(serving)
}

/// Every machine knows the others by name, over the mesh.
fn hosts(members: &[Member]) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    for member in members {
        let _ = writeln!(text, "{} {}", member.mesh, member.name);
    }
    text
}

/// The socket, by a path that is short however deep the clone lies: it may have 107 bytes.
fn listen(dir: &Path) -> Result<UnixListener> {
    let open = File::open(dir).with_context(|| format!("opening {}", dir.display()))?;
    let short = Path::new("/proc/self/fd").join(open.as_raw_fd().to_string()).join(Layout::SOCKET);
    UnixListener::bind(short).with_context(|| format!("opening {} in {}", Layout::SOCKET, dir.display()))
}

impl Holder {
    fn serve(self: &Arc<Self>, listener: &UnixListener) -> Result<()> {
        for stream in listener.incoming() {
            let (holder, stream) = (Arc::clone(self), stream.context("accepting a connection")?);
            thread::spawn(move || {
                if let Err(error) = holder.answer(&stream) {
                    errln!("a request was not answered: {error:#}");
                }
            });
        }
        Ok(())
    }

    fn boot_all(&self) -> Result<()> {
        thread::scope(|scope| {
            let booting: Vec<_> = self
                .machines
                .iter()
                .map(|machine| {
                    scope.spawn(move || {
                        machine.boot()?;
                        News::Up { node: machine.member.name.clone() }.tell();
                        Ok(())
                    })
                })
                .collect();
            let all: Vec<Result<()>> = booting
                .into_iter()
                .map(|boot| boot.join().unwrap_or_else(|_| Err(anyhow!("booting a machine"))))
                .collect();
            all.into_iter().collect()
        })
    }

    fn answer(&self, stream: &UnixStream) -> Result<()> {
        stream.set_read_timeout(Some(ASKING))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).context("reading a request")?;
        let done =
            serde_json::from_str(&line).context("reading a request").and_then(|request| self.carry_out(&request));
        let mut status = self.status()?;
        if let Err(error) = done {
            status.refused = exit::is_refusal(&error);
            status.error = Some(format!("{error:#}"));
        }
        let mut answer = serde_json::to_string(&status)?;
        answer.push('\n');
        let mut stream = stream;
        stream.write_all(answer.as_bytes()).context("answering")
    }

    fn carry_out(&self, request: &Request) -> Result<()> {
        match request {
            Request::Status => Ok(()),
            Request::Boot { node } => self.machine(node)?.boot(),
            Request::Stop { node } => self.machine(node)?.stop(),
            Request::Kill { node } => self.machine(node)?.kill(),
            Request::Reboot { node } => self.machine(node)?.reboot(),
            Request::Reinstall { node } => self.machine(node)?.reinstall(),
            Request::Freeze { node } => self.machine(node)?.freeze(),
            Request::Thaw { node } => self.machine(node)?.thaw(),
            Request::Cut { node, networks } => self.switch.cut(&self.machine(node)?.member, networks),
            Request::Deaf { node, from, networks } => {
                let (node, from) = (self.machine(node)?, self.machine(from)?);
                if node.member == from.member {
                    return Err(BadInput::new(format!("{} always hears itself", node.member.name)));
                }
                self.switch.deafen(&node.member, &from.member, networks)
            }
            Request::Heal => self.switch.heal(),
        }
    }

    fn machine(&self, name: &str) -> Result<&Arc<Machine>> {
        self.machines.iter().find(|machine| machine.member.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.machines.iter().map(|machine| machine.member.name.as_str()).collect();
            BadInput::new(format!("there is no machine {name:?}; the fleet has {}", known.join(", ")))
        })
    }

    fn status(&self) -> Result<Status> {
        let nodes = self.machines.iter().map(|machine| {
            let Member { name, ssh, public, mesh, .. } = machine.member.clone();
            let (cut, deaf) = self.switch.faults(&machine.member);
            Ok(MachineStatus { name, ssh, public, mesh, power: machine.power()?, boots: machine.boots(), cut, deaf })
        });
        let nodes = nodes.collect::<Result<Vec<_>>>()?;
        Ok(Status { schema: SCHEMA, dir: self.layout.dir().to_path_buf(), nodes, error: None, refused: false })
    }
}
