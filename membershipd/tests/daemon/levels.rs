//! The feature level at which a node begins, and what the operator's tools are told of it.

use unibus_core::domain::FeatureLevel;

use crate::common::requests::{identity, seed_admin};
use crate::common::{Daemon, Dir, membershipd, own_address, said};

fn highest() -> u32 {
    FeatureLevel::HIGHEST.number()
}

fn level(daemon: &Daemon) -> u32 {
    daemon.status().and_then(|status| status["level"].as_u64()).and_then(|level| level.try_into().ok()).unwrap_or(0)
}

/// What the tools of the operator read, also where no daemon runs.
fn noted(dir: &Dir) -> u32 {
    let note = std::fs::read_to_string(dir.path().join("local_files/jetstream.level"));
    note.map_or(1, |note| note.trim().parse().unwrap())
}

#[test]
fn a_node_on_its_own_begins_at_the_highest_level_whoever_its_first_user_is() {
    let daemon = Daemon::start(&[]);
    daemon.wait("the level", || level(&daemon) == highest());
    daemon.wait("the note of the level", || noted(&daemon.dir) == highest());
    let root = daemon.identity("root");
    let added = daemon.ask(&["user", "add", "--handle", "root", "--role", "admin", "--sign-pub", &root]);
    assert!(added.status.success(), "{}", said(&added));
    let address = daemon.address;
    let daemon = Daemon::launch(daemon.stop(), address, &[]);
    daemon.wait_for_lease();
    assert_eq!(level(&daemon), highest());
    let dir = daemon.stop();
    let asked = membershipd(dir.path()).args(["level", "highest"]).output().unwrap();
    assert_eq!(
        (asked.status.code(), said(&asked)),
        (Some(0), format!("exit Some(0)\n{}\n\n", highest())),
        "no daemon runs"
    );
}

#[test]
fn a_new_cluster_begins_at_the_highest_level_also_where_its_seeding_was_interrupted() {
    let mut daemon = Daemon::launch(Dir::new(), own_address(), &["--store", "kv"]);
    let root = identity(&daemon, "root");
    let record = format!(r#"{{"schema":1,"handle":"root","sign_pub":"{}"}}"#, root.sign_pub);
    let path = daemon.dir.write("bootstrap.json", &record, 0o600);
    daemon.wait("the first admin", || daemon.status().is_some_and(|status| status["admins"] == 1));
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let (dir, address) = (std::mem::replace(&mut daemon.dir, Dir::new()), daemon.address);
    drop(daemon);
    let daemon = Daemon::launch(dir, address, &["--store", "kv"]);
    daemon.wait("the end of the import", || !path.exists());
    assert_eq!(level(&daemon), highest(), "{}", daemon.log());
}

#[test]
fn a_cluster_in_which_others_are_already_stays_at_its_level() {
    let daemon = Daemon::start(&["--store", "kv"]);
    let alice = daemon.identity("alice");
    let added = daemon.ask(&["user", "add", "--handle", "alice", "--sign-pub", &alice]);
    assert!(added.status.success(), "{}", said(&added));
    seed_admin(&daemon);
    assert_eq!(level(&daemon), 1, "{}", daemon.log());
    assert_eq!(noted(&daemon.dir), 1);
}
