//! `membershipd bench`: what this node does in a second, next to what its bare engine does.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::settings::Settings;
use super::table::Table;
use super::{DONE, Output, Problem};
use crate::config::Config;
use crate::posture::SCHEMA;
use unibus_loadtest::bench::{self, Node, Orders, Report};
use unibus_loadtest::rooms::{Order, Rooms};

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Run it on a node, as root or as the daemon's user, in the directory of its cluster.env. It makes 64 users with a room each, and removes them, also on Ctrl-C; what stays are their tombstones (bench-…) and some 10,000 records in the audit. On a cluster that is thrown away afterwards nothing stays: `cargo xtask local bench`. It keeps the cluster busy: the conversations of others become slow while it runs."
)]
pub(super) struct Args {
    /// Seconds for each thing that is measured
    #[arg(long, value_name = "N", default_value = "12", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Carry out orders of standard input instead, a line of JSON each; `cargo xtask prove rooms` and `prove hostile` give them. What
    /// they make stays
    #[arg(long, conflicts_with = "seconds")]
    orders: bool,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let (config, runtime_dir) = args.settings.read(args.output.json)?;
    if args.orders {
        return Ok(carry_out(Rooms::new(node(config), runtime_dir)).map(|()| DONE)?);
    }
    let orders = Orders { node: node(config), runtime_dir, each: Duration::from_secs(args.seconds) };
    // Several threads, so that a client that computes a signature keeps no other waiting.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let report = runtime.block_on(bench::run(orders));
    runtime.shutdown_background();
    let report = report?;
    if args.output.json {
        let mut answer = report.to_json();
        if let Value::Object(map) = &mut answer {
            map.insert("schema".to_owned(), json!(SCHEMA));
        }
        println!("{answer}");
    } else {
        print!("{}\n{}", figures(&report), ratios(&report));
    }
    Ok(DONE)
}

/// Answers each order of standard input with a line.
fn carry_out(mut rooms: Rooms) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for line in std::io::stdin().lines() {
        let order: Order = serde_json::from_str(&line.context("cannot read the orders")?).context("an order")?;
        println!("{}", runtime.block_on(rooms.carry_out(&order))?);
    }
    runtime.shutdown_background();
    Ok(())
}

fn node(config: Config) -> Node {
    let others = config.cluster.iter().flat_map(|cluster| &cluster.routes).map(SocketAddr::ip).collect();
    Node {
        address: config.own_address(),
        client_port: config.ports.client,
        api_port: config.ports.api,
        ca: config.tls.map(|tls| tls.ca),
        control: config.secrets.control,
        copies: config.kv_replicas,
        others,
        name: config.node,
    }
}

fn figures(report: &Report) -> Table {
    let mut table = Table::new(&["measured", "count", "a second", "p50", "p99"]);
    let ms =
        |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), |t| format!("{:.1} ms", t.as_secs_f64() * 1e3));
    for (name, of) in report.figures() {
        let rate = format!("{:.0}", of.per_second());
        table.row(vec![name.to_owned(), of.count().to_string(), rate, ms(of.percentile(50)), ms(of.percentile(99))]);
    }
    table
}

fn ratios(report: &Report) -> Table {
    let mut table = Table::new(&["ratio", "is", "should be", ""]);
    for ratio in report.ratios() {
        let verdict = if ratio.reached() { "reached" } else { "missed" };
        table.row(vec![
            ratio.name.to_owned(),
            format!("{:.2}", ratio.is),
            ratio.target.to_string(),
            verdict.to_owned(),
        ]);
    }
    table
}
