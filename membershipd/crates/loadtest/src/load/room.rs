//! A room over the signed API: made, joined, and left because somebody is removed.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use serde_json::json;

use super::api_user::{ApiUser, CHANGE};
use super::bench::Bench;
use super::history::Op;
use super::kinds::Kind;
use unibus_client::api::Request;
use unibus_core::domain::{Handle, Policy, RoomId, RoomRole, Subject};

/// Time for a removal: its fence, the write, and a node that is only just coming back.
const REMOVAL: Duration = Duration::from_secs(30);

/// A room of this run.
#[derive(Clone)]
pub(super) struct RoomOfRun {
    pub(super) id: RoomId,
    pub(super) subject: Subject,
}

impl RoomOfRun {
    /// The room `chaos-<run>-<name>`, with a subject of its own.
    pub(super) fn new(bench: &Bench, name: &str) -> Result<Self> {
        let id: RoomId = format!("chaos-{}-{name}", bench.orders.run).parse()?;
        let subject = format!("room.{id}").parse()?;
        Ok(Self { id, subject })
    }

    /// Where it is.
    pub(super) fn path(&self) -> String {
        unibus_client::api::room_path(&self.id)
    }

    /// Where somebody's membership of it is.
    pub(super) fn member(&self, handle: &Handle) -> String {
        format!("{}/members/{handle}", self.path())
    }

    /// A room that keeps nothing. Sealed as one on a public bus has to be; what is sent in it is empty.
    pub(super) const PASSING: Policy = Policy { encrypt: true, persist: false, sign: false };

    /// The request that makes it.
    pub(super) fn creation(&self, policy: Policy) -> Request {
        Request::put(self.path(), Some(json!({ "subject": self.subject, "policy": policy })))
    }

    /// The request that invites somebody.
    pub(super) fn invitation(&self, handle: &Handle, role: RoomRole) -> Request {
        Request::put(self.member(handle), Some(json!({ "role": role })))
    }

    /// The request with which somebody accepts his invitation.
    pub(super) fn acceptance(&self, handle: &Handle) -> Request {
        Request::put(format!("{}/acceptance", self.member(handle)), None)
    }

    /// What operations about a member of it are about.
    pub(super) fn key(&self, handle: &Handle) -> String {
        format!("{}/{handle}", self.id)
    }

    /// Makes it for the first of `users`, and lets the others in; through whichever nodes do it.
    pub(super) async fn fill(
        &self,
        bench: &Bench,
        policy: Policy,
        users: &[ApiUser],
        role: RoomRole,
        within: Duration,
    ) -> Result<()> {
        let Some((host, others)) = users.split_first() else { bail!("nobody is there for {}", self.id) };
        bench.will_remove(self, host);
        host.insist(&self.creation(policy), within).await.context("cannot make its room")?;
        let all_in = try_join_all(others.iter().map(async |other| {
            host.insist(&self.invitation(other.handle(), role), within).await?;
            other.insist(&self.acceptance(other.handle()), within).await
        }));
        all_in.await.map(drop).context("cannot let others into its room")
    }

    /// Makes it through `first`, or else the next node. Says which node did.
    pub(super) async fn make(&self, bench: &Bench, host: &ApiUser, first: usize) -> Option<usize> {
        let op = bench.history.begin(Kind::MakeRoom).key(self.id.as_str());
        through(bench, op, first, &[(host, self.creation(Self::PASSING), CHANGE)]).await
    }

    /// Lets `host` invite `guest`, who accepts.
    pub(super) async fn join(&self, bench: &Bench, host: &ApiUser, guest: &ApiUser, first: usize) -> Option<usize> {
        let handle = guest.handle();
        let op = bench.history.begin(Kind::Join).key(self.key(handle));
        let invited = (host, self.invitation(handle, RoomRole::Member), CHANGE);
        through(bench, op, first, &[invited, (guest, self.acceptance(handle), CHANGE)]).await
    }

    /// Lets `host` remove `guest`.
    pub(super) async fn remove(&self, bench: &Bench, host: &ApiUser, guest: &Handle, first: usize) -> Option<usize> {
        let op = bench.history.begin(Kind::Removal).key(self.key(guest));
        through(bench, op, first, &[(host, Request::delete(self.member(guest)), REMOVAL)]).await
    }
}

/// Two attempts, as any client makes them: where one node does not do all of it, the next one is asked the same.
async fn through(bench: &Bench, mut op: Op, first: usize, requests: &[(&ApiUser, Request, Duration)]) -> Option<usize> {
    for node in [first, first + 1] {
        let name = &bench.relay(node).node;
        op.tries(name);
        let mut failed = None;
        for (user, request, within) in requests {
            if let Err(failure) = user.ask(node, request, *within).await {
                failed = Some(failure);
                break;
            }
        }
        match failed {
            None => {
                op.ok(name);
                return Some(node);
            }
            Some(failure) => op.failed(&failure),
        }
    }
    None
}
