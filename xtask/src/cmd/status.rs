//! `status`: one screen about the cluster.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use unibus_ops::global::Global;
use unibus_ops::overview::overview;
use unibus_ops::posture::Posture;
use unibus_ops::stdio::is_stdout_closed;
use unibus_ops::target::{Target, Which};
use unibus_ops::ui::{Screen, Style};
use unibus_ops::verify::Answer;

const SCHEMA: u32 = 1;
const EVERY: Duration = Duration::from_secs(1);

/// Shows what every node says about itself. Judging it, with remedies, is what `verify` does.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// Go on until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Print JSON, one line each time: {schema, nodes: [{node, error, posture}]}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    schema: u32,
    nodes: Vec<ShownNode<'a>>,
}

#[derive(Serialize)]
struct ShownNode<'a> {
    node: &'a str,
    error: Option<&'a str>,
    posture: Option<&'a Posture>,
}

/// Shows the cluster, once or until Ctrl-C.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let target = args.which.open(global)?;
    let mut screen = Screen::new();
    loop {
        let answers = target.ask();
        show(&target, &answers, args.json, &mut screen)?;
        if !args.watch || is_stdout_closed() {
            if answers.iter().all(|answer| answer.posture.is_err()) {
                bail!("no node answers; next: {}", target.verb("verify"));
            }
            return Ok(());
        }
        thread::sleep(EVERY);
    }
}

fn show(target: &Target, answers: &[Answer], json: bool, screen: &mut Screen) -> Result<()> {
    if json {
        let nodes = answers.iter().map(|answer| ShownNode {
            node: &answer.node,
            error: answer.posture.as_ref().err().map(String::as_str),
            posture: answer.posture.as_ref().ok(),
        });
        let shown = Shown { schema: SCHEMA, nodes: nodes.collect() };
        outln!("{}", serde_json::to_string(&shown).context("writing JSON")?);
        return Ok(());
    }
    let view = overview(&target.expected, answers, Style::stdout());
    screen.draw(&view.text, &view.gist).context("writing to the terminal")
}
