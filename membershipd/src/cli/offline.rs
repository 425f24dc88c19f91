//! Users in a file that no daemon uses.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use super::{Problem, block_on};
use crate::commands::{Commands, Pace, Patience, Real, Watched};
use crate::config::make_default_directory;
use crate::control::{self, Failure, Request};
use unibus_core::clock;
use unibus_store::{SqliteStore, Store};

/// Who the audit log says did it.
const ROOT: &str = "root@offline";

/// Carries `request` out on the store in `path`. A new user may be the first thing in a new one.
pub(super) fn ask(path: &Path, request: Request, json: bool) -> Result<serde_json::Value, Problem> {
    let clock = Arc::new(clock::unix_ms);
    let opened = match request {
        Request::UserAdd { .. } => {
            make_default_directory(path)?;
            SqliteStore::open(path, clock)
        }
        _ => SqliteStore::open_existing(path, clock),
    };
    let file = |error: String| Problem::Daemon { failure: Failure::new("file", &error, "nothing was changed"), json };
    let store: Arc<dyn Store> = Arc::new(opened.map_err(|error| file(error.to_string()))?);
    let answer = block_on(async {
        let pace: Arc<dyn Pace> = Arc::new(Real::new()?);
        let state = Watched::follow(&store, &pace);
        state.ready().await?;
        let root = ROOT.parse().context("who does it")?;
        let commands = Commands::offline(store, state, pace, Patience::default());
        anyhow::Ok(control::of_users(&commands, &root, request).await)
    })?;
    let answer = answer.map_err(|error| file(format!("{}: {error:#}", path.display())))?;
    answer.map_err(|failure| Problem::Daemon { failure, json })
}
