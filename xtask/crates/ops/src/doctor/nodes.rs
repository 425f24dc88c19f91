//! Every node, asked side by side over its transport: one short session each, and nothing is changed.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use super::clock::{self, Clock};
use super::question::{self, Facts};
use super::{Check, Level, reach};
use super::{judge, login};
use crate::install_dir::STORES;
use crate::plan::words;
use crate::process::{Failure, Output};
use crate::staging::{UNIT, USER};
use crate::topology::{Node, Topology};
use crate::transport::{Call, Login, Session, Transport};
use crate::ui::{Line, Progress};
use crate::verify::unix_ms;

/// The slowest part of the answer is an attempt to connect that nobody answers, and those are made all at once.
const WITHIN: Duration = Duration::from_secs(40);
const CLOCK_WITHIN: Duration = Duration::from_secs(10);

/// What one node answered.
pub struct Answered {
    facts: Result<Facts, Box<Check>>,
    clock: Result<Clock, String>,
    login: Result<Login, String>,
}

/// Asks all nodes at once; the answers come in the order of the topology.
pub fn ask_all(topology: &Topology, transport: &dyn Transport, progress: &Progress) -> Vec<Answered> {
    let told = |node: &Node, line: &Line| {
        line.doing("asking");
        let answered = ask(topology, node, transport);
        match &answered.facts {
            Ok(_) => line.done("answered"),
            Err(check) => line.failed(&check.got),
        }
        answered
    };
    thread::scope(|scope| {
        let (told, mut asked) = (&told, Vec::new());
        for node in &topology.nodes {
            let line = progress.line(&node.name);
            asked.push((node, scope.spawn(move || told(node, &line))));
        }
        asked.into_iter().map(|(node, answer)| answer.join().unwrap_or_else(|_| Answered::lost(node))).collect()
    })
}

impl Answered {
    fn lost(node: &Node) -> Self {
        let why = "asking it failed inside xtask";
        let check = Check::new(REACHABLE, &node.name, Level::Fail, "answers", why).remedy("run this again");
        Self::without(Err(Box::new(check)))
    }

    fn without(facts: Result<Facts, Box<Check>>) -> Self {
        let not_asked = || "not asked".to_owned();
        Self { facts, clock: Err(not_asked()), login: Err(not_asked()) }
    }
}

const REACHABLE: &str = "reachable";
const ROOT: &str = "root";
const SSH_GETS_IN: &str = "ssh gets in";
const IS_ROOT: &str = "root, or sudo without a password";

fn ask(topology: &Topology, node: &Node, transport: &dyn Transport) -> Answered {
    let dir = &topology.cluster.install_dir;
    let mut argv = words(&["bash", "-c", question::SCRIPT, "bash", dir, &format!("{dir}/{STORES}"), USER, UNIT]);
    argv.extend(reach::words(topology, node));
    let mut session = match transport.open(&node.name) {
        Ok(Some(session)) => session,
        Ok(None) => return Answered::lost(node),
        Err(failure) => return Answered::without(facts(node, Err(failure))),
    };
    let facts = facts(node, session.call(&Call::Run(argv), WITHIN));
    if facts.is_err() {
        return Answered::without(facts);
    }
    // Afterwards, when the connection stands: a short way there and back leaves little to be unsure of.
    let clock = tell_time(session.as_mut());
    // While the session is open: whether the server takes a second one is asked, too.
    let login = transport.login(&node.name, CLOCK_WITHIN).map(Option::unwrap_or_default);
    Answered { facts, clock, login: login.map_err(|failure| failure.to_string()) }
}

/// The facts, or the one check that says why there are none.
fn facts(node: &Node, answer: Result<Output, Failure>) -> Result<Facts, Box<Check>> {
    let fail = |id: &str, want: &str, got: &str, remedy: String| {
        Err(Box::new(Check::new(id, &node.name, Level::Fail, want, got).remedy(remedy)))
    };
    let output = match answer {
        Ok(output) => output,
        Err(failure) => {
            let why = failure.to_string();
            return match no_root(&why, &node.name) {
                Some(remedy) => fail(ROOT, IS_ROOT, &why, remedy),
                None => fail(REACHABLE, SSH_GETS_IN, &why, remedy(&why, &node.ssh)),
            };
        }
    };
    if let Some(facts) = question::read(&String::from_utf8_lossy(&output.stdout)) {
        return Ok(facts);
    }
    let code = output.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
    let got = format!("its answer is not whole: {} ({code})", output.reason());
    fail(REACHABLE, "bash answers", &got, format!("Debian has bash; see what `ssh {} bash` says", node.ssh))
}

