//! Three nodes that are all asked at once: nothing is given twice, nothing acknowledged is lost, and no member is more than that.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use unibus_client::api::{Client as Api, ClientError, Request};
use unibus_client::identity::Identity;

use crate::common::nats::Client;
use crate::common::requests::{API_PORT, answers, identity, job, python, seed_admin, slug};
use crate::nodes::{self, Node};

/// Writers on the membership of one room.
const WRITERS: usize = 1_000;
/// Users that are made at once.
const ADDING: usize = 200;

#[test]
fn what_is_asked_of_three_nodes_at_once_is_decided_once_and_outlives_them() {
    let flags = ["--api-rate", "1000000", "--api-requests", "1024,512,512", "--api-connections", "2048,1024"];
    let mut nodes = nodes::start(&flags);
    let root = seed_admin(&nodes[0]);
    let people = ["alice", "bob"].map(|handle| identity(&nodes[0], handle));
    let [alice, bob] = &people;
    let clear = json!({ "encrypt": false, "persist": false, "sign": false });
    let mut begin = vec![];
    for who in &people {
        let add = Request::put(format!("/v1/users/{}", who.handle), Some(json!({ "sign_pub": who.sign_pub })));
        begin.push((&root, add));
    }
    for (room, subject) in [("hall", "room.hall"), ("sums", "rpc.sums")] {
        let make = Request::put(format!("/v1/rooms/{room}"), Some(json!({ "subject": subject, "policy": clear })));
        let bobs = format!("/v1/rooms/{room}/members/bob");
        let invite = Request::put(bobs.as_str(), Some(json!({ "role": "member" })));
        begin.extend([(alice, make), (alice, invite), (bob, Request::put(format!("{bobs}/acceptance"), None))]);
    }
    for (who, request) in begin {
        nodes[0].request(who, &request).unwrap();
    }
    for node in &nodes[1..] {
        node.wait("rooms of bob", || {
            let rooms = node.request(bob, &Request::get("/v1/rooms"));
            rooms.is_ok_and(|rooms| rooms["rooms"].as_array().unwrap().len() == 2)
        });
    }

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let held = runtime.block_on(claims(&nodes, alice, bob));
    a_member_is_no_more_than_that(&nodes, alice, bob);
    let members = runtime.block_on(writers(&nodes, &root, alice));

    // What one node took no other one takes.
    let (once, wanted) = (counting_once(&nodes[0], alice), ["nonce-used", "nonce-used"]);
    assert_eq!(sent(&once, &nodes[..1])[0]["handle"], "alice");
    assert_eq!(sent(&once, &nodes[1..]).iter().map(slug).collect::<Vec<_>>(), wanted);

    // All at once are gone, and come back.
    nodes.iter_mut().for_each(Node::kill);
    nodes.iter_mut().for_each(Node::start_again);
    nodes.iter().for_each(|node| node.wait_for_lease());
    let wanted = ["nonce-used"; 3];
    assert_eq!(sent(&once, &nodes).iter().map(slug).collect::<Vec<_>>(), wanted, "after a restart");
    for (node, logged) in nodes.iter().zip([1, 2, 2]) {
        assert_eq!(node.log().lines().filter(|line| line.contains("nonce-used")).count(), logged, "{}", node.log());
        assert_eq!(runtime.block_on(in_the_room(&node.api(alice))), members, "on {}", node.address);
        let rooms = runtime.block_on(node.api(&root).list("/v1/rooms", "rooms")).unwrap();
        let rooms: BTreeSet<String> = rooms.iter().map(|room| room["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(rooms, held, "on {}", node.address);
    }
}

/// Alice on one node and bob on another want the same subject, or one below the other, at the same time. Returns the rooms
/// that there are.
async fn claims(nodes: &[Node; 3], alice: &Identity, bob: &Identity) -> BTreeSet<String> {
    const ROUNDS: usize = 10;
    let (hers, his) = (nodes[0].api(alice), nodes[1].api(bob));
    let mut held = BTreeSet::from(["hall", "sums"].map(str::to_owned));
    let mut won = [0; 2];
    for round in 0..2 * ROUNDS {
        let subject = format!("room.claim{round}");
        let (other, wanted) = if round < ROUNDS {
            (subject.clone(), "subject-taken")
        } else {
            (format!("{subject}.below"), "subject-nested")
        };
        let [first, second] = ["alice", "bob"].map(|who| format!("{who}-{round}"));
        let make =
            |room: &str, subject: &str| Request::put(format!("/v1/rooms/{room}"), Some(json!({ "subject": subject })));
        let (first_asks, second_asks) = (make(&first, &subject), make(&second, &other));
        let both = futures::join!(hers.ask(&first_asks), his.ask(&second_asks));
        match both {
            (Ok(_), Err(refused)) if refused.code() == wanted => (won[0] += 1, held.insert(first)),
            (Err(refused), Ok(_)) if refused.code() == wanted => (won[1] += 1, held.insert(second)),
            other => panic!("round {round}: {other:?}"),
        };
    }
    println!("{} claims: {} were alice's, {} bob's", 2 * ROUNDS, won[0], won[1]);
    held
}

/// With stock clients: alice may hear what is hers and her rooms', and nothing of what is bob's, the engine's or the daemon's.
fn a_member_is_no_more_than_that(nodes: &[Node; 3], alice: &Identity, bob: &Identity) {
    let connect = |node: &Node, who: &Identity| -> Client { node.connected(who.nkey_seed(), who.handle.as_str()) };
    let (mut hers, mut his) = (connect(&nodes[0], alice), connect(&nodes[1], bob));
    for own in ["_INBOX.bob.>", "unibus.user.bob.>", "unibus.event.hall", "room.hall"] {
        assert!(his.subscribe(own), "{own}");
    }
    let spaces = ["_INBOX.bob.>", "_INBOX.bob.x", "_INBOX.*.>", "_INBOX.>", ">", "unibus.user.bob.>", "unibus.user.>"];
    for heard in spaces.into_iter().chain(["unibus.event.>", "$JS.>", "$JS.EVENT.>", "$KV.>", "$O.>", "$SYS.>"]) {
        assert!(!hers.subscribe(heard), "alice may hear {heard}");
    }
    for api in ["STREAM.NAMES", "STREAM.INFO", "STREAM.MSG.GET", "STREAM.PURGE", "DIRECT.GET", "CONSUMER.CREATE"] {
        let api = format!("$JS.API.{api}.KV_UNIBUS_users");
        assert!(!hers.publish(&api, ""), "alice may say {api}");
    }
    assert_eq!(hers.say(json!({ "op": "jetstream_info" }))["ok"], false);
    let event =
        json!({ "schema": 1, "event": "membership_changed", "room": "hall", "handle": "bob", "state": "removed" });
    let told = ["unibus.event.hall", "unibus.user.bob.rights", "unibus.user.alice.rights", "unibus.fence"];
    for said in told.into_iter().chain(["$KV.UNIBUS_users.user.alice", "$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.AUTH"]) {
        assert!(!hers.publish(said, &event.to_string()), "alice may say {said}");
    }
    // What bob hears is what she may say, and what the daemon says.
    assert!(hers.publish("room.hall", "hello"));
    let invite = Request::put("/v1/rooms/hall/members/root", Some(json!({ "role": "reader" })));
    nodes[0].request(alice, &invite).unwrap();
    let heard = his.received(2);
    assert_eq!((heard.len(), &heard[0]), (2, &("room.hall".to_owned(), "hello".to_owned())), "{heard:?}");
    let event: Value = serde_json::from_str(&heard[1].1).unwrap();
    assert_eq!((&event["handle"], &event["state"], &event["by"]), (&json!("root"), &json!("invited"), &json!("alice")));
    assert!(hers.is_connected() && his.is_connected());
}

/// A thousand at once, on all nodes, change who is in the room. Returns the members as they were acknowledged: revision and role.
async fn writers(nodes: &[Node; 3], root: &Identity, alice: &Identity) -> BTreeMap<String, (u64, String)> {
    // Each begins with another node, and asks the next where one cannot say.
    let apis =
        |who: &Identity| [[0, 1, 2], [1, 2, 0], [2, 0, 1]].map(|turn| nodes::api(who, &turn.map(|at| &nodes[at])));
    let handles: Vec<String> = (0..WRITERS).map(|number| format!("w{number}")).collect();
    let begun = std::time::Instant::now();
    let admins = apis(root);
    let add = |(number, handle): (usize, &String)| {
        let (api, mut entropy) = (&admins[number % 3], [7; 64]);
        entropy[..8].copy_from_slice(&number.to_be_bytes());
        let who = Identity::from_entropy(handle.parse().unwrap(), entropy).unwrap();
        let request = Request::put(format!("/v1/users/{handle}"), Some(json!({ "sign_pub": who.sign_pub })));
        async move { api.ask(&request).await.map(drop) }
    };
    let added: Vec<_> = stream::iter(handles.iter().enumerate().map(add)).buffer_unordered(ADDING).collect().await;
    added.into_iter().collect::<Result<Vec<()>, _>>().unwrap();
    println!("{WRITERS} users were made within {:.1?}", begun.elapsed());
    for node in nodes {
        let known = |api: Api| async move { api.list("/v1/users", "users").await.map(|users| users.len()) };
        while known(node.api(root)).await.unwrap() < WRITERS + 3 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    let begun = std::time::Instant::now();
    let owners = apis(alice);
    let invite = |(number, handle): (usize, &String)| {
        let (api, role) = (&owners[number % 3], ["member", "reader"][number % 2]);
        let request = Request::put(format!("/v1/rooms/hall/members/{handle}"), Some(json!({ "role": role })));
        async move { api.ask(&request).await }
    };
    let written = join_all(handles.iter().enumerate().map(invite)).await;
    println!("{WRITERS} writers on one room were done within {:.1?}", begun.elapsed());
    // By connections that are there: those of the writers may still take all the places that one address has.
    let mut members = in_the_room(&owners[0]).await;
    for (handle, written) in handles.iter().zip(written) {
        let member = &written.unwrap()["member"];
        let acknowledged = (member["revision"].as_u64().unwrap(), member["role"].as_str().unwrap().to_owned());
        assert_eq!(members.get(handle), Some(&acknowledged), "{handle}");
    }
    assert_eq!(members.len(), WRITERS + 3, "and nobody else");

    // Of changes to one revision one is made.
    let (revision, role) = members["bob"].clone();
    assert_eq!(role, "member");
    let change = Request::patch("/v1/rooms/hall/members/bob", json!({ "role": "moderator" }), revision);
    let changed = join_all((0..30).map(|number| owners[number % 3].ask(&change))).await;
    let stale = |error: &ClientError| error.code() == "precondition-failed";
    let (made, refused): (Vec<_>, Vec<_>) = changed.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(refused.iter().all(|refused| refused.as_ref().is_err_and(stale)), "{refused:?}");
    let member = &made[0].as_ref().unwrap()["member"];
    members.insert("bob".to_owned(), (member["revision"].as_u64().unwrap(), "moderator".to_owned()));
    members
}

async fn in_the_room(api: &Api) -> BTreeMap<String, (u64, String)> {
    let members = api.list("/v1/rooms/hall/members", "members").await.unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    members.iter().map(|m| (text(&m["handle"]), (m["revision"].as_u64().unwrap(), text(&m["role"])))).collect()
}

/// A request for the name that all nodes have in common: to the byte the same, wherever it is sent.
fn counting_once(node: &Node, who: &Identity) -> Value {
    let mut job = job(node, who, "GET", "/v1/me", &Value::Null);
    let common = format!("localhost:{API_PORT}");
    job["url"] = json!(format!("https://{common}/v1/me"));
    job["change"] = json!({ "headers": { "Host": common } });
    job
}

/// What each of these nodes says to the request.
fn sent(job: &Value, nodes: &[Node]) -> Vec<Value> {
    let to = |node: &Node| {
        let mut job = job.clone();
        job["change"]["url"] = json!(format!("https://{}:{API_PORT}/v1/me", node.address));
        job
    };
    python(&nodes.iter().map(to).collect::<Vec<_>>()).iter().flat_map(answers).collect()
}
