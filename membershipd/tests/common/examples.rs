//! The examples as a stranger runs them, and `membershipd` itself in the same way.

#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

use super::nats::packages;
use super::requests::API_PORT;
use super::{Daemon, membershipd, said};

/// In which language somebody has his client.
#[derive(Clone, Copy)]
pub enum Language {
    Rust,
    Python,
    JavaScript,
}

pub use Language::{JavaScript, Python, Rust};

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(path)
}

/// A script of the example in Python.
pub fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(example("python").join(script)).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("PYTHONPATH", packages("UNIBUS_TEST_PYTHON"));
    command
}

/// The example with its packages beside it, where Node.js looks for them.
pub fn javascript(dir: &Path, script: &str) -> Command {
    let place = dir.join("javascript");
    if !place.exists() {
        std::fs::create_dir(&place).unwrap();
        symlink(packages("UNIBUS_TEST_JS").join("node_modules"), place.join("node_modules")).unwrap();
        for file in std::fs::read_dir(example("javascript")).unwrap().map(|file| file.unwrap().path()) {
            if file.extension().is_some_and(|extension| extension == "mjs") {
                std::fs::copy(&file, place.join(file.file_name().unwrap())).unwrap();
            }
        }
    }
    let mut command = Command::new("node");
    command.arg(place.join(script));
    command
}

/// Somebody's `tail`, while it runs.
pub struct Tail {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tail {
    /// Who said what, or which attachment was announced, or why something is not shown.
    pub fn next(&mut self) -> (String, String) {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("tail ended: {line}"));
        let field = |name: &str| line[name].as_str().map(str::to_owned);
        match field("refused") {
            Some(why) => ("refused".to_owned(), why),
            None => {
                let attachment = || line["attachment"]["name"].as_str().map(|name| format!("attachment {name}"));
                (field("sender").unwrap(), field("text").or_else(attachment).unwrap())
            }
        }
    }

    /// That it ends without having shown anything more.
    pub fn assert_cut_off(&mut self) {
        let mut more = String::new();
        self.lines.read_to_string(&mut more).unwrap();
        assert!(!self.child.wait().unwrap().success() && more.is_empty(), "{more}");
    }
}

/// Somebody's client, which knows the nodes of these daemons in this order; his identity lies at the first of them.
pub struct Talker<'a> {
    pub language: Language,
    pub who: &'a str,
    pub nodes: Vec<&'a Daemon>,
}

impl Talker<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let dir = self.nodes[0].dir.path();
        let mut command = match self.language {
            Rust => membershipd(dir),
            Python => python("chat.py"),
            JavaScript => javascript(dir, "chat.mjs"),
        };
        let urls: Vec<_> = self.nodes.iter().map(|node| format!("https://{}:{API_PORT}", node.address)).collect();
        command.args(arguments).current_dir(dir).stdin(Stdio::null());
        command.args(["--identity", &format!("{}.toml", self.who), "--ca", "ca.crt", "--url", &urls.join(",")]);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs what has to succeed.
    pub fn good(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        assert!(output.status.success(), "{} {arguments:?}: {}\n{}", self.who, said(&output), self.nodes[0].log());
    }

    pub fn say(&self, text: &str) {
        self.good(&["say", "kitchen", text]);
    }

    /// Listens, as soon as the program has started.
    pub fn tail(&self) -> Tail {
        let mut child = self.command(&["tail", "kitchen", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Tail { child, lines }
    }
}
