//! `client-ca`: the CA that clients of the bus trust.

use anyhow::Result;
use time::OffsetDateTime;

use unibus_ops::global::Global;
use unibus_ops::making::Making;
use unibus_ops::pki;
use unibus_ops::random::System;

/// One that is already there, also one made by openssl, is proved and kept.
#[derive(clap::Args)]
pub(crate) struct Args {}

/// Makes the client CA if there is none.
pub(crate) fn run(global: &Global, _args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let random = System::new();
    let mut making = Making::begin(&paths, OffsetDateTime::now_utc(), &random)?;
    pki::client_ca(&mut making)?;
    making.finish()?.print();
    outln!("next: cargo xtask cluster-certs");
    Ok(())
}
