//! What all workloads share: the orders, the ways to the nodes, the history, and the users that were made.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::join_all;
use serde_json::Value;

use super::bus_user::{BusUser, Ways};
use super::dice::Dice;
use super::history::History;
use super::orders::Orders;
use super::relay::Relay;
use crate::control::Request;
use crate::domain::{Handle, Role, State};
use crate::identity::Identity;

/// Time for a node to make or show a user.
const ASK: Duration = Duration::from_secs(5);
/// Time for a removal to be written; the daemon goes on to pass its fence, which is of no interest here.
const WRITTEN: Duration = Duration::from_secs(2);
/// Attempts at removing a user, each through another node.
const REMOVALS: usize = 6;
const PAUSE: Duration = Duration::from_millis(500);

/// The common ground.
pub(super) struct Bench {
    pub(super) orders: Orders,
    pub(super) history: Arc<History>,
    pub(super) relays: Vec<Relay>,
    ways: Ways,
    users: Mutex<Vec<Handle>>,
}

impl Bench {
    /// Prepares everything; asks nobody yet.
    pub(super) fn new(orders: Orders, history: Arc<History>) -> Result<Self> {
        let ways = Ways::new(&orders)?;
        let relays = orders.nodes.iter().map(Relay::new).collect();
        Ok(Self { orders, history, relays, ways, users: Mutex::default() })
    }

    /// Choices of `whose`.
    pub(super) fn dice(&self, whose: &str) -> Dice {
        Dice::new(self.orders.seed, whose)
    }

    /// A relay by number, counted round and round.
    pub(super) fn relay(&self, number: usize) -> &Relay {
        // There are at least two: the orders were checked.
        #[expect(clippy::indexing_slicing, reason = "the remainder is below the length")]
        &self.relays[number % self.relays.len()]
    }

    /// Makes a user `chaos-<run>-<role>`, through whichever node does it first.
    pub(super) async fn new_user(&self, role: &str, within: Duration) -> Result<BusUser> {
        let handle: Handle = format!("chaos-{}-{role}", self.orders.run).parse()?;
        let mut entropy = [0; 64];
        getrandom::fill(&mut entropy).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let user = BusUser::new(Identity::from_entropy(handle.clone(), entropy)?, self.ways.clone());
        // Noted before it is made: an outcome that nobody knows has to be cleaned up as well.
        self.users.lock().unwrap_or_else(PoisonError::into_inner).push(handle.clone());
        let request = Request::UserAdd { handle, sign_pub: user.sign_pub(), role: Role::User };
        let deadline = Instant::now() + within;
        let mut dice = self.dice(role);
        loop {
            let relay = self.relay(dice.choose(self.relays.len()));
            match relay.ask(&request, ASK).await {
                Ok(_) => return Ok(user),
                Err(failure) if failure.code == "bad_request" => bail!("{}: {failure}", relay.node),
                Err(failure) if Instant::now() >= deadline => {
                    return Err(failure).with_context(|| format!("not done within {} s", within.as_secs()));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Removes a user; false where it may still be there.
    pub(super) async fn remove(&self, handle: &Handle) -> bool {
        let removal = Request::UserSet { handle: handle.clone(), state: State::Removed, last_admin: false };
        let question = Request::UserShow { handle: handle.clone() };
        for attempt in 0..REMOVALS {
            let relay = self.relay(attempt);
            match relay.ask(&removal, WRITTEN).await {
                Ok(_) => return true,
                Err(failure) if failure.code == "not_found" => return true,
                Err(_) => {}
            }
            let shown = relay.ask(&question, ASK).await;
            let state = shown.as_ref().ok().and_then(|answer| answer.pointer("/user/state")).and_then(Value::as_str);
            if state == Some("removed") {
                return true;
            }
            tokio::time::sleep(PAUSE).await;
        }
        false
    }

    /// Removes every user that was made. Returns those that may still be there.
    pub(super) async fn remove_users(&self) -> Vec<String> {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let removed = join_all(users.iter().map(|handle| self.remove(handle))).await;
        users.iter().zip(removed).filter(|(_, removed)| !removed).map(|(handle, _)| handle.to_string()).collect()
    }
}
