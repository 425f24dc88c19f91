//! The users that a bench works as: each with a key, a client of the API, a way to the bus, and a room of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use async_nats::Client as Connection;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::{Orders, raw};
use unibus_api_types::control::Request as Control;
use unibus_api_types::problem::slug_of;
use unibus_client::api::{Client, ClientError, NodeUrl, Request, room_path};
use unibus_client::control;
use unibus_client::identity::Identity;
use unibus_core::bus;
use unibus_core::domain::{Denial, Handle, Role, RoomId, State};
use unibus_core::random;

/// Users that are made or removed at once.
const AT_ONCE: usize = 16;

/// Somebody who may be raised.
pub(super) struct Raise {
    /// Where the membership is.
    pub(super) path: String,
    /// Its revision.
    pub(super) revision: u64,
    /// How often he was raised.
    pub(super) so_far: usize,
}

/// One of the crew.
pub(super) struct Hand {
    /// Who.
    pub(super) identity: Arc<Identity>,
    /// The way to the API.
    pub(super) api: Arc<Client>,
    /// The room that is its own.
    pub(super) room: RoomId,
    /// Whom it may raise there.
    raises: Mutex<Vec<Raise>>,
    /// It may be there.
    made: AtomicBool,
}

/// All of them.
pub(super) struct Crew {
    /// Each.
    pub(super) hands: Vec<Hand>,
    /// Rooms that the first of them may have made beside its own.
    more_rooms: Mutex<Vec<RoomId>>,
    runtime_dir: PathBuf,
    bus: String,
    tls: Option<rustls::ClientConfig>,
}

impl Crew {
    /// So many, who are nobody yet.
    pub(super) fn new(orders: &Orders, size: usize) -> Result<Self> {
        let node = &orders.node;
        let (address, ca) = (node.address, node.ca.as_deref());
        let scheme = if ca.is_some() { "https" } else { "http" };
        let api: NodeUrl = format!("{scheme}://{}", SocketAddr::new(address, node.api_port)).parse()?;
        let run = data_encoding::HEXLOWER.encode(&random::bytes::<4>()?);
        let hand = |number: usize| {
            let handle: Handle = format!("bench-{run}-{number}").parse()?;
            let room: RoomId = handle.as_str().parse()?;
            let identity = Identity::from_entropy(handle, random::bytes()?)?;
            let api = Client::from_address(&identity, vec![api.clone()], ca, own_address(address, number))?;
            anyhow::Ok(Hand {
                identity: Arc::new(identity),
                api: Arc::new(api),
                room,
                raises: Mutex::default(),
                made: false.into(),
            })
        };
        Ok(Self {
            hands: (0..size).map(hand).collect::<Result<_>>()?,
            more_rooms: Mutex::default(),
            runtime_dir: orders.runtime_dir.clone(),
            bus: SocketAddr::new(address, node.client_port).to_string(),
            tls: ca.map(unibus_tls::trusting).transpose()?,
        })
    }

    /// What all their names begin with.
    pub(super) fn prefix(&self) -> &str {
        let first = self.hands.first().map_or("", |hand| hand.identity.handle.as_str());
        first.strip_suffix('0').unwrap_or(first)
    }

    /// One of them, counted round and round.
    pub(super) fn hand(&self, number: usize) -> Result<&Hand> {
        self.hands.get(number % self.hands.len().max(1)).context("there is nobody")
    }

    /// Makes the users, and a room for each.
    pub(super) async fn join(&self) -> Result<()> {
        let made = stream::iter(&self.hands).map(|hand| self.make(hand)).buffer_unordered(AT_ONCE);
        made.try_collect::<()>().await
    }

    /// Notes a room that the first of them is about to make.
    pub(super) fn note_room(&self, room: &RoomId) {
        self.more_rooms.lock().unwrap_or_else(PoisonError::into_inner).push(room.clone());
    }

