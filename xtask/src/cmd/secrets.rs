//! `secrets`: the route password, the cluster's id and the nkeys of the nodes.

use anyhow::Result;
use time::OffsetDateTime;

use crate::engine::Pin;
use crate::global::Global;
use crate::making::Making;
use crate::node_files::{self, Cluster, Placement};
use crate::random::System;
use crate::secrets;

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
