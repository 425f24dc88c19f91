//! Who may use which route: a case for each, and nothing without a signature.

use std::time::Instant;

use super::super::routes::{self, Access, Route};
use super::super::target::Named;
use super::{Node, identity, node, plain, rooms};
use crate::blobs::BlobId;
use unibus_core::domain::Token;

/// Routes that answer without a signature. The list may only become shorter.
const WITHOUT_SIGNATURE: [&str; 4] = ["/healthz", "/livez", "/openapi.json", "/metrics"];

/// Routes for who is nobody yet. The list may only become shorter.
const FOR_NEWCOMERS: [(&str, &str); 1] = [("PUT", "/v1/register")];

/// Who may use each route about the bus: an admin; a user, on somebody else; a user, on himself.
const MAY: &[(&str, &str, [bool; 3])] = &[
    ("GET", "/v1/me", [true, true, true]),
    ("GET", "/v1/directory", [true, true, true]),
    ("GET", "/v1/directory/{handle}", [true, true, true]),
    ("PUT", "/v1/me/hpke", [true, true, true]),
    ("GET", "/v1/bus", [true, true, true]),
    ("GET", "/v1/users", [true, false, false]),
    ("GET", "/v1/users/{handle}", [true, false, true]),
    ("PUT", "/v1/users/{handle}", [true, false, false]),
    ("PATCH", "/v1/users/{handle}", [true, false, false]),
    ("DELETE", "/v1/users/{handle}", [true, false, false]),
    ("GET", "/v1/invites", [true, false, false]),
    ("PUT", "/v1/invites/{invite}", [true, false, false]),
    ("DELETE", "/v1/invites/{invite}", [true, false, false]),
    ("GET", "/v1/rooms", [true, true, true]),
    ("PUT", "/v1/rooms/{room}", [true, true, true]),
    ("GET", "/v1/audit", [true, false, false]),
    ("GET", "/v1/status", [true, false, false]),
    ("GET", "/v1/connections", [true, false, false]),
    ("DELETE", "/v1/connections/{node}/{connection}", [true, false, false]),
];

/// Who may use each route about the room `hall`, as in `rooms::HALL`, where the user of the path is somebody else (a reader; for
/// bans, who is banned) and where he is the one who asks. The body is for the role that counts least.
const MAY_IN_ROOM: &[(&str, &str, &[&str], &[&str])] = &[
    ("GET", "/v1/rooms/{room}", &["admin", "owner", "moderator", "member", "reader", "invited"], &[]),
    ("PATCH", "/v1/rooms/{room}", &["owner"], &[]),
    ("DELETE", "/v1/rooms/{room}", &["admin", "owner"], &[]),
    ("GET", "/v1/rooms/{room}/history", &["owner", "moderator", "member", "reader"], &[]),
    ("GET", "/v1/rooms/{room}/members", &["admin", "owner", "moderator", "member", "reader"], &[]),
    (
        "GET",
        "/v1/rooms/{room}/members/{handle}",
        &["admin", "owner", "moderator", "member", "reader"],
        &["admin", "owner", "moderator", "member", "reader", "invited"],
    ),
    ("PUT", "/v1/rooms/{room}/members/{handle}", &["owner", "moderator"], &[]),
    ("PATCH", "/v1/rooms/{room}/members/{handle}", &["owner", "moderator"], &["owner"]),
    (
        "DELETE",
        "/v1/rooms/{room}/members/{handle}",
        &["admin", "owner", "moderator"],
        &["owner", "moderator", "member", "reader", "invited"],
    ),
    (
        "PUT",
        "/v1/rooms/{room}/members/{handle}/acceptance",
        &[],
        &["owner", "moderator", "member", "reader", "invited"],
    ),
    ("GET", "/v1/rooms/{room}/keys", &["owner", "moderator", "member", "reader"], &[]),
    ("GET", "/v1/rooms/{room}/keys/{epoch}", &["owner", "moderator", "member", "reader"], &[]),
    ("PUT", "/v1/rooms/{room}/keys/{epoch}", &["owner", "moderator", "member"], &[]),
    ("GET", "/v1/rooms/{room}/recipients", &["owner", "moderator", "member"], &[]),
    ("PUT", "/v1/rooms/{room}/bans/{handle}", &["admin", "owner", "moderator"], &[]),
    ("DELETE", "/v1/rooms/{room}/bans/{handle}", &["admin", "owner", "moderator"], &[]),
    ("GET", "/v1/rooms/{room}/blobs", &["owner", "moderator", "member", "reader"], &[]),
    ("GET", "/v1/rooms/{room}/blobs/{sha256}", &["owner", "moderator", "member", "reader"], &[]),
    ("PUT", "/v1/rooms/{room}/blobs/{sha256}", &["owner", "moderator", "member"], &[]),
    // Of another's it is decided on with the record.
    ("DELETE", "/v1/rooms/{room}/blobs/{sha256}", &["owner", "moderator", "member", "reader"], &[]),
];

/// Everybody who asks in the room.
const ASKING: [&str; 8] = ["admin", "owner", "moderator", "member", "reader", "invited", "banned", "alice"];

