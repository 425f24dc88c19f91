//! What all verbs share that go through the API: who asks, whom, and how a refusal is said.

use std::path::PathBuf;

use anyhow::Context;

use super::{Output, Problem};
use crate::client::{Changed, Client, ClientError, NodeUrl};
use crate::control::Failure;
use crate::identity::Identity;

/// Who asks, and whom.
#[derive(Debug, clap::Args)]
pub(super) struct Api {
    /// Identity that signs the requests, as `membershipd identity new` makes it
    #[arg(long, env = "UNIBUS_IDENTITY", value_name = "FILE")]
    identity: PathBuf,
    /// API of a node; several are tried in turn (in the environment with commas)
    #[arg(
        long = "url",
        env = "UNIBUS_URL",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:8470"
    )]
    urls: Vec<NodeUrl>,
    /// CA that the nodes' certificates are of; needed for https
    #[arg(long, env = "UNIBUS_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

impl Api {
    /// Whether programs read what is said.
    pub(super) fn json(&self) -> bool {
        self.output.json
    }

    /// Who asks.
    pub(super) fn identity(&self) -> anyhow::Result<Identity> {
        Identity::load(&self.identity)
    }

    /// Has `work` done with a client.
    pub(super) fn run<T>(&self, work: impl AsyncFnOnce(&Client) -> Result<T, ClientError>) -> Result<T, Problem> {
        let client = Client::new(&self.identity()?, self.urls.clone(), self.ca.as_deref())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("starting the runtime")?;
        runtime.block_on(work(&client)).map_err(|error| {
            let failure = Failure { code: error.code().to_owned(), message: error.to_string(), remedy: error.remedy() };
            Problem::Daemon { failure, json: self.json() }
        })
    }
}

/// What a change came to, beside the record.
pub(super) fn print_outcome<T>(changed: &Changed<T>) {
    if !changed.changed {
        println!("nothing to do: it was so already");
    }
    if let Some(fence) = &changed.fence {
        let how = if fence == "acknowledged" { "every node has said so" } else { "so much time has passed" };
        println!("no node honours what was taken away: {how}, after {} ms", changed.waited_ms);
    }
}
