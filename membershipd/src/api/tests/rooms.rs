//! Rooms and members over the API: what is answered, what is refused and by which name.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use serde_json::{Value, json};

use super::super::entrance::router;
use super::{Answer, JSON, Node, identity, node, shared, signed};
use unibus_core::bus::Bucket;
use unibus_core::domain::{
    Claims, MemberState, Membership, Policy, Record, Role, Room, RoomRole, Space, Standing, State, User,
};
use unibus_core::view::fixtures::{Entry, member, room};
use unibus_core::view::{View, claim_key, record_key};
use unibus_store::{Event, Position, Records, Store};

/// Who is in the hall, and how.
const HALL: [(&str, RoomRole, MemberState); 6] = [
    ("owner", RoomRole::Owner, MemberState::Joined),
    ("moderator", RoomRole::Moderator, MemberState::Joined),
    ("member", RoomRole::Member, MemberState::Joined),
    ("reader", RoomRole::Reader, MemberState::Joined),
    ("invited", RoomRole::Member, MemberState::Invited),
    ("banned", RoomRole::Reader, MemberState::Banned),
];

async fn write(store: &dyn Store, record: Record) {
    let (bucket, name) = record_key(&record.key());
    let (of, value) = match record {
        Record::User(user) => (Records::Users, serde_json::to_vec(&user)),
        Record::Claims(claims) => (Records::Rooms, serde_json::to_vec(&claims)),
        Record::Room(room) => (Records::Rooms, serde_json::to_vec(&room)),
        Record::Membership(membership) => (Records::Members, serde_json::to_vec(&membership)),
        Record::Level(level) => (Records::Rooms, serde_json::to_vec(&level)),
    };
    assert_eq!(of.bucket(), bucket);
    store.create(of, &name.parse().unwrap(), &value.unwrap()).await.unwrap();
}

/// Has the gate of the node follow its store, and makes the hall in it. The test needs a thread beside its own: what follows the
/// store has to let it go before it can be dropped.
pub(super) async fn hall(node: &Node) {
    // Behind the back of the store that fails and counts.
    let store = node.faulty.truth().await;
    for of in [Records::Rooms, Records::Members] {
        let mut events = store.watch(of, Position::default()).await.unwrap();
        let gate = node.shared.gate.clone();
        tokio::spawn(async move {
            while let Some(Ok(event)) = events.next().await {
                let Event::Changed(changed) = event else { continue };
                let revision = changed.entry.revision.get();
                gate.apply(of.bucket(), changed.key.as_str(), &changed.entry.value, revision).unwrap();
            }
        });
    }
    for (number, (handle, ..)) in (100..).step_by(2).zip(HALL) {
        let (handle, sign_pub) = (handle.parse().unwrap(), identity(handle).sign_pub);
        let user = User { handle, sign_pub, role: Role::User, state: State::Active };
        let put = |key: &str, value: &[u8], revision| {
            node.shared.gate.apply(Bucket::Users, key, value, revision).unwrap();
        };
        put(&claim_key(&sign_pub), &serde_json::to_vec(&user.handle).unwrap(), number);
        let (_, key) = record_key(&Record::User(user.clone()).key());
        put(&key, &serde_json::to_vec(&user).unwrap(), number + 1);
    }
    let (id, by) = ("hall".parse().unwrap(), "owner".parse().unwrap());
    let room = Room::new(id, "room.hall".parse().unwrap(), Policy::CONVERSATION, by);
    write(&*store, Record::Claims(Claims::none(Space::Room).claim(&room.subject, &room.id).unwrap())).await;
    write(&*store, Record::Room(room.clone())).await;
    for (handle, role, state) in HALL {
        let standing = Standing { role, state };
        let by = room.created_by.clone();
        write(&*store, Record::Membership(Membership::new(room.id.clone(), handle.parse().unwrap(), standing, by)))
            .await;
    }
    let last = u64::try_from(HALL.len()).unwrap();
    node.shared.gate.reached(Bucket::Members, last).await;
    node.shared.gate.reached(Bucket::Rooms, 2).await;
}

