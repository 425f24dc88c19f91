//! `local`: the whole cluster on this machine.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::Result;

use unibus_ops::exit::BadInput;
use unibus_ops::global::Global;
use unibus_ops::prerequisites::InstallArgs;

/// Three real nodes on this machine, enforced and proved: the engine is fetched, certificates and secrets are minted,
/// an admin is seeded. Stays in the foreground with a live status; Ctrl-C takes everything down. What was stored is
/// there again the next time.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = false, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Keep everything in this directory instead of deploy/build/local
    #[arg(long, value_name = "DIR", global = true)]
    state: Option<PathBuf>,
    /// Return once the cluster is proved, and leave it running
    #[arg(long)]
    detach: bool,
    /// Take the cluster down
    #[arg(long, conflicts_with_all = ["detach", "fresh", "base_address", "engine", "kv_replicas", "membershipd", "json"])]
    down: bool,
    /// Begin with empty stores; certificates, secrets and the admin's identity stay
    #[arg(long)]
    fresh: bool,
    /// The first node's loopback address; the others have the next ones [default: as last time, else 127.0.0.11]
    #[arg(long, value_name = "A")]
    base_address: Option<Ipv4Addr>,
    /// Run this nats-server instead of the pinned one
    #[arg(long, value_name = "FILE")]
    engine: Option<PathBuf>,
    /// Copies of every bucket: 3, or 1 for a staged roll-out [default: as last time, else 3]
    #[arg(long, value_name = "N")]
    kv_replicas: Option<u32>,
    /// Run this membershipd instead of building this clone's
    #[arg(long, value_name = "FILE")]
    membershipd: Option<PathBuf>,
    /// Print the verdict of verify as JSON instead of tables
    #[arg(long, requires = "detach")]
    json: bool,
    #[command(flatten)]
    install: InstallArgs,
}

