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
