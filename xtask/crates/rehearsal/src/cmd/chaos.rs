//! `chaos`: faults under load, with a verdict.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::chaos::{
    Deed, Fault, Fleet, Half, Injector, Load, NodeOrder, Orders, Planned, Run, Shown, Systemd, Verdict, Victims, bound,
    known_ills, schedule, text, violations,
};
use unibus_ops::exit::BadInput;
use unibus_ops::global::Global;
use unibus_ops::local_state::State;
use unibus_ops::paths::Paths;
use unibus_ops::plan::{self, Effect, LockFlags, Step, Unless};
use unibus_ops::random::{System, bytes};
use unibus_ops::target::{Target, Which};
use unibus_ops::transport::quote;
use unibus_ops::ui::{Progress, Style, next};
use unibus_ops::{build, cargo, fsx};

/// Break the cluster on purpose while it is used, and judge what that came to
///
/// A load writes, connects, sends messages and disables users all the time, and over the signed API makes rooms, lets members
/// join, removes them while they talk, and lets several clients contend for one record; it writes down what was acknowledged.
/// Meanwhile nodes are stopped and, where that is nobody's server, killed, frozen and cut off; then a majority, so that the
/// rest must deny everything. Exit code 0 only when no acknowledged write was lost, what was contended for is linearizable,
/// nobody was served whom no quorum or no longer any right admitted, the cluster got well each time, and enough was done to
/// prove it. On servers nothing but `systemctl stop` and `start` is used. Without --yes everything is only printed.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask chaos --local --yes\n  cargo xtask chaos --local --yes --only quorum\n  \
    cargo xtask chaos --during -- roll --yes    use the cluster during another verb: nothing may fail then"
)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// Do it
    #[arg(long, conflicts_with = "during")]
    yes: bool,
    /// The cluster's name, for programs: people are asked to type it
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
    /// Only these faults
    #[arg(long, value_enum, value_delimiter = ',', value_name = "FAULT", conflicts_with = "during")]
    only: Vec<Fault>,
    #[command(flatten)]
    lock: LockFlags,
    /// Another seed chooses other victims
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Break nothing, but use the cluster while another verb works on it; for clients that know all nodes and try twice
    /// nothing may fail
    #[arg(long, requires = "verb")]
    during: bool,
    /// The other verb, with its --yes; it is given the same cluster
    #[arg(last = true, value_name = "VERB", requires = "during")]
    verb: Vec<String>,
    /// Write every operation to this file, a line of JSON each
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Run this membershipd as the load, instead of the one that was built for the nodes
    #[arg(long, value_name = "FILE")]
    membershipd: Option<PathBuf>,
    /// Print the verdict as JSON: {schema, ok, bound_ms, windows, violations, timeline}; without --yes the schedule
    #[arg(long)]
    json: bool,
    /// The machines of `fleet`, which may be broken in every way
    #[arg(long, value_name = "DIR", hide = true, conflicts_with_all = ["local", "during"])]
    fleet: Option<PathBuf>,
}

/// Prints the schedule; carries it out and judges with `--yes`.
pub(crate) fn run(global: &Global, caller: &Caller, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let target = args.which.open(global)?;
    let state = args.which.state(&paths)?;
    let orders = orders(&paths, &target, state.as_ref(), args.seed)?;
    if args.during {
        return during(global, caller.xtask()?, args, &paths, &target, state.as_ref(), &orders);
    }
    let injector = injector(args, &target, state.as_ref())?;
    let missing: Vec<String> =
        args.only.iter().filter(|fault| !injector.offers().contains(fault)).map(Fault::to_string).collect();
    if !missing.is_empty() {
        let offered: Vec<String> = injector.offers().iter().map(Fault::to_string).collect();
        let (missing, offered) = (missing.join(", "), offered.join(", "));
        return Err(BadInput::new(format!("{missing} is not done to this cluster; there is {offered}")));
    }
    let planned = schedule(injector.offers(), target.nodes(), args.seed, injector.fixed(), &args.only);
    let locks = locks(args, &target);
    if !args.yes {
        return show(args, &target, injector.as_ref(), &planned, &orders, &locks);
    }
    if state.is_none() {
        confirm(args, &target)?;
    }
    let work = || {
        let tolerated = known_ills(&target)?;
        let rules = Run::rules_of_breaking(bound(&target)?);
        let load = start(args, &paths, state.as_ref(), &orders)?;
        Run::new(&target, load, rules, tolerated)?.break_it(injector.as_ref(), &planned)
    };
    let ended = |verdict: &Result<Verdict>| plan::Ended {
        failed: verdict.as_ref().err().map(|error| format!("{error:#}")),
        changed: planned.len(),
    };
    let verdict = plan::under_lock(locks, target.transport.as_ref(), &Progress::silent(), work, ended);
    conclude(args, &target, &verdict.map_err(|why| anyhow!(why))??)
}

