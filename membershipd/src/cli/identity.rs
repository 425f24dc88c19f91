//! `membershipd identity`: makes and shows identity files. Needs no daemon.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use serde_json::json;

use super::{DONE, Output, Problem};
use crate::posture::SCHEMA;
use unibus_client::identity::Identity;
use unibus_core::domain::Handle;
use unibus_core::private_file;
use unibus_core::random;

/// Arguments of `identity`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a new identity in a new file, mode 0600
    New {
        /// Handle under which the user will be known
        #[arg(long)]
        handle: Handle,
        /// File to make; an existing one is never overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Show the public half of an identity
    Show {
        /// The identity file
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
        /// Also write the signing seed to this new file, mode 0600, as NATS clients read it
        #[arg(long, value_name = "FILE")]
        nkey_seed_to: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let (identity, output) = match &args.what {
        What::New { handle, out, output } => {
            let entropy: [u8; 64] = random::bytes().map_err(anyhow::Error::from)?;
            let identity = Identity::from_entropy(handle.clone(), entropy)?;
            identity.create(out)?;
            (identity, output)
        }
        What::Show { identity, nkey_seed_to, output } => {
            let identity = Identity::load(identity)?;
            if let Some(path) = nkey_seed_to {
                private_file::create(path, identity.nkey_seed().as_bytes())
                    .with_context(|| format!("the seed was not written to {}", path.display()))?;
            }
            (identity, output)
        }
    };
    let (handle, sign_pub, nkey) = (&identity.handle, identity.sign_pub, identity.sign_pub.to_nkey());
    if output.json {
        println!("{}", json!({ "schema": SCHEMA, "handle": handle, "sign_pub": sign_pub, "nkey": nkey }));
    } else {
        println!("handle    {handle}\nsign-pub  {sign_pub}\nnkey      {nkey}");
    }
    Ok(DONE)
}
