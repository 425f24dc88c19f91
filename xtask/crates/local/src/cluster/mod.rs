//! A whole cluster on this machine: set up, started, proved and taken down.

mod build;
mod live;
mod preflight;
mod ready;
mod setup;
mod sockets;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

pub use build::chosen;
pub use ready::{Started, await_ready};

use crate::supervisor::{self, Control, Phase, Request, Status, last_lines};
use unibus_ops::exit::BadInput;
use unibus_ops::fsx;
use unibus_ops::install_dir::BOOTSTRAP;
use unibus_ops::local_state::State;
use unibus_ops::paths::Paths;
use unibus_ops::prerequisites::{self, Consent, Verb};
use unibus_ops::target::Target;
use unibus_ops::topology::Topology;
use unibus_ops::transport::quote;
use unibus_ops::ui::{Line, Progress, Style, Table, next, took};
use unibus_ops::verify::{Answer, Check, as_asked, json, missing, table};

/// How long a cluster may take until everything holds.
const BUDGET: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(250);

/// What was typed.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program that has the hidden verbs of the supervisor.
    pub program: PathBuf,
    /// Return once everything is proved.
    pub detach: bool,
    /// Begin with empty stores.
    pub fresh: bool,
    /// The first node's; none: as last time.
    pub base_address: Option<Ipv4Addr>,
    /// Instead of the pinned one.
    pub engine: Option<PathBuf>,
    /// None: as last time.
    pub kv_replicas: Option<u32>,
    /// Instead of the one that this clone builds.
    pub membershipd: Option<PathBuf>,
    /// Print the verdict as JSON.
    pub json: bool,
    /// Whether packages may be installed.
    pub consent: Consent,
}

/// Brings the cluster up and proves it; in the foreground stays until it is told to end.
pub fn up(paths: &Paths, state: &State, options: &Options) -> Result<()> {
    let begun = Instant::now();
    let Some(_one_at_a_time) = state.lock()? else {
        return Err(match Control::find(state)? {
            Some(control) => running(state, &control.ask(&Request::Status)?),
            None => anyhow::anyhow!("another `cargo xtask local` is setting up {}", Paths::shown(state.dir())),
        });
    };
    if let Some(control) = Control::find(state)? {
        return Err(running(state, &control.ask(&Request::Status)?));
    }
    let progress = Progress::new();
    if options.engine.is_none() {
        prerequisites::ensure(paths, &[Verb::Local], options.consent, &progress)?;
    }
    let admin = setup::set_up(paths, state, options, &progress)?;
    let target = Target::local(state)?;
    if !setup::has_data(state) {
        // Before the start: the daemon finds it as soon as it has a lease.
        unibus_ops::first_admin::leave_record(&target, &admin.handle, &admin.sign_pub)?;
    }
    // From here on a signal must not end us alone.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("listening to signals")?;
    let (control, mut supervisor) = supervisor::start(&options.program, state, target.nodes(), !options.detach)?;
    let interrupted = take_down_on(signals, control.clone());
    let answers = match prove(state, &target, &control, &admin, &progress, &interrupted) {
        Ok(proof) => proof,
        Err(error) => {
            // Half a cluster is of no use to anyone; its logs and stores stay.
            if let Err(also) = control.down() {
                errln!("error: {also:#}");
            }
            return Err(error);
        }
    };
    write_environment(paths, state, &target)?;
    let (checks, diagnosis) = target.diagnose(&answers);
    if options.json {
        outln!("{}", json(&checks, &diagnosis, &answers).context("writing JSON")?);
    } else {
        let shown = table(&checks, &diagnosis, Style::stdout());
        out!("{shown}\n{}", endpoints(paths, state, &target, &admin, options.detach));
        outln!("up and proved after {}", took(begun.elapsed()));
    }
    if options.detach {
        return Ok(());
    }
    live::watch(&target, &control, &interrupted)?;
    let ended = supervisor.wait().context("waiting for the supervisor")?;
    if !ended.success() {
        bail!("the supervisor ended with {ended}; see {}", Paths::shown(&state.supervisor_log()));
    }
    errln!("everything is down; what it stored is in {}", Paths::shown(&state.nodes()));
    Ok(())
}

/// Gives every node of a local cluster the files that were made for it; who runs does not notice.
pub fn ship(paths: &Paths, state: &State, topology: &Topology) -> Result<()> {
    setup::ship(paths, state, topology)
}

