//! The one way in which an entry is written: parts with their lengths before them, as in every context, and the signatures behind.
//!
//! ```text
//! body = context("unibus.roster-entry.1", room, number (4), previous (32), actor, actor key (32), time (8), action, …)
//! entry = body || Ed25519(actor key, body)
//! entry = body || Ed25519(actor key, body) || Ed25519(invite key, context("unibus.roster-invite.1", body))    (accept-link)
//! ```
//!
//! What follows the action is fixed for each of them, so nothing is optional, and each part has one form. So there are no two encodings of
//! one entry: what is read is, written again, what it was (`tests/encoding`).

use super::entry::{AdoptedMember, Entry, Head, Keys, RosterAction};
use super::refusal::RosterRefusal;
use crate::context::Context;
use crate::frame::RosterHead;
use crate::recipient::HpkePub;
use unibus_core::domain::{Handle, MemberState, Policy, RoomRole, SignPub};

const LABEL: &str = "unibus.roster-entry.1";

/// Flags of a policy.
const ENCRYPT: u8 = 1;
const PERSIST: u8 = 2;
const SIGN: u8 = 4;

pub(super) fn role_word(role: RoomRole) -> &'static str {
    match role {
        RoomRole::Owner => "owner",
        RoomRole::Moderator => "moderator",
        RoomRole::Member => "member",
        RoomRole::Reader => "reader",
    }
}

pub(super) fn state_word(state: MemberState) -> &'static str {
    match state {
        MemberState::Invited => "invited",
        MemberState::Joined => "joined",
        MemberState::Removed => "removed",
        MemberState::Banned => "banned",
    }
}

fn flags(policy: Policy) -> [u8; 1] {
    let flag = |set, flag| if set { flag } else { 0 };
    [flag(policy.encrypt, ENCRYPT) | flag(policy.persist, PERSIST) | flag(policy.sign, SIGN)]
}

/// The body of an entry: what its actor signs.
pub(super) fn body(entry: &Entry) -> Context {
    let context = Context::new(LABEL).and(entry.room.as_str()).and(entry.number.to_be_bytes());
    let context = context.and(entry.previous.to_bytes()).and(entry.actor.as_str()).and(entry.actor_key.to_bytes());
    let context = context.and(entry.time.to_be_bytes()).and(entry.action.name());
    let keys = |context: Context, keys: &Keys| context.and(keys.sign_pub.to_bytes()).and(keys.hpke_pub.to_bytes());
    match &entry.action {
        RosterAction::Create { hpke_pub, subject, policy } => {
            context.and(hpke_pub.to_bytes()).and(subject.as_str()).and(flags(*policy))
        }
        RosterAction::Adopt { subject, policy, members } => {
            let context = context.and(subject.as_str()).and(flags(*policy));
            members.iter().fold(context, |context, member| {
                let context = context.and(member.handle.as_str()).and(role_word(member.role));
                keys(context.and(state_word(member.state)), &member.keys)
            })
        }
        RosterAction::Continue { hpke_pub, subject, policy, room, head } => {
            let context = context.and(hpke_pub.to_bytes()).and(subject.as_str()).and(flags(*policy));
            context.and(room.as_str()).and(head.number.to_be_bytes()).and(head.hash.to_bytes())
        }
        RosterAction::Invite { target, keys: named, role } => {
            keys(context.and(target.as_str()), named).and(role_word(*role))
        }
        RosterAction::InviteLink { invite_pub, role } => context.and(invite_pub.to_bytes()).and(role_word(*role)),
        RosterAction::Accept { hpke_pub } => context.and(hpke_pub.to_bytes()),
        RosterAction::AcceptLink { invite_pub, hpke_pub } => {
            context.and(invite_pub.to_bytes()).and(hpke_pub.to_bytes())
        }
        RosterAction::Leave => context,
        RosterAction::Remove { target } | RosterAction::Ban { target } | RosterAction::Unban { target } => {
            context.and(target.as_str())
        }
        RosterAction::RevokeLink { invite_pub } => context.and(invite_pub.to_bytes()),
        RosterAction::SetRole { target, role } => context.and(target.as_str()).and(role_word(*role)),
        RosterAction::SetPolicy { policy } => context.and(flags(*policy)),
        RosterAction::SetSubject { subject } => context.and(subject.as_str()),
        RosterAction::ReplaceKey { target, keys: new } => keys(context.and(target.as_str()), new),
    }
}

