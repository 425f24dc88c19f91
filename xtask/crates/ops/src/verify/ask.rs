//! Asks every node for its posture, all at once.

use std::fmt;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::posture::{Posture, complaint, says_not_running};
use crate::process::Failure;
use crate::transport::Transport;

/// `membershipd status` answers within 5 s whatever is broken; ssh needs time to connect besides.
const WITHIN: Duration = Duration::from_secs(15);

/// What one node answered, and when by our clock.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Which node.
    pub node: String,
    /// What it says of itself; else why there is no answer.
    pub posture: Result<Posture, NoPosture>,
    pub(crate) sent_ms: i64,
    pub(crate) received_ms: i64,
}

/// Why a node gave no posture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPosture {
    pub(crate) kind: Silence,
    why: String,
    /// For how long nothing has come, where that is looked at while it goes on.
    seconds: Option<u64>,
}

/// What is known of a node that gave no posture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Silence {
    /// Its machine says that no daemon runs there.
    Down,
    /// It was asked and did not answer in time.
    Mute,
    /// It could not be asked from here.
    Unreachable,
    /// What it answered is no posture of that node.
    Unreadable,
}

impl NoPosture {
    /// What is known of the node, and why there is no posture.
    pub(crate) fn new(kind: Silence, why: impl Into<String>) -> Self {
        Self { kind, why: why.into(), seconds: None }
    }

    /// The node was asked, and nothing has come for so long.
    pub(crate) fn mute_for(time: Duration) -> Self {
        let seconds = time.as_secs();
        Self { kind: Silence::Mute, why: format!("no answer for {seconds} s"), seconds: Some(seconds) }
    }

    /// What is known of the node, for a narrow column.
    pub(crate) fn brief(&self) -> String {
        match (self.kind, self.seconds) {
            (Silence::Mute, Some(seconds)) => format!("no answer for {seconds} s"),
            (Silence::Mute, None) => "no answer".to_owned(),
            (Silence::Down, _) => "down".to_owned(),
            (Silence::Unreachable, _) => "not reached".to_owned(),
            (Silence::Unreadable, _) => "not understood".to_owned(),
        }
    }

    /// Why, in one line.
    pub fn why(&self) -> &str {
        self.why.lines().next().unwrap_or_default()
    }
}

impl fmt::Display for NoPosture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Asks all nodes in parallel; the answers come in the order of `nodes`.
pub fn ask_all(transport: &dyn Transport, nodes: &[String], runtime_dir: &str) -> Vec<Answer> {
    thread::scope(|scope| {
        let asked: Vec<_> =
            nodes.iter().map(|node| (node, scope.spawn(move || ask(transport, node, runtime_dir)))).collect();
        asked
            .into_iter()
            .map(|(node, answer)| {
                answer.join().unwrap_or_else(|_| Answer {
                    node: node.clone(),
                    posture: Err(NoPosture::new(Silence::Unreachable, "asking it failed inside xtask")),
                    sent_ms: 0,
                    received_ms: 0,
                })
            })
            .collect()
    })
}

/// Asks one node.
pub(crate) fn ask(transport: &dyn Transport, node: &str, runtime_dir: &str) -> Answer {
    let argv = ["./membershipd", "status", "--json", "--runtime-dir", runtime_dir];
    let sent_ms = unix_ms();
    let output = transport.run(node, &argv, b"", WITHIN);
    let received_ms = unix_ms();
    let posture = match output {
        Err(Failure::Unreachable(why)) => Err(NoPosture::new(Silence::Unreachable, why)),
        // Nothing was to be changed, so whether it had an effect is no question.
        Err(Failure::Unknown(why)) => Err(NoPosture::new(Silence::Mute, why)),
        Ok(output) if !output.ok() => {
            let kind = if says_not_running(&output.stdout) { Silence::Down } else { Silence::Unreachable };
            Err(NoPosture::new(kind, complaint(&output.stdout, &output.stderr)))
        }
        Ok(output) => {
            Posture::parse(&output.stdout).map_err(|error| NoPosture::new(Silence::Unreadable, error.to_string()))
        }
    };
    // A topology that points two names at one machine would otherwise count that machine twice.
    let posture = posture.and_then(|posture| {
        if posture.node == node {
            Ok(posture)
        } else {
            let why = format!("it says that it is '{}': the topology or its cluster.env is wrong", posture.node);
            Err(NoPosture::new(Silence::Unreadable, why))
        }
    });
    Answer { node: node.to_owned(), posture, sent_ms, received_ms }
}

/// This machine's clock, milliseconds since 1970.
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::fixture;
    use crate::process::Output;
    use crate::transport::Call;

    struct Fake;

    impl Transport for Fake {
        fn run(&self, node: &str, argv: &[&str], _: &[u8], _: Duration) -> Result<Output, Failure> {
            assert_eq!(argv, ["./membershipd", "status", "--json", "--runtime-dir", "run"]);
            let said = |name: &str| serde_json::to_vec(&fixture::healthy(name, &["magnus"])).unwrap();
            let (code, stdout, stderr) = match node {
                "magnus" => (0, said("magnus"), ""),
                "liar" => (0, said("magnus"), ""),
                "down" => (1, br#"{"error":{"code":"not_running","message":"no daemon runs"}}"#.to_vec(), ""),
                "shut" => (1, Vec::new(), "sudo: a password is required"),
                "mute" => return Err(Failure::Unknown("no answer within 15 s".to_owned())),
                "odd" => (0, b"hello".to_vec(), ""),
                _ => return Err(Failure::Unreachable("no route to host".to_owned())),
            };
            Ok(Output { code: Some(code), stdout, stderr: stderr.to_owned() })
        }

        fn call(&self, _: &str, _: &Call, _: Duration) -> Result<Output, Failure> {
            Err(Failure::Unreachable("not here".to_owned()))
        }

        fn command(&self, _: &str, _: &Call) -> Result<Option<Vec<String>>, Failure> {
            Ok(None)
        }

        fn place(&self, node: &str) -> String {
            node.to_owned()
        }
    }

    #[test]
    fn every_node_is_asked_and_every_way_to_fail_is_told() {
        let nodes: Vec<String> = ["magnus", "liar", "down", "odd", "gone", "shut", "mute"].map(str::to_owned).to_vec();
        let answers = ask_all(&Fake, &nodes, "run");
        assert_eq!(answers.iter().map(|answer| answer.node.clone()).collect::<Vec<_>>(), nodes);
        assert!(answers[0].posture.is_ok());
        assert!(answers[0].sent_ms <= answers[0].received_ms);
        let why = |index: usize| answers[index].posture.clone().unwrap_err();
        assert!(why(1).kind == Silence::Unreadable && why(1).why().contains("'magnus'"), "{:?}", why(1));
        assert_eq!(why(2), NoPosture::new(Silence::Down, "no daemon runs"));
        assert!(why(3).kind == Silence::Unreadable && why(3).why().contains("JSON"), "{:?}", why(3));
        assert_eq!(why(4), NoPosture::new(Silence::Unreachable, "no route to host"));
        assert_eq!(why(5), NoPosture::new(Silence::Unreachable, "sudo: a password is required"));
        assert_eq!(why(6), NoPosture::new(Silence::Mute, "no answer within 15 s"));
    }
}