impl Node {
    /// Asks with a body, and maybe for a revision.
    async fn tell(&self, who: &str, method: &str, target: &str, if_match: Option<&str>, body: &Value) -> Answer {
        let mut fields = Vec::from_iter(if_match.map(|tag| ("if-match", tag)));
        let text = if body.is_null() { String::new() } else { body.to_string() };
        fields.extend((!text.is_empty()).then_some(JSON));
        self.send(signed(who, method, target, &fields, text.as_bytes())).await
    }

    pub(super) async fn say(&self, who: &str, method: &str, target: &str, body: Value) -> Answer {
        self.tell(who, method, target, None, &body).await
    }
}

fn etag(answer: &Answer) -> String {
    answer.headers["etag"].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_room_is_made_changed_and_removed_and_each_answer_has_its_revision() {
    let node = node();
    hall(&node).await;
    let body = json!({ "subject": "rpc.sums", "policy": { "encrypt": false, "persist": false, "sign": false } });
    let made = node.say("alice", "PUT", "/v1/rooms/sums", body.clone()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let (room, tag) = (made.json(), etag(&made));
    assert_eq!(format!("\"{}\"", room["room"]["revision"]), tag);
    assert_eq!((&room["room"]["own"]["role"], &room["room"]["created_by"]), (&json!("owner"), &json!("alice")));
    assert_eq!((&room["changed"], room.get("fence"), &room["waited_ms"]), (&json!(true), None, &json!(0)));
    let again = node.say("alice", "PUT", "/v1/rooms/sums", body).await;
    assert_eq!((again.status.as_u16(), etag(&again), &again.json()["changed"]), (200, tag.clone(), &json!(false)));
    let shown = node.ask("alice", "GET", "/v1/rooms/sums").await;
    assert_eq!((etag(&shown), &shown.json()), (tag.clone(), &room["room"]));

    let patch = json!({ "policy": { "encrypt": true, "persist": false, "sign": false } });
    assert_eq!(node.say("alice", "PATCH", "/v1/rooms/sums", patch.clone()).await.slug(), "precondition-required");
    let stale = node.tell("alice", "PATCH", "/v1/rooms/sums", Some("\"1\""), &patch).await;
    assert_eq!(stale.slug(), "precondition-failed");
    let changed = node.tell("alice", "PATCH", "/v1/rooms/sums", Some(&tag), &patch).await;
    assert_eq!((changed.status.as_u16(), &changed.json()["room"]["policy"]["encrypt"]), (200, &json!(true)));
    assert_eq!(changed.json()["fence"], "waited_out", "who wrote in clear may not any more");
    let spent = node.tell("alice", "DELETE", "/v1/rooms/sums", Some(&tag), &Value::Null).await;
    assert_eq!(spent.slug(), "precondition-failed");
    let removed = node.tell("alice", "DELETE", "/v1/rooms/sums", Some(&etag(&changed)), &Value::Null).await;
    assert_eq!((&removed.json()["room"]["state"], &removed.json()["fence"]), (&json!("removed"), &json!("waited_out")));
    let again = node.ask("alice", "DELETE", "/v1/rooms/sums").await.json();
    assert_eq!((&again["changed"], &again["fence"]), (&json!(false), &json!("waited_out")));
    assert_eq!(node.ask("alice", "GET", "/v1/rooms/sums").await.slug(), "room-removed");
    let reused = node.say("bob", "PUT", "/v1/rooms/sums", json!({ "subject": "rpc.sums" })).await;
    assert_eq!((reused.status.as_u16(), reused.slug().as_str()), (410, "room-removed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn members_come_and_go_and_lists_have_pages() {
    let node = node();
    hall(&node).await;
    let bob = "/v1/rooms/hall/members/bob";
    let invited = node.say("moderator", "PUT", bob, json!({ "role": "reader" })).await;
    assert_eq!((invited.status.as_u16(), &invited.json()["member"]["state"]), (200, &json!("invited")));
    assert_eq!(node.ask("bob", "GET", "/v1/rooms").await.json()["rooms"][0]["own"]["state"], "invited");
    assert_eq!(node.ask("bob", "GET", "/v1/rooms/hall/members").await.slug(), "not-joined");
    let joined = node.ask("bob", "PUT", &format!("{bob}/acceptance")).await;
    assert_eq!(joined.json()["member"]["state"], "joined");
    let again = node.say("bob", "PUT", &format!("{bob}/acceptance"), json!({ "keep_connections": true })).await;
    assert_eq!(again.json()["changed"], false);
    assert_eq!(node.ask("owner", "PUT", &format!("{bob}/acceptance")).await.slug(), "not-oneself");
    let other = node.say("owner", "PUT", bob, json!({ "role": "member" })).await;
    assert_eq!(other.slug(), "already-joined");
    let role = json!({ "role": "member" });
    let raised = node.tell("owner", "PATCH", bob, Some(&etag(&joined)), &role).await.json();
    assert_eq!((&raised["member"]["role"], raised.get("fence")), (&json!("member"), None));
    let lowered = node.tell("owner", "PATCH", bob, Some("*"), &json!({ "role": "reader" })).await.json();
    assert_eq!(lowered["fence"], "waited_out");
    let removed = node.ask("moderator", "DELETE", bob).await.json();
    assert_eq!((&removed["member"]["state"], &removed["fence"]), (&json!("removed"), &json!("waited_out")));
    assert_eq!(node.ask("bob", "GET", "/v1/rooms").await.json()["rooms"], json!([]));

    let banned = node.ask("moderator", "PUT", "/v1/rooms/hall/bans/bob").await.json();
    assert_eq!(banned["member"]["state"], "banned");
    assert_eq!(node.say("owner", "PUT", bob, role).await.slug(), "member-banned");
    let lifted = node.ask("moderator", "DELETE", "/v1/rooms/hall/bans/bob").await.json();
    assert_eq!(lifted["member"]["state"], "removed");
    let left = node.ask("member", "DELETE", "/v1/rooms/hall/members/member").await.json();
    assert_eq!((&left["member"]["state"], &left["member"]["changed_by"]), (&json!("removed"), &json!("member")));

    let again = node.ask("member", "DELETE", "/v1/rooms/hall/members/member").await.json();
    assert_eq!((&again["changed"], &again["fence"]), (&json!(false), &json!("waited_out")), "the first may have died");

    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = node.ask("reader", "GET", &format!("/v1/rooms/hall/members?limit=2{after}")).await.json();
        seen.extend(page["members"].as_array().unwrap().iter().map(|m| m["handle"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ["banned", "invited", "moderator", "owner", "reader"], "neither bob nor who left");
    for room in ["a", "b", "c"] {
        let subject = json!({ "subject": format!("agent.{room}") });
        assert_eq!(node.say("alice", "PUT", &format!("/v1/rooms/{room}"), subject).await.status, 201);
    }
    for (who, all) in [("alice", &["a", "b", "c"][..]), ("admin", &["a", "b", "c", "hall"]), ("owner", &["hall"])] {
        let first = node.ask(who, "GET", "/v1/rooms?limit=1").await.json();
        let mut ids = vec![first["rooms"][0]["id"].clone()];
        if let Some(next) = first["next"].as_str() {
            let rest = node.ask(who, "GET", &format!("/v1/rooms?after={next}")).await.json();
            ids.extend(rest["rooms"].as_array().unwrap().iter().map(|room| room["id"].clone()));
        }
        assert_eq!(ids, all, "{who}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whoever_tries_to_change_what_he_may_not_leaves_a_record() {
    let node = node();
    hall(&node).await;
    assert_eq!(node.ask("alice", "GET", "/v1/rooms/hall/members").await.slug(), "not-member");
    assert_eq!(node.ask("reader", "DELETE", "/v1/rooms/hall/members/member").await.slug(), "role-too-low");
    assert_eq!(node.ask("bob", "DELETE", "/v1/users/alice").await.slug(), "not-admin");
    assert_eq!(node.ask("owner", "DELETE", "/v1/rooms/hall/members/owner").await.slug(), "last-owner");
    let log = node.ask("admin", "GET", "/v1/audit").await.json();
    let said = |record: &Value| {
        ["who", "action", "room", "member", "user", "stage"].map(|part| record[part].as_str().unwrap_or("-").to_owned())
    };
    let records: Vec<_> = log["records"].as_array().unwrap().iter().map(said).collect();
    let wanted = [
        ["reader", "member.remove", "hall", "member", "-", "refused"],
        ["bob", "user.remove", "-", "-", "alice", "refused"],
    ];
    assert_eq!(records, wanted, "neither who looked nor who could not for another reason");
    assert_eq!(log["records"][0]["why"], "needs a higher role in the room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_is_refused_has_a_type_and_changes_nothing() {
    let node = node();
    hall(&node).await;
    let before = node.shared.gate.view(|view| (view.applied(Bucket::Rooms), view.applied(Bucket::Members)));
    let subject = |text: &str| json!({ "subject": text });
    for (wanted, who, method, target, body) in [
        ("subject-taken", "alice", "PUT", "/v1/rooms/new", subject("room.hall")),
        ("subject-nested", "alice", "PUT", "/v1/rooms/new", subject("room.hall.corner")),
        ("subject-wildcard", "alice", "PUT", "/v1/rooms/new", subject("room.*")),
        ("subject-wildcard", "alice", "PUT", "/v1/rooms/new", subject("room.hall.>")),
        ("subject-reserved", "alice", "PUT", "/v1/rooms/new", subject("$JS.API")),
        ("subject-reserved", "alice", "PUT", "/v1/rooms/new", subject("_INBOX.alice")),
        ("bad-subject", "alice", "PUT", "/v1/rooms/new", subject("unibus.event.hall")),
        ("bad-subject", "alice", "PUT", "/v1/rooms/new", subject("room")),
        ("bad-subject", "alice", "PUT", "/v1/rooms/new", subject("")),
        ("bad-subject", "alice", "PUT", "/v1/rooms/new", subject("room.a b")),
        ("bad-json", "alice", "PUT", "/v1/rooms/new", json!({ "subject": 7 })),
        ("bad-json", "alice", "PUT", "/v1/rooms/new", json!({ "subject": "room.a", "policy": { "encrypt": true } })),
        ("bad-json", "alice", "PUT", "/v1/rooms/new", json!({ "subject": "room.a", "owner": "bob" })),
        ("room-exists", "alice", "PUT", "/v1/rooms/hall", subject("room.other")),
        ("not-member", "alice", "GET", "/v1/rooms/hall", Value::Null),
        ("no-such-room", "alice", "GET", "/v1/rooms/nowhere", Value::Null),
        ("no-such-user", "owner", "PUT", "/v1/rooms/hall/members/erin", json!({ "role": "reader" })),
        ("user-inactive", "owner", "PUT", "/v1/rooms/hall/members/gone", json!({ "role": "reader" })),
        ("bad-json", "owner", "PUT", "/v1/rooms/hall/members/bob", json!({ "role": "admin" })),
        ("bad-json", "owner", "PUT", "/v1/rooms/hall/members/bob", json!({})),
        ("media-type", "owner", "PUT", "/v1/rooms/hall/members/bob", Value::Null),
        ("body-unexpected", "owner", "PUT", "/v1/rooms/hall/bans/bob", json!({})),
        ("outranked", "moderator", "PUT", "/v1/rooms/hall/members/bob", json!({ "role": "owner" })),
        ("oneself", "owner", "PUT", "/v1/rooms/hall/bans/owner", Value::Null),
        ("last-owner", "owner", "DELETE", "/v1/rooms/hall/members/owner", Value::Null),
        ("not-invited", "alice", "PUT", "/v1/rooms/hall/members/alice/acceptance", Value::Null),
        ("banned", "banned", "PUT", "/v1/rooms/hall/members/banned/acceptance", Value::Null),
        ("bad-json", "alice", "PUT", "/v1/rooms/hall/members/alice/acceptance", json!({ "keep_connections": 1 })),
        ("bad-json", "alice", "PUT", "/v1/rooms/hall/members/alice/acceptance", json!({ "keep": true })),
        ("not-banned", "owner", "DELETE", "/v1/rooms/hall/bans/member", Value::Null),
        ("not-found", "owner", "GET", "/v1/rooms/hall/members/alice", Value::Null),
    ] {
        let answer = node.say(who, method, target, body.clone()).await;
        assert_eq!(answer.slug(), wanted, "{method} {target} {body} {answer:?}");
    }
    for bad in [".", "..", "*", "%3E", "a%20b", "a.b", "%FF", "%C3%A9", "A", "-a", "a%2Fb", &"a".repeat(65), "%24JS"] {
        for target in [format!("/v1/rooms/{bad}"), format!("/v1/rooms/hall/members/{bad}")] {
            let answer = node.ask("owner", "GET", &target).await;
            assert_eq!((answer.status.as_u16(), answer.slug().as_str()), (400, "bad-path"), "{target}");
        }
    }
    for (none, slug) in
        [("/v1/rooms/", "not-found"), ("/v1/rooms/hall/members/", "not-found"), ("/v1/rooms//members", "bad-path")]
    {
        assert_eq!(node.ask("owner", "GET", none).await.slug(), slug, "{none}");
    }
    assert_eq!(node.ask("owner", "POST", "/v1/rooms/hall").await.slug(), "method-not-allowed");
    let role = json!({ "role": "reader" });
    assert_eq!(
        node.tell("owner", "PATCH", "/v1/rooms/hall/members/alice", Some("*"), &role).await.slug(),
        "not-present"
    );
    let absent = node.tell("owner", "DELETE", "/v1/rooms/hall/members/alice", Some("*"), &Value::Null).await;
    assert_eq!(absent.slug(), "precondition-failed", "there is nothing of her");
    let after = node.shared.gate.view(|view| (view.applied(Bucket::Rooms), view.applied(Bucket::Members)));
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nobody_is_in_more_rooms_and_no_room_has_more_members_than_are_allowed() {
    use unibus_core::domain::limits::{MEMBERS_PER_ROOM, ROOMS_PER_USER};
    let node = node();
    hall(&node).await;
    // All at once: one by one each would be looked at for what it takes away.
    let mut view = View::default();
    let mut put = |entry: Entry| drop(entry.load(&mut view, 9));
    node.shared.gate.view(|was| {
        was.users().for_each(|user| put(Entry::claim(user)));
        let users = was.users().cloned().map(Record::User);
        let rooms = was.rooms().cloned().map(Record::Room).chain(was.all_claims().cloned().map(Record::Claims));
        let members = was.all_memberships().cloned().map(Record::Membership);
        users.chain(rooms).chain(members).for_each(|record| put(Entry::of(&record)));
    });
    for n in 0..ROOMS_PER_USER {
        let name = format!("r{n}");
        put(Entry::of(&Record::Room(room(&name, &format!("proc.{name}"), Policy::CONVERSATION))));
        put(Entry::of(&Record::Membership(member(&name, "alice", RoomRole::Reader, MemberState::Joined))));
    }
    let there = HALL.iter().filter(|(.., state)| state.is_present()).count();
    for n in there..MEMBERS_PER_ROOM {
        let handle = format!("m{n}");
        put(Entry::of(&Record::Membership(member("hall", &handle, RoomRole::Reader, MemberState::Joined))));
    }
    node.shared.gate.replace_view(view);
    node.shared.gate.renew(Instant::now());
    let one_more = node.say("alice", "PUT", "/v1/rooms/one-more", json!({ "subject": "room.more" })).await;
    assert_eq!((one_more.status.as_u16(), one_more.slug().as_str()), (409, "too-many-rooms"));
    let one_more = node.say("owner", "PUT", "/v1/rooms/hall/members/bob", json!({ "role": "reader" })).await;
    assert_eq!((one_more.status.as_u16(), one_more.slug().as_str()), (409, "too-many-members"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bus_that_can_be_reached_from_outside_takes_encrypted_rooms_only() {
    let node = node();
    hall(&node).await;
    let observer = node.shared.observer.clone();
    let mut shared = shared(observer, node.shared.commands.clone());
    assert!(!shared.terms.encrypted_only, "on loopback");
    shared.terms.encrypted_only = true;
    let shared = Arc::new(shared);
    let open = Node { router: router(shared.clone()), shared, faulty: node.faulty.clone(), file: PathBuf::new() };
    let clear = json!({ "subject": "rpc.sums", "policy": { "encrypt": false, "persist": false, "sign": false } });
    let refused = open.say("alice", "PUT", "/v1/rooms/sums", clear).await;
    assert_eq!((refused.status.as_u16(), refused.slug().as_str()), (403, "room-in-clear"));
    assert_eq!(open.say("alice", "PUT", "/v1/rooms/sums", json!({ "subject": "rpc.sums" })).await.status, 201);
}
