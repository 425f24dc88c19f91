//! What a request is about, as its path says: each handler is given the very type that it needs.

use std::fmt::Debug;
use std::str::FromStr;

use super::problem::{self, Problem};
use crate::api::problem::Refuse as _;
use crate::blobs::BlobName;
use unibus_api_types::problem::Kind;
use unibus_core::domain::{Handle, InvalidValue, InviteId, NodeName, Resource, RoomId, User};
use unibus_crypto::Epoch;

/// The path of a request, and who asks.
pub(super) struct Path<'a> {
    /// Gives the variable parts.
    pub(super) part: &'a dyn Fn(&str) -> Option<String>,
    /// Who asks.
    pub(super) caller: &'a User,
}

impl Path<'_> {
    /// A name in the path.
    fn get<T: FromStr<Err = InvalidValue>>(&self, name: &str) -> Result<T, Problem> {
        (self.part)(name).unwrap_or_default().parse().map_err(|error| problem::bad_path(&error))
    }

    fn handle(&self) -> Result<Handle, Problem> {
        self.get("handle")
    }

    fn room(&self) -> Result<RoomId, Problem> {
        self.get("room")
    }

    fn connection(&self) -> Result<u64, Problem> {
        let text = (self.part)("connection").unwrap_or_default();
        // One spelling only.
        let number = text.parse().ok().filter(|number: &u64| number.to_string() == text);
        number.ok_or_else(|| Kind::BAD_PATH.because("a connection is named by its number"))
    }
}

/// What the audit calls what a request is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) user: Option<Handle>,
    pub(super) room: Option<RoomId>,
    pub(super) member: Option<Handle>,
}

impl Named {
    fn user(handle: &Handle) -> Self {
        Self { user: Some(handle.clone()), ..Self::default() }
    }

    fn room(room: &RoomId) -> Self {
        Self { room: Some(room.clone()), ..Self::default() }
    }
}

/// What a request is about.
pub(super) trait Target: Debug + Sized + Send + Sync + 'static {
    /// Reads it from the path.
    fn read(path: &Path<'_>) -> Result<Self, Problem>;

    /// As the decision has it.
    fn resource(&self) -> Resource<'_>;

    /// As the audit has it.
    fn named(&self) -> Named;

    /// The digest that a body must have which the path names.
    fn sha256(&self) -> Option<[u8; 32]> {
        None
    }
}

/// A target of commands: a room, or a membership of it.
pub(super) trait InRoom: Target {
    /// The room.
    fn room(&self) -> &RoomId;
}

/// Writes a target that is read from the variable parts of the path.
macro_rules! target {
    ($name:ty, |$path:ident| $read:expr, |$target:ident| $resource:expr, $named:expr) => {
        impl Target for $name {
            fn read($path: &Path<'_>) -> Result<Self, Problem> {
                Ok($read)
            }

            fn resource(&self) -> Resource<'_> {
                let $target = self;
                $resource
            }

            fn named(&self) -> Named {
                let $target = self;
                $named
            }
        }
    };
}

/// The bus as a whole.
#[derive(Debug)]
pub(super) struct Bus;
target!(Bus, |_path| Bus, |_bus| Resource::Bus, Named::default());

/// Who asks.
#[derive(Debug)]
pub(super) struct Oneself(pub(super) Handle);
target!(Oneself, |path| Self(path.caller.handle.clone()), |user| Resource::User(&user.0), Named::user(&user.0));

/// The user `{handle}`.
#[derive(Debug)]
pub(super) struct OneUser(pub(super) Handle);
target!(OneUser, |path| Self(path.handle()?), |user| Resource::User(&user.0), Named::user(&user.0));

/// A user `{handle}` who is to be, which is a matter of the bus.
#[derive(Debug)]
pub(super) struct FutureUser(pub(super) Handle);
target!(FutureUser, |path| Self(path.handle()?), |_user| Resource::Bus, Named::user(&_user.0));

/// The user `{handle}` as all users see them, which is a matter of the bus.
#[derive(Debug)]
pub(super) struct ListedUser(pub(super) Handle);
target!(ListedUser, |path| Self(path.handle()?), |_user| Resource::Bus, Named::user(&_user.0));

/// The invite `{invite}`, which is a matter of the bus.
#[derive(Debug)]
pub(super) struct OneInvite(pub(super) InviteId);
target!(OneInvite, |path| Self(path.get("invite")?), |_invite| Resource::Bus, Named::default());

/// The connection `{connection}` to the engine of the node `{node}`, which is a matter of the bus.
#[derive(Debug)]
pub(super) struct OneConnection {
    pub(super) node: NodeName,
    pub(super) id: u64,
}
target!(
    OneConnection,
    |path| Self { node: path.get("node")?, id: path.connection()? },
    |_connection| Resource::Bus,
    Named::default()
);

/// The room `{room}`.
#[derive(Debug)]
pub(super) struct OneRoom(pub(super) RoomId);
target!(OneRoom, |path| Self(path.room()?), |room| Resource::Room(&room.0), Named::room(&room.0));

/// A room `{room}` that is to be, which is a matter of the bus.
#[derive(Debug)]
pub(super) struct FutureRoom(pub(super) RoomId);
target!(FutureRoom, |path| Self(path.room()?), |_room| Resource::Bus, Named::room(&_room.0));

/// The user `{handle}` in the room `{room}`.
#[derive(Debug)]
pub(super) struct OneMember {
    pub(super) room: RoomId,
    pub(super) handle: Handle,
}
target!(
    OneMember,
    |path| Self { room: path.room()?, handle: path.handle()? },
    |member| Resource::Member(&member.room, &member.handle),
    Named { member: Some(member.handle.clone()), ..Named::room(&member.room) }
);

/// The key of `{epoch}` of the room `{room}`.
#[derive(Debug)]
pub(super) struct OneEpoch {
    pub(super) room: RoomId,
    pub(super) epoch: Epoch,
}
target!(
    OneEpoch,
    |path| Self { room: path.room()?, epoch: path.get("epoch")? },
    |key| Resource::Room(&key.room),
    Named::room(&key.room)
);

/// The attachment `{sha256}` of the room `{room}`.
impl Target for BlobName {
    fn read(path: &Path<'_>) -> Result<Self, Problem> {
        Ok(BlobName { room: path.room()?, id: path.get("sha256")? })
    }

    fn resource(&self) -> Resource<'_> {
        Resource::Room(&self.room)
    }

    fn named(&self) -> Named {
        Named::room(&self.room)
    }

    fn sha256(&self) -> Option<[u8; 32]> {
        Some(self.id.sha256())
    }
}

impl InRoom for OneRoom {
    fn room(&self) -> &RoomId {
        &self.0
    }
}

impl InRoom for FutureRoom {
    fn room(&self) -> &RoomId {
        &self.0
    }
}

impl InRoom for OneMember {
    fn room(&self) -> &RoomId {
        &self.room
    }
}
