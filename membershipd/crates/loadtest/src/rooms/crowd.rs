//! The users, their ways to the API and the bus, and their rooms.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::ConnectOptions;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::bench::Node;
use unibus_api_types::control::Request as Control;
use unibus_client::api::{Client, ClientError, NodeUrl, Request, room_path};
use unibus_client::control;
use unibus_client::identity::Identity;
use unibus_core::bus;
use unibus_core::domain::{Handle, Role, RoomId};
use unibus_core::random;

/// Users that are made at once.
const USERS_AT_ONCE: usize = 16;
/// Rooms that are made at once.
const ROOMS_AT_ONCE: usize = 64;
/// Connections that are made at once.
const CONNECTS_AT_ONCE: usize = 8;
/// How often a room is tried where the node has too much to do.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// A room, and who made it.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) user: usize,
    pub(super) id: RoomId,
    pub(super) subject: String,
}

pub(super) struct User {
    pub(super) identity: Identity,
    /// One for each node.
    apis: Vec<Client>,
}

pub(super) struct Crowd {
    pub(super) users: Vec<User>,
    pub(super) rooms: Vec<Made>,
    pub(super) engines: Vec<SocketAddr>,
    /// Where the API of each node is.
    pub(super) entrances: Vec<SocketAddr>,
    pub(super) tls: Option<rustls::ClientConfig>,
    /// Places for handshakes at once.
    connecting: Semaphore,
}

impl Crowd {
    /// Makes so many users, through the daemon in `runtime_dir`.
    pub(super) async fn join(node: &Node, runtime_dir: &Path, size: usize) -> Result<Self> {
        let ca = node.ca.as_deref();
        let scheme = if ca.is_some() { "https" } else { "http" };
        let nodes: Vec<IpAddr> = std::iter::once(node.address).chain(node.others.iter().copied()).collect();
        let urls: Vec<NodeUrl> = nodes
            .iter()
            .map(|address| Ok(format!("{scheme}://{}", SocketAddr::new(*address, node.api_port)).parse()?))
            .collect::<Result<_>>()?;
        let run = data_encoding::HEXLOWER.encode(&random::bytes::<3>()?);
        let user = |number: usize| {
            let handle: Handle = format!("many-{run}-{number}").parse()?;
            let identity = Identity::from_entropy(handle, random::bytes()?)?;
            let from = own_address(node.address, number);
            let api = |url: &NodeUrl| Client::from_address(&identity, vec![url.clone()], ca, from);
            let apis = urls.iter().map(api).collect::<Result<_, _>>()?;
            anyhow::Ok(User { identity, apis })
        };
        let users: Vec<User> = (0..size).map(user).collect::<Result<_>>()?;
        let add = |user: &User| {
            let (handle, sign_pub) = (user.identity.handle.clone(), user.identity.sign_pub);
            let (dir, request) = (runtime_dir.to_path_buf(), Control::UserAdd { handle, sign_pub, role: Role::User });
            async move {
                let answer = tokio::task::spawn_blocking(move || control::ask(&dir, &request)).await?;
                answer.map(drop).map_err(anyhow::Error::from)
            }
        };
        stream::iter(users.iter().map(add)).buffer_unordered(USERS_AT_ONCE).try_collect::<()>().await?;
        let at = |port| nodes.iter().map(|address| SocketAddr::new(*address, port)).collect();
        let (engines, entrances) = (at(node.client_port), at(node.api_port));
        let tls = ca.map(unibus_tls::trusting).transpose()?;
        Ok(Self { users, rooms: Vec::new(), engines, entrances, tls, connecting: Semaphore::new(CONNECTS_AT_ONCE) })
    }

