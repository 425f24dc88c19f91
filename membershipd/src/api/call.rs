//! What a handler is given, and what it gives back: everything parsed, everybody known.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::body::{self, Arriving};
use super::paging::{Mark, Paging};
use super::precondition::{ETag, IfMatch};
use super::problem::Problem;
use super::problem::Refuse as _;
use crate::blobs::{BlobError, BlobName};
use crate::conversation::Epoch;
use crate::domain::{Command, Handle, InviteId, Resource, RoomId, User};
use unibus_api_types::problem::Kind;

/// What a path is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// The bus as a whole.
    Bus,
    /// A user.
    User(Handle),
    /// A user who is to be, which is a matter of the bus.
    NewUser(Handle),
    /// An invite, which is a matter of the bus.
    Invite(InviteId),
    /// A room.
    Room(RoomId),
    /// A room that is to be, which is a matter of the bus.
    NewRoom(RoomId),
    /// A user in a room.
    Member(RoomId, Handle),
    /// A user as everybody sees him, which is a matter of the bus.
    Listed(Handle),
    /// A key of a room.
    Epoch(RoomId, Epoch),
    /// An attachment of a room.
    Blob(BlobName),
}

impl Target {
    /// As the decision has it.
    pub(super) fn resource(&self) -> Resource<'_> {
        match self {
            Target::Bus | Target::NewUser(_) | Target::NewRoom(_) | Target::Listed(_) | Target::Invite(_) => {
                Resource::Bus
            }
            Target::User(handle) => Resource::User(handle),
            Target::Room(room) | Target::Epoch(room, _) => Resource::Room(room),
            Target::Member(room, handle) => Resource::Member(room, handle),
            Target::Blob(name) => Resource::Room(&name.room),
        }
    }

    /// The user; none where the route is about something else.
    pub(super) fn user(&self) -> Result<&Handle, Problem> {
        match self {
            Target::User(handle) | Target::NewUser(handle) | Target::Member(_, handle) | Target::Listed(handle) => {
                Ok(handle)
            }
            Target::Bus
            | Target::Invite(_)
            | Target::Room(_)
            | Target::NewRoom(_)
            | Target::Epoch(..)
            | Target::Blob(_) => Err(Kind::INTERNAL.problem()),
        }
    }

    /// The room; none where the route is about something else.
    pub(super) fn room(&self) -> Result<&RoomId, Problem> {
        match self {
            Target::Room(room) | Target::NewRoom(room) | Target::Member(room, _) | Target::Epoch(room, _) => Ok(room),
            Target::Blob(name) => Ok(&name.room),
            Target::Bus | Target::User(_) | Target::NewUser(_) | Target::Listed(_) | Target::Invite(_) => {
                Err(Kind::INTERNAL.problem())
            }
        }
    }

    /// The epoch; none where the route is about something else.
    pub(super) fn epoch(&self) -> Result<Epoch, Problem> {
        match self {
            Target::Epoch(_, epoch) => Ok(*epoch),
            _ => Err(Kind::INTERNAL.problem()),
        }
    }

    /// The invite; none where the route is about something else.
    pub(super) fn invite(&self) -> Result<InviteId, Problem> {
        if let Target::Invite(invite) = self { Ok(*invite) } else { Err(Kind::INTERNAL.problem()) }
    }

    /// The attachment; none where the route is about something else.
    pub(super) fn blob(&self) -> Result<&BlobName, Problem> {
        match self {
            Target::Blob(name) => Ok(name),
            _ => Err(Kind::INTERNAL.problem()),
        }
    }
}

/// Parameters of a query, each there at most once and known to its route.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the undecoded query of a route that knows the parameters `known`.
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut found: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let names = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Kind::BAD_QUERY.because(format!("the parameters that this takes: {names}")));
            }
            if found.iter().any(|(other, _)| *other == name) {
                return Err(Kind::BAD_QUERY.because("a parameter is there more than once"));
            }
            found.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(found))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Names of the two parameters of a list.
