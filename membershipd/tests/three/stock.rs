//! Clients that know nothing of unibus, with default options but for key, CA and the prefix of their inboxes: the very lines that README
//! and the client page show. They go on by themselves through whatever a cluster survives.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, Subscriber};
use futures::StreamExt;
use rustix::process::Signal;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use unibus_client::api::Request;
use unibus_client::identity::Identity;

use crate::common::nats::packages;
use crate::common::requests::{identity, seed_admin};
use crate::common::signal;
use crate::common::wire::Wire;
use crate::nodes::{self, Node};

const README: &str = include_str!("../../../README.md");
const PAGE: &str = include_str!("../../../examples/README.md");
pub(super) const LANGUAGES: [&str; 3] = ["python", "javascript", "rust"];
/// nats.js waits for 20 s for an answer of a node that hangs up on it.
const BACK: Duration = Duration::from_secs(90);

/// The lines in Rust, as a program.
mod client {
    include!("stock_client.rs");

    pub(super) fn run() -> Result<(), async_nats::Error> {
        main()
    }
}

/// The lines of a page in this language.
fn lines<'a>(page: &'a str, language: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn readme_and_the_client_page_show_the_lines_that_are_run() {
    for language in LANGUAGES {
        assert_eq!(lines(PAGE, language), lines(README, language));
    }
    assert_eq!(lines(PAGE, "rust"), include_str!("stock_client.rs"));
}

#[test]
#[ignore = "a process of the test below"]
fn rust_client() {
    client::run().unwrap();
}

/// A client that runs.
pub(super) struct Program(Child);

impl Program {
    /// The lines of the page with these changes, as a user who knows these nodes.
    pub(super) fn start(language: &str, node: &Node, nodes: &str, who: &Identity, changes: &[(&str, &str)]) -> Self {
        let dir = node.dir.path();
        let lines = changes.iter().fold(lines(PAGE, language).to_owned(), |lines, (from, to)| lines.replace(from, to));
        let mut command = match language {
            "python" => {
                let mut python = Command::new("python3");
                python.arg("-c").arg(lines);
                python.env("PYTHONPATH", packages("UNIBUS_TEST_PYTHON")).env("PYTHONDONTWRITEBYTECODE", "1");
                python
            }
            "javascript" => {
                let _ = symlink(packages("UNIBUS_TEST_JS").join("node_modules"), dir.join("node_modules"));
                std::fs::write(dir.join("stock.mjs"), lines).unwrap();
                let mut node = Command::new("node");
                node.arg(dir.join("stock.mjs"));
                node
            }
            _ => {
                let mut own = Command::new(std::env::current_exe().unwrap());
                own.args(["--exact", "stock::rust_client", "--ignored", "--nocapture"]);
                own
            }
        };
        let log = File::create(Self::log(node, language)).unwrap();
        command.env("NODES", nodes).env("CA", dir.join("ca.crt"));
        command.env("HANDLE", who.handle.as_str()).env("SEED", who.nkey_seed());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }

    fn log(node: &Node, language: &str) -> PathBuf {
        node.dir.path().join(format!("{language}.log"))
    }