    /// Removes what is there. Says what may be left.
    pub(super) async fn leave(&self) -> Result<()> {
        let more = std::mem::take(&mut *self.more_rooms.lock().unwrap_or_else(PoisonError::into_inner));
        let mut left = Vec::new();
        for room in more {
            match self.hand(0)?.api.ask(&Request::delete(room_path(&room))).await {
                Ok(_) => {}
                // It was told to stop before the room was made.
                Err(ClientError::Refused(refused)) if refused.slug == slug_of(Denial::NoSuchRoom) => {}
                Err(error) => left.push(format!("cannot remove the room {room}: {error}")),
            }
        }
        let gone = stream::iter(&self.hands).filter(|hand| std::future::ready(hand.made.load(Ordering::Relaxed)));
        let gone = gone.map(|hand| self.remove(hand)).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
        left.extend(gone.into_iter().filter_map(|gone| gone.err().map(|error| format!("{error:#}"))));
        match left.first() {
            Some(first) => bail!("{} users or rooms may be left, the first because: {first}", left.len()),
            None => Ok(()),
        }
    }

    /// Connects one of them to the bus.
    pub(super) async fn connection(&self, hand: &Hand) -> Result<Connection> {
        raw::connected(self.options(hand), &self.bus).await
    }

    /// How one of them connects.
    pub(super) fn options(&self, hand: &Hand) -> async_nats::ConnectOptions {
        raw::options(hand.identity.nkey_seed(), self.tls.as_ref())
            .custom_inbox_prefix(bus::inbox(hand.identity.handle.as_str()))
    }

    /// Where they connect.
    pub(super) fn bus(&self) -> &str {
        &self.bus
    }

    async fn make(&self, hand: &Hand) -> Result<()> {
        hand.made.store(true, Ordering::Relaxed);
        let (handle, sign_pub) = (hand.identity.handle.clone(), hand.identity.sign_pub);
        self.ask(Control::UserAdd { handle, sign_pub, role: Role::User }).await?;
        // Nobody reads what is said there, and a stream would be made for each.
        let policy = json!({ "encrypt": true, "persist": false, "sign": true });
        let body = json!({ "subject": format!("room.bench.{}", hand.room), "policy": policy });
        let made = hand.api.ask(&Request::put(hand.path(), Some(body))).await;
        made.map(drop).with_context(|| format!("cannot make the room {}", hand.room))
    }

    async fn remove(&self, hand: &Hand) -> Result<()> {
        let room = hand.api.ask(&Request::delete(hand.path())).await;
        let room = room.map(drop).with_context(|| format!("cannot remove the room {}", hand.room));
        let handle = hand.identity.handle.clone();
        self.ask(Control::UserSet { handle, state: State::Removed, last_admin: false }).await?;
        room
    }

    async fn ask(&self, request: Control) -> Result<()> {
        let dir = self.runtime_dir.clone();
        let answer = tokio::task::spawn_blocking(move || control::ask(Path::new(&dir), &request)).await?;
        answer.map(drop).map_err(anyhow::Error::from)
    }
}

impl Hand {
    /// Where its room is.
    pub(super) fn path(&self) -> String {
        room_path(&self.room)
    }

    /// Takes these as those that may be raised, at these revisions, and nobody else.
    pub(super) fn raise(&self, invited: Vec<(String, u64)>) {
        let raises = invited.into_iter().map(|(path, revision)| Raise { path, revision, so_far: 0 });
        *self.raises() = raises.collect();
    }

    /// The next one, who is nobody else's any more; none: nobody is left.
    pub(super) fn next_raise(&self) -> Option<Raise> {
        self.raises().pop()
    }

    /// Who was raised, and is at `revision` now, may be raised again.
    pub(super) fn raise_on(&self, raise: Raise, revision: u64) {
        self.raises().push(Raise { revision, so_far: raise.so_far + 1, ..raise });
    }

    // Every change under this lock is a single step.
    fn raises(&self) -> MutexGuard<'_, Vec<Raise>> {
        self.raises.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address from which number `number` asks a node at `node`. On a machine of its own a user has an address of its own, and
/// the API counts requests by address: on loopback, where there are enough of them, everybody has one here too.
fn own_address(node: IpAddr, number: usize) -> Option<IpAddr> {
    let last = u8::try_from(number % 250).ok()?;
    matches!(node, IpAddr::V4(node) if node.is_loopback()).then(|| Ipv4Addr::new(127, 1, 0, last + 1).into())
}
