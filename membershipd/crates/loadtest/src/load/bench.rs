//! What all workloads share: the orders, the ways to the nodes, the history, and the users that were made.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use futures::future::join_all;
use serde_json::Value;

use super::api_user::ApiUser;
use super::bus_user::{BusUser, Ways};
use super::dice::Dice;
use super::history::History;
use super::kinds::Failure;
use super::orders::Orders;
use super::relay::Relay;
use super::room::RoomOfRun;
use unibus_api_types::control::Request;
use unibus_client::api::Request as ApiRequest;
use unibus_client::identity::Identity;
use unibus_core::domain::{Handle, Role, State};
use unibus_core::random;

/// Time for a node to make or show a user.
const ASK: Duration = Duration::from_secs(5);
/// Time for a removal to be written; the daemon goes on to pass its fence, which is of no interest here.
const WRITTEN: Duration = Duration::from_secs(2);
/// Attempts at removing a user or a room, each through another node.
const REMOVALS: usize = 6;
/// Rooms that are removed at once, and time for all of them; where nobody can, it is said which are left.
const AT_ONCE: usize = 16;
const ROOMS: Duration = Duration::from_secs(30);
/// What the API says of a room that is not there any more.
const GONE: [&str; 2] = ["room-removed", "no-such-room"];
const PAUSE: Duration = Duration::from_millis(500);

/// The common ground.
pub(super) struct Bench {
    pub(super) orders: Orders,
    pub(super) history: Arc<History>,
    pub(super) relays: Vec<Relay>,
    ways: Ways,
    users: Mutex<Vec<Handle>>,
    /// Each with one of its owners.
    rooms: Mutex<Vec<(RoomOfRun, ApiUser)>>,
}

impl Bench {
    /// Prepares everything; asks nobody yet.
    pub(super) fn new(orders: Orders, history: Arc<History>) -> Result<Self> {
        let ways = Ways::new(&orders)?;
        let relays = orders.nodes.iter().map(Relay::new).collect();
        Ok(Self { orders, history, relays, ways, users: Mutex::default(), rooms: Mutex::default() })
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
        let entropy: [u8; 64] = random::bytes()?;
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

    /// Makes a user who uses the signed API as well.
    pub(super) async fn new_api_user(&self, role: &str, within: Duration) -> Result<ApiUser> {
        ApiUser::new(self.new_user(role, within).await?, &self.orders)
    }

    /// Notes that a room of `host` is to be removed in the end; before it is made, for an outcome that nobody knows has to be
    /// cleaned up as well.
    pub(super) fn will_remove(&self, room: &RoomOfRun, host: &ApiUser) {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).push((room.clone(), host.clone()));
    }

    /// Removes every room that was made. Returns those that may still be there.
    pub(super) async fn remove_rooms(&self) -> Vec<String> {
        let rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let deadline = tokio::time::Instant::now() + ROOMS;
        let removed = futures::stream::iter(rooms).map(async |(room, host)| {
            let gone = tokio::time::timeout_at(deadline, self.remove_room(&room, &host)).await;
            (gone != Ok(true)).then(|| room.id.to_string())
        });
        removed.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
    }

    /// Removes a room; false where it may still be there.
    async fn remove_room(&self, room: &RoomOfRun, host: &ApiUser) -> bool {
        let (removal, question) = (ApiRequest::delete(room.path()), ApiRequest::get(room.path()));
        for node in 0..REMOVALS {
            let answers = [host.ask(node, &removal, WRITTEN).await, host.ask(node, &question, ASK).await];
            let gone = |answer: &Result<Value, Failure>| match answer {
                Ok(answer) => {
                    // The answer to the removal has the room in it, the other one is the room.
                    let room = answer.get("room").unwrap_or(answer);
                    room.get("state").and_then(Value::as_str) == Some("removed")
                }
                Err(failure) => GONE.contains(&failure.code.as_str()),
            };
            if answers.iter().any(gone) {
                return true;
            }
            tokio::time::sleep(PAUSE).await;
        }
        false
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