/// Takes everything down at the first signal, whatever else is going on: a node that does not answer keeps others waiting.
fn take_down_on(mut signals: Signals, control: Control) -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&interrupted);
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            heard.store(true, Ordering::Relaxed);
            errln!("taking everything down");
            if let Err(error) = control.down() {
                errln!("error: {error:#}");
            }
        }
    });
    interrupted
}

/// Takes the cluster down. Says so when there is none.
pub fn down(state: &State) -> Result<()> {
    match Control::find(state)? {
        Some(control) => {
            control.down()?;
            outln!("everything is down; what it stored is in {}", Paths::shown(&state.nodes()));
        }
        None => {
            Control::clean_up(state)?;
            outln!("no local cluster runs in {}", Paths::shown(state.dir()));
        }
    }
    out!("{}", next(&[(&format!("cargo xtask local{}", state.flags_of_local()), "start it")]));
    Ok(())
}

/// The supervisor of a running cluster, or the error that says there is none.
pub fn control(state: &State) -> Result<Control> {
    if !state.topology().exists() {
        return Err(state.absent());
    }
    Control::find(state)?.with_context(|| {
        format!(
            "no local cluster runs in {}; start it with: cargo xtask local{}",
            Paths::shown(state.dir()),
            state.flags_of_local()
        )
    })
}

fn running(state: &State, status: &Status) -> anyhow::Error {
    let nodes: Vec<String> = status.nodes.iter().map(|node| format!("{} {}", node.name, word(node.phase))).collect();
    let flags = state.flags_of_local();
    let kind = if status.foreground { "in the foreground" } else { "detached" };
    anyhow::anyhow!(
        "a local cluster runs already in {} ({kind}, supervisor {}): {}\n\
         next: cargo xtask verify --local{flags}\n      cargo xtask local{flags} --down",
        Paths::shown(state.dir()),
        status.pid,
        nodes.join(", ")
    )
}

/// A phase as it is shown. That a node is ready to be used is more than its daemon's word for having started.
pub const fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Stopped => "stopped",
        Phase::Starting => "starting",
        Phase::Ready => "running",
        Phase::Stopping => "stopping",
        Phase::Waiting => "ended, starts again",
        Phase::Failed => "failed",
    }
}

/// Waits until everything holds, and shows what is missing meanwhile.
fn prove(
    state: &State,
    target: &Target,
    control: &Control,
    admin: &setup::Admin,
    progress: &Progress,
    interrupted: &AtomicBool,
) -> Result<Vec<Answer>> {
    let lines: Vec<(&String, Line)> = target.nodes().iter().map(|node| (node, progress.line(node))).collect();
    for (_, line) in &lines {
        line.set("starting");
    }
    let deadline = Instant::now() + BUDGET;
    let mut seeded = false;
    loop {
        if interrupted.load(Ordering::Relaxed) {
            bail!("interrupted before the cluster was proved; everything is down again");
        }
        let status = control.ask(&Request::Status);
        if interrupted.load(Ordering::Relaxed) {
            continue;
        }
        refuse_failed(state, &status?)?;
        let answers = target.ask();
        let (checks, diagnosis) = target.diagnose(&answers);
        // With the first admin comes the level of a new cluster, so the very next command works.
        let begins =
            answers.iter().any(|answer| answer.posture.as_ref().is_ok_and(|posture| posture.bootstrap_pending));
        if as_asked(&target.expected, &checks) && !begins {
            for (_, line) in &lines {
                line.done("");
            }
            return Ok(answers);
        }
        if !seeded && lost_its_record(state, target, &answers)? {
            unibus_ops::first_admin::leave_record(target, &admin.handle, &admin.sign_pub)?;
            seeded = true;
        }
        for (node, line) in &lines {
            line.set(waiting_for(&checks, node));
        }
        if Instant::now() >= deadline {
            for (_, line) in &lines {
                line.failed("");
            }
            let found = table(&checks, &diagnosis, Style::stderr());
            if begins {
                bail!(
                    "the first admin was not imported within {}; why says the log of the seed:\n{found}",
                    took(BUDGET)
                );
            }
            bail!("the cluster is not what it should be after {}:\n{found}", took(BUDGET));
        }
        thread::sleep(LOOK);
    }
}

