//! Which document of claims: one for each space at the lowest feature level, one for each space and second token above it.

use std::fmt;
use std::str::FromStr;

use super::level::FeatureLevel;
use super::subject::{Space, Subject, is_token_byte};

/// Which document of claims. Subjects that overlap share the space and the second token, so both are in one document at each level.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimsKey {
    space: Space,
    token: Option<String>,
}

impl ClaimsKey {
    /// The small document in which `subject` is.
    pub fn small(subject: &Subject) -> Self {
        let token = subject.as_str().split('.').nth(1).map(str::to_owned);
        Self { space: subject.space(), token }
    }

    /// The document that decides about `subject` in a cluster at `level`.
    pub fn deciding(subject: &Subject, level: FeatureLevel) -> Self {
        if level >= FeatureLevel::Kept { Self::small(subject) } else { subject.space().into() }
    }

    /// Whether the document decides in a cluster at `level`. At each level those of one shape do, and no other.
    pub fn decides_at(&self, level: FeatureLevel) -> bool {
        self.is_small() == (level >= FeatureLevel::Kept)
    }

    /// Whether it is the document of a second token.
    pub fn is_small(&self) -> bool {
        self.token.is_some()
    }

    /// The space.
    pub fn space(&self) -> Space {
        self.space
    }

    /// The second token; none: the document is for the whole space.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Whether a claim on `subject` belongs into the document.
    pub fn covers(&self, subject: &Subject) -> bool {
        subject.space() == self.space && (self.token.is_none() || *self == Self::small(subject))
    }

    /// The document of `token` in `space`; none: no subject has such a token.
    pub(super) fn of(space: Space, token: Option<String>) -> Option<Self> {
        let is_token = |token: &String| !token.is_empty() && token.bytes().all(is_token_byte);
        token.as_ref().is_none_or(is_token).then_some(Self { space, token })
    }
}

impl From<Space> for ClaimsKey {
    fn from(space: Space) -> Self {
        Self { space, token: None }
    }
}

impl fmt::Display for ClaimsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.token {
            Some(token) => write!(f, "{}.{token}", self.space),
            None => self.space.fmt(f),
        }
    }
}

impl FromStr for ClaimsKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (space, token) = text.split_once('.').map_or((text, None), |(space, token)| (space, Some(token)));
        let known = Space::ALL.into_iter().find(|known| known.as_str() == space);
        let known = known.ok_or_else(|| format!("there is no space '{space}'"))?;
        Self::of(known, token.map(str::to_owned)).ok_or_else(|| format!("no subject begins with '{text}'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_that_overlap_are_in_one_document_at_every_level() {
        let subject = |text: &str| text.parse::<Subject>().unwrap();
        let all = ["room.a", "room.a.b", "room.a.b.c", "room.ab", "room.b", "rpc.a", "rpc.a.b"].map(subject);
        for level in FeatureLevel::ALL {
            for one in &all {
                let key = ClaimsKey::deciding(one, level);
                assert!(key.decides_at(level) && key.covers(one), "{one} at {level}");
                for other in all.iter().filter(|other| other.overlaps(one)) {
                    assert_eq!(ClaimsKey::deciding(other, level), key, "{one} and {other} at {level}");
                }
            }
        }
        let small = ClaimsKey::small(&subject("room.a.b"));
        assert!(!small.covers(&subject("room.ab")) && !small.covers(&subject("rpc.a")));
        assert!(
            !small.decides_at(FeatureLevel::Captured) && !ClaimsKey::from(Space::Room).decides_at(FeatureLevel::Kept)
        );
    }

    #[test]
    fn a_key_reads_as_it_was_written_and_nothing_else_does() {
        for text in ["room", "agent", "room.kitchen", "rpc.-_0"] {
            assert_eq!(text.parse::<ClaimsKey>().unwrap().to_string(), text);
        }
        for bad in ["", "rooms", "room.", "room.a.b", "room.A", "room.*", ".a", "room..a"] {
            assert!(bad.parse::<ClaimsKey>().is_err(), "{bad}");
        }
    }
}