/// The steps that keep every other operator away meanwhile.
fn locks(args: &Args, target: &Target) -> Vec<Step> {
    let nothing = Effect::Run { argv: Vec::new(), unless: Unless { argv: Vec::new(), prints: None } };
    let one = target.nodes().iter().take(1).map(|node| Step::new("chaos", node, nothing.clone())).collect();
    target.locked(one, "chaos", &args.lock).into_iter().filter(Step::is_lock).collect()
}

fn injector<'a>(args: &Args, target: &'a Target, state: Option<&State>) -> Result<Box<dyn Injector + 'a>> {
    #[cfg(target_os = "linux")]
    if let Some(state) = state {
        let control = unibus_local::cluster::control(state)?;
        return Ok(Box::new(crate::chaos::Supervisor::new(control, state.flags_of_local())));
    }
    #[cfg(not(target_os = "linux"))]
    if state.is_some() {
        return Err(BadInput::new("a local cluster needs Linux"));
    }
    Ok(match &args.fleet {
        Some(dir) => Box::new(Fleet::new(target.transport.as_ref(), dir.clone(), target.nodes())?),
        None => Box::new(Systemd::new(target.transport.as_ref())),
    })
}

/// What the load is told about every node.
fn orders(paths: &Paths, target: &Target, state: Option<&State>, seed: u64) -> Result<Orders> {
    let run = HEXLOWER.encode(&bytes::<4>(&System::new())?);
    let control = ["./membershipd", "control", "--runtime-dir", target.runtime_dir.as_str()];
    let mut nodes = Vec::new();
    for node in &target.topology.nodes {
        let control = target.transport.relay(&node.name, &control)?;
        let ports = &target.topology.ports;
        let at = |port| SocketAddr::new(node.public, port);
        let (url, api) = (format!("tls://{}", at(ports.client)), format!("https://{}", at(ports.control_plane)));
        nodes.push(NodeOrder { name: node.name.clone(), url, api, control });
    }
    let ca = match state {
        Some(state) => paths.with_base(state.dir())?.client_ca_cert(),
        None => paths.client_ca_cert(),
    };
    Ok(Orders::new(seed, run, nodes, &ca))
}

/// The whole schedule; nobody is asked and nothing is done.
fn show(
    args: &Args,
    target: &Target,
    injector: &dyn Injector,
    planned: &[Planned],
    orders: &Orders,
    locks: &[Step],
) -> Result<()> {
    let halves = |plan: &Planned, half| -> Vec<Shown> {
        // Whoever leads then is not known now: the command stands for whichever that is.
        let nodes = match &plan.victims {
            Victims::Named(nodes) => nodes.clone(),
            _ => vec!["NODE".to_owned()],
        };
        injector.deeds(plan.fault, half, &nodes).iter().map(|deed: &Deed| injector.shown(deed)).collect()
    };
    if args.json {
        let faults: Vec<Value> = planned
            .iter()
            .map(|plan| {
                let (inject, heal) = (halves(plan, Half::Inject), halves(plan, Half::Heal));
                json!({ "fault": plan.fault, "victims": plan.victims.to_string(), "inject": inject, "heal": heal })
            })
            .collect();
        let locks = plan::json(locks, target.transport.as_ref(), false)?;
        let lock = locks.get("steps").cloned().unwrap_or_default();
        outln!("{}", json!({ "schema": 1, "done": false, "lock": lock, "load": orders.nodes, "faults": faults }));
        return Ok(());
    }
    let locked: Vec<&str> = locks.iter().filter(|step| step.wave == 0).map(|step| step.node.as_str()).collect();
    outln!("lock: {}, as long as it takes", locked.join(", "));
    outln!(
        "load: users and rooms chaos-{}-*, 16 registers, connections, messages and a conversation, through",
        orders.run
    );
    for node in &orders.nodes {
        outln!(
            "     {}, {} and {}",
            node.url,
            node.api,
            node.control.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" ")
        );
    }
    for (number, plan) in (1..).zip(planned) {
        outln!("{number:>3}. {} of {}", plan.fault, plan.victims);
        for (word, half) in [("do", Half::Inject), ("undo", Half::Heal)] {
            for command in halves(plan, half) {
                outln!("     {word:<4} {command}");
            }
        }
        outln!("     until verify is content");
    }
    outln!("dry run: nothing was changed");
    let only: Vec<String> = args.only.iter().map(Fault::to_string).collect();
    let only = if only.is_empty() { String::new() } else { format!(" --only {}", only.join(",")) };
    let seed = if args.seed == 1 { String::new() } else { format!(" --seed {}", args.seed) };
    out!("{}", next(&[(&target.verb(&format!("chaos --yes{only}{seed}")), "")]));
    Ok(())
}

