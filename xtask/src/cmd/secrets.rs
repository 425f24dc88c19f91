//! `secrets`: the route password, the cluster's id and the nkeys of the nodes.

use anyhow::Result;
use time::OffsetDateTime;

use unibus_ops::engine::Pin;
use unibus_ops::global::Global;
use unibus_ops::making::Making;
use unibus_ops::node_files::{self, Cluster, Placement};
use unibus_ops::random::System;
use unibus_ops::secrets;

/// What is there is checked and kept: nothing is ever overwritten.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Makes the secrets that are missing.
pub(crate) fn run(global: &Global, _args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let topology = global.topology(&paths)?;
    let pin = Pin::load(&paths.engine_pin())?;
    let random = System::new();
    let mut making = Making::begin(&paths, OffsetDateTime::now_utc(), &random)?;
    secrets::make(&mut making, &topology)?;
    let cluster = Cluster { topology: &topology, placement: &Placement::server, engine_sha256: &pin.sha256 };
    node_files::assemble(&mut making, &cluster)?;
    making.finish()?.print();
    Ok(())
}
