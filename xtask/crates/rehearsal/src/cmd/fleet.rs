//! `fleet`: the machines of a rehearsal by hand, for tests and for whoever kept them with `rehearse --keep`.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::fleet::{self, Base, Fleet, Layout, Network, Order, Power, Request, Status};
use unibus_ops::exit::BadInput;
use unibus_ops::global::Global;
use unibus_ops::paths::Paths;
use unibus_ops::prerequisites::Consent;
use unibus_ops::ui::{Cell, Progress, Style, Table, next, took};

/// Machines to rehearse on, in namespaces of this host: Debian with systemd and sshd, on a public network and a mesh.
///
/// Names and ssh hosts are those of the topology, addresses are test addresses. Nothing of them is seen outside, and nothing
/// is left when they are down.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The fleet's scratch directory, instead of deploy/build/rehearse/fleets/main
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Start a fleet and wait until every machine takes logins
    Up,
    /// End everything and leave nothing
    Down,
    /// Power a machine on and wait until it takes logins
    Boot(Node),
    /// Power a machine off in good order
    Stop(Node),
    /// Cut a machine's power
    Kill(Node),
    /// Put another machine in a machine's place: an empty disk, another host key, the same addresses
    Reinstall(Node),
    /// Restart a machine in good order
    Reboot(Node),
    /// Stop all processes of a machine where they are
    Freeze(Node),
    /// Let them run on
    Thaw(Node),
    /// Pull a machine's cables
    Cut {
        /// Which machine
        node: String,
        /// Which cable
        #[arg(value_enum, default_value = "both")]
        network: Networks,
    },
    /// Let one machine hear nothing more of another, which still hears it
    Deaf {
        /// Who no longer hears
        node: String,
        /// Whom
        from: String,
        /// Where
        #[arg(value_enum, default_value = "both")]
        network: Networks,
    },
    /// End every fault of the networks
    Heal,
    /// Show the machines
    Status {
        /// Print JSON, as the holder says it
        #[arg(long)]
        json: bool,
    },
    /// Log in to a machine, or run a command on it
    Ssh {
        /// Which machine
        node: String,
        /// The command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run a command at the operator's place: on the public network, with an ssh that knows the machines
    Sh {
        /// The command, or nothing for a shell
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    #[command(hide = true)]
    Keep,
    #[command(hide = true)]
    Enter(fleet::Enter),
    #[command(hide = true)]
    Init(fleet::Init),
    #[command(hide = true)]
    Hold(fleet::Hold),
}

#[derive(clap::Args)]
struct Node {
    /// Which machine
    node: String,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Networks {
    Public,
    Mesh,
    Both,
}

impl Networks {
    fn all(self) -> Vec<Network> {
        match self {
            Self::Public => vec![Network::Public],
            Self::Mesh => vec![Network::Mesh],
            Self::Both => Network::ALL.to_vec(),
        }
    }
}

/// Does something to a fleet.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let dir = || match &args.dir {
        Some(dir) => Ok(dir.clone()),
        None => global.paths().map(|paths| fleet::fleets(&paths).join("main")),
    };
    let ask = |request: Request| act(&dir()?, &request);
    match &args.what {
        What::Up => up(global, &dir()?),
        What::Down => down(&dir()?),
        What::Boot(Node { node }) => ask(Request::Boot { node: node.clone() }),
        What::Stop(Node { node }) => ask(Request::Stop { node: node.clone() }),
        What::Kill(Node { node }) => ask(Request::Kill { node: node.clone() }),
        What::Reinstall(Node { node }) => ask(Request::Reinstall { node: node.clone() }),
        What::Reboot(Node { node }) => ask(Request::Reboot { node: node.clone() }),
        What::Freeze(Node { node }) => ask(Request::Freeze { node: node.clone() }),
        What::Thaw(Node { node }) => ask(Request::Thaw { node: node.clone() }),
        What::Cut { node, network } => ask(Request::Cut { node: node.clone(), networks: network.all() }),
        What::Deaf { node, from, network } => {
            ask(Request::Deaf { node: node.clone(), from: from.clone(), networks: network.all() })
        }
        What::Heal => ask(Request::Heal),
        What::Status { json } => status(&dir()?, *json),
        What::Ssh { node, command } => ssh(&dir()?, node, command),
        What::Sh { command } => become_command(&dir()?, command),
        What::Keep => fleet::keep(&dir()?),
        What::Enter(args) => fleet::enter(args),
        What::Init(args) => fleet::init(args),
        What::Hold(args) => fleet::hold(args),
    }
}

