//! The examples in Python and JavaScript on three nodes: they talk from node to node, and go on when one of them dies.

use crate::common::examples::{JavaScript, Python, Rust, Talker};
use crate::common::{Daemon, alive, said, signal};
use crate::nodes;
use rustix::process::Signal;

#[test]
fn clients_in_three_languages_talk_across_nodes_and_miss_nothing_when_one_dies() {
    let nodes = nodes::start(&[]);
    let raised = nodes[0].ask(&["level", "raise"]);
    assert!(raised.status.success(), "{}", said(&raised));
    let people = [("alice", 0), ("pia", 1), ("jo", 2)];
    for (who, at) in people {
        let key = nodes[at].identity(who);
        let added = nodes[0].ask(&["user", "add", "--handle", who, "--sign-pub", &key]);
        assert!(added.status.success(), "{}", said(&added));
    }
    // Each has a node of his own, and goes to the last one where that is gone.
    let talker = |language, (who, at): (&'static str, usize)| {
        let nodes: Vec<&Daemon> = vec![&nodes[at], &nodes[2]];
        Talker { language, who, nodes }
    };
    let (alice, pia, jo) = (talker(Rust, people[0]), talker(Python, people[1]), talker(JavaScript, people[2]));
    alice.good(&["room", "create", "kitchen", "--subject", "room.kitchen"]);
    for &(who, at) in &people[1..] {
        alice.good(&["member", "invite", "kitchen", who, "--role", "member"]);
        talker(Rust, (who, at)).good(&["member", "accept", "kitchen"]);
    }
    alice.say("first");
    let mut tails = [alice.tail(), pia.tail(), jo.tail()];
    let mut heard = |who: &str, text: &str| {
        for tail in &mut tails {
            assert_eq!(tail.next(), (who.to_owned(), text.to_owned()));
        }
    };
    heard("alice", "first");
    for (who, text) in [(&pia, "from Python"), (&jo, "from JavaScript"), (&alice, "from Rust")] {
        who.say(text);
        heard(who.who, text);
    }
    let engine = nodes[1].engine_pid().unwrap();
    signal(nodes[1].child.id(), Signal::KILL);
    nodes[1].wait("end of the engine", || !alive(engine));
    for who in [&jo, &pia, &alice] {
        who.say("with two nodes");
        heard(who.who, "with two nodes");
    }
}