pub(super) const AFTER: &str = "after";
pub(super) const LIMIT: &str = "limit";

/// A request of somebody who may do what it is for.
#[derive(Debug)]
pub(super) struct Call {
    /// Whose request it is.
    pub(super) caller: User,
    /// What it is about.
    pub(super) target: Target,
    /// What is to be done, where that is a command.
    pub(super) command: Option<Command>,
    pub(super) query: Query,
    /// For which revisions; none: the request does not say.
    pub(super) if_match: Option<IfMatch>,
    pub(super) body: Bytes,
    /// What is still to come of a body that is streamed.
    pub(super) arriving: Option<Arriving>,
}

impl Call {
    /// The body as what is expected.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        body::json(&self.body)
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name)
    }

    /// The page that is asked for.
    pub(super) fn page<M: Mark>(&self) -> Result<Paging<M>, Problem> {
        Paging::parse(self.query.get(AFTER), self.query.get(LIMIT))
    }
}

/// What is answered to a request that was carried out.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    etag: Option<ETag>,
    content_type: &'static str,
    body: Content,
}

/// The body of an answer.
#[derive(Debug)]
enum Content {
    /// At hand.
    Held(Bytes),
    /// So many bytes, as they come.
    Streamed(u64, Body),
}

impl Reply {
    /// 200 with `value` as JSON.
    pub(super) fn json(value: &impl Serialize) -> Result<Self, Problem> {
        let body = serde_json::to_vec(value);
        let body =
            body.map_err(|error| Problem { cause: Some(error.to_string().into()), ..Kind::INTERNAL.problem() })?;
        Ok(Self::text("application/json", body))
    }

    /// 200 with a text of another type.
    pub(super) fn text(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, etag: None, content_type, body: Content::Held(body.into()) }
    }

    /// 200 with `length` bytes as they come. Where they end with an error, the connection does.
    pub(super) fn octets(length: u64, pieces: impl Stream<Item = Result<Bytes, BlobError>> + Send + 'static) -> Self {
        let body = Content::Streamed(length, Body::from_stream(pieces));
        Self { status: StatusCode::OK, etag: None, content_type: body::OCTETS, body }
    }

    /// The same with its body put elsewhere, where it is at hand.
    pub(super) fn map_body(self, put: impl FnOnce(Bytes) -> Bytes) -> Self {
        let body = match self.body {
            Content::Held(bytes) => Content::Held(put(bytes)),
            streamed @ Content::Streamed(..) => streamed,
        };
        Self { body, ..self }
    }

    /// The same with another status.
    pub(super) fn status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The same, of something at `revision`.
    pub(super) fn at(self, revision: u64) -> Self {
        Self { etag: Some(ETag(revision)), ..self }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let (body, length) = match self.body {
            Content::Held(bytes) => (Body::from(bytes), None),
            Content::Streamed(length, body) => (body, Some(length)),
        };
        let mut response = (self.status, body).into_response();
        let fields: &mut HeaderMap = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if let Some(length) = length {
            fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        // Whatever is answered was for one signed request.
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(etag) = self.etag.and_then(|etag| HeaderValue::from_str(&etag.to_string()).ok()) {
            fields.insert(ETAG, etag);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_only_what_its_route_knows_once() {
        let parse = |query| Query::parse(Some(query), &[AFTER, LIMIT]);
        let query = parse("limit=5&after=a%2Db").unwrap();
        assert_eq!((query.get(LIMIT), query.get(AFTER)), (Some("5"), Some("a-b")));
        assert!(parse("").is_ok() && Query::parse(None, &[]).is_ok());
        for bad in ["limit=5&limit=5", "Limit=5", "x", "limit=5&x=1", "%FF=1"] {
            assert_eq!(parse(bad).unwrap_err().kind, Kind::BAD_QUERY, "{bad}");
        }
        assert!(Query::parse(Some("limit=1"), &[]).is_err());
    }
}
