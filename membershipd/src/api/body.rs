//! Bodies: received within bounds of bytes and time, and read as the JSON that is expected, strictly.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::keyed_limiter::{KeyedLimiter, Party, Place};
use super::limits;
use super::problem::Problem;
use super::problem::Refuse as _;
use unibus_api_types::problem::Kind;

/// The type of what has none.
pub(super) const OCTETS: &str = "application/octet-stream";

/// A body, and its share of the memory that all bodies may take.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) bytes: Bytes,
    _share: Option<Place>,
}

/// Of which memory a body takes its share.
#[derive(Debug, Clone, Copy)]
pub(super) enum Memory<'a> {
    /// Of that of all bodies, for these.
    Shared(&'a KeyedLimiter, &'a [Party]),
    /// It is small, and its place bounds how many of them there are.
    OfItsPlace,
}

/// The length that the head names, 0 where there is no body; none: it comes in chunks. Refused where it is more than is taken.
pub(super) fn declared(body: &Body) -> Result<Option<usize>, Problem> {
    let Some(length) = body.size_hint().upper() else { return Ok(None) };
    match usize::try_from(length) {
        Ok(length) if length <= limits::BODY_BYTES => Ok(Some(length)),
        _ => Err(too_large()),
    }
}

/// Receives `body`, whose head named `length`, for as long as it takes, within the limits. Its memory is set aside before any of it
/// is waited for, so it is for callers that are proven.
pub(super) async fn receive(body: Body, length: Option<usize>, memory: Memory<'_>) -> Result<Received, Problem> {
    let share = match (memory, length.unwrap_or(limits::BODY_BYTES)) {
        (Memory::OfItsPlace, _) | (_, 0) => None,
        (Memory::Shared(limiter, parties), most) => Some(limiter.take(parties, most)?),
    };
    let collect = async {
        let mut chunks = body.into_data_stream();
        let mut bytes = Vec::with_capacity(length.unwrap_or_default());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Kind::BODY_BROKEN.problem())?;
            if bytes.len() + chunk.len() > limits::BODY_BYTES {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    let seconds = limits::BODY_TIME.as_secs();
    let slow = |_| Kind::TOO_SLOW.because(format!("a body is sent within {seconds} s"));
    let bytes = tokio::time::timeout(limits::BODY_TIME, collect).await.map_err(slow)??;
    Ok(Received { bytes: bytes.into(), _share: share })
}

/// A body that is still to come, piece by piece, of a request that was proven by its head.
#[derive(Debug)]
pub(super) struct Arriving {
    /// Never locked: a body may be given to another thread but not shared by two, and what has it is shared.
    body: Mutex<Body>,
    length: u64,
    received: u64,
    /// Time for which the client was waited for.
    waited: Duration,
}

impl Arriving {
    /// Of `body` before any of it is read. Refused where the head names no length, or one that is not taken.
    pub(super) fn new(body: Body) -> Result<Self, Problem> {
        match body.size_hint().exact() {
            None => Err(Kind::LENGTH_REQUIRED.because("send Content-Length, and no Transfer-Encoding")),
            Some(0) => Err(Kind::BODY_BROKEN.because("an attachment has at least one byte")),
            Some(length) if length <= limits::BLOB_BYTES => Ok(Self::of_length(body, length)),
            Some(_) => Err(Kind::TOO_LARGE.because(format!("an attachment has at most {} bytes", limits::BLOB_BYTES))),
        }
    }

    fn of_length(body: Body, length: u64) -> Self {
        Self { body: Mutex::new(body), length, received: 0, waited: Duration::ZERO }
    }

    /// How long it is to be, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The next piece; none: it is whole. Refused where it is longer or shorter than was said, or slower than the floor.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let began = Instant::now();
            let allowed =
                limits::BODY_TIME + Duration::from_millis(self.received * 1000 / u64::from(limits::BLOB_FLOOR));
            let left = allowed.saturating_sub(self.waited);
            let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
            let frame = tokio::time::timeout(left, body.frame()).await;
            self.waited += began.elapsed();
            let frame = frame.map_err(|_| {
                Kind::TOO_SLOW.because(format!("a body comes with at least {} bytes a second", limits::BLOB_FLOOR))
            })?;
            let Some(frame) = frame else {
                return if self.received == self.length { Ok(None) } else { Err(Kind::BODY_BROKEN.problem()) };
            };
            // Trailers say nothing that was signed.
            let Ok(piece) = frame.map_err(|_| Kind::BODY_BROKEN.problem())?.into_data() else { continue };
            self.received += u64::try_from(piece.len()).unwrap_or(u64::MAX);
            if self.received > self.length {
                return Err(Kind::BODY_BROKEN.problem());
            }
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }
}

fn too_large() -> Problem {
    Kind::TOO_LARGE.because(format!("a body has at most {} bytes", limits::BODY_BYTES))
}

