//! `status`: one screen about the cluster.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use unibus_ops::exit::NotHealthy;
use unibus_ops::global::Global;
use unibus_ops::overview::overview;
use unibus_ops::posture::Posture;
use unibus_ops::stdio::is_stdout_closed;
use unibus_ops::target::{Target, Which};
use unibus_ops::ui::Style;
use unibus_ops::verify::{Answer, State, unix_ms};
use unibus_ops::watch::{self, Watch};

const SCHEMA: u32 = 1;
const EVERY: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);

/// What is asked of `status`.
#[derive(clap::Args)]
#[command(
    after_help = "Exit codes: 0 healthy, 1 degraded: the bus works, 4 denied: nothing proves that any node serves."
)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: How,
}

/// How it is shown.
#[derive(clap::Args)]
pub(crate) struct How {
    /// Go on until Ctrl-C; a node that hangs is shown as such while the others are asked on
    #[arg(long)]
    watch: bool,
    /// Print JSON, one line each time: {schema, headline, state, causes, nodes: [{node, error, posture}]}; state is healthy, degraded
    /// or denied
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    #[serde(flatten)]
    diagnosis: &'a unibus_ops::verify::Diagnosis,
    nodes: Vec<ShownNode<'a>>,
}

#[derive(Serialize)]
struct ShownNode<'a> {
    node: &'a str,
    error: Option<String>,
    posture: Option<&'a Posture>,
}

/// Shows the cluster, once or until Ctrl-C.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    show(&args.which.open(global)?, &args.how)
}

/// The same of a cluster that is known.
pub(crate) fn show(target: &Target, how: &How) -> Result<()> {
    let state = match (how.watch, how.json) {
        (true, false) => watch::show(target, || Ok(is_stdout_closed()))?,
        (true, true) => watch_json(target)?,
        (false, true) => print_json(target, &target.ask())?,
        (false, false) => {
            let view = overview(&target.expected, &target.ask(), unix_ms(), Style::stdout());
            out!("{}", view.text);
            view.state
        }
    };
    match state {
        State::Healthy => Ok(()),
        State::Degraded => Err(NotHealthy::Degraded.into()),
        State::Denied => Err(NotHealthy::Denied.into()),
    }
}

fn watch_json(target: &Target) -> Result<State> {
    let watch = Watch::start(target);
    let mut state = State::Denied;
    while !is_stdout_closed() {
        let begun = Instant::now();
        match watch.answers() {
            Some(answers) => state = print_json(target, &answers)?,
            None => {
                thread::sleep(LOOK);
                continue;
            }
        }
        thread::sleep(EVERY.saturating_sub(begun.elapsed()));
    }
    Ok(state)
}

fn print_json(target: &Target, answers: &[Answer]) -> Result<State> {
    let (_, diagnosis) = target.diagnose(answers);
    let nodes = answers.iter().map(|answer| ShownNode {
        node: &answer.node,
        error: answer.posture.as_ref().err().map(ToString::to_string),
        posture: answer.posture.as_ref().ok(),
    });
    let shown = Shown { schema: SCHEMA, diagnosis: &diagnosis, nodes: nodes.collect() };
    outln!("{}", serde_json::to_string(&shown).context("writing JSON")?);
    Ok(diagnosis.state)
}
