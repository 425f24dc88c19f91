//! A colleague leaves: what one user owns goes to another by `user hand-over`, and by no right that an admin did not have before.

use crate::common::requests::{API_PORT, ask, seed_admin, user};
use crate::common::{Daemon, membershipd, said};
use serde_json::{Value, json};
use unibus_client::identity::Identity;

fn hand_over(daemon: &Daemon, who: &str, flags: &str) -> std::process::Output {
    let line = format!("user hand-over {flags}");
    membershipd(daemon.dir.path())
        .args(line.split_whitespace())
        .env("UNIBUS_IDENTITY", format!("{who}.toml"))
        .env("UNIBUS_URL", format!("http://{}:{API_PORT}", daemon.address))
        .output()
        .unwrap()
}

/// A room of `owner`, with these members, who have accepted.
fn room(daemon: &Daemon, owner: &Identity, id: &str, members: &[(&Identity, &str)]) {
    let made = ask(daemon, owner, "PUT", &format!("/v1/rooms/{id}"), &json!({ "subject": format!("room.{id}") }));
    assert_eq!(made["changed"], true, "{made}");
    for (member, role) in members {
        let path = format!("/v1/rooms/{id}/members/{}", member.handle);
        ask(daemon, owner, "PUT", &path, &json!({ "role": role }));
        let accepted = ask(daemon, member, "PUT", &format!("{path}/acceptance"), &Value::Null);
        assert_eq!(accepted["member"]["state"], "joined", "{accepted}");
    }
}

#[test]
fn rooms_of_who_leaves_go_to_a_member_and_none_is_left_without_an_owner_unnoticed() {
    let daemon = Daemon::start(&[]);
    let root = seed_admin(&daemon);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|handle| user(&daemon, &root, handle));
    room(&daemon, &alice, "hall", &[(&bob, "reader")]);
    room(&daemon, &alice, "shared", &[(&carol, "owner")]);
    room(&daemon, &alice, "kitchen", &[(&carol, "member")]);
    room(&daemon, &alice, "attic", &[]);
    room(&daemon, &bob, "other", &[]);
    let role = |room: &str, handle: &str| {
        let member = ask(&daemon, &root, "GET", &format!("/v1/rooms/{room}/members/{handle}"), &Value::Null);
        member["role"].as_str().unwrap_or_default().to_owned()
    };

    let from_to = "--from alice --to bob";
    let plan = hand_over(&daemon, "root", from_to);
    assert!(plan.status.success(), "{}", said(&plan));
    for words in [
        "is in 4 rooms",
        "hall (owner): bob becomes its owner",
        "shared (owner): goes on",
        "kitchen (owner): will have no owner: first, as alice, 'membershipd member invite kitchen bob --role owner'",
        "attic (owner): alice is alone in it",
        "nothing was changed",
    ] {
        assert!(said(&plan).contains(words), "{words}: {}", said(&plan));
    }
    assert!(!said(&plan).contains("other ("), "{}", said(&plan));

    // Two rooms would be lost: that is refused, and nothing is changed.
    let refused = hand_over(&daemon, "root", &format!("{from_to} --yes"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("attic, kitchen would have no owner") || said(&refused).contains("kitchen, attic"));
    let state =
        |handle: &str| ask(&daemon, &root, "GET", &format!("/v1/users/{handle}"), &Value::Null)["state"].clone();
    assert_eq!((state("alice"), role("hall", "bob")), (json!("active"), "reader".to_owned()));
    for (who, flags, why) in [
        ("alice", from_to, "an admin who stays does it"),
        ("bob", "--from alice --to carol", "only an admin of the bus may"),
        ("root", "--from alice --to alice", "the same user"),
        ("root", "--from alice --to nobody", "no active user"),
        ("root", "--from nobody --to bob", "there is no user nobody"),
    ] {
        let done = hand_over(&daemon, who, flags);
        assert_eq!(done.status.code(), Some(1), "{flags}");
        assert!(said(&done).contains(why), "{why}: {}", said(&done));
    }

    // What the plan says, for one of them; the other is given up.
    let path = "/v1/rooms/kitchen/members/bob";
    ask(&daemon, &alice, "PUT", path, &json!({ "role": "owner" }));
    ask(&daemon, &bob, "PUT", &format!("{path}/acceptance"), &Value::Null);
    let removed = ask(&daemon, &root, "DELETE", "/v1/rooms/attic", &Value::Null);
    assert_eq!(removed["room"]["state"], "removed", "{removed}");
    let done = hand_over(&daemon, "root", &format!("{from_to} --yes"));
    assert!(done.status.success(), "{}", said(&done));
    assert!(said(&done).contains("hall: bob is its owner now"), "{}", said(&done));
    assert_eq!(
        (state("alice"), role("hall", "bob"), role("kitchen", "bob")),
        (json!("disabled"), "owner".into(), "owner".into())
    );
    assert_eq!(role("shared", "bob"), "", "what goes on is left alone");

    // Again it changes nothing, and one that broke off is completed so.
    let again = hand_over(&daemon, "root", &format!("{from_to} --yes --json"));
    assert!(again.status.success(), "{}", said(&again));
    let answer: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((&answer["done"], &answer["state"]), (&json!(true), &json!("disabled")), "{answer}");
}
