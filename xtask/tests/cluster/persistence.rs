//! What was written stays: over restarts, the engine's orphan sweep, a lost data directory, a stale bootstrap record.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use super::harness::{Build, Cluster, NODES, holds, said, wait};

/// The engine deletes streams that no cluster claims 30 s after its start (nats-server `server/jetstream_cluster.go`,
/// checkForOrphans): what is there after twice that stays.
const SWEEP: Duration = Duration::from_secs(60);

#[test]
fn the_admin_outlives_restarts_sweeps_and_a_lost_disk() {
    let cluster = Cluster::start(Build::Real);
    let admin = cluster.admin_seed();
    assert!(cluster.local(&["--down"]).status.success());
    let up = cluster.up(Build::Real, &[]);
    assert!(up.status.success(), "{}", said(&up));
    let started = Instant::now();
    for node in NODES {
        cluster.connected(node, &admin);
    }
    connections_are_counted(&cluster, &admin);

    // While the sweep is waited for: an admin who was removed stays removed.
    let second = cluster.identity("second");
    let add = ["add", "--handle", "second", "--sign-pub", &second.sign_pub, "--role", "admin"];
    assert!(cluster.user("magnus", &add).status.success());
    assert!(cluster.user("homer", &["remove", "root"]).status.success());
    let key = said(&cluster.membershipd(
        "magnus",
        &["identity", "show", "--identity", cluster.state.join("admin.toml").to_str().unwrap()],
    ));
    let key = key.split("sign-pub").nth(1).unwrap().split_whitespace().next().unwrap();
    let record = cluster.node("magnus").join("bootstrap/admin.json");
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&record).unwrap();
    std::io::Write::write_all(&mut file, format!(r#"{{"schema":1,"handle":"root","sign_pub":"{key}"}}"#).as_bytes())
        .unwrap();
    wait("deletion of the stale record", 20, || if record.exists() { Err("it is there".to_owned()) } else { Ok(()) });
    assert!(!cluster.admits("magnus", &admin), "a removed admin came back by a bootstrap record");
    let state = cluster.state.to_str().unwrap();
    let seeded = cluster.xtask(&["seed-admin", "--local", "--state", state, "--sign-pub", key, "--yes"]);
    assert_eq!(seeded.status.code(), Some(1), "{}", said(&seeded));
    assert!(said(&seeded).contains("second"), "it must say who is admin: {}", said(&seeded));

    // This one wait is for time, because it is time that the sweep waits for.
    std::thread::sleep(SWEEP.saturating_sub(started.elapsed()));
    for node in NODES {
        assert!(!cluster.log(node).contains("orphaned stream"), "{}", cluster.log(node));
        cluster.connected(node, &second.seed);
    }

    cluster.control(&["stop", "datardos"]);
    fs::remove_dir_all(cluster.node("datardos").join("local_files")).unwrap();
    cluster.control(&["start", "datardos"]);
    cluster.wait_until_verified();
    cluster.connected("datardos", &second.seed);
    assert!(!cluster.admits("datardos", &admin), "a removed admin came back with an empty disk");
}

fn connections_are_counted(cluster: &Cluster, seed: &str) {
    let clients = |wanted: u64| {
        wait(&format!("count of {wanted} clients"), 20, || {
            let count = cluster.posture("homer").and_then(|posture| posture["clients"].as_u64());
            holds(count == Some(wanted), format!("{count:?}"))
        });
    };
    clients(0);
    let client = cluster.connected("homer", seed);
    clients(1);
    drop(client);
    clients(0);
}
