//! `cluster-certs`: the route CA and every node's certificates.

use anyhow::Result;
use clap::ArgAction;
use time::OffsetDateTime;

use crate::Global;
use crate::engine::Pin;
use crate::making::Making;
use crate::node_files::{self, Cluster, Placement};
use crate::pki::{self, Force};
use crate::random::System;

/// Certificates that are valid and still fit are kept; one that expires within 30 days, or whose node has other
/// addresses now, is renewed. What was done to each file is printed, and why.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Make a new route CA although there is one; twice if nodes already have certificates of the old one
    #[arg(long, action = ArgAction::Count)]
    force: u8,
}

/// Makes or renews what is missing or worn out.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let topology = global.topology(&paths)?;
    let pin = Pin::load(&paths.engine_pin())?;
    let force = match args.force {
        0 => Force::No,
        1 => Force::Once,
        _ => Force::Twice,
    };
    let random = System::new();
    let mut making = Making::begin(&paths, OffsetDateTime::now_utc(), &random)?;
    pki::cluster(&mut making, &topology, force)?;
    let cluster = Cluster { topology: &topology, placement: &Placement::server, engine_sha256: &pin.sha256 };
    node_files::assemble(&mut making, &cluster)?;
    making.finish()?.print();
    Ok(())
}
