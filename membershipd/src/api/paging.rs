//! Long lists in pieces: where a page begins and how much is on it.

use data_encoding::BASE64URL_NOPAD;

use super::problem::Problem;
use super::problem::Refuse as _;
use crate::blobs::BlobId;
use crate::commands::audit_query::Place;
use unibus_api_types::problem::Kind;
use unibus_api_types::schema::CURSOR_CHARACTERS;
use unibus_core::domain::{Handle, RoomId};
use unibus_store::{PageSize, Position};

/// Entries of a page where nobody says how many.
const USUAL: usize = 100;

/// What a list is in the order of, and so what a cursor into it holds. Clients get it in a form that they cannot be tempted
/// to make themselves; it gives no right, so it is not signed.
pub(super) trait Mark: Sized {
    /// Tells cursors into one list from those into another.
    const LIST: &'static str;
    /// As text.
    fn write(&self) -> String;
    /// From that text.
    fn read(text: &str) -> Option<Self>;
}

/// The list of users, by handle.
impl Mark for Handle {
    const LIST: &'static str = "users";

    fn write(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// The list of rooms, by id.
impl Mark for RoomId {
    const LIST: &'static str = "rooms";

    fn write(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// The list of invites, by their last changes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Changed(pub(super) Position);

impl Mark for Changed {
    const LIST: &'static str = "invites";

    fn write(&self) -> String {
        self.0.0.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().map(|number| Self(Position(number)))
    }
}

/// Somebody in the list of the members of a room, which is by handle.
#[derive(Debug)]
pub(super) struct InRoom(pub(super) Handle);

impl Mark for InRoom {
    const LIST: &'static str = "members";

    fn write(&self) -> String {
        self.0.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }
}

/// The list of the attachments of a room, by their digests.
impl Mark for BlobId {
    const LIST: &'static str = "blobs";

    fn write(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A connection in the list of those to the engines of all nodes, which is by node and number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InEngine {
    pub(super) node: String,
    pub(super) id: u64,
}

impl InEngine {
    /// Whether connection `id` to the engine of `node` comes after this one.
    pub(super) fn is_before(&self, node: &str, id: u64) -> bool {
        (self.node.as_str(), self.id) < (node, id)
    }
}

impl Mark for InEngine {
    const LIST: &'static str = "connections";

    fn write(&self) -> String {
        format!("{}.{}", self.node, self.id)
    }

    fn read(text: &str) -> Option<Self> {
        let (node, id) = text.rsplit_once('.')?;
        Some(Self { node: node.to_owned(), id: id.parse().ok()? })
    }
}

/// A record in the audit log.
impl Mark for Place {
    const LIST: &'static str = "audit";

    fn write(&self) -> String {
        format!("{}.{}", self.number, self.part)
    }

    fn read(text: &str) -> Option<Self> {
        let (number, part) = text.split_once('.')?;
        Some(Self { number: number.parse().ok()?, part: part.parse().ok()? })
    }
}

/// The cursor of what comes after `mark`.
pub(super) fn cursor<M: Mark>(mark: &M) -> String {
    BASE64URL_NOPAD.encode(format!("{}:{}", M::LIST, mark.write()).as_bytes())
}

/// The place in a list that a parameter of the query names.
pub(super) fn mark<M: Mark>(cursor: &str) -> Result<M, Problem> {
    read_cursor(cursor).ok_or_else(|| Kind::BAD_QUERY.because("that is not a cursor which this list gave out"))
}

fn read_cursor<M: Mark>(cursor: &str) -> Option<M> {
    if cursor.len() > CURSOR_CHARACTERS {
        return None;
    }
    let text = String::from_utf8(BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?).ok()?;
    let mark = M::read(text.strip_prefix(M::LIST)?.strip_prefix(':')?)?;
    // One spelling only.
    (self::cursor(&mark) == cursor).then_some(mark)
}

/// A page that is asked for.
#[derive(Debug)]
pub(super) struct Paging<M> {
    /// It begins after this; none: at the beginning.
    pub(super) after: Option<M>,
    /// The most that may be on it.
    pub(super) size: PageSize,
}

impl<M: Mark> Paging<M> {
    /// From the two parameters of the query.
    pub(super) fn parse(after: Option<&str>, limit: Option<&str>) -> Result<Self, Problem> {
        let bad_cursor = || Kind::BAD_QUERY.because("'after' is not a cursor that this list gave out");
        let bad_limit = || {
            let most = PageSize::MOST;
            Kind::BAD_QUERY.because(format!("'limit' is a number from 1 to {most}"))
        };
        let size = match limit {
            None => USUAL,
            Some(digits) => {
                let plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
                let number = digits.parse().ok().filter(|number| plain && *number <= PageSize::MOST);
                number.ok_or_else(bad_limit)?
            }
        };
        let after = after.map(|cursor| read_cursor(cursor).ok_or_else(bad_cursor)).transpose()?;
        Ok(Self { after, size: PageSize::of(size) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_fits_its_list_alone() {
        let alice: Handle = "alice".parse().unwrap();
        let text = cursor(&alice);
        assert!(!text.contains("alice"), "{text}");
        assert_eq!(read_cursor::<Handle>(&text), Some(alice));
        assert_eq!(read_cursor::<Place>(&text), None);
        assert_eq!(read_cursor::<RoomId>(&text), None);
        let place = Place { number: 7, part: 2 };
        assert_eq!(read_cursor::<Place>(&cursor(&place)), Some(place));
        let connection = InEngine { node: "magnus".to_owned(), id: 9 };
        assert_eq!(read_cursor::<InEngine>(&cursor(&connection)), Some(connection.clone()));
        assert!(connection.is_before("magnus", 10) && connection.is_before("zeno", 1));
        assert!(!connection.is_before("magnus", 9) && !connection.is_before("homer", 10));
    }

    #[test]
    fn what_is_no_cursor_or_no_size_is_refused() {
        let encoded = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        for bad in [
            "",
            "x",
            "=",
            "alice",
            &encoded("users"),
            &encoded("users:A"),
            &encoded("audit:07.1"),
            &encoded("audit:7"),
            &"a".repeat(500),
        ] {
            assert!(read_cursor::<Handle>(bad).is_none() && read_cursor::<Place>(bad).is_none(), "{bad}");
        }
        let page = |limit| Paging::<Handle>::parse(None, Some(limit)).map(|paging| paging.size.get());
        for bad in ["", "0", "-1", "+1", "01", "501", "1e2", "99999999999999999999999", " 1"] {
            assert_eq!(page(bad).unwrap_err().kind, Kind::BAD_QUERY, "{bad}");
        }
        assert_eq!((page("1").unwrap(), page("500").unwrap()), (1, 500));
    }
}