/// Servers are only broken by somebody who has typed which.
fn confirm(args: &Args, target: &Target) -> Result<()> {
    let name = &target.topology.cluster.name;
    let typed = match &args.confirm {
        Some(typed) => typed.clone(),
        None if std::io::stdin().is_terminal() => {
            err!("this stops servers of the cluster '{name}', at last a majority of them; type its name to go on: ");
            std::io::stderr().flush().context("asking")?;
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).context("reading the answer")?;
            line.trim().to_owned()
        }
        None => return Err(BadInput::new(format!("nobody is here to confirm; a program says --confirm {name}"))),
    };
    if typed != *name {
        return Err(BadInput::new(format!("'{typed}' is not the name of this cluster; nothing was done")));
    }
    Ok(())
}

fn start(args: &Args, paths: &Paths, state: Option<&State>, orders: &Orders) -> Result<Load> {
    let program = program(args, paths, state)?;
    let raw = match &args.history {
        Some(file) => {
            let mut options = File::options();
            options.create(true).write(true).truncate(true).mode(fsx::PUBLIC);
            Some(options.open(file).with_context(|| format!("writing {}", Paths::shown(file)))?)
        }
        None => None,
    };
    Load::start(&program, orders, raw)
}

/// The membershipd that is the load: that of the nodes where it runs here, else one of our own.
fn program(args: &Args, paths: &Paths, state: Option<&State>) -> Result<PathBuf> {
    if let Some(program) = &args.membershipd {
        return std::path::absolute(program).with_context(|| format!("finding {}", program.display()));
    }
    if let Some(state) = state {
        return Ok(state.programs().join(build::FILE));
    }
    let built = build::place(paths);
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) && built.exists() {
        return Ok(built);
    }
    let line = Progress::new().line("load");
    cargo::build_membershipd(paths, &line)
}

/// Uses the cluster while another verb works on it.
fn during(
    global: &Global,
    xtask: &Path,
    args: &Args,
    paths: &Paths,
    target: &Target,
    state: Option<&State>,
    orders: &Orders,
) -> Result<()> {
    let shown = args.verb.join(" ");
    if args.verb.first().is_some_and(|verb| verb == "chaos") {
        return Err(BadInput::new("chaos during chaos would only measure itself"));
    }
    if !args.verb.iter().any(|word| word == "--yes") {
        return Err(BadInput::new(format!(
            "'{shown}' without --yes only prints its steps: there is nothing to watch; nothing was done"
        )));
    }
    let rules = Run::rules_of_watching(bound(target)?);
    let load = start(args, paths, state, orders)?;
    let mut command = Command::new(xtask);
    command.args(&args.verb).args(same_cluster(global, state)).arg("--root").arg(paths.root()).stdin(Stdio::null());
    if args.json {
        // Our own standard output is the verdict's.
        command.stdout(std::io::stderr());
    }
    let work = || command.status().with_context(|| format!("starting '{shown}'"));
    let (verdict, status) = Run::new(target, load, rules, Vec::new())?.watch(&shown, work)?;
    let judged = conclude(args, target, &verdict);
    if !status.success() {
        bail!("'{shown}' failed ({status}); what it said is above");
    }
    judged
}

/// The flags that name this cluster to another verb.
fn same_cluster(global: &Global, state: Option<&State>) -> Vec<OsString> {
    if let Some(state) = state {
        return vec!["--local".into(), "--state".into(), state.dir().into()];
    }
    let flag = |file: &PathBuf| vec!["--topology".into(), Path::new(file).into()];
    global.topology_flag().map(flag).unwrap_or_default()
}

fn conclude(args: &Args, target: &Target, verdict: &Verdict) -> Result<()> {
    if args.json {
        outln!("{}", serde_json::to_string(verdict).context("writing JSON")?);
    } else {
        out!("{}", text(verdict, Style::stdout()));
    }
    if verdict.ok {
        return Ok(());
    }
    let count = verdict.all_violations().count();
    // Whoever reads the JSON may not read this, and the reverse.
    let what = if args.json { format!(":\n{}", violations(verdict, Style::stderr())) } else { "; ".to_owned() };
    bail!("judged failed: {count} violations{what}see {} and the nodes' logs", target.verb("verify"))
}
