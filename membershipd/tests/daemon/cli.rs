//! `membershipd room` and `member`: the real program against the API of a real daemon, one node after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::requests::{API_PORT, identity, seed_admin};
use crate::common::{Authority, Daemon, TLS, membershipd, own_address, said};
use serde_json::{Value, json};

/// What people type, as the holders of identity files beside the daemon.
struct Shell<'a> {
    daemon: &'a Daemon,
    /// The nodes that are named, in order.
    urls: String,
}

impl Shell<'_> {
    fn command(&self, who: &str, line: &str) -> Command {
        let dir = self.daemon.dir.path();
        let mut command = membershipd(dir);
        command.args(line.split_whitespace()).env("UNIBUS_IDENTITY", dir.join(format!("{who}.toml")));
        command.env("UNIBUS_URL", &self.urls).env("UNIBUS_CA", dir.join("ca.crt"));
        command
    }

    /// Says `line` as `who`.
    fn run(&self, who: &str, line: &str) -> Output {
        self.command(who, line).output().unwrap()
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
    assert!(code == "no-such-room" && what.contains("there is no room attic (you are in no room)"), "{code}: {what}");
    assert!(!what.contains(" log"), "a log is for operators: {what}");

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
    let (url, taken) = node_that_takes(1);
    let (code, what) = at(url).fails("alice", "room create kitchen --subject room.kitchen");
    assert!(code == "unknown-outcome" && what.contains("repeating is safe"), "{code}: {what}");
    assert_eq!(taken.join().unwrap(), ["GET /livez HTTP/1.1", "PUT /v1/rooms/kitchen HTTP/1.1"]);
    // One that does not even say that it is there is not given the change.
    let (url, taken) = node_that_takes(0);
    let (code, what) = at(url).fails("alice", "room create kitchen --subject room.kitchen");
    assert!(code == "unavailable" && what.contains("nothing was changed"), "{code}: {what}");
    assert_eq!(taken.join().unwrap(), ["GET /livez HTTP/1.1"]);
}

/// A node that answers so many requests, takes another one, and says nothing. In the end it tells what it was asked.
fn node_that_takes(answers: usize) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let take = move || {
        let (mut asked, mut streams) = (Vec::new(), Vec::new());
        while asked.len() <= answers {
            // Each on a connection of its own.
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap();
            let head = String::from_utf8_lossy(&head[..length]);
            asked.push(head.lines().next().unwrap_or_default().to_owned());
            if asked.len() <= answers {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
            }
            streams.push(stream);
        }
        // Until the client gives up.
        let _ = streams.last_mut().unwrap().read_to_end(&mut Vec::new());
        asked
    };
    (url, thread::spawn(take))
}

