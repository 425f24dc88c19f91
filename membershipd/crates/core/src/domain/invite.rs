//! Invites: who may make himself a user of the bus, with which handle and role, and how far that has come.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::limits::INVITE_LIFETIME_S;
use super::schema::Schema;
use super::user::{Handle, InvalidValue, Role, SignPub, State, User};

/// What an invite is used with: 32 random bytes, as text 43 characters of base64url (RFC 4648 section 5). Whoever has it may
/// use the invite, so it prints as `[secret]`, and the bus keeps no more of it than its [`InviteId`].
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Token([u8; 32]);

impl Token {
    /// A token from randomness that nobody can foresee.
    pub fn from_entropy(entropy: [u8; 32]) -> Self {
        Self(entropy)
    }

    /// The token as text, for the one who is invited.
    pub fn reveal(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }

    /// The name of the invite. From it nobody finds the token: that has 256 bits.
    pub fn id(&self) -> InviteId {
        InviteId(Sha256::digest(self.0).into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl FromStr for Token {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        // What was given is not repeated: a token with a letter too many is nearly one.
        let refused = || InvalidValue::new("token", "[secret]", "43 characters of base64url");
        let raw = BASE64URL_NOPAD.decode(value.as_bytes()).map_err(|_| refused())?;
        raw.try_into().map(Self).map_err(|_| refused())
    }
}

impl TryFrom<String> for Token {
    type Error = InvalidValue;

    fn try_from(value: String) -> Result<Self, InvalidValue> {
        value.parse()
    }
}

/// Name of an invite: the SHA-256 of its token, 64 hexadecimal digits in small letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InviteId([u8; 32]);

impl FromStr for InviteId {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let refused = || InvalidValue::new("invite", value, "64 hexadecimal digits: the SHA-256 of a token");
        let raw = HEXLOWER.decode(value.as_bytes()).map_err(|_| refused())?;
        raw.try_into().map(Self).map_err(|_| refused())
    }
}

impl fmt::Display for InviteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl From<InviteId> for String {
    fn from(id: InviteId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for InviteId {
    type Error = InvalidValue;

    fn try_from(value: String) -> Result<Self, InvalidValue> {
        value.parse()
    }
}

/// How far an invite has come. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum InviteState {
    /// Whoever has the token may use it.
    Open,
    /// The owner of this key has begun to register with it; nobody else can any more.
    Claimed {
        /// The key.
        key: SignPub,
    },
    /// The owner of this key is the user that came of it.
    Spent {
        /// The key.
        key: SignPub,
    },
    /// Taken back.
    Revoked,
}

/// An invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// How to read this.
    pub schema: Schema<1>,
    /// The handle that the user will have.
    pub handle: Handle,
    /// The role that the user will have.
    pub role: Role,
    /// The admin who made it, and who answers for it as long as it is not spent.
    pub by: Handle,
    /// When it was made, in seconds since 1970.
    pub made_at: i64,
    /// From when on nobody can begin with it, in seconds since 1970.
    pub expires_at: i64,
    /// How far it has come.
    pub state: InviteState,
}

/// Why nobody, or not this one, can register with an invite. For the log: whoever tries is not told which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// No invite has this token.
    #[error("there is no such invite")]
    Unknown,
    /// It was taken back.
    #[error("the invite was revoked")]
    Revoked,
    /// Somebody else came first.
    #[error("the owner of another key has claimed the invite")]
    OtherKey,
    /// Its time is over.
    #[error("the invite has expired")]
    Expired,
    /// Who made it could not make it now.
    #[error("who made the invite is no admin any more")]
    InviterGone,
}

impl Invite {
    /// An invite that `by` makes at `now_unix` (seconds since 1970).
    pub fn new(handle: Handle, role: Role, by: Handle, now_unix: i64) -> Self {
        let expires_at = now_unix.saturating_add(INVITE_LIFETIME_S);
        Self { schema: Schema, handle, role, by, made_at: now_unix, expires_at, state: InviteState::Open }
    }

    /// Whether its time is over at `now_unix`.
    pub fn is_expired(&self, now_unix: i64) -> bool {
        now_unix >= self.expires_at
    }

    /// Whether it is open to `key`, or its already.
    pub fn is_open_to(&self, key: &SignPub) -> Result<(), Unusable> {
        match self.state {
            InviteState::Open => Ok(()),
            InviteState::Claimed { key: other } | InviteState::Spent { key: other } if other == *key => Ok(()),
            InviteState::Claimed { .. } | InviteState::Spent { .. } => Err(Unusable::OtherKey),
            InviteState::Revoked => Err(Unusable::Revoked),
        }
    }

    /// Whether a user may be made of it at `now_unix`; `inviter` is who made it, as he is now.
    pub fn is_in_force(&self, now_unix: i64, inviter: Option<&User>) -> Result<(), Unusable> {
        if self.is_expired(now_unix) {
            return Err(Unusable::Expired);
        }
        let acts = |user: &User| user.handle == self.by && user.role == Role::Admin && user.state == State::Active;
        if inviter.is_some_and(acts) { Ok(()) } else { Err(Unusable::InviterGone) }
    }