/// Refuses a body where none is expected.
pub(super) fn none(bytes: &Bytes) -> Result<(), Problem> {
    if bytes.is_empty() { Ok(()) } else { Err(Kind::BODY_UNEXPECTED.problem()) }
}

/// Refuses what is not said to be JSON as it is; a charset is not a part of the type (RFC 8259 section 11), and UTF-8 is
/// what it is.
pub(super) fn is_json(fields: &HeaderMap) -> Result<(), Problem> {
    let refused = || Kind::MEDIA_TYPE.because("send 'Content-Type: application/json', and no Content-Encoding");
    let mut types = fields.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else { return Err(refused()) };
    let (essence, parameter) = match only.to_str().map_err(|_| refused())?.split_once(';') {
        Some((essence, parameter)) => (essence, parameter.trim()),
        None => (only.to_str().map_err(|_| refused())?, "charset=utf-8"),
    };
    let plain =
        essence.trim().eq_ignore_ascii_case("application/json") && parameter.eq_ignore_ascii_case("charset=utf-8");
    if plain && !fields.contains_key(CONTENT_ENCODING) { Ok(()) } else { Err(refused()) }
}

/// Refuses what is not said to be bytes as they are.
pub(super) fn is_octets(fields: &HeaderMap) -> Result<(), Problem> {
    let mut types = fields.get_all(CONTENT_TYPE).iter();
    let plain = types.next().is_some_and(|only| only.as_bytes().eq_ignore_ascii_case(OCTETS.as_bytes()));
    if plain && types.next().is_none() && !fields.contains_key(CONTENT_ENCODING) {
        return Ok(());
    }
    Err(Kind::MEDIA_TYPE.because("send 'Content-Type: application/octet-stream', and no Content-Encoding"))
}

/// Reads JSON. Types that refuse unknown fields do; the parser refuses fields that are there twice, what is not UTF-8, what
/// is nested deeper than 128, and anything behind the value. A list is refused, as no body has one: serde takes it for an object
/// whose fields come in their order, which nothing describes.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let refused = |error: serde_json::Error| Kind::BAD_JSON.because(error.to_string());
    let read = serde_json::from_slice(bytes).map_err(refused)?;
    let whole: Value = serde_json::from_slice(bytes).map_err(refused)?;
    if has_list(&whole) { Err(Kind::BAD_JSON.because("there is a list where an object is expected")) } else { Ok(read) }
}

