//! `logs`: the logs of all nodes as one.

use anyhow::Result;

use unibus_ops::global::Global;
use unibus_ops::logs::{self, Since, Wanted};
use unibus_ops::target::Which;

/// What is asked of `logs`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only of these nodes [default: all]
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// Go on with what comes, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// From then on: so long ago (90s, 10m, 2h, 3d), or a time (02:14, 2026-11-30, '2026-11-30 02:14', 2026-11-30T02:14:00+02:00)
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
    /// So many lines of each node, the last ones [default: 50, with --since all]
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<usize>,
}

/// Reads them.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let target = args.which.open(global)?;
    let state = args.which.state(&global.paths()?)?;
    for node in &args.nodes {
        target.topology.node(node)?;
    }
    let chosen = |node: &&String| args.nodes.is_empty() || args.nodes.contains(node);
    let nodes = target.nodes().iter().filter(chosen).cloned().collect();
    let wanted = Wanted { nodes, follow: args.follow, since: args.since, lines: args.lines };
    logs::show(&target, state.as_ref(), &wanted)
}
