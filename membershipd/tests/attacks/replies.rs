//! Answers that come from elsewhere than the room in which was asked, and requests that are kept from those who answer them.

use crate::common::Daemon;
use crate::common::nats::Client;
use crate::common::requests::{ask, seed_admin, user};
use serde_json::{Value, json};
use unibus_client::identity::Identity;

/// A node with users, and rooms for requests.
struct House {
    daemon: Daemon,
    root: Identity,
}

impl House {
    fn new() -> Self {
        let daemon = Daemon::start(&[]);
        let root = seed_admin(&daemon);
        Self { daemon, root }
    }

    fn user(&self, handle: &str) -> Identity {
        user(&self.daemon, &self.root, handle)
    }

    /// A room in clear of `owner`, whom these others have joined.
    fn room(&self, owner: &Identity, id: &str, others: &[(&Identity, &str)]) {
        let policy = json!({ "encrypt": false, "persist": false, "sign": false });
        let body = json!({ "subject": format!("rpc.{id}"), "policy": policy });
        let made = ask(&self.daemon, owner, "PUT", &format!("/v1/rooms/{id}"), &body);
        assert_eq!(made["changed"], true, "{made}");
        for (who, role) in others {
            let path = format!("/v1/rooms/{id}/members/{}", who.handle);
            ask(&self.daemon, owner, "PUT", &path, &json!({ "role": role }));
            let joined = ask(&self.daemon, who, "PUT", &format!("{path}/acceptance"), &Value::Null);
            assert_eq!(joined["member"]["state"], "joined", "{joined}");
        }
    }

    fn connect(&self, who: &Identity, inbox: &str) -> Client {
        let (client, answer) = Client::connect(&self.daemon, who.nkey_seed(), inbox);
        assert_eq!(answer["ok"], true, "{}: {answer}\n{}", who.handle, self.daemon.log());
        client
    }
}

fn answers(client: &mut Client, subject: &str, with: &str, queue: &str) {
    let answering = client.say(json!({ "op": "respond", "subject": subject, "data": with, "queue": queue }));
    assert_eq!(answering["ok"], true, "{answering}");
}

#[test]
fn a_reply_subject_that_is_guessed_gets_nothing_from_outside_the_room() {
    let house = House::new();
    let [alice, bob, eve] = ["alice", "bob", "eve"].map(|handle| house.user(handle));
    house.room(&alice, "sums", &[(&bob, "member")]);
    house.room(&alice, "shared", &[(&eve, "member")]);
    let mut asking = house.connect(&alice, "_INBOX.alice.sums");
    let [mut bob, mut eve] = [house.connect(&bob, "_INBOX.bob"), house.connect(&eve, "_INBOX.eve")];
    answers(&mut bob, "rpc.sums", "=4", "");

    // Whatever eve knows: that it is the very subject on which alice waits is as far as a guess can get.
    assert!(asking.subscribe("_INBOX.alice.>"));
    for guessed in
        ["_INBOX.alice.sums.guessed", "_INBOX.alice.sums.guessed.1", "_INBOX.alice.guessed", "_INBOX.alice.sums"]
    {
        assert!(!eve.publish(guessed, "forged"), "{guessed}");
    }
    assert!(eve.publish("_INBOX.alice.shared.x", "from the room in which both are"));
    let heard = asking.received(1);
    assert_eq!(heard.len(), 1, "{heard:?}");
    let answered = asking.say(json!({ "op": "request", "subject": "rpc.sums", "data": "2+2" }));
    assert_eq!(answered["data"], "2+2=4", "{answered}");

    // An inbox that names no room hears no answer at all.
    let mut anywhere = house.connect(&alice, "_INBOX.alice");
    let silence = anywhere.say(json!({ "op": "request", "subject": "rpc.sums", "data": "2+2", "timeout": 0.5 }));
    assert_eq!(silence["ok"], false, "{silence}");
}

#[test]
fn a_reader_in_the_queue_group_of_those_who_answer_gets_nothing() {
    let house = House::new();
    let [alice, bob, mallory] = ["alice", "bob", "mallory"].map(|handle| house.user(handle));
    house.room(&alice, "sums", &[(&bob, "member"), (&mallory, "reader")]);
    let mut reading = house.connect(&mallory, "_INBOX.mallory");
    for subject in ["rpc.sums", "rpc.sums.>", "rpc.sums.*", "rpc.sums.more", "rpc.>", "unibus.event.sums"] {
        let joined = reading.say(json!({ "op": "subscribe", "subject": subject, "queue": "workers" }));
        assert_eq!(joined["ok"], false, "{subject}: {joined}");
    }
    // The engine says so, and takes nothing of it back.
    let mut asking = house.connect(&alice, "_INBOX.alice.sums");
    let mut workers = [house.connect(&bob, "_INBOX.bob"), house.connect(&bob, "_INBOX.bob")];
    workers.iter_mut().for_each(|worker| answers(worker, "rpc.sums", "!", "workers"));
    for number in 0..20 {
        let answered = asking.say(json!({ "op": "request", "subject": "rpc.sums", "data": number.to_string() }));
        assert_eq!(answered["data"], format!("{number}!"), "{answered}");
    }
    assert!(reading.subscribe("rpc.sums"), "a reader hears what all hear");
    assert!(asking.publish("rpc.sums", "heard"));
    assert_eq!(reading.received(1), [("rpc.sums".to_owned(), "heard".to_owned())]);
}