/// What to do where ssh got in, and sudo then did not make it root.
fn no_root(why: &str, node: &str) -> Option<String> {
    if why.contains("sudo") && why.contains("not found") {
        return Some("log in as root (User root in ~/.ssh/config), or there: apt-get install sudo".to_owned());
    }
    why.contains("sudo: ").then(|| {
        format!("log in as root (User root in ~/.ssh/config), or give that user NOPASSWD in /etc/sudoers.d on {node}")
    })
}

/// What helps, by what ssh said.
fn remedy(why: &str, host: &str) -> String {
    let lower = why.to_lowercase();
    let classes: [(&[&str], String); 8] = [
        (
            &["permission denied"],
            format!(
                "`ssh {host}` must work without a password: ssh-add your key, put its public half into authorized_keys there, see ~/.ssh/config"
            ),
        ),
        (
            &["identification has changed"],
            format!("the host key changed: find out why before anything else; only then: ssh-keygen -R {host}"),
        ),
        (
            &["host key verification failed"],
            format!(
                "`ssh {host}` once by hand, and compare the key with your provider's console; if it has changed, find out why first"
            ),
        ),
        (
            &["could not resolve"],
            format!(
                "nobody knows the name {host}: correct `ssh` in nodes.toml, or give it a HostName in ~/.ssh/config"
            ),
        ),
        (
            &["connection refused"],
            format!(
                "the machine is up, but no sshd answers: start it by your provider's console, or correct the Port of {host} in ~/.ssh/config"
            ),
        ),
        (
            &["timed out", "no route to host", "network is unreachable", "no answer within"],
            "the machine is down, or a firewall or a missing VPN is in between: look at your provider's console"
                .to_owned(),
        ),
        (&["bad owner", "bad permissions", "configuration option"], "correct ~/.ssh/config here".to_owned()),
        (&["starting ssh"], "install ssh here: apt-get install openssh-client".to_owned()),
    ];
    let known = classes.into_iter().find(|(words, _)| words.iter().any(|word| lower.contains(word)));
    known.map_or_else(|| format!("see what `ssh -v {host}` says"), |(_, remedy)| remedy)
}