    /// What all of them have said.
    pub(super) fn logs(node: &Node) -> String {
        let said = LANGUAGES.map(|language| std::fs::read_to_string(Self::log(node, language)).unwrap_or_default());
        // The one in Rust is a test, of which the harness says how long it has been running.
        said.iter().flat_map(|said| said.lines()).filter(|line| !line.contains("has been running for over")).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks all who answer in the room.
pub(super) struct Asker {
    runtime: Runtime,
    client: Client,
    answers: Subscriber,
    asked: usize,
}

impl Asker {
    pub(super) fn new(nodes: &[Node], urls: &[String], who: &Identity) -> Self {
        let runtime = Runtime::new().unwrap();
        let options = ConnectOptions::with_nkey(who.nkey_seed().to_owned())
            .custom_inbox_prefix("_INBOX.asker.sums")
            .add_root_certificates(nodes[0].dir.path().join("ca.crt"));
        let (client, answers) = runtime.block_on(async {
            let client = options.connect(urls).await.unwrap();
            let answers = client.subscribe("_INBOX.asker.sums.>").await.unwrap();
            (client, answers)
        });
        Self { runtime, client, answers, asked: 0 }
    }

    /// Who answers one question within a moment.
    fn ask(&mut self) -> BTreeSet<String> {
        self.asked += 1;
        let inbox = format!("_INBOX.asker.sums.{}", self.asked);
        let Self { runtime, client, answers, .. } = self;
        runtime.block_on(async {
            client.publish_with_reply("rpc.sums", inbox.clone(), "who?".into()).await.unwrap();
            let mut heard = BTreeSet::new();
            while let Ok(Some(answer)) = timeout(Duration::from_millis(400), answers.next()).await {
                if answer.subject.as_str() == inbox {
                    heard.insert(String::from_utf8(answer.payload.to_vec()).unwrap());
                }
            }
            heard
        })
    }

    /// Waits until all clients answer, none of which has ended.
    pub(super) fn hears_all(&mut self, nodes: &[Node], programs: &mut [Program], when: &str) {
        let begun = Instant::now();
        loop {
            let heard = self.ask();
            // Where nobody answers the engine says so, with nothing in it.
            if LANGUAGES.iter().all(|language| heard.contains(*language)) {
                return println!("{when}: all answer again after {:.1?}", begun.elapsed());
            }
            let running = programs.iter_mut().all(|program| program.0.try_wait().unwrap().is_none());
            let logs = || format!("{}\n{}", Program::logs(&nodes[0]), nodes[0].log());
            assert!(running && begun.elapsed() < BACK, "{when}: {heard:?} answer\n{}", logs());
        }
    }
}

/// Users who are in a room for requests: the first makes it.
pub(super) fn furnish(nodes: &[Node], people: &[Identity]) {
    let root = seed_admin(&nodes[0]);
    let ask = |who: &Identity, path: &str, body| nodes[0].request(who, &Request::put(path, body)).unwrap();
    for who in people {
        ask(&root, &format!("/v1/users/{}", who.handle), Some(json!({ "sign_pub": who.sign_pub })));
    }
    let (owner, others) = people.split_first().unwrap();
    let policy = json!({ "encrypt": false, "persist": false, "sign": false });
    ask(owner, "/v1/rooms/sums", Some(json!({ "subject": "rpc.sums", "policy": policy })));
    for who in others {
        let path = format!("/v1/rooms/sums/members/{}", who.handle);
        ask(owner, &path, Some(json!({ "role": "member" })));
        ask(who, &format!("{path}/acceptance"), None);
    }
    let last = others.last().unwrap();
    for node in nodes {
        node.wait("the room on each node", || {
            node.connect(last.nkey_seed(), last.handle.as_str()).is_some_and(|mut client| client.subscribe("rpc.sums"))
        });
    }
}

pub(super) fn started_again(nodes: &mut [Node; 3], which: usize) {
    nodes[which].start_again();
    nodes.iter().for_each(|node| node.wait_for_lease());
    nodes[which].wait_until_current();
}

/// Restarts a node as an operator does.
pub(super) fn restarted(nodes: &mut [Node; 3], which: usize) {
    signal(nodes[which].child.id(), Signal::TERM);
    assert!(nodes[which].child.wait().unwrap().success(), "{}", nodes[which].log());
    started_again(nodes, which);
}

/// So many connections came that were not admitted, in whichever way.
fn turned_down(node: &Node) -> usize {
    let log = node.log();
    log.matches("sent away undecided").count() + log.matches("connection refused").count()
}

#[test]
fn the_lines_of_the_client_page_live_through_restarts_and_a_loss_of_the_quorum() {
    let mut nodes = nodes::start(&["--clear-rooms", "allow"]);
    let people = ["asker", "ada", "bo", "cy"].map(|handle| identity(&nodes[0], handle));
    furnish(&nodes, &people);
    let urls = nodes.each_ref().map(|node| format!("tls://{}:4250", node.address));
    let mut asker = Asker::new(&nodes, &urls, &people[0]);
    let start = |nodes: &[Node; 3], known: &str, changes: &[(&str, &str)]| {
        let users = LANGUAGES.iter().zip(&people[1..]);
        users.map(|(language, who)| Program::start(language, &nodes[0], known, who, changes)).collect::<Vec<_>>()
    };

    // Who knows one node learns of the others. nats-py looks for the name of the first in the certificates of all that it learned of.
    let mut programs = start(&nodes, &urls[1], &[("tls=ssl", "tls_hostname=\"localhost\", tls=ssl")]);
    asker.hears_all(&nodes, &mut programs, "one node known");
    nodes[1].kill();
    asker.hears_all(&nodes, &mut programs, "and that one killed");
    drop(programs);
    started_again(&mut nodes, 1);

    let mut programs = start(&nodes, &urls.join(","), &[]);
    asker.hears_all(&nodes, &mut programs, "all nodes known");
    for which in 0..nodes.len() {
        restarted(&mut nodes, which);
        asker.hears_all(&nodes, &mut programs, &format!("node {which} restarted"));
    }

    let before = turned_down(&nodes[0]);
    nodes[1].kill();
    nodes[2].kill();
    let begun = Instant::now();
    // Each client tries, and hears no verdict, several times.
    while turned_down(&nodes[0]) < before + 2 * LANGUAGES.len() {
        assert!(begun.elapsed() < BACK, "{}", nodes[0].log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let said = Wire::begin(&nodes[0], &people[1], Some(&nodes[0].dir.path().join("ca.crt"))).until_closed();
    assert!(!said.contains("-ERR"), "a node without a lease refuses nobody: {said}");
    println!("without a quorum for {:.1?}", begun.elapsed());
    nodes[1].start_again();
    started_again(&mut nodes, 2);
    asker.hears_all(&nodes, &mut programs, "the quorum is back");
}
