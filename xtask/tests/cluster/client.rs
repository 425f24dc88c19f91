//! A NATS client that nobody here wrote: nats-py, driven line by line.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::harness::{Cluster, root};

pub(crate) struct Client {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Client {
    pub(crate) fn new() -> Self {
        let packages = std::env::var_os("UNIBUS_TEST_PYTHON").map(PathBuf::from);
        let packages = packages.expect("UNIBUS_TEST_PYTHON names no packages; remedy: cargo xtask test sets it");
        let mut process = Command::new("python3")
            .arg(root().join("xtask/tests/clients/nats_client.py"))
            .env("PYTHONPATH", packages)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (commands, answers) = (process.stdin.take(), BufReader::new(process.stdout.take().unwrap()));
        Self { process, commands, answers }
    }

    /// Connects once, with whatever credentials `options` hold.
    pub(crate) fn connect_with(&mut self, cluster: &Cluster, node: &str, options: Value) -> Value {
        let mut command = json!({
            "op": "connect",
            "url": format!("tls://{}:4250", cluster.address(node)),
            "ca": cluster.ca(),
        });
        command.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        self.say(command)
    }

    pub(crate) fn connect(&mut self, cluster: &Cluster, node: &str, seed: &str) -> Value {
        self.connect_with(cluster, node, json!({ "seed": seed }))
    }

    pub(crate) fn say(&mut self, command: Value) -> Value {
        writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("the client ended at {command}"))
    }

    pub(crate) fn is_connected(&mut self) -> bool {
        self.say(json!({ "op": "state" }))["connected"] == true
    }

    /// Waits until the server closes the connection; milliseconds.
    pub(crate) fn wait_closed(&mut self, seconds: u64) -> Option<u64> {
        let answer = self.say(json!({ "op": "wait_closed", "timeout": seconds }));
        (answer["ok"] == true).then(|| answer["ms"].as_u64().unwrap())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.commands.take();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
