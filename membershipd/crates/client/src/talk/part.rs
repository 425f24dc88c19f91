//! What a member needs for any part in a room: who the others are, the keys, and the room.

use std::sync::Arc;

use super::error::TalkError;
use super::keyring::Keyring;
use super::people::People;
use super::pins::Pins;
use crate::api::{Client, Request, Room, room_path};
use crate::identity::Identity;
use unibus_core::domain::{MemberState, RoomId};

/// A member's part in a room.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) people: People,
    pub(super) keyring: Keyring,
    pub(super) room: Room,
}

impl Part {
    /// Publishes the key of `identity` where that is still to be done, and reads the room.
    pub(super) async fn take(
        api: &Arc<Client>,
        identity: &Arc<Identity>,
        pins: Pins,
        room: &RoomId,
    ) -> Result<Self, TalkError> {
        let mut people = People::new(api.clone(), pins);
        let own = people.introduce(identity).await?;
        let keyring = Keyring::new(api.clone(), room.clone(), identity.clone(), own)?;
        let room = record(api, people.pins(), room, identity).await?;
        Ok(Self { people, keyring, room })
    }
}

/// The room, for a member. That its messages are sealed is not for a server to take back: it would be told the next one.
pub(super) async fn record(api: &Client, pins: &Pins, room: &RoomId, identity: &Identity) -> Result<Room, TalkError> {
    let record: Room = api.ask_for(&Request::get(room_path(room))).await.map_err(TalkError::api("read the room"))?;
    match &record.own {
        Some(own) if own.state == MemberState::Joined => {
            pins.hold(room, record.policy.encrypt)?;
            Ok(record)
        }
        _ => Err(TalkError::NotMember(room.clone(), identity.handle.clone())),
    }
}
