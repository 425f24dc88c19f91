//! Users in a file that no daemon uses.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;

use super::{Problem, block_on};
use crate::clock;
use crate::commands::Real;
use crate::commands::audit::Journal;
use crate::config::BusAuth;
use crate::control::{self, Answer, Failure, Request};
use crate::gate::Gate;
use crate::recorded::RecordedUsers;
use crate::store::{self, Delivered, Position, Records, SqliteStore};
use crate::users::Users;
use crate::view::View;

/// Who the audit log says did it.
const ROOT: &str = "root@offline";

/// Carries `request` out on the store in `path`. A new user may be the first thing in a new one.
pub(super) fn ask(path: &Path, request: Request, json: bool) -> Result<serde_json::Value, Problem> {
    let clock = Arc::new(clock::unix_ms);
    let opened = match request {
        Request::UserAdd { .. } => SqliteStore::open(path, clock),
        _ => SqliteStore::open_existing(path, clock),
    };
    let file = |error: String| Problem::Daemon { failure: Failure::new("file", &error, "nothing was changed"), json };
    let store = Arc::new(opened.map_err(|error| file(error.to_string()))?);
    let answer = block_on(async {
        let (gate, position) = view(&store).await?;
        let gate = Arc::new(gate);
        let (following, told) = (store.clone(), gate.clone());
        // What was written is to be seen, as in a daemon.
        tokio::spawn(async move {
            store::follow(&following, Records::Users, position, |Delivered { key, value, revision, .. }| {
                told.apply(Records::Users.bucket(), key, value, revision)?;
                Ok(())
            })
            .await
        });
        let pace = Arc::new(Real::new().map_err(|error| anyhow::anyhow!("no randomness: {error}"))?);
        let journal = Arc::new(Journal::new(store.clone(), pace));
        let root = ROOT.parse().context("who does it")?;
        let users = RecordedUsers::new(Users::alone(gate, store), journal, root);
        anyhow::Ok(control::of_users(&users, request).await)
    })?;
    match answer.map_err(|error| file(format!("{}: {error:#}", path.display())))? {
        Answer::Ok(value) => Ok(value),
        Answer::Error(failure) => Err(Problem::Daemon { failure, json }),
    }
}

/// What the file says, and how far its users were read.
async fn view(store: &SqliteStore) -> anyhow::Result<(Gate, Position)> {
    let mut view = View::default();
    let mut users = Position::default();
    for records in Records::DECIDING {
        let read = store::load(store, records, |key, value, revision| {
            view.apply(records.bucket(), key, value, revision)?;
            Ok(())
        });
        let position = read.await?;
        if records == Records::Users {
            users = position;
        }
    }
    let gate = Gate::new(BusAuth::Enforce, Instant::now());
    gate.replace_view(view);
    Ok((gate, users))
}