fn waiting_for(checks: &[Check], node: &str) -> String {
    if checks.iter().any(|check| check.id == "reachable" && check.node == node && !check.ok) {
        return "starting".to_owned();
    }
    let missing_here = missing(checks, node);
    match (missing_here.is_empty(), missing(checks, unibus_ops::verify::CLUSTER)) {
        (false, _) => missing_here,
        (true, cluster) if cluster.is_empty() => "ready".to_owned(),
        (true, cluster) => format!("ready, {cluster}"),
    }
}

/// A configuration that a daemon refuses will not get better by waiting.
fn refuse_failed(state: &State, status: &Status) -> Result<()> {
    let failed: Vec<_> = status.nodes.iter().filter(|node| node.phase == Phase::Failed).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let mut message = "the nodes' configuration is refused:".to_owned();
    for node in failed {
        let exit = node.last_exit.as_deref().unwrap_or("it ended");
        let _ =
            write!(message, "\n{} ({}): {exit}{}", node.name, Paths::shown(&state.node(&node.name)), last_lines(node));
    }
    Err(BadInput::new(message))
}

/// A store that has data but never had an admin: the last `local` ended before its record was imported.
fn lost_its_record(state: &State, target: &Target, answers: &[Answer]) -> Result<bool> {
    let nobody = answers
        .iter()
        .filter_map(|answer| answer.posture.as_ref().ok())
        .any(|posture| posture.lease.valid && posture.admins == Some(0) && !posture.bootstrap_pending);
    Ok(nobody && !state.node(&target.seed()?.name).join(BOOTSTRAP).exists())
}

/// Writes down what `membershipd` has to be told to ask these nodes as their admin.
fn write_environment(paths: &Paths, state: &State, target: &Target) -> Result<()> {
    let absolute = |path: PathBuf| {
        let path = std::path::absolute(&path).with_context(|| format!("making {} absolute", Paths::shown(&path)))?;
        anyhow::Ok(quote(&path.to_string_lossy()))
    };
    let ca = paths.with_base(state.dir())?.client_ca_cert();
    let port = target.topology.ports.control_plane;
    let urls: Vec<String> =
        target.topology.nodes.iter().map(|node| format!("https://{}:{port}", node.public)).collect();
    let text = format!(
        "# For a shell: membershipd, as the admin of the cluster on this machine.\n\
         export PATH={}:\"$PATH\"\nexport UNIBUS_IDENTITY={}\nexport UNIBUS_CA={}\nexport UNIBUS_URL={}\n",
        absolute(state.programs())?,
        absolute(state.admin())?,
        absolute(ca)?,
        urls.join(",")
    );
    fsx::write(&state.environment(), fsx::PUBLIC, text.as_bytes())
}

fn endpoints(paths: &Paths, state: &State, target: &Target, admin: &setup::Admin, detached: bool) -> String {
    let ports = target.topology.ports;
    let mut table = Table::new(&["node", "clients (TLS)", "API", "log"]);
    for node in &target.topology.nodes {
        table.row(vec![
            node.name.as_str().into(),
            format!("tls://{}:{}", node.public, ports.client).into(),
            format!("https://{}:{}/healthz", node.public, ports.control_plane).into(),
            Paths::shown(&state.log(&node.name)).into(),
        ]);
    }
    let flags = state.flags_of_local();
    let membershipd = Paths::shown(&state.programs().join(unibus_ops::build::FILE));
    let identity = Paths::shown(&state.admin());
    let ca = paths.with_base(state.dir()).map(|paths| Paths::shown(&paths.client_ca_cert())).unwrap_or_default();
    let export = format!("{membershipd} identity show --identity {identity} --nkey-seed-to admin.nk");
    let environment = format!(". {}", Paths::shown(&state.environment()));
    let verify = format!("cargo xtask verify --local{flags}");
    let status = format!("cargo xtask status --local{flags} --watch");
    let down = format!("cargo xtask local{flags} --down");
    let end = if detached { (down.as_str(), "take it down") } else { ("Ctrl-C", "take everything down") };
    format!(
        "{}\nadmin {} with {identity}; clients trust {ca}\n\n{}",
        table.render(Style::stdout()),
        admin.handle,
        next(&[
            (&verify, "prove it again"),
            (&status, "one screen, live"),
            (&environment, "membershipd as the admin, in this shell"),
            (&export, "the admin's seed, as NATS clients read it"),
            end,
        ])
    )
}