fn has_list(value: &Value) -> bool {
    match value {
        Value::Array(_) => true,
        Value::Object(fields) => fields.values().any(has_list),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::config::Share;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only parsed")]
        name: String,
        #[expect(dead_code, reason = "only parsed")]
        number: Option<u32>,
    }

    #[test]
    fn json_is_read_strictly() {
        assert!(json::<Sample>(br#" {"name":"x","number":4294967295} "#).is_ok());
        let deep = format!("{{\"name\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for bad in [
            &b""[..],
            b"null",
            b"[]",
            b"{}",
            b"[\"x\",1]",
            b"{\"name\":\"x\",\"name\":\"x\"}",
            b"{\"name\":\"x\",\"more\":1}",
            b"{\"name\":\"\xff\"}",
            b"\xef\xbb\xbf{\"name\":\"x\"}",
            b"{\"name\":\"\\ud800\"}",
            b"{\"name\":\"x\"} {}",
            b"{\"name\":\"x\"",
            b"{'name':'x'}",
            b"{\"name\":\"x\",}",
            b"{\"name\":\"x\",\"number\":4294967296}",
            b"{\"name\":\"x\",\"number\":-1}",
            b"{\"name\":\"x\",\"number\":1.5}",
            b"{\"name\":\"x\",\"number\":1e999999}",
            b"{\"name\":\"x\",\"number\":999999999999999999999999999999999999999999}",
            b"{\"name\":\"x\",\"number\":NaN}",
            deep.as_bytes(),
        ] {
            let problem = json::<Sample>(bad).expect_err(&String::from_utf8_lossy(bad.get(..40).unwrap_or(bad)));
            assert_eq!(problem.kind, Kind::BAD_JSON);
        }
    }

    #[test]
    fn only_plain_json_is_taken() {
        let head = |fields: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(*name, value.parse().unwrap());
            }
            map
        };
        for good in ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=utf-8"] {
            assert!(is_json(&head(&[("content-type", good)])).is_ok(), "{good}");
        }
        for bad in ["text/plain", "application/json; charset=latin1", "application/jsonx", "", "application/json;"] {
            assert!(is_json(&head(&[("content-type", bad)])).is_err(), "{bad}");
        }
        assert!(is_json(&head(&[])).is_err());
        let twice = [("content-type", "application/json"), ("content-type", "application/json")];
        assert!(is_json(&head(&twice)).is_err());
        let packed = [("content-type", "application/json"), ("content-encoding", "gzip")];
        assert!(is_json(&head(&packed)).is_err());
    }

    #[tokio::test]
    async fn a_body_is_bounded_whatever_it_says() {
        let long = |bytes: usize| declared(&Body::from(vec![0; bytes])).map_err(|problem| problem.kind);
        assert_eq!((long(0), long(1 << 20)), (Ok(Some(0)), Ok(Some(1 << 20))));
        assert_eq!(long((1 << 20) + 1), Err(Kind::TOO_LARGE));
        let space = KeyedLimiter::new("bytes", Share { all: 3 << 20, user: 1 << 20, address: 2 << 20 });
        let (office, alice) = (Party::at([192, 0, 2, 1].into()), Party::User("alice".parse().unwrap()));
        let parties = [office.clone()];
        let memory = Memory::Shared(&space, &parties);
        let chunk = Bytes::from(vec![0; 1 << 19]);
        assert_eq!(declared(&Body::empty()).unwrap(), Some(0), "no body takes no space");
        let endless = Body::from_stream(futures::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone())));
        assert_eq!(declared(&endless).unwrap(), None);
        assert_eq!(receive(endless, None, memory).await.unwrap_err().kind, Kind::TOO_LARGE);
        // Two that do not say how long they are take all the space of their address, until they are gone.
        let one = receive(Body::from("x"), None, memory).await.unwrap();
        let two = receive(Body::from("x"), None, memory).await.unwrap();
        assert_eq!(receive(Body::from("x"), Some(1), memory).await.unwrap_err().kind, Kind::RATE_LIMITED);
        assert!(receive(Body::empty(), Some(0), memory).await.is_ok());
        let elsewhere = [Party::at([192, 0, 2, 2].into()), alice];
        let other = Memory::Shared(&space, &elsewhere);
        let three = receive(Body::from("x"), None, other).await.unwrap();
        assert_eq!(receive(Body::from("x"), Some(1), other).await.unwrap_err().kind, Kind::RATE_LIMITED, "a user's");
        let third = [Party::at([192, 0, 2, 3].into())];
        let last = Memory::Shared(&space, &third);
        assert_eq!(receive(Body::from("x"), Some(1), last).await.unwrap_err().kind, Kind::OVERLOADED);
        drop((one, two, three));
        assert!(receive(Body::from("x"), Some(1), memory).await.is_ok());
    }

    #[test]
    fn a_body_that_is_streamed_says_how_long_it_is_before_any_of_it_is_read() {
        let length = |bytes: u64| Arriving::new(Body::from(vec![0; usize::try_from(bytes).unwrap()]));
        assert_eq!(length(limits::BLOB_BYTES).unwrap().length(), limits::BLOB_BYTES);
        assert_eq!(length(limits::BLOB_BYTES + 1).unwrap_err().kind, Kind::TOO_LARGE);
        assert_eq!(length(0).unwrap_err().kind, Kind::BODY_BROKEN);
        let endless = Body::from_stream(futures::stream::pending::<std::io::Result<Bytes>>());
        assert_eq!(Arriving::new(endless).unwrap_err().kind, Kind::LENGTH_REQUIRED);
    }

    #[tokio::test]
    async fn a_streamed_body_is_as_long_as_was_said() {
        let ends = async |bytes: usize, length| {
            let mut arriving = Arriving::of_length(Body::from(vec![0; bytes]), length);
            loop {
                match arriving.next().await {
                    Ok(Some(_)) => {}
                    end => return end.map(drop).map_err(|problem| problem.kind),
                }
            }
        };
        assert_eq!(ends(9, 9).await, Ok(()));
        assert_eq!(ends(9, 8).await, Err(Kind::BODY_BROKEN));
        assert_eq!(ends(9, 10).await, Err(Kind::BODY_BROKEN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_streamed_body_may_be_slow_but_not_slower_than_the_floor() {
        let every = |pause: Duration| {
            let pieces = futures::stream::unfold((), move |()| async move {
                tokio::time::sleep(pause).await;
                Some((Ok::<_, std::io::Error>(Bytes::from(vec![0; limits::BLOB_FLOOR as usize])), ()))
            });
            Arriving::of_length(Body::from_stream(pieces), 300 * u64::from(limits::BLOB_FLOOR))
        };
        let mut steady = every(Duration::from_secs(1));
        for _ in 0..300 {
            assert!(steady.next().await.unwrap().is_some());
        }
        let mut slow = every(Duration::from_secs(2));
        let taken = async {
            let mut pieces = 0;
            while let Ok(Some(_)) = slow.next().await {
                pieces += 1;
            }
            pieces
        };
        assert_eq!(taken.await, limits::BODY_TIME.as_secs() - 1, "what was saved up at the beginning");
        assert_eq!(slow.next().await.unwrap_err().kind, Kind::TOO_SLOW);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_in_is_given_up() {
        let trickle = futures::stream::unfold((), |()| async {
            tokio::time::sleep(limits::BODY_TIME / 8).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        });
        let problem = receive(Body::from_stream(trickle), None, Memory::OfItsPlace).await.unwrap_err();
        assert_eq!(problem.kind, Kind::TOO_SLOW);
    }
}
