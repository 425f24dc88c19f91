//! `membershipd room` and `member`: the real program against the API of a real daemon, one node after the other.

use std::io::Read;
use std::net::TcpListener;
use std::process::Output;
use std::thread;

use crate::common::requests::{API_PORT, identity, seed_admin};
use crate::common::{Daemon, membershipd, own_address, said};
use serde_json::Value;

/// What people type, as the holders of identity files beside the daemon.
struct Shell<'a> {
    daemon: &'a Daemon,
    /// The nodes that are named, in order.
    urls: String,
}

impl Shell<'_> {
    /// Says `line` as `who`.
    fn run(&self, who: &str, line: &str) -> Output {
        let dir = self.daemon.dir.path();
        membershipd(dir)
            .args(line.split_whitespace())
            .env("UNIBUS_IDENTITY", dir.join(format!("{who}.toml")))
            .env("UNIBUS_URL", &self.urls)
            .env("UNIBUS_CA", dir.join("ca.crt"))
            .output()
            .unwrap()
    }

    /// A line that does what it says; its answer.
    fn done(&self, who: &str, line: &str) -> String {
        let output = self.run(who, line);
        assert!(output.status.success(), "{who}: {line}: {}\n{}", said(&output), self.daemon.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// A line that fails; the word for programs, and what people are told.
    fn fails(&self, who: &str, line: &str) -> (String, String) {
        let output = self.run(who, &format!("{line} --json"));
        assert_eq!(output.status.code(), Some(1), "{who}: {line}: {}", said(&output));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        (answer["error"]["code"].as_str().unwrap().to_owned(), String::from_utf8(output.stderr).unwrap())
    }
}

fn launch() -> Daemon {
    let daemon = Daemon::start_tls();
    seed_admin(&daemon);
    for handle in ["alice", "bob"] {
        let key = identity(&daemon, handle).sign_pub.to_string();
        let added = daemon.ask(&["user", "add", "--handle", handle, "--sign-pub", &key]);
        assert!(added.status.success(), "{}", said(&added));
    }
    daemon
}

#[test]
fn a_room_is_made_filled_changed_and_removed() {
    let daemon = launch();
    // The first node named is not there.
    let absent = own_address();
    let shell =
        Shell { daemon: &daemon, urls: format!("https://{absent}:{API_PORT},https://{}:{API_PORT}", daemon.address) };

    assert!(shell.done("alice", "room list").contains("membershipd room create"), "what to do next");
    let made = shell.done("alice", "room create kitchen --subject room.kitchen --persist false");
    assert!(made.contains("encrypted signed") && made.contains("joined owner"), "{made}");
    assert!(shell.done("alice", "room create kitchen --subject room.kitchen --persist false").contains("so already"));
    shell.done("alice", "member invite kitchen bob --role reader");
    let listed = shell.done("bob", "room list");
    assert!(listed.contains("kitchen") && listed.contains("invited reader"), "{listed}");
    shell.done("bob", "member accept kitchen");
    let promoted = shell.done("alice", "member set-role kitchen bob --role member");
    assert!(promoted.contains("bob") && promoted.contains("member") && !promoted.contains("honours"), "{promoted}");
    let members: Value = serde_json::from_str(&shell.done("bob", "member list kitchen --json")).unwrap();
    let handles: Vec<_> = members["members"].as_array().unwrap().iter().map(|member| &member["handle"]).collect();
    assert_eq!(handles, ["alice", "bob"]);
    let moved = shell.done("alice", "room set kitchen --subject room.galley --persist true");
    assert!(moved.contains("room.galley") && moved.contains("encrypted kept signed"), "{moved}");
    assert!(moved.contains("no node honours"), "the old subject is a right that was lost: {moved}");
    let banned = shell.done("alice", "member ban kitchen bob");
    assert!(banned.contains("banned") && banned.contains("no node honours"), "{banned}");
    assert_eq!(shell.fails("bob", "member accept kitchen").0, "banned");
    shell.done("alice", "member unban kitchen bob");
    shell.done("alice", "member invite kitchen bob --role member");
    shell.done("bob", "member accept kitchen");
    shell.done("bob", "member leave kitchen");
    assert_eq!(shell.fails("alice", "member leave kitchen").0, "last-owner");
    assert_eq!(shell.fails("bob", "room remove kitchen").0, "not-member");
    let removed = shell.done("alice", "room remove kitchen");
    assert!(removed.contains("removed"), "{removed}");
    assert_eq!(shell.fails("alice", "room show kitchen").0, "room-removed");

    let audit = shell.done("root", "audit");
    let begun = audit.lines().find(|line| line.contains("member.ban") && line.contains("begun"));
    assert!(begun.is_some_and(|line| line.contains("alice") && line.contains("kitchen bob")), "{audit}");
    assert_eq!(shell.fails("bob", "audit").0, "not-admin");
    // Root on the node needs no identity, and is told the same.
    let all = |audit: String| serde_json::from_str::<Value>(&audit).unwrap()["records"].clone();
    let on_node = |json: &[&str]| String::from_utf8(daemon.ask(&[&["audit"], json].concat()).stdout).unwrap();
    let (told, through_api) = (all(on_node(&["--json"])), all(shell.done("root", "audit --json")));
    let told = told.as_array().unwrap();
    assert!(told.len() > 20 && through_api.as_array().unwrap().starts_with(told), "{told:?}");
    assert!(on_node(&[]).lines().any(|line| line.contains("root@standalone") && line.contains("user.add")));
}

#[test]
fn what_cannot_be_done_says_why_and_what_is_known() {
    let daemon = launch();
    let dir = daemon.dir.path();
    let at = |urls: String| Shell { daemon: &daemon, urls };
    let shell = at(format!("https://{}:{API_PORT}", daemon.address));
    let (code, what) = shell.fails("alice", "room show attic");
    assert!(code == "no-such-room" && what.contains("see the log of https://"), "{code}: {what}");

    // Bad input is refused before anything is asked.
    for (line, names) in [
        ("room create Kitchen --subject room.kitchen", "Kitchen"),
        ("room create kitchen --subject room.*", "room.*"),
        ("room create kitchen --subject $SYS.x", "$SYS.x"),
        ("room set kitchen", "--subject"),
        ("member invite kitchen bob --role king", "king"),
        ("room list --url http://192.0.2.1:8470", "192.0.2.1"),
    ] {
        let refused = shell.run("alice", line);
        assert_eq!(refused.status.code(), Some(2), "{line}: {}", said(&refused));
        assert!(said(&refused).contains(names), "{line}: {}", said(&refused));
    }
    let nobody = membershipd(dir).args(["room", "list"]).output().unwrap();
    assert!(!nobody.status.success() && said(&nobody).contains("--identity FILE"), "{}", said(&nobody));
    let without_ca = membershipd(dir)
        .args(["room", "list", "--url", &shell.urls, "--identity"])
        .arg(dir.join("alice.toml"))
        .output()
        .unwrap();
    assert!(!without_ca.status.success() && said(&without_ca).contains("--ca FILE"), "{}", said(&without_ca));

    // Nobody there: nothing was done. Somebody who takes the request and says nothing: nobody knows, unless it only reads.
    let absent = format!("http://{}:{API_PORT}", own_address());
    let (code, what) = at(absent).fails("alice", "room create kitchen --subject room.kitchen");
    assert!(code == "unavailable" && what.contains("nothing was changed"), "{code}: {what}");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let taken = thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = silent.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        }
    });
    let (code, what) = at(url.clone()).fails("alice", "room create kitchen --subject room.kitchen");
    assert!(code == "unknown-outcome" && what.contains("repeating is safe"), "{code}: {what}");
    assert_eq!(at(url).fails("alice", "room list").0, "unavailable");
    taken.join().unwrap();
}