#[test]
fn command_waits_for_a_node_and_says_so() {
    let daemon = launch();
    let shell = Shell { daemon: &daemon, urls: format!("https://{}:{API_PORT}", daemon.address) };
    shell.done("alice", "room create kitchen --subject room.kitchen");
    let (address, dir) = (daemon.address, daemon.stop());
    let asked = |wait: &str| {
        let mut command = membershipd(dir.path());
        command.args(["room", "show", "kitchen", "--identity", "alice.toml", "--ca", "ca.crt", "--wait", wait]);
        command.args(["--url", &format!("https://{address}:{API_PORT}")]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // For so long as is said, and no longer.
    let begun = Instant::now();
    let output = asked("1").wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(told.contains("asking again for up to 1 s"), "{told}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());

    let mut waiting = asked("60");
    let mut lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let told = lines.next().unwrap().unwrap();
    assert!(told.contains("no node can do it now") && told.contains("for up to 60 s"), "{told}");
    let daemon = Daemon::launch(dir, address, &TLS);
    let output = waiting.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{}", said(&output), daemon.log());
    assert!(said(&output).contains("room.kitchen"), "{}", said(&output));

    // A certificate of another CA is no matter of time.
    Authority::new(&daemon.dir);
    let begun = Instant::now();
    let mut command = membershipd(daemon.dir.path());
    command.args(["room", "list", "--identity", "alice.toml", "--ca", "ca.crt", "--wait", "60"]);
    let output = command.args(["--url", &format!("https://{address}:{API_PORT}")]).output().unwrap();
    assert!(!output.status.success() && said(&output).contains("certificate"), "{}", said(&output));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn people_are_told_in_words_what_they_can_do_something_with() {
    let daemon = launch();
    let shell = Shell { daemon: &daemon, urls: format!("https://{}:{API_PORT}", daemon.address) };
    shell.done("alice", "room create kitchen --subject room.kitchen");
    shell.done("alice", "room create hall --subject room.hall");

    // Only one's own rooms are named.
    let (_, told) = shell.fails("alice", "tail kitcen --no-follow");
    assert!(told.contains("there is no room kitcen (you are in kitchen)"), "{told}");
    let (_, told) = shell.fails("alice", "say attic x");
    assert!(told.contains("there is no room attic (you are in hall and kitchen)"), "{told}");
    let (_, told) = shell.fails("bob", "room show kitcen");
    assert!(told.contains("there is no room kitcen (you are in no room)"), "{told}");

    let (code, told) = shell.fails("bob", "tail kitchen --no-follow");
    assert!(code == "not-member" && told.contains("you are not in kitchen"), "{code}: {told}");
    shell.done("alice", "member invite kitchen bob");
    let (_, told) = shell.fails("bob", "tail kitchen --no-follow");
    assert!(told.contains("membershipd member accept kitchen"), "{told}");
    shell.done("bob", "member accept kitchen");
    shell.done("alice", "member remove kitchen bob");
    for line in ["tail kitchen --no-follow", "say kitchen x", "room show kitchen", "blob list kitchen"] {
        let (code, told) = shell.fails("bob", line);
        assert!(code == "not-member" && told.contains("you were removed from kitchen by alice"), "{line}: {told}");
        assert!(told.contains("invite you again") && !told.contains(" log"), "{line}: {told}");
    }
    shell.done("root", "member ban kitchen bob");
    let (code, told) = shell.fails("bob", "say kitchen x");
    assert!(code == "banned" && told.contains("you were banned from kitchen by root"), "{code}: {told}");
    shell.done("alice", "member invite hall bob");
    shell.done("bob", "member accept hall");
    shell.done("bob", "member leave hall");
    let (_, told) = shell.fails("bob", "say hall x");
    assert!(told.contains("you left hall"), "{told}");
    // It is told to whose membership it was, and to no other user.
    let asked = shell.fails("alice", "member set-role hall bob --role reader");
    assert!(!asked.1.contains("you left") && !asked.1.contains("removed from"), "{asked:?}");
    let (_, told) = shell.fails("root", "tail hall --no-follow");
    assert!(told.contains("you are not in hall"), "{told}");

    let (code, told) = shell.fails("alice", "member invite hall bbo");
    assert!(code == "no-such-user" && told.contains("there is no user 'bbo'"), "{code}: {told}");
    let (code, told) = shell.fails("alice", "audit");
    assert!(code == "not-admin" && told.contains("only an admin of the bus"), "{code}: {told}");
}

#[test]
fn invitations_are_steps_that_each_say_what_came_of_them() {
    let daemon = launch();
    let shell = Shell { daemon: &daemon, urls: format!("https://{}:{API_PORT}", daemon.address) };
    let create = "room create kitchen --subject room.kitchen";
    let some = shell.run("alice", &format!("{create} --invite bob --invite nemo --invite root"));
    assert_eq!(some.status.code(), Some(1), "{}", said(&some));
    let (out, told) = (String::from_utf8_lossy(&some.stdout), String::from_utf8_lossy(&some.stderr));
    assert!(out.contains("bob is invited to kitchen as member"), "{out}");
    assert!(out.contains("root is invited to kitchen as member"), "later ones are invited all the same: {out}");
    assert!(out.contains("next, as bob: membershipd tail kitchen --accept"), "{out}");
    assert!(told.contains("nemo was not invited: there is no user 'nemo'") && told.contains("remedy: "), "{told}");
    assert!(!out.contains("there already"), "{out}");

    let again = shell.done("alice", &format!("{create} --invite bob"));
    assert!(again.contains("the room was there already") && !again.contains("nothing to do"), "{again}");
    assert!(again.contains("bob was invited to kitchen before"), "{again}");
    shell.done("bob", "member accept kitchen");
    let several = shell.done("alice", "member invite kitchen bob root --role member");
    assert!(several.contains("bob is in kitchen already") && several.contains("root was invited"), "{several}");

    // Programs have one answer: to one invitation as ever, to several a list of them.
    let one: Value = serde_json::from_str(&shell.done("alice", "member invite kitchen root --json")).unwrap();
    assert_eq!((&one["member"]["role"], &one["changed"]), (&json!("member"), &json!(false)));
    let some = shell.run("alice", "room create hall --subject room.hall --invite nemo --invite bob --json");
    assert_eq!(some.status.code(), Some(1), "{}", said(&some));
    let some: Value = serde_json::from_slice(&some.stdout).unwrap();
    assert_eq!((&some["room"]["id"], &some["changed"]), (&json!("hall"), &json!(true)));
    assert_eq!(
        (&some["invited"][0]["handle"], &some["invited"][0]["error"]["code"]),
        (&json!("nemo"), &json!("no-such-user"))
    );
    assert_eq!(some["invited"][1]["member"]["handle"], "bob");
}

#[test]
fn verb_says_that_its_words_were_lost_unless_their_reader_had_enough() {
    let daemon = launch();
    let shell = Shell { daemon: &daemon, urls: format!("https://{}:{API_PORT}", daemon.address) };
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let list = |out: Stdio| {
        let mut command = shell.command("alice", "room list");
        command.stdout(out).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
    };
    let lost = list(full.into());
    assert!(
        lost.status.code() == Some(1) && said(&lost).contains("cannot write to standard output"),
        "{}",
        said(&lost)
    );
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let enough = list(writer.into());
    assert!(enough.status.success() && enough.stderr.is_empty(), "{}", said(&enough));
    // What was asked for is done all the same.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = shell.command("alice", "room create kitchen --subject room.kitchen --invite bob");
    assert!(command.stdout(writer).status().unwrap().success());
    assert!(shell.done("bob", "room list").contains("invited member"));
}
