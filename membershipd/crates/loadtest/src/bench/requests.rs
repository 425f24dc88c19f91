//! Signed requests: one that reads, and one that writes a single record and takes nothing away.
//!
//! The write raises the role of somebody who is invited: most else that can be repeated takes a right away every other time,
//! and would measure the fence as well.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::json;

use super::crew::{Crew, Hand};
use super::drive::Next;
use unibus_client::api::{Changed, Member, Request, Room};
use unibus_core::domain::RoomRole;

/// The roles to which somebody is raised, one after the other, who was invited as a reader.
const RAISED: [RoomRole; 3] = [RoomRole::Member, RoomRole::Moderator, RoomRole::Owner];
/// Invitations of a worker for one turn. Each is good for as many writes as there are roles.
pub(super) const INVITED: usize = 15;

/// Asks what takes neither signature nor nonce: the floor of every request.
pub(super) async fn unsigned(crew: &Crew, worker: usize) -> Result<Next> {
    ensure!(crew.hand(worker)?.api.is_alive().await?, "the node does not live");
    Ok(Next::More)
}

/// Reads its own room.
pub(super) async fn read(crew: &Crew, worker: usize) -> Result<Next> {
    let hand = crew.hand(worker)?;
    let room: Room = hand.api.ask_for(&Request::get(hand.path())).await.context("a signed read")?;
    ensure!(room.id == hand.room, "another room was answered than asked for");
    Ok(Next::More)
}

/// Lets everybody invite others, for the writes of turn `turn`.
pub(super) async fn prepare(crew: &Crew, turn: usize) -> Result<()> {
    let invite = async |(worker, hand): (usize, &Hand)| {
        let mut invited = Vec::new();
        for number in 0..INVITED {
            // Nobody twice, and never oneself.
            let other = crew.hand(worker + 1 + turn * INVITED + number)?;
            let path = format!("{}/members/{}", hand.path(), other.identity.handle);
            let body = json!({ "role": RoomRole::Reader });
            let made = hand.api.ask_for::<Changed<Member>>(&Request::put(path.as_str(), Some(body))).await;
            invited.push((path, made.context("cannot invite")?.record.revision));
        }
        hand.raise(invited);
        anyhow::Ok(())
    };
    try_join_all(crew.hands.iter().enumerate().map(invite)).await.map(drop)
}

/// Raises somebody in its own room.
pub(super) async fn write(crew: &Crew, worker: usize) -> Result<Next> {
    let hand = crew.hand(worker)?;
    let Some(raise) = hand.next_raise() else { return Ok(Next::Enough) };
    let Some(role) = RAISED.get(raise.so_far) else { return Ok(Next::Enough) };
    let request = Request::patch(raise.path.as_str(), json!({ "role": role }), raise.revision);
    let changed = hand.api.ask_for::<Changed<Member>>(&request).await.context("a signed write")?;
    ensure!(changed.changed && changed.fence.is_none(), "a write that should change a record, and take nothing away");
    if raise.so_far + 1 < RAISED.len() {
        hand.raise_on(raise, changed.record.revision);
    }
    Ok(Next::More)
}