fn up(global: &Global, dir: &Path) -> Result<()> {
    let paths = global.paths()?;
    let base = Base::new(&paths);
    let progress = Progress::new();
    fleet::check(&paths, Consent::Ask, &progress)?;
    fleet::sweep_dead(&paths)?;
    let begun = Instant::now();
    let line = progress.line("base");
    let base = base.obtain(&line).inspect_err(|_| line.failed(""))?;
    line.clear();
    let topology = global.topology_flag().cloned().unwrap_or_else(|| paths.topology());
    let order = Order { dir: dir.to_path_buf(), topology, routes: None, base };
    let mut fleet = Fleet::up(&order, &progress)?;
    let status = fleet.ask(&Request::Status)?;
    out!("{}", table(&status));
    fleet.stay()?;
    outln!("up after {}", took(begun.elapsed()));
    let by = format!("cargo xtask fleet --dir {}", Paths::shown(fleet.layout().dir()));
    let node = status.nodes.first().map(|node| node.name.clone()).unwrap_or_default();
    out!(
        "{}",
        next(&[
            (&format!("{by} ssh {node}"), "log in"),
            (&format!("{by} sh"), "a shell at the operator's place"),
            (&format!("{by} down"), "leave nothing"),
        ])
    );
    Ok(())
}

fn down(dir: &Path) -> Result<()> {
    let layout = Layout::new(dir)?;
    let shown = Paths::shown(layout.dir());
    match fleet::take_down(&layout)? {
        true => outln!("the fleet in {shown} is gone"),
        false => outln!("there is no fleet in {shown}"),
    }
    Ok(())
}

fn act(dir: &Path, request: &Request) -> Result<()> {
    let begun = Instant::now();
    Fleet::find(dir)?.ask(request)?;
    outln!("done after {}", took(begun.elapsed()));
    Ok(())
}

fn status(dir: &Path, json: bool) -> Result<()> {
    let status = Fleet::find(dir)?.ask(&Request::Status)?;
    if json {
        outln!("{}", serde_json::to_string(&status).context("writing JSON")?);
    } else {
        out!("{}", table(&status));
    }
    Ok(())
}

fn table(status: &Status) -> String {
    let mut table = Table::new(&["machine", "ssh", "public", "mesh", "power", "boots", "faults"]);
    for node in &status.nodes {
        let power = match node.power {
            Power::Off => "off",
            Power::Booting => "booting",
            Power::Up => "up",
            Power::Frozen => "frozen",
        };
        let cut = node.cut.iter().map(|network| format!("no {network}"));
        let deaf = node.deaf.iter().map(|unheard| format!("deaf to {} ({})", unheard.from, unheard.network));
        table.row(vec![
            node.name.as_str().into(),
            node.ssh.as_str().into(),
            node.public.to_string().into(),
            node.mesh.to_string().into(),
            Cell::judged(node.power == Power::Up, power),
            node.boots.to_string().into(),
            cut.chain(deaf).collect::<Vec<_>>().join(", ").into(),
        ]);
    }
    table.render(Style::stdout())
}

fn ssh(dir: &Path, node: &str, command: &[String]) -> Result<()> {
    let fleet = Fleet::find(dir)?;
    let machine = fleet.machine(node)?;
    let mut ssh = fleet.command(&here()?, "ssh")?;
    // The command's words reach the machine's shell as they are, as with ssh itself.
    ssh.arg("--").arg(machine.ssh).args(command);
    become_it(ssh)
}

fn become_command(dir: &Path, command: &[String]) -> Result<()> {
    let shell = std::env::var("SHELL").unwrap_or_else(|_| "sh".to_owned());
    let (program, arguments) = command.split_first().map_or((shell.as_str(), &[][..]), |(first, rest)| (first, rest));
    let mut there = Fleet::find(dir)?.command(&here()?, program)?;
    there.args(arguments);
    become_it(there)
}

fn here() -> Result<PathBuf> {
    std::env::current_dir().context("finding the working directory")
}

/// Its exit code is ours, and so is the terminal.
fn become_it(mut command: std::process::Command) -> Result<()> {
    let error = command.exec();
    if error.kind() == std::io::ErrorKind::NotFound {
        return Err(BadInput::new("nsenter is missing: apt-get install util-linux"));
    }
    Err(error).context("starting nsenter")
}
