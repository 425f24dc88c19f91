//! What an entry of the roster log says.

use serde::{Deserialize, Serialize};

use crate::frame::RosterHead;
use crate::recipient::{HpkePub, Recipient};
use unibus_core::domain::{Handle, MemberState, Policy, RoomId, RoomRole, SignPub, Subject};

/// Where a log ends, or ended once: the number of an entry and its hash. A client pins the newest one that it has verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Number of the entry, from 1.
    pub number: u32,
    /// SHA-256 of the encoded entry, signatures included. It covers all entries before it.
    pub hash: RosterHead,
}

/// The two public keys of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Ed25519: signs.
    pub sign_pub: SignPub,
    /// X25519: keys of rooms are sealed to it.
    pub hpke_pub: HpkePub,
}

impl Keys {
    /// `handle`, with these keys.
    pub fn of(self, handle: Handle) -> Recipient {
        Recipient { handle, sign_pub: self.sign_pub, hpke_pub: self.hpke_pub }
    }
}

impl From<&Recipient> for Keys {
    fn from(person: &Recipient) -> Self {
        Self { sign_pub: person.sign_pub, hpke_pub: person.hpke_pub }
    }
}

/// An entry, without its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The room.
    pub room: RoomId,
    /// Place in the log, from 1.
    pub number: u32,
    /// Hash of the entry before it; zeros for the first.
    pub previous: RosterHead,
    /// The member who signs it.
    pub actor: Handle,
    /// The key with which they sign it. It has to be the one that the log has for them at this place.
    pub actor_key: SignPub,
    /// When it was made, by the clock of its actor, in seconds since 1970. It is shown, and decides nothing.
    pub time: u64,
    /// What it changes.
    pub action: RosterAction,
}

/// What an entry changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RosterAction {
    /// Begins the log of a new room. The actor becomes its owner.
    Create {
        /// The actor's HPKE key.
        hpke_pub: HpkePub,
        /// The room's subject.
        subject: Subject,
        /// The room's policy.
        policy: Policy,
    },
    /// Begins the log of a room that is older than its log: an owner signs who is in it.
    Adopt {
        /// The room's subject.
        subject: Subject,
        /// The room's policy.
        policy: Policy,
        /// Members, invited users and banned ones, in the order of their handles; the actor, as a joined owner, among them.
        members: Vec<AdoptedMember>,
    },
    /// Begins the log of a room that goes on in the place of another one, which has no owner any more. It grants nothing in that one.
    Continue {
        /// The actor's HPKE key.
        hpke_pub: HpkePub,
        /// The room's subject.
        subject: Subject,
        /// The room's policy.
        policy: Policy,
        /// The room before.
        room: RoomId,
        /// The last head of it that the actor knows.
        head: Head,
    },
    /// Invites a user by the keys that the actor knows for them.
    Invite {
        /// The user.
        target: Handle,
        /// Their keys.
        keys: Keys,
        /// The role that they will have.
        role: RoomRole,
    },
    /// Invites the person who has the link. The entry has the public half of the key in it.
    InviteLink {
        /// The invite key.
        invite_pub: SignPub,
        /// The role that they will have.
        role: RoomRole,
    },
    /// The actor accepts their invitation, and confirms their HPKE key.
    Accept {
        /// The actor's HPKE key.
        hpke_pub: HpkePub,
    },
    /// The actor comes in with a link. It is signed with the invite key as well.
    AcceptLink {
        /// The invite key.
        invite_pub: SignPub,
        /// The actor's HPKE key.
        hpke_pub: HpkePub,
    },
    /// The actor leaves, or declines the invitation.
    Leave,
    /// Removes a member, or takes an invitation back.
    Remove {
        /// The user.
        target: Handle,
    },
    /// Removes a user, and forbids to invite them.
    Ban {
        /// The user.
        target: Handle,
    },
    /// Lifts a ban.
    Unban {
        /// The user.
        target: Handle,
    },
    /// Takes a link back.
    RevokeLink {
        /// The invite key.
        invite_pub: SignPub,
    },
    /// Gives a member another role.
    SetRole {
        /// The member, or an invited user.
        target: Handle,
        /// The role.
        role: RoomRole,
    },
    /// Gives the room another policy.
    SetPolicy {
        /// The policy.
        policy: Policy,
    },
    /// Gives the room another subject.
    SetSubject {
        /// The subject.
        subject: Subject,
    },
    /// Takes in the new keys of a user who has lost the old ones. A member is invited again by it, and accepts with the new key.
    ReplaceKey {
        /// The user.
        target: Handle,
        /// Their new keys.
        keys: Keys,
    },
}

/// A user in the snapshot of [`RosterAction::Adopt`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedMember {
    /// The user.
    pub handle: Handle,
    /// Their role.
    pub role: RoomRole,
    /// Invited, joined or banned.
    pub state: MemberState,
    /// Their keys.
    pub keys: Keys,
}

impl RosterAction {
    /// The word for it: the one in the encoding.
    pub fn name(&self) -> &'static str {
        match self {
            RosterAction::Create { .. } => "create",
            RosterAction::Adopt { .. } => "adopt",
            RosterAction::Continue { .. } => "continue",
            RosterAction::Invite { .. } => "invite",
            RosterAction::InviteLink { .. } => "invite-link",
            RosterAction::Accept { .. } => "accept",
            RosterAction::AcceptLink { .. } => "accept-link",
            RosterAction::Leave => "leave",
            RosterAction::Remove { .. } => "remove",
            RosterAction::Ban { .. } => "ban",
            RosterAction::Unban { .. } => "unban",
            RosterAction::RevokeLink { .. } => "revoke-link",
            RosterAction::SetRole { .. } => "role",
            RosterAction::SetPolicy { .. } => "policy",
            RosterAction::SetSubject { .. } => "subject",
            RosterAction::ReplaceKey { .. } => "replace-key",
        }
    }

    /// Whether a log begins with it, and has it nowhere else.
    pub fn begins(&self) -> bool {
        matches!(self, RosterAction::Create { .. } | RosterAction::Adopt { .. } | RosterAction::Continue { .. })
    }

    /// The invite key that signs the entry as well.
    pub(super) fn invite_key(&self) -> Option<SignPub> {
        if let RosterAction::AcceptLink { invite_pub, .. } = self { Some(*invite_pub) } else { None }
    }
}
