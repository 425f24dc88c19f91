//! Asks every node for its posture, all at once.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::posture::{Posture, complaint};
use crate::transport::Transport;

/// `membershipd status` answers within 5 s whatever is broken; ssh needs time to connect besides.
const WITHIN: Duration = Duration::from_secs(15);

/// What one node answered, and when by our clock.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Which node.
    pub node: String,
    /// What it says of itself; else why there is no answer.
    pub posture: Result<Posture, String>,
    pub(crate) sent_ms: i64,
    pub(crate) received_ms: i64,
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
                    posture: Err("asking it failed inside xtask".to_owned()),
                    sent_ms: 0,
                    received_ms: 0,
                })
            })
            .collect()
    })
}

fn ask(transport: &dyn Transport, node: &str, runtime_dir: &str) -> Answer {
    let argv = ["./membershipd", "status", "--json", "--runtime-dir", runtime_dir];
    let sent_ms = unix_ms();
    let output = transport.run(node, &argv, b"", WITHIN);
    let received_ms = unix_ms();
    let posture = match output {
        Err(failure) => Err(failure.to_string()),
        Ok(output) if !output.ok() => Err(complaint(&output.stdout, &output.stderr)),
        Ok(output) => Posture::parse(&output.stdout).map_err(|error| error.to_string()),
    };
    // A topology that points two names at one machine would otherwise count that machine twice.
    let posture = posture.and_then(|posture| {
        if posture.node == node {
            Ok(posture)
        } else {
            Err(format!("it says that it is '{}': the topology or its cluster.env is wrong", posture.node))
        }
    });
    Answer { node: node.to_owned(), posture, sent_ms, received_ms }
}

pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::fixture;
    use crate::process::{Failure, Output};
    use crate::transport::Call;

    struct Fake;

    impl Transport for Fake {
        fn run(&self, node: &str, argv: &[&str], _: &[u8], _: Duration) -> Result<Output, Failure> {
            assert_eq!(argv, ["./membershipd", "status", "--json", "--runtime-dir", "run"]);
            let said = |name: &str| serde_json::to_vec(&fixture::healthy(name, &["magnus"])).unwrap();
            let (code, stdout, stderr) = match node {
                "magnus" => (0, said("magnus"), ""),
                "liar" => (0, said("magnus"), ""),
                "down" => (1, Vec::new(), "no daemon runs"),
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
        let nodes: Vec<String> = ["magnus", "liar", "down", "odd", "gone"].map(str::to_owned).to_vec();
        let answers = ask_all(&Fake, &nodes, "run");
        assert_eq!(answers.iter().map(|answer| answer.node.clone()).collect::<Vec<_>>(), nodes);
        assert!(answers[0].posture.is_ok());
        assert!(answers[0].sent_ms <= answers[0].received_ms);
        let why = |index: usize| answers[index].posture.clone().unwrap_err();
        assert!(why(1).contains("'magnus'"), "{}", why(1));
        assert_eq!(why(2), "no daemon runs");
        assert!(why(3).contains("JSON"), "{}", why(3));
        assert_eq!(why(4), "no route to host");
    }
}