/// What to do with a running cluster.
#[derive(clap::Subcommand)]
enum What {
    /// End a node in good order and leave it down
    #[command(override_usage = "cargo xtask local stop <NODE>\n       cargo xtask local --down  (the whole cluster)")]
    Stop {
        /// Which
        node: String,
    },
    /// Start a node that is down, and wait until it is ready: the very next command works
    Start {
        /// Which
        node: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// End a node in good order, start it again, and wait until it is ready
    Restart {
        /// Which
        node: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// End a node with SIGKILL, as a power cut would; it is started again, as on a server
    Kill {
        /// Which
        node: String,
        /// Leave it down
        #[arg(long)]
        stay_down: bool,
    },
    /// Stop a node's processes where they are; the watchdog ends them after 10 s, as on a server
    Freeze {
        /// Which
        node: String,
    },
    /// Let a frozen node run on, and wait until it is ready
    Thaw {
        /// Which
        node: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Show whether the bus works, why not, and what every node says: as `cargo xtask status --local`
    #[command(
        after_help = "Exit codes: 0 healthy, 1 degraded: the bus works, 4 denied: nothing proves that any node serves."
    )]
    Status {
        #[command(flatten)]
        how: crate::cmd::status::How,
    },
    /// Show the end of a node's log; of all nodes, merged: `cargo xtask logs --local`
    Logs {
        /// Which
        node: String,
        /// So many lines
        #[arg(long, short = 'n', default_value_t = 50, value_name = "N")]
        lines: usize,
    },
    /// Measure what a node does in a second, next to what its bare engine does: on a cluster that is made for it and thrown away
    /// afterwards, or on a node of the one that runs
    Bench {
        /// On this node of the running cluster, where tombstones and records in the audit stay [default: on a cluster of its own]
        node: Option<String>,
        /// The first node's loopback address in the cluster that is made for it
        #[arg(long, value_name = "A", default_value = "127.0.0.91", conflicts_with = "node")]
        own_address: Ipv4Addr,
        /// Have that cluster run this membershipd instead of building this clone's
        #[arg(long, value_name = "FILE", conflicts_with = "node")]
        own_membershipd: Option<PathBuf>,
        /// Seconds for each thing that is measured
        #[arg(long, value_name = "N")]
        seconds: Option<u64>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the nodes' processes
    Ps {
        /// Print JSON, as the supervisor says it
        #[arg(long)]
        json: bool,
    },
}

/// Whether the command waits.
#[derive(clap::Args)]
struct Wait {
    /// Return once its daemon runs: it may not serve yet
    #[arg(long)]
    no_wait: bool,
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn run(_global: &Global, _args: &Args) -> Result<()> {
    Err(BadInput::new(
        "`local` needs Linux: its nodes live on the loopback addresses 127.0.0.11 to 13 and die with their parents",
    ))
}

#[cfg(target_os = "linux")]
pub(crate) use linux::run;

#[cfg(target_os = "linux")]
mod linux {
    use std::net::Ipv4Addr;
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::process::Command;

    use super::{Args, BadInput, Global, PathBuf, Result, What};
    use crate::program::{RUNNING_PROGRAM, this_program};
    use anyhow::{Context, bail};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use unibus_local::cluster::{self, Options, Started, await_ready, control, word};
    use unibus_local::supervisor::{Control, NodeStatus, Phase, Request, last_lines};
    use unibus_ops::exit;
    use unibus_ops::install_dir::CLUSTER_ENV;
    use unibus_ops::local_state::State;
    use unibus_ops::paths::Paths;
    use unibus_ops::target::Target;
    use unibus_ops::topology::Topology;
    use unibus_ops::ui::{Cell, Style, Table, next};
    use unibus_ops::verify::headline;

    /// Brings the cluster up, takes it down, or does something to one of its nodes.
    pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
        if global.topology_flag().is_some() {
            return Err(exit::BadInput::new("`local` makes a topology of its own: --topology has no place here"));
        }
        let paths = global.paths()?;
        let state = State::new(&paths, args.state.as_deref())?;
        match &args.what {
            None if args.down => cluster::down(&state),
            None => cluster::up(&paths, &state, &options(args)),
            Some(_) if args.is_up() => {
                Err(BadInput::new("the flags that start a cluster have no place beside a subcommand of `local`"))
            }
            Some(What::Logs { node, lines }) => logs(&state, node, *lines),
            Some(What::Ps { json }) => ps(&state, *json),
            Some(What::Status { how }) => crate::cmd::status::show(&Target::local(&state)?, how),
            Some(What::Bench { node: Some(node), seconds, json, .. }) => bench_on(&state, node, *seconds, *json),
            Some(What::Bench { node: None, own_address, own_membershipd, seconds, json }) => {
                let cluster = ThrownAway::beside(&state)?;
                cluster.bench(&paths, *own_address, own_membershipd.as_deref(), (*seconds, *json))
            }
            Some(what) => act(&state, what),
        }
    }

    impl Args {
        fn is_up(&self) -> bool {
            self.detach
                || self.down
                || self.fresh
                || self.json
                || self.base_address.is_some()
                || self.engine.is_some()
                || self.kv_replicas.is_some()
                || self.membershipd.is_some()
        }
    }

    fn options(args: &Args) -> Options {
        Options {
            program: PathBuf::from(RUNNING_PROGRAM),
            detach: args.detach,
            fresh: args.fresh,
            base_address: args.base_address,
            engine: args.engine.clone(),
            kv_replicas: args.kv_replicas,
            membershipd: args.membershipd.clone(),
            json: args.json,
            consent: args.install.consent(),
        }
    }

    fn act(state: &State, what: &What) -> Result<()> {
        let request = match what {
            What::Stop { node } => Request::Stop { node: node.clone() },
            What::Start { node, .. } => Request::Start { node: node.clone() },
            What::Restart { node, .. } => Request::Restart { node: node.clone() },
            What::Kill { node, stay_down } => Request::Kill { node: node.clone(), stay_down: *stay_down },
            What::Freeze { node } => Request::Freeze { node: node.clone() },
            What::Thaw { node, .. } => Request::Thaw { node: node.clone() },
            What::Status { .. } | What::Logs { .. } | What::Ps { .. } | What::Bench { .. } => Request::Status,
        };
        let control = control(state)?;
        let node = control.carry_out(&request)?;
        let (What::Start { wait, .. } | What::Restart { wait, .. } | What::Thaw { wait, .. }) = what else {
            outln!("{}: {}", node.name, in_words(&node));
            return Ok(());
        };
        if !wait.no_wait && node.phase != Phase::Failed {
            return served(&Target::local(state)?, &control, &node.name);
        }
        outln!("{}: {}", node.name, in_words(&node));
        if node.phase == Phase::Failed { Err(refused(&node)) } else { Ok(()) }
    }

    /// Says that a node is ready once the very next command works.
    fn served(target: &Target, control: &Control, name: &str) -> Result<()> {
        let diagnosis = match await_ready(target, control, name)? {
            Started::Failed(node) => {
                outln!("{}: {}", node.name, in_words(&node));
                return Err(refused(&node));
            }
            Started::Alone(node, diagnosis) => {
                outln!("{}", headline(&diagnosis, Style::stdout()));
                outln!("{name}: {}; it serves once a majority of the nodes runs", in_words(&node));
                diagnosis
            }
            Started::Ready(node, diagnosis) => {
                outln!("{}", headline(&diagnosis, Style::stdout()));
                let pid = node.pid.map_or_else(String::new, |pid| format!(", pid {pid}"));
                outln!("{name}: ready{pid}");
                diagnosis
            }
        };
        if let Some(command) = diagnosis.next() {
            out!("{}", next(&[(command, "")]));
        }
        Ok(())
    }

    fn refused(node: &NodeStatus) -> anyhow::Error {
        let exit = node.last_exit.as_deref().unwrap_or("it ended");
        anyhow::anyhow!("{} refuses to start: {exit}{}", node.name, last_lines(node))
    }

    fn in_words(node: &NodeStatus) -> String {
        let frozen = if node.frozen { ", frozen" } else { "" };
        match node.pid {
            Some(pid) => format!("{}{frozen}, pid {pid}", word(node.phase)),
            None => word(node.phase).to_owned(),
        }
    }

    fn logs(state: &State, node: &str, lines: usize) -> Result<()> {
        if !state.topology().exists() {
            return Err(state.absent());
        }
        Topology::load(&state.topology())?.node(node)?;
        let file = state.log(node);
        let text = std::fs::read(&file).with_context(|| format!("reading {}", Paths::shown(&file)))?;
        let text = String::from_utf8_lossy(&text);
        let all: Vec<&str> = text.lines().collect();
        for line in all.iter().skip(all.len().saturating_sub(lines)) {
            outln!("{line}");
        }
        errln!("all of it: {}", Paths::shown(&file));
        Ok(())
    }

    /// Runs in the place of this process: what it shows and how it ends is the daemon's own.
    fn bench_on(state: &State, node: &str, seconds: Option<u64>, json: bool) -> Result<()> {
        if !state.topology().exists() {
            return Err(state.absent());
        }
        let node = Topology::load(&state.topology())?.node(node)?.name.clone();
        let error = std::os::unix::process::CommandExt::exec(&mut bench_command(state, &node, seconds, json));
        Err(error).with_context(|| format!("starting the membershipd of {node}"))
    }

    fn bench_command(state: &State, node: &str, seconds: Option<u64>, json: bool) -> Command {
        let dir = state.node(node);
        let mut command = Command::new(dir.join(unibus_ops::build::FILE));
        command.args(["bench", "--env-file", CLUSTER_ENV]).current_dir(&dir);
        if let Some(seconds) = seconds {
            command.arg("--seconds").arg(seconds.to_string());
        }
        if json {
            command.arg("--json");
        }
        command
    }

    /// A cluster that is there for one bench: what that leaves goes with it.
    struct ThrownAway(State);

    impl ThrownAway {
        /// In a directory beside that of the cluster of `state`, of which nothing is touched. What an earlier one left is gone then.
        fn beside(state: &State) -> Result<Self> {
            let mut dir = state.dir().as_os_str().to_owned();
            dir.push(".bench");
            let cluster = Self(State::at(Path::new(&dir)));
            cluster.remove()?;
            Ok(cluster)
        }

        /// Brings it up, measures on its seed, and removes it, also after a failure and Ctrl-C: that ends what is under way here, and
        /// this goes on with what is to be removed.
        fn bench(
            &self,
            paths: &Paths,
            address: Ipv4Addr,
            membershipd: Option<&Path>,
            (seconds, json): (Option<u64>, bool),
        ) -> Result<()> {
            let _heard = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("listening to signals")?;
            let measured = self.up(paths, address, membershipd).and_then(|()| {
                let seed = Topology::load(&self.0.topology())?.seed()?.name.clone();
                let status = bench_command(&self.0, &seed, seconds, json).status();
                let status = status.with_context(|| format!("starting the membershipd of {seed}"))?;
                if status.success() { Ok(()) } else { bail!("the bench ended with {status}") }
            });
            let removed = self.remove();
            measured?;
            removed?;
            errln!("the cluster on which it was measured is gone, and nothing of it is left");
            Ok(())
        }

        fn up(&self, paths: &Paths, address: Ipv4Addr, membershipd: Option<&Path>) -> Result<()> {
            let mut command = Command::new(this_program()?);
            command.arg("--root").arg(paths.root()).args(["local", "--detach", "--state"]).arg(self.0.dir());
            command.arg("--base-address").arg(address.to_string());
            if let Some(membershipd) = membershipd {
                command.arg("--membershipd").arg(membershipd);
            }
            // What it shows is not what was asked for.
            let status = command.stdout(std::io::stderr().as_fd().try_clone_to_owned()?).status();
            let status = status.context("starting xtask")?;
            if status.success() {
                Ok(())
            } else {
                bail!("no cluster to measure on: `cargo xtask local` ended with {status}")
            }
        }

        fn remove(&self) -> Result<()> {
            let dir = self.0.dir();
            if !dir.exists() {
                return Ok(());
            }
            if let Some(control) = Control::find(&self.0)? {
                control.down()?;
            }
            std::fs::remove_dir_all(dir).with_context(|| format!("removing {}", Paths::shown(dir)))
        }
    }

    fn ps(state: &State, json: bool) -> Result<()> {
        let status = control(state)?.ask(&Request::Status)?;
        if json {
            outln!("{}", serde_json::to_string(&status).context("writing JSON")?);
            return Ok(());
        }
        let mut table = Table::new(&["node", "state", "pid", "starts", "last end"]);
        for node in &status.nodes {
            let state = if node.frozen { format!("{}, frozen", word(node.phase)) } else { word(node.phase).to_owned() };
            table.row(vec![
                node.name.as_str().into(),
                Cell::judged(node.phase == Phase::Ready && !node.frozen, state),
                node.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()).into(),
                node.starts.to_string().into(),
                node.last_exit.as_deref().unwrap_or("-").into(),
            ]);
        }
        out!("{}", table.render(Style::stdout()));
        Ok(())
    }
}
