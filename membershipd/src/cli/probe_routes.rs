//! `membershipd probe-routes`: a fresh TLS handshake with every other node, made by the running daemon.

use serde::Deserialize;

use super::table::Table;
use super::{DONE, Daemon, FAILED, Output, Problem};
use crate::control::{self, Request};
use crate::probe_routes::Probed;

/// Arguments of `probe-routes`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    daemon: Daemon,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    #[derive(Deserialize)]
    struct Answer {
        routes: Vec<Probed>,
    }
    let json = args.output.json;
    let value = control::ask(&args.daemon.runtime_dir(), &Request::ProbeRoutes)
        .map_err(|failure| Problem::Daemon { failure, json })?;
    let text = value.to_string();
    let answer: Answer = serde_json::from_value(value).map_err(anyhow::Error::from)?;
    if json {
        println!("{text}");
    } else {
        let mut table = Table::new(&["address", "node", "handshake", "certificate ends", "issuer"]);
        let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        for route in &answer.routes {
            let handshake = route.error.clone().unwrap_or_else(|| "ok".to_owned());
            table.row(vec![
                route.address.to_string(),
                word(&route.node),
                handshake,
                word(&route.not_after),
                word(&route.issuer),
            ]);
        }
        print!("{table}");
    }
    let failed: Vec<String> = answer.routes.iter().filter(|r| !r.ok).map(|r| r.address.to_string()).collect();
    if failed.is_empty() {
        return Ok(DONE);
    }
    eprintln!("membershipd: no handshake with {}", failed.join(", "));
    eprintln!("  remedy: see that these nodes run and that their certificates and ours are of the same route CA");
    Ok(FAILED)
}
