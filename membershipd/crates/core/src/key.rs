//! What entries are called: the bucket, the key, and what the keys of a scan have in common.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::bus::Bucket;
use crate::domain::InvalidValue;

/// The buckets that hold entries by key. Nonces and the audit log have operations of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Records {
    /// [`Bucket::Users`].
    Users,
    /// [`Bucket::Rooms`].
    Rooms,
    /// [`Bucket::Members`].
    Members,
    /// [`Bucket::RoomKeys`].
    RoomKeys,
    /// [`Bucket::Invites`].
    Invites,
    /// [`Bucket::RoomsByMember`].
    RoomsByMember,
}

impl Records {
    /// All of them.
    pub const ALL: [Records; 6] =
        [Records::Users, Records::Rooms, Records::Members, Records::RoomKeys, Records::Invites, Records::RoomsByMember];

    /// Those of [`Bucket::DECIDING`], in their order.
    pub const DECIDING: [Records; 3] = [Records::Users, Records::Rooms, Records::Members];

    /// The bucket, as the bus knows it.
    pub fn bucket(self) -> Bucket {
        match self {
            Records::Users => Bucket::Users,
            Records::Rooms => Bucket::Rooms,
            Records::Members => Bucket::Members,
            Records::RoomKeys => Bucket::RoomKeys,
            Records::Invites => Bucket::Invites,
            Records::RoomsByMember => Bucket::RoomsByMember,
        }
    }
}

/// Longest key in bytes. The engine's subjects may be longer; nothing that we name is.
const LONGEST: usize = 256;
const RULE: &str = "1 to 256 characters: tokens of a-z, A-Z, 0-9, '_', '-' and '=', with a '.' in between";

fn checked(what: &'static str, value: &str) -> Result<String, InvalidValue> {
    let token = |token: &str| {
        !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'='))
    };
    if value.len() <= LONGEST && value.split('.').all(token) {
        Ok(value.to_owned())
    } else {
        Err(InvalidValue { what, value: value.chars().take(LONGEST).collect(), rule: RULE })
    }
}

/// Key of an entry: tokens of letters, digits, `_`, `-` and `=`, parted by dots, so that it is also the end of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Key {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        checked("key", value).map(Self)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whole tokens with which keys begin and after which they go on: `user` stands for `user.root`, neither for `user` nor for
/// `users.root`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prefix(Option<String>);

impl Prefix {
    /// That of every key.
    pub const ALL: Prefix = Prefix(None);

    /// Whether it is that of `key`.
    pub fn fits(&self, key: &Key) -> bool {
        match &self.0 {
            None => true,
            Some(tokens) => key.0.strip_prefix(tokens.as_str()).is_some_and(|rest| rest.starts_with('.')),
        }
    }

    /// Its keys as a wildcard of subjects, to be put after a bucket's own prefix.
    pub fn wildcard(&self) -> String {
        self.0.as_ref().map_or_else(|| ">".to_owned(), |tokens| format!("{tokens}.>"))
    }

    /// Its keys as a range in the order of bytes. The character after '.' is '/', and no key has it.
    pub fn range(&self) -> Range<String> {
        match &self.0 {
            None => String::new()..'\u{7f}'.to_string(),
            Some(tokens) => format!("{tokens}.")..format!("{tokens}/"),
        }
    }
}

impl FromStr for Prefix {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        checked("prefix of keys", value).map(|tokens| Self(Some(tokens)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_tokens_of_a_subject() {
        for good in ["a", "user.root", "key.0aF=", "a-b_c.d", &"k".repeat(LONGEST)] {
            assert_eq!(good.parse::<Key>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "a/b", "ä", "a\0", &"k".repeat(LONGEST + 1)] {
            assert!(bad.parse::<Key>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_decides_access_is_the_same_by_either_name() {
        assert_eq!(Records::DECIDING.map(Records::bucket), Bucket::DECIDING);
    }

    #[test]
    fn a_prefix_ends_with_a_token_in_every_form() {
        let user: Prefix = "user".parse().unwrap();
        let everything = Prefix::ALL;
        for (key, fits) in
            [("user.root", true), ("user.a.b", true), ("user", false), ("users.root", false), ("u", false)]
        {
            let key: Key = key.parse().unwrap();
            assert_eq!(user.fits(&key), fits, "{key}");
            assert_eq!(user.range().contains(&key.0), fits, "{key}");
            assert!(everything.fits(&key) && everything.range().contains(&key.0), "{key}");
        }
        assert_eq!((user.wildcard().as_str(), everything.wildcard().as_str()), ("user.>", ">"));
        assert!("user.".parse::<Prefix>().is_err() && "".parse::<Prefix>().is_err());
    }
}
