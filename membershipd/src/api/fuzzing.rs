//! The fuzz target of bodies: what every route that takes one makes of the same bytes.

use std::fmt::{self, Debug, Formatter};

use axum::body::to_bytes;
use futures::FutureExt;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Value, json};

use super::body;
use super::problem::Problem;
use super::routes::{self, Access, Signed};
use super::target::Path;
use crate::api::problem::Refuse as _;
use unibus_api_types::bodies;
use unibus_api_types::problem::Kind;
use unibus_core::domain::{Command, Role, State, User};

/// Longest problem document, in bytes: the detail is cut, and each of its characters may be an escape.
const DOCUMENT: usize = 4096;

/// Reads the bytes as each of the bodies that there are. Holds that
/// - what is refused is refused as the client's mistake, by a short document;
/// - what is taken is one JSON object, no field of it is there twice, and none but those that were meant;
/// - printed and read again it is the same;
/// - a command asks for an action that its route declares.
pub fn bodies(data: &[u8]) {
    let Some(caller) = caller() else { return };
    for route in routes::all() {
        let Access::Signed(Signed { handler, body: Some(_), .. }) = &route.access else { continue };
        let path = Path { part: &|_| Some("kitchen".to_owned()), caller: &caller };
        let make = |data: &[u8]| handler.command(&path, data).unwrap_or(Err(Kind::INTERNAL.problem()));
        if handler.command(&path, b"").is_none() {
            continue;
        }
        let Some((command, room)) = taken(data, &make) else { continue };
        let (action, _) = command.asks(&caller, &room);
        // Which role an action names is the body's to say.
        let kind = std::mem::discriminant(&action);
        assert!(
            handler.actions().iter().any(|declared| std::mem::discriminant(declared) == kind),
            "{} {}: {action:?}",
            route.method,
            route.template
        );
        let again = make(&printed(&command)).ok().map(|(command, _)| command);
        assert_eq!(again.as_ref(), Some(&command), "printed and read");
    }
    let _ = taken(data, &body::json::<bodies::NewUser>);
    let _ = taken(data, &body::json::<bodies::UserPatch>);
    let _ = taken(data, &body::json::<bodies::NewInvite>);
    let _ = taken(data, &body::json::<bodies::Registration>);
}

/// Somebody who asks.
fn caller() -> Option<User> {
    // The public key of RFC 8032 section 7.1, test 1.
    let sign_pub = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a".parse().ok()?;
    Some(User { handle: "alice".parse().ok()?, sign_pub, role: Role::User, state: State::Active })
}

/// What `read` makes of the bytes, after all that holds for any of them.
fn taken<T: Debug>(data: &[u8], read: &dyn Fn(&[u8]) -> Result<T, Problem>) -> Option<T> {
    let value = match read(data) {
        Ok(value) => value,
        Err(problem) => {
            refused(problem);
            return None;
        }
    };
    let whole = serde_json::from_slice::<Value>(data).unwrap_or_default();
    assert!(only_objects(&whole), "taken for an object: {whole}");
    let written = whole.to_string();
    let size = |Size(size): Size| size;
    assert_eq!(
        serde_json::from_slice(data).ok().map(size),
        serde_json::from_str(&written).ok().map(size),
        "a field is there twice"
    );
    let again = read(written.as_bytes());
    assert_eq!(again.ok().map(|again| format!("{again:?}")), Some(format!("{value:?}")), "printed and read");
    let more = format!("{{\"unknown\":null,{}", written.trim_start_matches('{'));
    assert!(read(more.as_bytes()).is_err(), "a field that nobody knows is taken");
    Some(value)
}

/// Whether there is nothing in it but objects and what has no parts. No body of ours has a list.
fn only_objects(value: &Value) -> bool {
    match value {
        Value::Object(fields) => {
            fields.values().all(|field| !field.is_array() && (!field.is_object() || only_objects(field)))
        }
        _ => false,
    }
}

/// How many fields there are in an object and in all below it, those that are repeated included.
struct Size(usize);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Counting)
    }
}

struct Counting;

impl<'de> Visitor<'de> for Counting {
    type Value = Size;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Size, A::Error> {
        let mut size = 0;
        while let Some((IgnoredAny, Size(below))) = map.next_entry()? {
            size += 1 + below;
        }
        Ok(Size(size))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Size, E> {
        Ok(Size(0))
    }

    fn visit_str<E>(self, _: &str) -> Result<Size, E> {
        Ok(Size(0))
    }

    fn visit_unit<E>(self) -> Result<Size, E> {
        Ok(Size(0))
    }
}

fn refused(problem: Problem) {
    let status = problem.kind.status;
    assert!(status.is_client_error(), "{problem:?}");
    let response = problem.into_response("urn:uuid:0");
    let document = to_bytes(response.into_body(), DOCUMENT).now_or_never().and_then(Result::ok);
    let document = document.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    assert_eq!(document.as_ref().map(|d| &d["status"]), Some(&json!(status.as_u16())), "no short document");
}

/// A command as a client of ours writes it.
fn printed(command: &Command) -> Vec<u8> {
    let body = match command {
        Command::CreateRoom(subject, policy) => json!({ "subject": subject, "policy": policy }),
        Command::ChangeRoom(Some(subject), Some(policy), None) => json!({ "policy": policy, "subject": subject }),
        Command::ChangeRoom(Some(subject), None, None) => json!({ "subject": subject }),
        Command::ChangeRoom(None, policy, None) => json!({ "policy": policy }),
        Command::ChangeRoom(subject, policy, Some(keep)) => {
            json!({ "subject": subject, "policy": policy, "keep": keep })
        }
        Command::Invite(_, role) | Command::SetRole(_, role) => json!({ "role": role }),
        Command::Accept { keep_connections } => json!({ "keep_connections": keep_connections }),
        Command::RemoveRoom | Command::Leave | Command::Remove(_) | Command::Ban(_) | Command::Unban(_) => Value::Null,
    };
    body.to_string().into_bytes()
}
