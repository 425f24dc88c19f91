//! What `tail` shows of a room, and to whom it is new: read marks, ends of pages and of pipes, attachments, what came before one joined.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::common::said;
use crate::conversations::Place;

/// A `tail`, which a test that fails leaves behind for no longer than itself.
struct Tail(Child);

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A `tail` of `who`, and the lines that it shows.
fn tail(place: &Place, who: &str) -> (Tail, BufReader<std::process::ChildStdout>) {
    let mut child = place.command(who, &["tail", "kitchen"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (Tail(child), lines)
}

/// What `tail kitchen --no-follow` and more arguments show to people, and what they are told beside it.
fn shown(place: &Place, who: &str, arguments: &[&str]) -> (Vec<String>, String) {
    let output = place.run(who, &[&["tail", "kitchen", "--no-follow"], arguments].concat());
    assert!(output.status.success(), "{}\n{}", said(&output), place.daemon.log());
    // Date, time and sender come first.
    let text = |line: &str| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned();
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(text).collect();
    (lines, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn history_is_shown_to_its_end_however_long_its_messages_are() {
    let place = Place::new(&["alice", "bob"]);
    let mut child = place.command("alice", &["say", "kitchen"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for number in 0..12 {
        writeln!(stdin, "{number:02}{}", "x".repeat(200_000)).unwrap();
    }
    drop(stdin);
    assert!(child.wait().unwrap().success(), "{}", place.daemon.log());
    let wanted: Vec<String> = (0..12).map(|number| format!("{number:02}")).collect();
    let heads = |texts: Vec<String>| texts.iter().map(|text| text[..2].to_owned()).collect::<Vec<_>>();
    assert_eq!(heads(place.texts("bob")), wanted);
    assert_eq!(heads(shown(&place, "bob", &[]).0), wanted);
    assert_eq!(heads(shown(&place, "bob", &["--last", "11"]).0), wanted[1..]);
}

#[test]
fn tail_ends_when_its_reader_has_had_enough() {
    let place = Place::new(&["alice", "bob"]);
    place.say("alice", "one");
    place.say("alice", "two");
    let (mut tail, mut lines) = tail(&place, "bob");
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    assert!(first.ends_with(" alice one\n"), "{first}");
    // Nothing more is said, so no write of it tells that the reader is gone.
    drop(lines);
    let deadline = Instant::now() + Duration::from_secs(20);
    let ended = loop {
        if let Some(ended) = tail.0.try_wait().unwrap() {
            break ended;
        }
        assert!(Instant::now() < deadline, "tail goes on without a reader");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(ended.success(), "{ended}");
}

#[test]
fn people_see_what_is_new_since_they_last_looked() {
    let place = Place::new(&["alice", "bob"]);
    place.say("alice", "one");
    place.say("alice", "two\nof two lines");
    assert_eq!(shown(&place, "bob", &[]).0, ["one", "two", " | of two lines"]);
    let file = place.daemon.dir.path().join("bob.toml.read");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let (none, told) = shown(&place, "bob", &[]);
    assert!(none.is_empty() && told.contains("nothing new in kitchen"), "{none:?} {told}");

    place.say("alice", "three");
    place.say("bob", "four");
    let new = |who: &str| {
        let list = place.good(who, &["room", "list"]);
        list.lines().find(|line| line.starts_with("kitchen")).unwrap().split_whitespace().last().unwrap().to_owned()
    };
    // What one has said oneself is not new. Alice has said three and read nothing.
    assert_eq!((new("bob"), new("alice")), ("1".to_owned(), "1".to_owned()));
    assert_eq!(shown(&place, "bob", &["--count", "1"]).0, ["three"]);
    assert_eq!(shown(&place, "bob", &[]).0, ["four"]);
    assert_eq!(new("bob"), "-");
    for all in [&["--all"][..], &["--since", "1h"], &["--after", "0"], &["--last", "200"]] {
        assert_eq!(shown(&place, "bob", all).0.len(), 5, "{all:?}");
    }
    assert_eq!(shown(&place, "bob", &["--last", "1"]).0, ["four"]);
    assert!(shown(&place, "bob", &["--since", "2100-01-01"]).0.is_empty());
    // Programs say where they begin, and move no mark.
    for _ in 0..2 {
        assert_eq!(place.texts("bob"), ["one", "two\nof two lines", "three", "four"]);
    }

    // What was shown when it came is not shown again, although it was not read from the history.
    let (tail, mut lines) = tail(&place, "bob");
    place.say("alice", "live");
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.ends_with(" alice live\n"), "{line}");
    place.daemon.wait("mark of what was shown", || new("bob") == "-");
    drop(tail);
    let (none, told) = shown(&place, "bob", &[]);
    assert!(none.is_empty() && told.contains("nothing new"), "{none:?} {told}");
}

#[test]
fn what_was_said_before_one_joined_is_called_that() {
    let place = Place::new(&["alice", "bob"]);
    place.say("alice", "before");
    place.say("bob", "before, too");
    let key = place.daemon.identity("carol");
    assert!(place.daemon.ask(&["user", "add", "--handle", "carol", "--sign-pub", &key]).status.success());
    place.join("alice", "carol");
    let before = "2 messages were said in kitchen before you joined";
    let (none, told) = shown(&place, "carol", &[]);
    assert!(none.is_empty() && told.contains(before), "{none:?} {told}");
    place.say("alice", "welcome");
    let (texts, told) = shown(&place, "carol", &["--all"]);
    assert!(texts == ["welcome"] && told.contains(before), "{texts:?} {told}");
    place.good("alice", &["member", "remove", "kitchen", "carol"]);
    place.say("alice", "carol is away");
    place.join("alice", "carol");
    place.say("alice", "welcome back");
    let (texts, told) = shown(&place, "carol", &["--all"]);
    assert_eq!(texts, ["welcome", "welcome back"]);
    assert!(told.contains(before) && told.contains("1 message was said in kitchen while you were not in it"), "{told}");
}

#[test]
fn attachment_of_exactly_16_mib_is_taken_and_announced_by_its_name() {
    let place = Place::new(&["alice", "bob"]);
    let most = 16 << 20;
    let bytes: Vec<u8> = (0..most).map(|at: u32| at.to_le_bytes()[(at % 3) as usize]).collect();
    let path = place.daemon.dir.path().join("big.bin");
    std::fs::write(&path, &bytes).unwrap();
    let put = place.good("alice", &["blob", "put", "kitchen", "big.bin", "--name", "plan b.bin"]);
    assert!(put.contains("the room was told: plan b.bin (16 MiB)"), "{put}");
    let sha256 = put.lines().next().unwrap();
    let (texts, _) = shown(&place, "bob", &[]);
    let announced = format!("[attachment] plan b.bin (16 MiB) — membershipd blob get kitchen {sha256} --out FILE");
    assert_eq!(texts, [announced]);
    let got = place.good("bob", &["blob", "get", "kitchen", sha256, "--out", "got.bin"]);
    assert!(got.contains("16 MiB are in got.bin"), "{got}");
    assert!(std::fs::read(place.daemon.dir.path().join("got.bin")).unwrap() == bytes);
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"x").unwrap();
    let more = place.run("alice", &["blob", "put", "kitchen", "big.bin"]);
    assert!(!more.status.success() && said(&more).contains("more than the 16 MiB"), "{}", said(&more));
    let bad = place.run("alice", &["blob", "put", "kitchen", "big.bin", "--name", "a/b"]);
    assert_eq!(bad.status.code(), Some(2), "{}", said(&bad));

    // Who joined later has no key for it, and is told why.
    let key = place.daemon.identity("carol");
    assert!(place.daemon.ask(&["user", "add", "--handle", "carol", "--sign-pub", &key]).status.success());
    place.join("alice", "carol");
    let refused = place.run("carol", &["blob", "get", "kitchen", sha256, "--out", "hers.bin"]);
    assert!(said(&refused).contains("before you joined kitchen"), "{}", said(&refused));
}