/// Whether `who` may use the route, the user in whose path is `on`.
fn may(node: &Node, route: &Route, who: &str, on: &str) -> bool {
    let Some(signed) = route.access.signed() else { panic!("{} needs a signature", route.template) };
    let blob = BlobId::of(b"");
    let invite = Token::from_entropy([1; 32]).id();
    let part = |name: &str| match name {
        "room" => Some("hall".to_owned()),
        "epoch" => Some("1".to_owned()),
        "invite" => Some(invite.to_string()),
        "sha256" => Some(blob.to_string()),
        "connection" => Some("7".to_owned()),
        _ => Some(on.to_owned()),
    };
    let body: &[u8] = match (route.method.as_str(), route.template) {
        ("PUT", "/v1/rooms/{room}") => br#"{"subject":"room.new"}"#,
        ("PATCH", "/v1/rooms/{room}") => br#"{"subject":"room.other"}"#,
        (_, "/v1/rooms/{room}/members/{handle}") => br#"{"role":"reader"}"#,
        _ => b"",
    };
    let key = identity(who).sign_pub;
    let allowed = routes::authorize(&node.shared, &key, signed, &part, body, Instant::now());
    let allowed = allowed.map(|allowed| {
        // What the path names is what the handler is given, and the audit.
        let (in_room, of_user) = (route.template.contains("{room}"), route.template.contains("{handle}"));
        let caller = route.template.starts_with("/v1/me").then(|| who.parse().unwrap());
        let handle = of_user.then(|| on.parse().unwrap());
        let named = match in_room {
            true => Named { user: None, room: Some("hall".parse().unwrap()), member: handle },
            false => Named { user: handle.or(caller), ..Named::default() },
        };
        assert_eq!(allowed.named, named, "{}", route.template);
        assert_eq!(allowed.sha256.is_some(), route.template.contains("{sha256}"));
    });
    allowed.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_route_has_an_authorization_case() {
    let node = node();
    rooms::hall(&node).await;
    for route in routes::all() {
        let (method, template) = (route.method.as_str(), route.template);
        if WITHOUT_SIGNATURE.contains(&template) {
            assert!(route.access.signed().is_none() && method == "GET", "{method} {template}: list it no more");
            continue;
        }
        if FOR_NEWCOMERS.contains(&(method, template)) {
            assert!(matches!(route.access, Access::Newcomer(_)), "{method} {template}: list it no more");
            continue;
        }
        assert!(!may(&node, route, "gone", "gone"), "{method} {template}: a disabled user");
        assert!(!may(&node, route, "nobody", "bob"), "{method} {template}: an unknown key");
        if let Some((.., others, oneself)) = MAY_IN_ROOM.iter().find(|(m, t, ..)| (*m, *t) == (method, template)) {
            let other = if template.contains("bans") { "banned" } else { "reader" };
            for who in ASKING {
                // Who is concerned asks as himself.
                let on = if who == other { "invited" } else { other };
                let about_members = template.contains("{handle}");
                assert_eq!(may(&node, route, who, on), others.contains(&who), "{method} {template} {who}");
                let itself = if about_members { oneself } else { others };
                assert_eq!(may(&node, route, who, who), itself.contains(&who), "{method} {template} {who} himself");
            }
            continue;
        }
        let case = MAY.iter().find(|(m, t, _)| (*m, *t) == (method, template));
        let (.., wanted) = case.unwrap_or_else(|| panic!("{method} {template} has no authorization case"));
        let got = [("admin", "bob"), ("alice", "bob"), ("alice", "alice")].map(|(who, on)| may(&node, route, who, on));
        assert_eq!(got, *wanted, "{method} {template}");
    }
    let cases = MAY.len() + MAY_IN_ROOM.len() + WITHOUT_SIGNATURE.len() + FOR_NEWCOMERS.len();
    assert_eq!(routes::all().count(), cases, "a case for a route that is not there");
    assert!(routes::all().filter(|route| matches!(route.access, Access::Loopback(_))).count() == 1);
}

#[tokio::test]
async fn without_a_signature_nothing_but_the_list_is_answered() {
    let node = node();
    for route in routes::all() {
        let target = route.template.replace("{handle}", "bob").replace("{room}", "hall");
        let target = target.replace("{epoch}", "1").replace("{invite}", "0").replace("{sha256}", &"a".repeat(64));
        let target = target.replace("{node}", "magnus").replace("{connection}", "7");
        let answer = node.send(plain(route.method.as_str(), &target)).await;
        match route.access {
            Access::Open(_) => assert!(answer.status == 200, "{target} {answer:?}"),
            Access::Loopback(_) => assert_eq!(answer.slug(), "not-found", "{target}"),
            Access::Signed(_) | Access::Download(_) | Access::Newcomer(_) => {
                assert_eq!(answer.slug(), "signature-missing", "{target}");
                assert!(answer.headers.contains_key("www-authenticate"));
            }
            // What is sent without a length is not even looked at.
            Access::Upload(_) => assert_eq!(answer.slug(), "body-broken", "{target}"),
        }
    }
    let nowhere = node.send(plain("GET", "/v1/nowhere")).await;
    assert_eq!((nowhere.status.as_u16(), nowhere.slug().as_str()), (404, "not-found"));
    for made_up in ["POST", "OPTIONS", "TRACE", "FROBNICATE"] {
        let answer = node.send(plain(made_up, "/v1/users/bob")).await;
        assert_eq!((answer.status.as_u16(), answer.slug().as_str()), (405, "method-not-allowed"), "{made_up}");
        assert_eq!(answer.headers["allow"], "GET, PUT, PATCH, DELETE, HEAD");
    }
    let metrics = node.send_from("127.0.0.1:1000", plain("GET", "/metrics")).await;
    // An upload is refused before its signature is looked for: it says nothing of its length.
    let signed = |access: &Access| matches!(access, Access::Signed(_) | Access::Download(_) | Access::Newcomer(_));
    let signed = routes::all().filter(|route| signed(&route.access)).count();
    let refused = format!("unibus_api_refusals_total{{problem=\"signature-missing\"}} {signed}");
    assert!(metrics.text.contains(&refused), "{}", metrics.text);
    assert!(metrics.text.contains("route=\"none\",method=\"GET\",status=\"404\"} 1"), "{}", metrics.text);
    assert!(metrics.text.contains("method=\"other\",status=\"405\"} 2"), "{}", metrics.text);
}
