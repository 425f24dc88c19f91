//! Links that let a person in whose keys are not known yet. They trust the inviter, and not the server.
//!
//! A link holds a seed. Two things derive from it (HKDF-SHA256, the seed as input, no salt): the token that the server asks for, and a
//! key pair. The inviter signs an entry with the public half; who comes in signs with the secret one. A server that has the token alone
//! lets no person in.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::entry::Head;
use crate::Untrue;
use crate::context::Context;
use crate::frame::RosterHead;
use unibus_core::domain::{Handle, RoomId, SignPub, Token};

/// Bytes of a secret, and of what derives from one.
const SECRET: usize = 32;
/// What every link begins with, of whatever version.
const SCHEME: &str = "unibus-room:";
/// The version that is written, and the only one that is read.
const VERSION: &str = "1:";
const LABEL: &str = "unibus.room-link.1";
/// Bytes of the check.
const CHECK: usize = 4;
/// Longest link that is read, in characters; those with the longest names have 412.
const LINK_CHARS: usize = 512;

/// The secret of a link.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkSeed(Zeroizing<[u8; SECRET]>);

/// The key pair of a link.
pub struct InviteKey {
    pair: KeyPair,
    public: SignPub,
}

/// A link to a room: all that its owner needs to know the room's log from a forged one, and to come in.
#[derive(Clone, PartialEq, Eq)]
pub struct RoomLink {
    /// The room.
    pub room: RoomId,
    /// The member who invites.
    pub inviter: Handle,
    /// Their key.
    pub inviter_key: SignPub,
    /// The entry with which they signed the invitation: the newest of the log, as they knew it.
    pub head: Head,
    /// The secret.
    pub seed: LinkSeed,
}

/// Why a text is not a link. Nothing of the text is repeated: it may be a secret but for one letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRoomLink {
    /// Something else.
    #[error("that is not an invitation to a room; it begins with '{SCHEME}'")]
    Foreign,
    /// Made by a newer program.
    #[error("the link is of a version that this program does not know; use a newer one")]
    Version,
    /// Not as it was sent.
    #[error("the link is not whole: something was cut off or changed on the way; copy it again, all of it")]
    Broken,
    /// Whole, and not one that a client makes.
    #[error("the link says nothing that can be used; ask for another one")]
    Wrong,
}

struct Bytes;

impl KeyType for Bytes {
    fn len(&self) -> usize {
        SECRET
    }
}

/// 32 bytes that derive from `secret` for the purpose that `label` names.
pub(crate) fn derive(secret: &[u8; SECRET], label: &'static str) -> Result<Zeroizing<[u8; SECRET]>, Untrue> {
    let mut derived = Zeroizing::new([0; SECRET]);
    let context = Context::new(label);
    let info = [context.bytes()];
    let prk = Salt::new(HKDF_SHA256, &[]).extract(secret);
    let okm = prk.expand(&info, Bytes).map_err(|_| Untrue::Key)?;
    okm.fill(&mut *derived).map_err(|_| Untrue::Key)?;
    Ok(derived)
}

impl LinkSeed {
    /// The seed with these bytes.
    pub fn from_bytes(seed: [u8; SECRET]) -> Self {
        Self(Zeroizing::new(seed))
    }

    /// A new one.
    pub fn random() -> Result<Self, Untrue> {
        let mut seed = Zeroizing::new([0; SECRET]);
        getrandom::fill(&mut *seed).map_err(|_| Untrue::Randomness)?;
        Ok(Self(seed))
    }

    /// What the server asks for. It opens no room by itself.
    pub fn token(&self) -> Result<Token, Untrue> {
        derive(&self.0, "unibus.link.token.1").map(|token| Token::from_entropy(*token))
    }

    /// The key with which who comes in signs.
    pub fn invite_key(&self) -> Result<InviteKey, Untrue> {
        let seed = derive(&self.0, "unibus.link.invite-key.1")?;
        let pair = KeyPair::new_from_raw(KeyPairType::User, *seed).map_err(|_| Untrue::Key)?;
        let public = SignPub::from_nkey(&pair.public_key()).map_err(|_| Untrue::Key)?;
        Ok(InviteKey { pair, public })
    }
}

impl InviteKey {
    /// The public half, which the log has.
    pub fn public(&self) -> SignPub {
        self.public
    }

    pub(super) fn pair(&self) -> &KeyPair {
        &self.pair
    }
}

impl RoomLink {
    /// The link as text, which is a secret.
    pub fn reveal(&self) -> String {
        let body = Context::new(LABEL).and(self.room.as_str()).and(self.inviter.as_str());
        let body = body.and(self.inviter_key.to_bytes()).and(self.head.number.to_be_bytes());
        let body = body.and(self.head.hash.to_bytes()).and(*self.seed.0);
        let bytes = Zeroizing::new([&check(body.bytes())[..], body.bytes()].concat());
        format!("{SCHEME}{VERSION}{}", BASE64URL_NOPAD.encode(&bytes))
    }

    fn read(body: &[u8]) -> Option<Self> {
        let mut rest = body;
        let mut next = || {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let (part, behind) = behind.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
            rest = behind;
            Some(part)
        };
        let text = |part: &[u8]| std::str::from_utf8(part).ok().map(str::to_owned);
        (next()? == LABEL.as_bytes()).then_some(())?;
        let link = Self {
            room: text(next()?)?.parse().ok()?,
            inviter: text(next()?)?.parse().ok()?,
            inviter_key: SignPub::from_bytes(next()?.try_into().ok()?)?,
            head: Head {
                number: u32::from_be_bytes(next()?.try_into().ok()?),
                hash: RosterHead::from_bytes(next()?.try_into().ok()?),
            },
            seed: LinkSeed::from_bytes(next()?.try_into().ok()?),
        };
        rest.is_empty().then_some(link)
    }
}

impl FromStr for RoomLink {
    type Err = BadRoomLink;

    fn from_str(text: &str) -> Result<Self, BadRoomLink> {
        // Mail and chat break long lines.
        let text: String = text.chars().filter(|c| !c.is_whitespace()).take(LINK_CHARS + 1).collect();
        let rest = text.strip_prefix(SCHEME).ok_or(BadRoomLink::Foreign)?;
        let payload = rest.strip_prefix(VERSION).ok_or(BadRoomLink::Version)?;
        let bytes = BASE64URL_NOPAD.decode(payload.as_bytes()).map_err(|_| BadRoomLink::Broken)?;
        let bytes = Zeroizing::new(bytes);
        let (said, body) = bytes.split_first_chunk::<CHECK>().ok_or(BadRoomLink::Broken)?;
        if text.len() > LINK_CHARS || *said != check(body) {
            return Err(BadRoomLink::Broken);
        }
        Self::read(body).ok_or(BadRoomLink::Wrong)
    }
}

/// It tells a link that was hurt on its way from a good one, and proves nothing more.
fn check(body: &[u8]) -> [u8; CHECK] {
    let digest: [u8; 32] = Sha256::digest(body).into();
    let [a, b, c, d, ..] = digest;
    [a, b, c, d]
}

impl fmt::Debug for LinkSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Debug for RoomLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomLink").field("room", &self.room).field("inviter", &self.inviter).finish_non_exhaustive()
    }
}