fn tell_time(session: &mut dyn Session) -> Result<Clock, String> {
    let sent_ms = unix_ms();
    let answer = session.call(&Call::Run(words(&["date", "+%s%3N"])), CLOCK_WITHIN);
    let received_ms = unix_ms();
    let output = answer.map_err(|failure| failure.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let node_ms = said.parse().map_err(|_| format!("date said {said:?}"))?;
    Ok(Clock { sent_ms, received_ms, node_ms })
}

/// Every check of every node. One that did not answer has one failure; the rest was not asked.
pub fn all_nodes(topology: &Topology, answers: Vec<Answered>) -> Vec<Check> {
    let facts: BTreeMap<&str, &Facts> = topology
        .nodes
        .iter()
        .zip(&answers)
        .filter_map(|(node, answer)| Some((node.name.as_str(), answer.facts.as_ref().ok()?)))
        .collect();
    let ours_is_off = clock::is_ours_off(answers.iter().map(|answer| &answer.clock));
    let mut checks = Vec::new();
    for (node, answer) in topology.nodes.iter().zip(&answers) {
        match &answer.facts {
            Ok(own) => {
                checks.push(Check::new(REACHABLE, &node.name, Level::Ok, SSH_GETS_IN, "yes"));
                checks.push(Check::new(ROOT, &node.name, Level::Ok, IS_ROOT, "yes"));
                checks.extend(login::checks(&node.name, &answer.login));
                checks.extend(judge::node(topology, node, own));
                checks.push(clock::check(&node.name, &answer.clock, ours_is_off));
                checks.extend(reach::checks(topology, node, own, &facts));
            }
            Err(check) => {
                if check.id == ROOT {
                    checks.push(Check::new(REACHABLE, &node.name, Level::Ok, SSH_GETS_IN, "yes"));
                }
                checks.push(check.as_ref().clone());
                checks.extend(not_asked(topology, node, &check.id));
            }
        }
    }
    checks
}

/// What depends on an answer that did not come.
fn not_asked(topology: &Topology, node: &Node, failed: &str) -> Vec<Check> {
    let without = Facts::default();
    let of_node = judge::node(topology, node, &without).into_iter().map(|check| check.id);
    let root = (failed == REACHABLE).then(|| ROOT.to_owned());
    let of_login = login::IDS.map(str::to_owned);
    let ids =
        root.into_iter().chain(of_login).chain(of_node).chain(["clock".to_owned()]).chain(reach::ids(topology, node));
    ids.map(|id| Check::new(id, &node.name, Level::NotAsked, "", "not asked")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::{bare, topology};
    use super::*;

    #[test]
    fn every_class_of_failure_has_a_remedy_of_its_own() {
        let classes = [
            ("ssh h: root@h: Permission denied (publickey).", "authorized_keys"),
            ("ssh h: Host key verification failed.", "compare the key"),
            ("ssh h: WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!", "find out why"),
            ("ssh h: ssh: Could not resolve hostname h: Name or service not known", "nodes.toml"),
            ("ssh h: ssh: connect to host h port 22: Connection refused", "sshd"),
            ("ssh h: ssh: connect to host h port 22: Connection timed out", "firewall"),
            ("ssh h: ssh: connect to host h port 22: No route to host", "firewall"),
            ("ssh h: ssh gave no answer within 40 s and was ended", "firewall"),
            ("ssh h: Bad owner or permissions on /root/.ssh/config", "~/.ssh/config"),
            ("ssh h: starting ssh: No such file or directory", "openssh-client"),
            ("ssh h: something else", "ssh -v h"),
        ];
        for (why, part) in classes {
            let check = facts(&node_a(), Err(Failure::Unreachable(why.to_owned()))).unwrap_err();
            assert_eq!((check.id.as_str(), check.level), (REACHABLE, Level::Fail));
            assert!(check.remedy.contains(part), "{why}: {}", check.remedy);
        }
    }

    fn node_a() -> Node {
        topology("wg").nodes[0].clone()
    }

    fn output(code: i32, stdout: &str, stderr: &str) -> Result<Output, Failure> {
        Ok(Output { code: Some(code), stdout: stdout.into(), stderr: stderr.to_owned() })
    }

    #[test]
    fn sudo_that_asks_for_a_password_is_named() {
        let lost = |why: &str| facts(&node_a(), Err(Failure::Unreachable(why.to_owned()))).unwrap_err();
        let check = lost("ssh h: sudo: a password is required");
        assert_eq!((check.id.as_str(), check.remedy.contains("NOPASSWD")), (ROOT, true), "{check:?}");
        let check = lost("ssh h: sudo: interactive authentication is required");
        assert_eq!((check.id.as_str(), check.remedy.contains("NOPASSWD")), (ROOT, true), "of sudo-rs: {check:?}");
        let check = lost("ssh h: sh: 1: exec: sudo: not found");
        assert_eq!((check.id.as_str(), check.remedy.contains("apt-get install sudo")), (ROOT, true), "{check:?}");
        let check = facts(&node_a(), output(127, "", "sh: 1: bash: not found")).unwrap_err();
        assert_eq!(check.id, REACHABLE);
        assert!(check.got.contains("bash: not found"), "{check:?}");
        let check = facts(&node_a(), output(0, "arch\tx86_64\n", "")).unwrap_err();
        assert!(check.got.contains("not whole"), "{check:?}");
    }

    #[test]
    fn a_node_that_does_not_answer_is_one_failure_and_hides_no_other() {
        let topology = topology("wg");
        let clock = || Ok(Clock { sent_ms: 0, received_ms: 9, node_ms: 5 });
        let answered = |facts| Answered { facts, clock: clock(), login: Ok(Login::default()) };
        let mut b = bare(2);
        b.rsync.clear();
        let gone = Answered::lost(&topology.nodes[0]);
        let checks = all_nodes(&topology, vec![gone, answered(Ok(b)), answered(Ok(bare(3)))]);
        let of = |node: &str, level| checks.iter().filter(|c| c.node == node && c.level == level).count();
        assert_eq!((of("a", Level::Fail), of("a", Level::Ok)), (1, 0));
        assert!(of("a", Level::NotAsked) > 15);
        let ids = |node: &str| {
            checks.iter().filter(|c| c.node == node).map(|c| c.row()).collect::<std::collections::BTreeSet<_>>()
        };
        // Room for the stores and for the release may lie on one file system or on two.
        assert_eq!(ids("a"), ids("b"));
        assert!(checks.iter().any(|c| c.node == "b" && c.id == "rsync" && c.level == Level::Fail));
    }
}
