//! One node lost: the others go on. Two lost: the last one denies. Nothing acknowledged is missing afterwards.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::Client;
use super::harness::{Build, Cluster, NODES, alive, holds, said, signal, wait};
use super::verify::red;
use rustix::process::Signal;

/// Within this a node that has lost the others says so: for 10 s it begins attempts of 1 s at a write (`STORE_BUDGET`,
/// `ATTEMPT` of the daemon's `bus`), and 2 s for starting a program on a machine that is busy.
const REFUSAL: Duration = Duration::from_secs(10 + 1 + 2);
/// A lease lasts so long from the last proof before the fault (`LEASE` of the daemon's `bus`), which was begun a heartbeat earlier and is
/// seen by a program that takes a second to start.
const LEASE: Duration = Duration::from_secs(12 - 1 - 1);

#[test]
fn one_node_stopped_killed_or_frozen_is_not_missed() {
    let cluster = Cluster::start(Build::Real);
    let admin = cluster.admin_seed();
    let faults: [(&str, &[&str], &[&str]); 3] = [
        ("homer", &["stop"], &["start"]),
        ("datardos", &["kill", "--stay-down"], &["start"]),
        ("magnus", &["freeze"], &["thaw"]),
    ];
    for (round, (victim, fault, repair)) in faults.into_iter().enumerate() {
        let others: Vec<&str> = NODES.into_iter().filter(|node| *node != victim).collect();
        let mut clients = [Client::new(), Client::new()];
        let usual = others.iter().zip(&mut clients).map(|(node, client)| {
            let answer = client.connect(&cluster, node, &admin);
            assert_eq!(answer["ok"], true, "{node}: {answer}");
            answer["ms"].as_u64().unwrap()
        });
        // Not much longer than on a whole cluster: what that takes depends on what else this machine does.
        let quick = 1000.max(3 * usual.max().unwrap());
        let logged = others.iter().map(|node| cluster.log(node).len()).collect::<Vec<_>>();
        // Programs that run already, so that it is the connecting which takes time and not their start.
        let knockers = [Client::new(), Client::new()];
        let (daemon, engine) = cluster.pids(victim);
        let started = Instant::now();
        cluster.control(&[fault, &[victim]].concat());
        let lost = Instant::now();
        let what = format!("{} of {victim}", fault[0]);
        let renewed: Vec<Duration> = thread::scope(|scope| {
            let cluster = &cluster;
            let renewed: Vec<_> =
                others.iter().map(|node| scope.spawn(move || lease_goes_on(cluster, node, (started, lost)))).collect();
            for (node, knocker) in others.iter().zip(knockers) {
                let (what, handle) = (&what, format!("u-{round}-{node}"));
                scope.spawn(move || writes_and_admits(cluster, node, (&handle, knocker, quick), what));
            }
            renewed.into_iter().map(|one| one.join().unwrap()).collect()
        });
        println!("both others wrote and admitted {:.1?} after the {what}", started.elapsed());
        if fault[0] == "freeze" {
            // A node that hangs is ended by the watchdog, daemon and engine.
            wait("watchdog", 20, || holds(!alive(daemon) && !alive(engine), "they live"));
            let ps = said(&cluster.local(&["ps", "--json"]));
            assert!(ps.contains("killed by the watchdog"), "another has ended it: {ps}");
        }
        for (((node, client), logged), renewed) in others.iter().zip(&mut clients).zip(logged).zip(renewed) {
            // Where an election takes longer than the lease lasts, as it may on a busy machine, to cut the clients is right.
            let ended = cluster.log(node)[logged..].contains("the lease ended");
            assert!(client.is_connected() || ended, "{node} cut a client after the {what}, under its lease");
            assert!(!ended || renewed > LEASE, "{node} lost its lease after the {what}, proven again in {renewed:.1?}");
        }
        // A frozen node is back by itself; thawing it again must do no harm.
        let _ = cluster.local(&[repair, &[victim]].concat());
        cluster.wait_until_verified();
    }
    let list = said(&cluster.user("magnus", &["list"]));
    for round in 0..3 {
        let written = NODES.iter().filter(|node| list.contains(&format!("u-{round}-{node}"))).count();
        assert_eq!(written, 2, "an acknowledged user of round {round} is missing:\n{list}");
    }
    daemon_and_engine_share_their_fate(&cluster);
}

/// A write is acknowledged when a node was lost, and the new user is let in without delay.
fn writes_and_admits(cluster: &Cluster, node: &str, (handle, knocker, quick): (&str, Client, u64), what: &str) {
    let identity = cluster.identity(handle);
    wait(&format!("write on {node} after the {what}"), 30, || {
        let output = cluster.user(node, &["add", "--handle", handle, "--sign-pub", &identity.sign_pub]);
        holds(output.status.success(), said(&output))
    });
    let mut knocker = Some(knocker);
    wait(&format!("connect on {node} after the {what}"), 30, || {
        let answer = knocker.take().unwrap_or_else(Client::new).connect(cluster, node, &identity.seed);
        let quickly = answer["ms"].as_u64().is_some_and(|ms| ms < quick);
        holds(answer["ok"] == true && quickly, format!("{answer}, should take less than {quick} ms"))
    });
}

