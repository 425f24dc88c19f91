//! What a handler is given, and what it gives back: everything parsed, everybody known.

use std::net::IpAddr;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::body::{self, Arriving};
use super::handler::Rest;
use super::keyed_limiter::Party;
use super::limits;
use super::paging::{Mark, Paging};
use super::precondition::{ETag, IfMatch};
use super::problem::Problem;
use crate::api::problem::Refuse as _;
use crate::blobs::BlobError;
use unibus_api_types::problem::Kind;
use unibus_core::domain::User;
use unibus_store::PageSize;

/// Parameters of a query, each there at most once and known to its route.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the undecoded query of a route that knows the parameters `known`.
    pub(super) fn parse(query: Option<&str>, known: &[Parameter]) -> Result<Self, Problem> {
        let mut found: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let names: Vec<&str> = known.iter().map(|parameter| parameter.name).collect();
            if !names.contains(&name.as_ref()) {
                let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                return Err(Kind::BAD_QUERY.because(format!("the parameters that this takes: {names}")));
            }
            if found.iter().any(|(other, _)| *other == name) {
                return Err(Kind::BAD_QUERY.because("a parameter is there more than once"));
            }
            found.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(found))
    }

    fn get(&self, parameter: Parameter) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == parameter.name).map(|(_, value)| value.as_str())
    }
}

/// What a parameter of a query has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// What a list gave out.
    Cursor,
    /// A number from the first to the second.
    Number(u64, u64),
    /// The name of a user.
    Handle,
    /// The name of a user, or `root@` and a node.
    Author,
    /// The id of a room.
    Room,
    /// The name of a node.
    Node,
    /// An action, as the audit names it.
    Action,
}

/// A parameter of a query, as routes take it and as it is described.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) form: Form,
}

const fn parameter(name: &'static str, form: Form, what: &'static str) -> Parameter {
    Parameter { name, what, form }
}

/// The highest moment that is named, in milliseconds since 1970: what every program can read as a number.
const MOMENT: u64 = (1 << 53) - 1;

/// The two parameters of a list.
pub(super) const AFTER: Parameter = parameter("after", Form::Cursor, "Where the page begins: 'next' of the one before");
pub(super) const LIMIT: Parameter =
    parameter("limit", Form::Number(1, PageSize::MOST as u64), "Most entries of the page");

/// Those of the messages of a room.
pub(super) const AFTER_MESSAGE: Parameter =
    parameter("after", Form::Number(0, u64::MAX), "Place of the message after which to begin: its 'seq', or 0");
pub(super) const MESSAGES: Parameter =
    parameter("limit", Form::Number(1, limits::HISTORY_MOST as u64), "Most messages of the answer");

/// Those of the connections to the bus.
pub(super) const WHO: Parameter = parameter("who", Form::Handle, "Those of this user alone");
pub(super) const NODE: Parameter = parameter("node", Form::Node, "Those to the engine of this node alone");

/// Those of the audit log.
pub(super) const BY: Parameter = parameter("who", Form::Author, "What this user did, or root on this node");
pub(super) const ROOM: Parameter = parameter("room", Form::Room, "What was done about this room");
pub(super) const ACTION: Parameter = parameter("action", Form::Action, "What was done in this way");
pub(super) const SINCE: Parameter =
    parameter("since", Form::Number(0, MOMENT), "What was done from this moment on: milliseconds since 1970");
pub(super) const UNTIL: Parameter =
    parameter("until", Form::Number(0, MOMENT), "What was done before this moment: milliseconds since 1970");
pub(super) const LAST: Parameter = parameter(
    "last",
    Form::Number(1, PageSize::MOST as u64),
    "The last so many records, in the place of a page; fewer where there are none, or where much was looked through: then there is 'earlier'",
);
pub(super) const BEFORE: Parameter =
    parameter("before", Form::Cursor, "Before which record the last ones are counted: 'earlier' of those after them");

/// A request of somebody who may do what it is for.
#[derive(Debug)]
pub(super) struct Call<T> {
    /// Whose request it is, as they are now: they may have changed since the signature was verified.
    pub(super) caller: User,
    /// Where it comes from.
    pub(super) address: IpAddr,
    /// What it is about.
    pub(super) target: T,
    query: Query,
    /// For which revisions; none: the request does not say.
    pub(super) if_match: Option<IfMatch>,
    body: Bytes,
    /// What is still to come of a body that is streamed.
    pub(super) arriving: Option<Arriving>,
}

impl<T> Call<T> {
    /// The request of `caller` about `target`.
    pub(super) fn new(caller: User, target: T, rest: Rest) -> Self {
        let Rest { address, query, if_match, body, arriving } = rest;
        Self { caller, address, target, query, if_match, body, arriving }
    }

    /// The same, about what `of` makes of its target.
    pub(super) fn map<U>(self, of: impl FnOnce(T) -> U) -> Call<U> {
        let Self { caller, address, target, query, if_match, body, arriving } = self;
        Call { caller, address, target: of(target), query, if_match, body, arriving }
    }

    /// Whose shares it takes from.
    pub(super) fn parties(&self) -> [Party; 2] {
        [Party::User(self.caller.handle.clone()), Party::at(self.address)]
    }

    /// The body as what is expected.
    pub(super) fn json<B: DeserializeOwned>(&self) -> Result<B, Problem> {
        body::json(&self.body)
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, parameter: Parameter) -> Option<&str> {
        self.query.get(parameter)
    }

    /// A parameter that is a number; none: it is not there.
    pub(super) fn number(&self, parameter: Parameter) -> Result<Option<u64>, Problem> {
        let Form::Number(least, most) = parameter.form else { return Ok(None) };
        let Some(digits) = self.query.get(parameter) else { return Ok(None) };
        let plain = digits == "0" || !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.parse().ok().filter(|number| plain && (least..=most).contains(number));
        let bad = || Kind::BAD_QUERY.because(format!("'{}' is a number from {least} to {most}", parameter.name));
        number.ok_or_else(bad).map(Some)
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