    /// The same, claimed for `key`; unchanged where it is claimed or spent.
    pub fn claimed(&self, key: SignPub) -> Self {
        self.advanced(InviteState::Claimed { key })
    }

    /// The same, spent by `key`.
    pub fn spent(&self, key: SignPub) -> Self {
        self.advanced(InviteState::Spent { key })
    }

    /// The same, revoked; unchanged where it is spent.
    pub fn revoked(&self) -> Self {
        self.advanced(InviteState::Revoked)
    }

    fn advanced(&self, state: InviteState) -> Self {
        let state = match (self.state, state) {
            (InviteState::Open, next) => next,
            (InviteState::Claimed { key }, InviteState::Spent { key: other }) if key != other => self.state,
            (InviteState::Claimed { .. }, next @ (InviteState::Spent { .. } | InviteState::Revoked)) => next,
            (last, _) => last,
        };
        Self { state, ..self.clone() }
    }

    /// The user that comes of it for the owner of `key`.
    pub fn user(&self, key: SignPub) -> User {
        User { handle: self.handle.clone(), sign_pub: key, role: self.role, state: State::Active }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SignPub {
        let pair = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, [seed; 32]).unwrap();
        SignPub::from_nkey(&pair.public_key()).unwrap()
    }

    fn invite() -> Invite {
        Invite::new("alice".parse().unwrap(), Role::User, "root".parse().unwrap(), 1000)
    }

    #[test]
    fn a_token_is_read_as_it_is_written_shown_to_nobody_and_named_by_its_hash() {
        let token = Token::from_entropy([7; 32]);
        assert_eq!(token.reveal().parse::<Token>().unwrap(), token);
        assert_eq!(format!("{token:?}"), "[secret]");
        // sha256sum over 32 bytes of 7.
        let id = "4bb06f8e4e3a7715d201d573d0aa423762e55dabd61a2c02278fa56cc6d294e0";
        assert_eq!(token.id().to_string(), id);
        assert_eq!(id.parse::<InviteId>(), Ok(token.id()));
        for bad in ["", "x", &token.reveal()[1..], &format!("{}A", token.reveal()), &"=".repeat(43)] {
            let error = bad.parse::<Token>().unwrap_err().to_string();
            assert!(bad.len() < 9 || !error.contains(bad), "{error}");
        }
        for bad in ["", "4bb0", &id.to_uppercase(), &format!("{id}00")] {
            assert!(bad.parse::<InviteId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_invite_reads_as_it_was_written() {
        let golden = r#"{"schema":1,"handle":"alice","role":"user","by":"root","made_at":1000,"expires_at":605800,"state":"open"}"#;
        assert_eq!(serde_json::to_string(&invite()).unwrap(), golden);
        let claimed = invite().claimed(key(1));
        let text = serde_json::to_string(&claimed).unwrap();
        assert!(text.contains(&format!(r#""state":{{"claimed":{{"key":"{}"}}}}"#, key(1))), "{text}");
        assert_eq!(serde_json::from_str::<Invite>(&text).unwrap(), claimed);
        assert!(serde_json::from_str::<Invite>(&golden.replace("open", "lent")).is_err());
    }

    #[test]
    fn it_goes_forward_only_and_belongs_to_the_first_key() {
        let (one, two) = (key(1), key(2));
        let open = invite();
        let (claimed, spent, revoked) = (open.claimed(one), open.claimed(one).spent(one), open.revoked());
        for (invite, usable) in [
            (&open, [Ok(()), Ok(())]),
            (&claimed, [Ok(()), Err(Unusable::OtherKey)]),
            (&spent, [Ok(()), Err(Unusable::OtherKey)]),
            (&revoked, [Err(Unusable::Revoked), Err(Unusable::Revoked)]),
        ] {
            assert_eq!([invite.is_open_to(&one), invite.is_open_to(&two)], usable, "{invite:?}");
        }
        assert_eq!(claimed.claimed(two), claimed);
        assert_eq!(claimed.spent(two), claimed);
        assert_eq!((spent.revoked(), spent.claimed(two), spent.spent(two)), (spent.clone(), spent.clone(), spent));
        assert_eq!((revoked.claimed(one), revoked.spent(one)), (revoked.clone(), revoked.clone()));
        assert_eq!(claimed.revoked().state, InviteState::Revoked);
    }

    #[test]
    fn it_ends_with_its_time_and_with_its_maker() {
        let root = User { handle: "root".parse().unwrap(), sign_pub: key(9), role: Role::Admin, state: State::Active };
        let last = 1000 + INVITE_LIFETIME_S;
        assert_eq!(invite().is_in_force(last - 1, Some(&root)), Ok(()));
        assert_eq!(invite().is_in_force(last, Some(&root)), Err(Unusable::Expired));
        let demoted = User { role: Role::User, ..root.clone() };
        let disabled = User { state: State::Disabled, ..root.clone() };
        let removed = User { state: State::Removed, ..root.clone() };
        let other = User { handle: "eve".parse().unwrap(), ..root };
        for gone in [None, Some(&demoted), Some(&disabled), Some(&removed), Some(&other)] {
            assert_eq!(invite().is_in_force(1000, gone), Err(Unusable::InviterGone), "{gone:?}");
        }
    }
}
