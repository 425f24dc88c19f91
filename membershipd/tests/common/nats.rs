//! A stock NATS client, nats-py or nats.js, driven line by line.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::Daemon;

pub struct Client {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    /// Connects with the seed; how it went is the answer.
    pub fn connect(daemon: &Daemon, seed: &str, inbox: &str) -> (Self, Value) {
        Self::connect_trusting(daemon, None, seed, inbox)
    }

    /// The same over TLS, with this CA.
    pub fn connect_trusting(daemon: &Daemon, ca: Option<&Path>, seed: &str, inbox: &str) -> (Self, Value) {
        let mut python = program("python3", "nats_client.py");
        python.env("PYTHONPATH", packages("UNIBUS_TEST_PYTHON")).env("PYTHONDONTWRITEBYTECODE", "1");
        Self::drive(python, daemon, ca, seed, inbox)
    }

    /// A client in JavaScript, over TLS.
    pub fn connect_js(daemon: &Daemon, ca: &Path, seed: &str, inbox: &str) -> (Self, Value) {
        let mut node = program("node", "nats_client.js");
        node.env("UNIBUS_TEST_JS", packages("UNIBUS_TEST_JS"));
        Self::drive(node, daemon, Some(ca), seed, inbox)
    }

    fn drive(mut program: Command, daemon: &Daemon, ca: Option<&Path>, seed: &str, inbox: &str) -> (Self, Value) {
        let mut process = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (commands, answers) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut client = Self { process, commands, answers };
        let scheme = if ca.is_some() { "tls" } else { "nats" };
        let url = format!("{scheme}://{}:4250", daemon.address);
        let answer = client.say(json!({ "op": "connect", "url": url, "ca": ca, "seed": seed, "inbox": inbox }));
        (client, answer)
    }

    /// Sends a request; what it was answered.
    pub fn request(&mut self, subject: &str, data: &str) -> Value {
        self.say(json!({ "op": "request", "subject": subject, "data": data }))
    }

    pub fn say(&mut self, command: Value) -> Value {
        writeln!(self.commands, "{command}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("the client ended at {command}"))
    }

    pub fn publish(&mut self, subject: &str, data: &str) -> bool {
        self.say(json!({ "op": "publish", "subject": subject, "data": data }))["ok"] == true
    }

    pub fn subscribe(&mut self, subject: &str) -> bool {
        self.say(json!({ "op": "subscribe", "subject": subject }))["ok"] == true
    }

    /// The messages so far, at least `count` of them.
    pub fn received(&mut self, count: usize) -> Vec<(String, String)> {
        let answer = self.say(json!({ "op": "wait_received", "count": count, "timeout": 10 }));
        assert_eq!(answer["ok"], true, "not {count} messages: {answer}");
        serde_json::from_value(answer["received"].clone()).unwrap()
    }

    pub fn is_connected(&mut self) -> bool {
        self.say(json!({ "op": "state" }))["connected"] == true
    }

    pub fn is_closed_within(&mut self, seconds: u64) -> bool {
        self.say(json!({ "op": "wait_closed", "timeout": seconds }))["ok"] == true
    }
}

/// What the engine of a daemon, whose secrets lie in its directory, says on the system account.
pub fn ask_engine(daemon: &Daemon, what: &str, body: &Value) -> Value {
    let secret = |file: &str| std::fs::read_to_string(daemon.dir.path().join("secrets").join(file)).unwrap();
    let ca = daemon.dir.path().join("ca.crt");
    let ca = ca.is_file().then_some(ca.as_path());
    let (mut client, answer) = Client::connect_trusting(daemon, ca, secret("system.nk").trim(), "_INBOX.test");
    assert_eq!(answer["ok"], true, "{answer}");
    let id = client.say(json!({ "op": "state" }))["server_id"].as_str().unwrap().to_owned();
    let answer = client.request(&format!("$SYS.REQ.SERVER.{id}.{what}"), &body.to_string());
    let answer: Value = serde_json::from_str(answer["data"].as_str().unwrap_or_default()).unwrap_or_default();
    assert!(answer["data"].is_object(), "{what} was answered {answer}");
    answer["data"].clone()
}

fn program(name: &str, script: &str) -> Command {
    let mut command = Command::new(name);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../xtask/tests/clients").join(script));
    command
}

/// The packages that an environment variable names.
pub fn packages(variable: &str) -> PathBuf {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.unwrap_or_else(|| panic!("{variable} names no packages; remedy: cargo xtask test sets it"))
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