    /// Makes so many rooms, evenly by the users and at all nodes. Also says how often one had to be tried again.
    pub(super) async fn make(mut self, rooms: usize) -> Result<(Self, usize)> {
        let all: Vec<Made> = (0..rooms).map(|number| self.room(number)).collect::<Result<_>>()?;
        let again = AtomicUsize::new(0);
        let make = |(number, room): (usize, &Made)| {
            let room = room.clone();
            let (crowd, again) = (&self, &again);
            async move { crowd.put(number, &room, again).await.with_context(|| format!("room {}", room.id)) }
        };
        let made: Vec<_> = all.iter().enumerate().map(make).collect();
        stream::iter(made).buffer_unordered(ROOMS_AT_ONCE).try_collect::<()>().await?;
        let again = again.into_inner();
        self.rooms = all;
        Ok((self, again))
    }

    fn room(&self, number: usize) -> Result<Made> {
        let user = number % self.users.len().max(1);
        let handle = &self.user(user)?.identity.handle;
        // Each user has a second token of its own, as teams and programs would.
        let subject = format!("room.{handle}.r{number}");
        Ok(Made { user, id: format!("{handle}-r{number}").parse()?, subject })
    }

    async fn put(&self, number: usize, room: &Made, again: &AtomicUsize) -> Result<()> {
        let policy = json!({ "encrypt": false, "persist": true, "sign": true });
        let request = Request::put(room_path(&room.id), Some(json!({ "subject": room.subject, "policy": policy })));
        for tried in 0.. {
            match self.api(room.user, number + tried)?.ask(&request).await {
                Ok(_) => return Ok(()),
                Err(error) if tried >= TRIES || !passes(&error) => return Err(error.into()),
                Err(_) => {
                    again.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Ok(())
    }

    pub(super) fn user(&self, number: usize) -> Result<&User> {
        self.users.get(number).context("there is no such user")
    }

    /// The way of a user to the API of a node, counted round and round.
    pub(super) fn api(&self, user: usize, node: usize) -> Result<&Client> {
        let apis = &self.user(user)?.apis;
        apis.get(node % apis.len().max(1)).context("there is no node")
    }

    /// The rooms of a user.
    pub(super) fn rooms_of(&self, user: usize) -> Vec<Made> {
        self.rooms.iter().filter(|room| room.user == user).cloned().collect()
    }

    /// Connects a user, with what `with` adds to the options. An engine that is short of time closes connections whose handshake takes
    /// too long, and a client then tries again.
    pub(super) async fn connect(
        &self,
        user: usize,
        with: impl Fn(ConnectOptions) -> ConnectOptions,
    ) -> Result<async_nats::Client> {
        let _place = self.connecting.acquire().await?;
        let mut tried = 1;
        loop {
            let (options, at) = self.way(user)?;
            match with(options).connect(at.to_string()).await {
                Ok(client) => return Ok(client),
                Err(error) if tried == TRIES => return Err(error).with_context(|| format!("connecting to {at}")),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
            tried += 1;
        }
    }

    /// How a user connects, and where: users are spread over the nodes.
    pub(super) fn way(&self, user: usize) -> Result<(ConnectOptions, SocketAddr)> {
        let identity = &self.user(user)?.identity;
        let options = ConnectOptions::with_nkey(identity.nkey_seed().to_owned())
            .name("many rooms")
            .custom_inbox_prefix(bus::inbox(identity.handle.as_str()))
            .connection_timeout(Duration::from_secs(20));
        let options = match &self.tls {
            Some(tls) => options.require_tls(true).tls_client_config(tls.clone()),
            None => options,
        };
        Ok((options, *self.engines.get(user % self.engines.len().max(1)).context("there is no engine")?))
    }
}

/// Whether trying again may help.
fn passes(error: &ClientError) -> bool {
    const BUSY: [&str; 6] =
        ["contended", "overloaded", "rate-limited", "unavailable", "unknown-outcome", "nonce-unknown"];
    match error {
        ClientError::Refused(refused) => BUSY.contains(&refused.slug.as_str()),
        ClientError::Unknown(_) | ClientError::Nobody(_) => true,
        ClientError::Form(_) => false,
    }
}

/// On loopback each user asks from an address of its own, since the API counts by address.
fn own_address(node: IpAddr, number: usize) -> Option<IpAddr> {
    let last = u8::try_from(number % 250).ok()?;
    node.is_loopback().then(|| Ipv4Addr::new(127, 1, 1, last + 1).into())
}