/// Waits until the node's lease rests on a proof that was begun after the other node was `lost`: so it is not lost when what was proven before is
/// out of date. Says how long after the fault `began` that was.
fn lease_goes_on(cluster: &Cluster, node: &str, (began, lost): (Instant, Instant)) -> Duration {
    wait(&format!("lease of {node} since the fault"), 30, || {
        let since = lost.elapsed();
        let posture = cluster.posture(node).ok_or("it does not answer")?;
        let age = posture["lease"]["age_ms"].as_u64().map(Duration::from_millis);
        let renewed = posture["lease"]["valid"] == true && age.is_some_and(|age| age < since);
        holds(renewed, posture["lease"].to_string())
    });
    began.elapsed()
}

fn daemon_and_engine_share_their_fate(cluster: &Cluster) {
    let (daemon, engine) = cluster.pids("homer");
    signal(daemon, Signal::KILL);
    wait("end of the orphaned engine", 5, || holds(!alive(engine), "it lives"));
    cluster.wait_until_verified();

    let (daemon, engine) = cluster.pids("homer");
    signal(engine, Signal::KILL);
    let took = wait("new engine", 10, || {
        let now = cluster.posture("homer").and_then(|posture| posture["engine"]["pid"].as_u64());
        holds(now.is_some_and(|now| now != u64::from(engine)), "no engine")
    });
    assert!(took < Duration::from_secs(5), "the engine took {took:?}");
    cluster.wait_until_verified();
    assert_eq!(cluster.pids("homer").0, daemon, "the daemon had no reason to end");
    let mut client = cluster.connected("homer", &cluster.admin_seed());
    assert_eq!(client.say(json!({"op": "subscribe", "subject": "_INBOX.root.>"}))["ok"], true);
}

#[test]
fn a_last_node_denies_and_nothing_is_lost() {
    let cluster = Cluster::start(Build::Real);
    let before = cluster.add_user("magnus", "before");
    let mut client = cluster.connected("homer", &cluster.admin_seed());
    let lost = Instant::now();
    for node in ["magnus", "datardos"] {
        cluster.control(&["kill", "--stay-down", node]);
    }
    // Still within the lease: the write has nobody to acknowledge it.
    let early = cluster.identity("early");
    let asked = Instant::now();
    let output = cluster.user("homer", &["add", "--handle", "early", "--sign-pub", &early.sign_pub]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(asked.elapsed() < REFUSAL, "the refusal took {:?}", asked.elapsed());
    assert!(said(&output).contains("remedy"), "{}", said(&output));

    without_a_quorum_nobody_is_served(&cluster, &mut client, lost).unwrap();
    let output = cluster.user("homer", &["add", "--handle", "late", "--sign-pub", &early.sign_pub]);
    assert!(said(&output).contains("no proof that its view is current"), "{}", said(&output));
    red(&cluster, "leader", "homer", "none");
    red(&cluster, "lease", "homer", "not valid");
    // For people: the table names the same, with the remedy.
    let table = said(&cluster.xtask(&["verify", "--local", "--state", cluster.state.to_str().unwrap()]));
    assert!(table.starts_with("exit Some(1)") && table.contains("lease") && table.contains("local"), "{table}");

    for node in ["magnus", "datardos"] {
        cluster.control(&["start", node]);
    }
    cluster.wait_until_verified();
    let list = said(&cluster.user("homer", &["list"]));
    assert!(list.contains("before") && list.contains("root"), "{list}");
    for node in NODES {
        cluster.connected(node, &before.seed);
    }
}

/// On the survivor `homer`: health is 503, who is in is cut within the bound, who knocks is refused.
pub(crate) fn without_a_quorum_nobody_is_served(
    cluster: &Cluster,
    client: &mut Client,
    lost: Instant,
) -> Result<(), String> {
    let bound = Duration::from_millis(cluster.posture("homer").unwrap()["lease"]["bound_ms"].as_u64().unwrap());
    let patience = (bound + Duration::from_secs(2)).saturating_sub(lost.elapsed());
    holds(client.wait_closed(patience.as_secs() + 1).is_some(), "a client is served without a quorum")?;
    holds(lost.elapsed() <= bound + Duration::from_secs(2), format!("cut only after {:?}", lost.elapsed()))?;
    holds(!cluster.admits("homer", &cluster.admin_seed()), "a client was admitted without a quorum")?;
    let health = super::tls::curl(cluster, "homer", "/healthz");
    holds(health.starts_with("503"), format!("health is {health}"))?;
    let live = super::tls::curl(cluster, "homer", "/livez");
    holds(live.starts_with("200"), format!("liveness is {live}"))
}