/// Reads the parts of an entry's body; what follows the body is left.
pub(super) struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn next(&mut self) -> Result<&'a [u8], RosterRefusal> {
        let cut = RosterRefusal::Malformed("it is cut off");
        let (length, rest) = self.0.split_first_chunk::<4>().ok_or(cut.clone())?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (part, rest) = rest.split_at_checked(length).ok_or(cut)?;
        self.0 = rest;
        Ok(part)
    }

    fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], RosterRefusal> {
        self.next()?.try_into().map_err(|_| RosterRefusal::Malformed(what))
    }

    fn text<T: std::str::FromStr>(&mut self, what: &'static str) -> Result<T, RosterRefusal> {
        let text = std::str::from_utf8(self.next()?).ok().and_then(|text| text.parse().ok());
        text.ok_or(RosterRefusal::Malformed(what))
    }

    fn number(&mut self, what: &'static str) -> Result<u32, RosterRefusal> {
        Ok(u32::from_be_bytes(self.bytes(what)?))
    }

    fn hash(&mut self) -> Result<RosterHead, RosterRefusal> {
        Ok(RosterHead::from_bytes(self.bytes("a hash in it has not 32 bytes")?))
    }

    fn sign_pub(&mut self) -> Result<SignPub, RosterRefusal> {
        let what = "a key in it is not an Ed25519 key, or a weak one";
        SignPub::from_bytes(self.bytes(what)?).ok_or(RosterRefusal::Malformed(what))
    }

    fn hpke_pub(&mut self) -> Result<HpkePub, RosterRefusal> {
        Ok(HpkePub::from_bytes(self.bytes("an HPKE key in it has not 32 bytes")?))
    }

    fn keys(&mut self) -> Result<Keys, RosterRefusal> {
        Ok(Keys { sign_pub: self.sign_pub()?, hpke_pub: self.hpke_pub()? })
    }

    fn handle(&mut self) -> Result<Handle, RosterRefusal> {
        self.text("a handle in it is none")
    }

    fn role(&mut self) -> Result<RoomRole, RosterRefusal> {
        let word = self.next()?;
        let role = RoomRole::ALL.into_iter().find(|role| role_word(*role).as_bytes() == word);
        role.ok_or(RosterRefusal::Malformed("it names an unknown role"))
    }

    fn state(&mut self) -> Result<MemberState, RosterRefusal> {
        let word = self.next()?;
        let state = MemberState::ALL.into_iter().find(|state| state_word(*state).as_bytes() == word);
        let state = state.filter(|state| *state != MemberState::Removed);
        state.ok_or(RosterRefusal::Malformed("it names an unknown state"))
    }

    fn policy(&mut self) -> Result<Policy, RosterRefusal> {
        let [flags] = self.bytes("its policy has not one byte")?;
        if flags > ENCRYPT | PERSIST | SIGN {
            return Err(RosterRefusal::Malformed("its policy has an unknown flag"));
        }
        Ok(Policy { encrypt: flags & ENCRYPT != 0, persist: flags & PERSIST != 0, sign: flags & SIGN != 0 })
    }

    fn members(&mut self) -> Result<Vec<AdoptedMember>, RosterRefusal> {
        let mut members: Vec<AdoptedMember> = Vec::new();
        while !self.0.is_empty() {
            let (handle, role, state) = (self.handle()?, self.role()?, self.state()?);
            if members.last().is_some_and(|last| last.handle >= handle) {
                return Err(RosterRefusal::Malformed("its members are not in the order of their handles"));
            }
            members.push(AdoptedMember { handle, role, state, keys: self.keys()? });
        }
        Ok(members)
    }

    fn action(&mut self, name: &[u8]) -> Result<RosterAction, RosterRefusal> {
        let subject = "its subject is none";
        Ok(match name {
            b"create" => RosterAction::Create {
                hpke_pub: self.hpke_pub()?,
                subject: self.text(subject)?,
                policy: self.policy()?,
            },
            b"adopt" => {
                RosterAction::Adopt { subject: self.text(subject)?, policy: self.policy()?, members: self.members()? }
            }
            b"continue" => RosterAction::Continue {
                hpke_pub: self.hpke_pub()?,
                subject: self.text(subject)?,
                policy: self.policy()?,
                room: self.text("the room before it is none")?,
                head: Head { number: self.number("a number in it has not four bytes")?, hash: self.hash()? },
            },
            b"invite" => RosterAction::Invite { target: self.handle()?, keys: self.keys()?, role: self.role()? },
            b"invite-link" => RosterAction::InviteLink { invite_pub: self.sign_pub()?, role: self.role()? },
            b"accept" => RosterAction::Accept { hpke_pub: self.hpke_pub()? },
            b"accept-link" => RosterAction::AcceptLink { invite_pub: self.sign_pub()?, hpke_pub: self.hpke_pub()? },
            b"leave" => RosterAction::Leave,
            b"remove" => RosterAction::Remove { target: self.handle()? },
            b"ban" => RosterAction::Ban { target: self.handle()? },
            b"unban" => RosterAction::Unban { target: self.handle()? },
            b"revoke-link" => RosterAction::RevokeLink { invite_pub: self.sign_pub()? },
            b"role" => RosterAction::SetRole { target: self.handle()?, role: self.role()? },
            b"policy" => RosterAction::SetPolicy { policy: self.policy()? },
            b"subject" => RosterAction::SetSubject { subject: self.text(subject)? },
            b"replace-key" => RosterAction::ReplaceKey { target: self.handle()?, keys: self.keys()? },
            _ => return Err(RosterRefusal::Malformed("it is of an unknown kind")),
        })
    }
}

/// Reads a body, all of it.
pub(super) fn read(body: &[u8]) -> Result<Entry, RosterRefusal> {
    let mut parts = Parts(body);
    if parts.next()? != LABEL.as_bytes() {
        return Err(RosterRefusal::Malformed("it is of another version"));
    }
    let room = parts.text("its room is none")?;
    let number = parts.number("its number has not four bytes")?;
    let (previous, actor, actor_key) = (parts.hash()?, parts.handle()?, parts.sign_pub()?);
    let time = u64::from_be_bytes(parts.bytes("its time has not eight bytes")?);
    let name = parts.next()?;
    let action = parts.action(name)?;
    if !parts.0.is_empty() {
        return Err(RosterRefusal::Malformed("there is more in it than belongs there"));
    }
    // A log begins in one way, and only there.
    if (number == 1, previous == RosterHead::NONE) != (action.begins(), action.begins()) || number == 0 {
        return Err(RosterRefusal::Malformed("a log begins with entry 1, and with nothing before it"));
    }
    Ok(Entry { room, number, previous, actor, actor_key, time, action })
}

/// Whether two signatures stand behind the body, as its action says.
pub(super) fn is_doubly_signed(bytes: &[u8]) -> bool {
    let mut parts = Parts(bytes);
    // Label, room, number, hash, actor, key, time.
    (0..7).all(|_| parts.next().is_ok()) && parts.next().is_ok_and(|name| name == b"accept-link")
}
