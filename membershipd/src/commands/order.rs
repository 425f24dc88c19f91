//! What somebody wants to be done, and how the audit calls it.

use std::fmt;

use super::audit::About;
use unibus_core::domain::{Author, Command, Handle, Policy, RecordKey, RoomId, RoomRole, Subject, Terms, User};
use unibus_store::Revision;

/// A command as it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The user who gives it.
    pub by: Handle,
    /// About which room.
    pub room: RoomId,
    /// What is to be done.
    pub command: Command,
    /// What is allowed on this bus.
    pub terms: Terms,
    /// Only if the record concerned, that of the room or of the membership, is as demanded.
    pub if_match: Option<Demand>,
}

/// What the revision of a record must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// Any, but the record must be there.
    Any,
    /// One of these.
    OneOf(Vec<Revision>),
}

impl Demand {
    /// Whether a record at `revision` (none: it is not there) is as demanded.
    pub(super) fn is_met(&self, revision: Option<Revision>) -> bool {
        match self {
            Demand::Any => revision.is_some(),
            Demand::OneOf(wanted) => revision.is_some_and(|revision| wanted.contains(&revision)),
        }
    }

    /// The newest revision that it names.
    pub(super) fn newest(&self) -> Option<Revision> {
        if let Demand::OneOf(wanted) = self { wanted.iter().max().copied() } else { None }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Demand::Any => f.write_str("any revision"),
            Demand::OneOf(wanted) if wanted.is_empty() => f.write_str("one that it never had"),
            Demand::OneOf(wanted) => {
                let wanted: Vec<_> = wanted.iter().map(ToString::to_string).collect();
                write!(f, "revision {}", wanted.join(" or "))
            }
        }
    }
}

impl Order {
    /// The record that it is about, when `user` gives it.
    pub(super) fn concerns(&self, user: &Handle) -> RecordKey {
        match self.member(user) {
            Some(handle) => RecordKey::Membership(self.room.clone(), handle.clone()),
            None => RecordKey::Room(self.room.clone()),
        }
    }

    /// Whose membership it is about.
    fn member<'a>(&'a self, user: &'a Handle) -> Option<&'a Handle> {
        match &self.command {
            Command::CreateRoom(..) | Command::ChangeRoom(..) | Command::RemoveRoom => None,
            Command::Accept { .. } | Command::Leave => Some(user),
            Command::Invite(handle, _)
            | Command::Remove(handle)
            | Command::Ban(handle)
            | Command::Unban(handle)
            | Command::SetRole(handle, _) => Some(handle),
        }
    }

    /// What the audit says of it when `user` gives it.
    pub(super) fn about_by(&self, user: &User) -> About {
        let (action, _) = self.command.asks(user, &self.room);
        let (room, member) = (Some(self.room.clone()), self.member(&user.handle).cloned());
        About { room, member, with: self.with(), ..About::new(Author::User(user.handle.clone()), action.name()) }
    }

    fn with(&self) -> Option<String> {
        let room = |subject: Option<&Subject>, policy: Option<Policy>| {
            let flags = policy.into_iter().flat_map(|policy| {
                let flags = [("encrypt", policy.encrypt), ("persist", policy.persist), ("sign", policy.sign)];
                flags.map(|(name, on)| format!("{name}={on}"))
            });
            subject.map(|subject| format!("subject={subject}")).into_iter().chain(flags).collect::<Vec<_>>().join(" ")
        };
        match &self.command {
            Command::CreateRoom(subject, policy) => Some(room(Some(subject), Some(*policy))),
            Command::ChangeRoom(subject, policy, keep) => {
                let chosen = keep.map(|keep| {
                    let or_open =
                        |value: Option<u64>| value.map_or_else(|| "open".to_owned(), |value| value.to_string());
                    format!("keep_bytes={} keep_days={}", or_open(keep.bytes), or_open(keep.days.map(u64::from)))
                });
                let changed = room(subject.as_ref(), *policy);
                Some([changed].into_iter().filter(|text| !text.is_empty()).chain(chosen).collect::<Vec<_>>().join(" "))
            }
            Command::Invite(_, role) | Command::SetRole(_, role) => Some(format!("role={}", word(*role))),
            _ => None,
        }
    }
}

fn word(role: RoomRole) -> &'static str {
    match role {
        RoomRole::Owner => "owner",
        RoomRole::Moderator => "moderator",
        RoomRole::Member => "member",
        RoomRole::Reader => "reader",
    }
}
