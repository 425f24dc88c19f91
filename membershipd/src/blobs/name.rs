//! Names of attachments and of the messages that hold them.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64URL, BASE64URL_NOPAD};
use sha2::{Digest, Sha256};

use unibus_api_types::BlobId;
use unibus_core::domain::{InvalidValue, RoomId};

/// What the keys of records and of chunks begin with (ADR-20).
pub(super) const RECORDS: &str = "M.";
pub(super) const CHUNKS: &str = "C.";
/// Bytes of a digest that say whose chunks they are: no two names share them by chance.
const OWNER: usize = 16;

/// An attachment of a room.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobName {
    /// The room.
    pub room: RoomId,
    /// What it is called there.
    pub id: BlobId,
}

impl BlobName {
    /// Name of the object: `ROOM/SHA256`.
    pub fn object(&self) -> String {
        format!("{}/{}", self.room, self.id)
    }

    /// Key of its record: the name in base64, since subjects do not take every character.
    pub(super) fn key(&self) -> String {
        format!("{RECORDS}{}", BASE64URL.encode(self.object().as_bytes()))
    }

    /// The attachment whose record has this key.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        let object = String::from_utf8(BASE64URL.decode(key.strip_prefix(RECORDS)?.as_bytes()).ok()?).ok()?;
        let (room, id) = object.split_once('/')?;
        Some(Self { room: room.parse().ok()?, id: id.parse().ok()? })
    }

    /// What its chunks are known by.
    pub(super) fn owner(&self) -> Owner {
        let mut owner = [0; OWNER];
        owner.iter_mut().zip(Sha256::digest(self.object())).for_each(|(to, from)| *to = from);
        Owner(owner)
    }
}

/// To which name chunks belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner([u8; OWNER]);

/// The chunks of one upload: whose they are, and a random number, as two uploads of one attachment may run at once. What ADR-20
/// calls the object's nuid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Body {
    pub(super) owner: Owner,
    upload: [u8; 16],
}

impl Body {
    /// The chunks of an upload of `name`; `entropy` is random.
    pub(super) fn new(name: &BlobName, entropy: [u8; 16]) -> Self {
        Self { owner: name.owner(), upload: entropy }
    }

    /// Key of the chunks, which all have the same.
    pub(super) fn key(self) -> String {
        format!("{CHUNKS}{self}")
    }

    /// The chunks with this key.
    pub(super) fn of_key(key: &str) -> Option<Self> {
        key.strip_prefix(CHUNKS)?.parse().ok()
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [owner, upload] = [self.owner.0, self.upload].map(|half| BASE64URL_NOPAD.encode(&half));
        write!(f, "{owner}{upload}")
    }
}

impl FromStr for Body {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let half = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
        let halves = value.split_at_checked(value.len() / 2);
        let read = halves.and_then(|(owner, upload)| Some((Owner(half(owner)?), half(upload)?)));
        read.map(|(owner, upload)| Self { owner, upload }).ok_or_else(|| InvalidValue {
            what: "name of chunks",
            value: value.chars().take(80).collect(),
            rule: "two numbers of 128 bits, each in base64url",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling_and_come_back_from_their_keys() {
        let id = BlobId::of(b"x");
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "ab", &id.to_string().to_uppercase(), &format!("{id}00"), &"g".repeat(64)] {
            assert!(bad.parse::<BlobId>().is_err(), "{bad}");
        }
        let name = BlobName { room: "kitchen".parse().unwrap(), id };
        assert_eq!(name.object(), format!("kitchen/{id}"));
        assert_eq!(BlobName::of_key(&name.key()), Some(name.clone()));
        // Readable by any client of object stores: base64 with its padding (ADR-20).
        assert!(name.key().starts_with("M.a2l0Y2hlbi8"), "{}", name.key());
        for bad in ["M.", "C.a2l0Y2hlbi8", "M.a2l0Y2hlbg==", "M.?"] {
            assert_eq!(BlobName::of_key(bad), None, "{bad}");
        }
    }

    #[test]
    fn chunks_say_whose_they_are_and_two_uploads_differ() {
        let name = |room: &str| BlobName { room: room.parse().unwrap(), id: BlobId::of(b"x") };
        let (one, two) = (Body::new(&name("a"), [1; 16]), Body::new(&name("a"), [2; 16]));
        assert!(one.owner == two.owner && one != two);
        assert_ne!(one.owner, Body::new(&name("b"), [1; 16]).owner, "nothing is shared by rooms");
        assert_eq!(Body::of_key(&one.key()), Some(one));
        for bad in ["C.", "C.x", "M.x", "C.é", &format!("{}A", one.key())] {
            assert_eq!(Body::of_key(bad), None, "{bad}");
        }
    }
}
