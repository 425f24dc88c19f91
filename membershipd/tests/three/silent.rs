//! A member is removed while a node is cut off, or is the only one left; `fence` has those that are killed, start or freeze.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use unibus_client::api::Request;
use unibus_client::identity::Identity;

use crate::cable::Cable;
use crate::common::nats::Client;
use crate::common::requests::{identity, seed_admin};
use crate::nodes::{self, Node};

const ROOM: &str = "room.hall";
/// What a removal may take beside its bound: its request, and a busy machine.
const SLACK: Duration = Duration::from_millis(500);

fn member(handle: &str) -> String {
    format!("/v1/rooms/hall/members/{handle}")
}

/// Makes the room and its members: the owner first.
pub(crate) fn furnish(node: &Node, members: &[Identity]) {
    let root = seed_admin(node);
    let ask = |who: &Identity, request: &Request| node.request(who, request).unwrap();
    for who in members {
        let add = json!({ "sign_pub": who.sign_pub });
        ask(&root, &Request::put(format!("/v1/users/{}", who.handle), Some(add)));
    }
    let (owner, others) = members.split_first().unwrap();
    ask(owner, &Request::put("/v1/rooms/hall", Some(json!({ "subject": ROOM }))));
    for who in others {
        let path = member(who.handle.as_str());
        ask(owner, &Request::put(path.as_str(), Some(json!({ "role": "member" }))));
        ask(who, &Request::put(format!("{path}/acceptance"), None));
    }
}

fn uses_the_room(client: &mut Client, who: &Identity) -> bool {
    client.subscribe(ROOM) && client.publish(&own_subject(who), "x")
}

/// Where a member says what is kept.
fn own_subject(who: &Identity) -> String {
    format!("{ROOM}.{}", who.handle)
}

/// Connects as soon as the node knows that this is a member of the room.
pub(crate) fn joined(node: &Node, who: &Identity) -> Client {
    let found = std::cell::RefCell::new(None);
    node.wait(&format!("rights of {}", who.handle), || {
        let mut client = node.connect(who.nkey_seed(), who.handle.as_str());
        let uses = client.as_mut().is_some_and(|client| uses_the_room(client, who));
        *found.borrow_mut() = client;
        uses
    });
    found.into_inner().unwrap()
}

/// Whether a user of the bus, whom the node admits again, is told no by each way into the room.
pub(crate) fn is_shut_out(node: &Node, who: &Identity) -> bool {
    let mut client = node.connected(who.nkey_seed(), who.handle.as_str());
    !client.subscribe(ROOM) && !client.publish(ROOM, "x") && !client.publish(&own_subject(who), "x")
}

/// Removes a member, which must take no longer than the bound; says how it went.
pub(crate) fn remove(node: &Node, owner: &Identity, who: &Identity, bound: Duration) -> Value {
    let asked = Instant::now();
    let answer = node.request(owner, &Request::delete(member(who.handle.as_str()))).unwrap();
    println!(
        "{} was removed within {:.1?}: {}, {} ms",
        who.handle,
        asked.elapsed(),
        answer["fence"],
        answer["waited_ms"]
    );
    assert_eq!(answer["member"]["state"], "removed", "{answer}");
    assert!(Duration::from_millis(answer["waited_ms"].as_u64().unwrap()) <= bound + SLACK, "{answer}");
    answer
}

#[test]
fn a_removal_ends_in_time_and_holds_whatever_became_of_another_node() {
    // A namespace is a thread's, and this one must not be that of another test.
    let done = thread::spawn(|| at_the_near_end(&Arc::new(Cable::lay()))).join();
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn at_the_near_end(cable: &Arc<Cable>) {
    let [mut magnus, mut homer, mut datardos] = nodes::start_apart(cable);
    let people = ["olga", "dave", "erin"].map(|handle| identity(&magnus, handle));
    furnish(&magnus, &people);
    let [olga, dave, erin] = &people;
    let bound = magnus.bound();

    // Cut off: its clients still reach it, and are served for as long as it may believe that nothing has changed.
    let mut daves = [&magnus, &datardos].map(|node| joined(node, dave));
    let mut erins = [&magnus, &datardos].map(|node| joined(node, erin));
    cable.cut();
    assert!(uses_the_room(&mut daves[1], dave), "a client has lost a node that it reaches");
    let answer = remove(&magnus, olga, dave, bound);
    assert_eq!(answer["fence"], "waited_out", "{answer}");
    assert!(daves.iter_mut().all(|dave| !dave.is_connected()), "dave is connected after his removal");
    assert!(!erins[1].is_connected(), "who cannot prove its view serves nobody");
    assert!(datardos.connect(erin.nkey_seed(), "erin").is_none(), "and admits nobody");
    assert!([&magnus, &homer].iter().all(|node| is_shut_out(node, dave)));

    // Alone: what it cannot do it does not claim to have done.
    homer.kill();
    let remove_erin = Request::delete(member("erin"));
    let refused = magnus.request(olga, &remove_erin).unwrap_err();
    println!("without a quorum: {}: {refused}", refused.code());
    assert!(["unavailable", "unknown-outcome"].contains(&refused.code()), "{refused}");
    assert!(erins[0].is_closed_within(2 * bound.as_secs()), "erin is served without a quorum");
    let refused = magnus.request(olga, &remove_erin).unwrap_err();
    println!("without a lease: {}: {refused}", refused.code());
    assert_eq!(refused.code(), "unavailable", "{refused}");
    assert!(refused.to_string().contains("nothing was changed"), "{refused}");

    // All are back, each with what it knew: of what was acknowledged nothing is undone.
    cable.mend();
    [&mut magnus, &mut homer, &mut datardos].into_iter().for_each(Node::start_if_ended);
    [&magnus, &homer, &datardos].into_iter().for_each(Node::wait_until_current);
    remove(&magnus, olga, erin, bound);
    thread::scope(|scope| {
        for node in [&magnus, &homer, &datardos] {
            scope.spawn(move || {
                for who in [dave, erin] {
                    assert!(is_shut_out(node, who), "{} on {}", who.handle, node.address);
                }
                joined(node, olga);
            });
        }
    });
}
