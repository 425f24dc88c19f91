//! `roll --finish`: the level is raised once every node is ready for it, and then no older release is let in.

use std::fs;

use crate::common::NODES;
use crate::common::hosts::{Servers, short};

#[test]
fn finish_raises_the_level_once_every_node_runs_the_staged_release_and_is_well() {
    let servers = Servers::up();
    servers.build("0.2.0");
    servers.ok("stage --yes");
    servers.forget();
    let raises = |servers: &Servers| {
        let deeds = servers.seen().concat().join(" ");
        deeds.matches("level raise --json").count()
    };

    let done = servers.run("roll --finish --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("it does not run the staged release: 'cargo xtask roll --yes' first"), "{done:?}");
    assert_eq!(raises(&servers), 0, "the nodes still run the old release");

    servers.ok("roll --yes");
    let shown = servers.ok("roll --finish");
    for line in ["run ./membershipd level raise --json --runtime-dir /run/unibus", "'rollback' to them is over"] {
        assert!(shown.stdout.contains(line), "{line}: {shown:?}");
    }
    let plan: Vec<(u64, String)> = servers.plan("roll --finish").iter().map(short).collect();
    let (raised, _) = plan.iter().find(|(_, step)| step == "a raise the level").unwrap();
    for node in NODES {
        for before in ["until current", "runs the release", "daemon is current"] {
            assert!(plan.iter().any(|(wave, step)| wave < raised && *step == format!("{node} {before}")), "{plan:?}");
        }
    }

    servers.clone.write("ill", "host-b current\n");
    let done = servers.run("roll --finish --yes");
    assert!(done.code == Some(1) && done.stderr.contains("host-b is not current"), "{done:?}");
    assert_eq!(raises(&servers), 0, "a node is ill");
    servers.clone.write("ill", "");
    servers.clone.write("older", "c");
    let done = servers.run("roll --finish --yes");
    assert!(done.code == Some(1) && done.stderr.contains("c can do level 1 at most"), "{done:?}");
    assert!(!servers.clone.path("raised").exists());
    std::fs::remove_file(servers.clone.path("older")).unwrap();

    assert_eq!(servers.run("roll --finish --diff").code, Some(3));
    let done = servers.ok("roll --finish --yes");
    assert!(done.stdout.contains("older releases stay out of the cluster"), "{done:?}");
    servers.forget();
    let done = servers.ok("roll --finish --yes");
    assert!(done.stdout.contains("everything was so already: nothing was changed"), "{done:?}");
    assert_eq!(raises(&servers), 0, "it is raised already");
}

#[test]
fn after_finish_an_older_release_is_refused_before_anything_is_touched() {
    let servers = Servers::up();
    servers.build("0.2.0");
    servers.ok("stage --yes");
    servers.ok("roll --yes");
    // Until then there is a way back, as before.
    servers.ok("rollback --yes");
    servers.ok("roll --yes");
    servers.ok("roll --finish --yes");
    let links = |node: &str| ["staged", "current", "previous"].map(|link| servers.link(node, link));
    let before = NODES.map(links);
    let refused = |verb: &str, said: &[&str]| {
        servers.forget();
        let done = servers.run(verb);
        assert_eq!(done.code, Some(1), "{verb}: {done:?}");
        for said in said {
            assert!(done.stderr.contains(said), "{verb}: {said}: {done:?}");
        }
        assert_eq!(servers.deeds(), Vec::<String>::new(), "{verb}");
        let rsync = servers.seen().iter().any(|call| call[0] == "rsync");
        assert!(!rsync, "{verb} sent something");
    };
    let why = "the cluster is at feature level 2, and the previous release can do level 1 at most: it would stay out";
    for verb in ["rollback", "rollback --outage", "rollback --node b"] {
        let all = [why, "there is no way back to it", "nothing was changed"];
        refused(&format!("{verb} --yes"), &all);
        refused(&format!("{verb} --diff"), &all[..2]);
    }

    // What is built is of before.
    servers.build("0.1.0");
    let built = ["the release in deploy/build can do level 1 at most", "cargo xtask build", "nothing was changed"];
    for verb in ["stage", "stage --node c", "replace b"] {
        refused(&format!("{verb} --yes"), &built);
    }
    assert_eq!(NODES.map(links), before);

    // What somebody has put there by hand is not started either.
    let point = |link: &str, to: &str| {
        fs::remove_file(servers.at("b", link)).unwrap();
        std::os::unix::fs::symlink(to, servers.at("b", link)).unwrap();
    };
    point("staged", &servers.link("b", "previous"));
    refused(
        "roll --yes",
        &["b: step 'feature level'", "the staged release can do level 1 at most", "nothing was changed"],
    );
    point("current", &servers.link("b", "previous"));
    refused("up --yes", &["b: step 'feature level'", "the release that is installed can do level 1 at most"]);

    servers.build("0.3.0");
    servers.ok("stage --yes");
    servers.ok("roll --yes");
    servers.ok("rollback --node a --yes");
}
