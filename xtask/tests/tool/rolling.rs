//! `up`, `roll` and `rollback`: in which order servers are started, switched and restarted, and what happens when one does
//! not get well. The servers are directories: links, files and times are real.

use std::fs;
use std::time::{Duration, Instant};

use crate::common::NODES;
use crate::common::hosts::{Servers, argv, short, steps};
use serde_json::Value;

const VERBS: [&str; 6] = ["up", "roll", "roll --restart", "roll --finish", "rollback", "rollback --outage"];

/// `deeds` without those that come before the first start.
fn since_start(deeds: &[String]) -> Vec<&str> {
    let from = deeds.iter().position(|deed| deed.contains(" systemctl ")).unwrap_or(deeds.len());
    deeds[from..].iter().map(String::as_str).collect()
}

#[test]
fn the_shipped_topology_is_refused_with_all_its_placeholders() {
    let servers = Servers::new();
    servers.clone.write("deploy/nodes.toml", include_str!("../../../deploy/nodes.toml"));
    for verb in VERBS {
        for flags in ["", " --yes", " --json"] {
            let done = servers.run(&format!("{verb}{flags}"));
            assert_eq!(done.code, Some(2), "{verb}{flags}: {done:?}");
            for left in ["<MAGNUS_PUBLIC_IP>", "<MAGNUS_WG_IP>", "<HOMER_WG_IP>", "<DATARDOS_WG_IP>"] {
                assert!(done.stderr.contains(left), "{verb}{flags}: {left}: {done:?}");
            }
        }
    }
    assert_eq!(servers.seen(), Vec::<Vec<String>>::new());
}

#[test]
fn a_dry_run_prints_every_step_and_opens_no_connection() {
    let servers = Servers::new();
    let before = servers.clone.tree();
    for verb in VERBS {
        let done = servers.ok(verb);
        for step in servers.plan(verb) {
            assert_eq!(step["state"], "planned");
            let line = format!(". {}: run ", step["id"].as_str().unwrap());
            assert!(done.stdout.contains(&line), "{verb}: {line}: {done:?}");
        }
        let end = format!("dry run: nothing was changed, no connection was opened\nnext: cargo xtask {verb} --yes");
        assert!(done.stdout.contains(&end), "{done:?}");
    }
    assert!(servers.clone.tree() == before, "a dry run changed something");
}

#[test]
fn bad_input_is_refused_before_anything_happens() {
    let servers = Servers::new();
    let cases = [
        ("up --local", "up needs servers"),
        ("rollback --local", "rollback needs servers"),
        ("roll --node d", "no node \"d\"; the topology has a, b, c"),
        ("rollback --node d --yes", "no node \"d\""),
        ("roll --finish --node a --yes", "cannot be used with"),
        ("roll --finish --restart", "cannot be used with"),
        ("roll --local --topology x", "exclude each other"),
        ("up extra", "unexpected argument"),
    ];
    for (line, why) in cases {
        let done = servers.run(line);
        assert_eq!(done.code, Some(2), "{line}: {done:?}");
        assert!(done.stderr.contains(why), "{line}: {done:?}");
    }
    assert_eq!(servers.seen(), Vec::<Vec<String>>::new());
}

#[test]
fn up_starts_the_seed_then_a_quorum_then_the_rest_and_asks_for_health_at_the_end() {
    let servers = Servers::new();
    let steps: Vec<(u64, String)> = servers.plan("up").iter().map(short).collect();
    let wanted = [
        (2, "a feature level"),
        (2, "b feature level"),
        (2, "c feature level"),
        (3, "a enable"),
        (3, "b enable"),
        (3, "c enable"),
        (4, "a start"),
        (4, "a until alive"),
        (5, "b start"),
        (5, "b until alive"),
        (5, "b until quorum"),
        (6, "c start"),
        (6, "c until alive"),
        (7, "a until healthy"),
        (7, "a until current"),
        (7, "b until healthy"),
        (7, "b until current"),
        (7, "c until healthy"),
        (7, "c until current"),
    ];
    assert_eq!(steps, wanted.map(|(wave, step)| (wave, step.to_owned())));

    // Nothing is started before all servers are known to be staged.
    servers.ok("stage --yes --node a");
    servers.forget();
    let done = servers.run("up --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    // Of b and c the one that is slower may not have begun when the other fails.
    assert!(done.stderr.contains("step 'enable' (systemctl): Unit file does not exist."), "{done:?}");
    assert!(done.stderr.contains("cargo xtask stage --yes"), "{done:?}");
    assert_eq!(servers.starts(), Vec::<String>::new());

    servers.ok("stage --yes");
    servers.forget();
    let done = servers.ok("up --yes");
    assert!(done.stdout.contains("next: cargo xtask verify"), "{done:?}");
    assert_eq!(servers.starts(), ["host-a start", "host-b start", "host-c start"]);
    servers.forget();
    let done = servers.ok("up --yes");
    assert!(done.stdout.contains("everything was so already: nothing was changed"), "{done:?}");
    assert_eq!(servers.deeds(), Vec::<String>::new());
    // One that is down is started alone.
    fs::remove_file(servers.clone.path("hosts/host-b/run/unibus/control.sock")).unwrap();
    servers.ok("up --yes");
    assert_eq!(servers.starts(), ["host-b start"]);
}

#[test]
fn an_up_that_fails_says_where_and_goes_on_later() {
    let servers = Servers::new();
    servers.ok("stage --yes");
    servers.clone.write("ill", "host-b quorum\n");
    let done = servers.run("up --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("b: step 'until quorum' (./membershipd): host-b is not quorum: no lease"), "{done:?}");
    assert!(done.stderr.contains("the log of b: cargo xtask logs b"), "{done:?}");
    assert!(done.stderr.contains("it goes on where it stopped: cargo xtask up --yes"), "{done:?}");
    assert_eq!(servers.starts(), ["host-a start", "host-b start"]);
    servers.clone.write("ill", "");
    servers.forget();
    servers.ok("up --yes");
    assert_eq!(servers.starts(), ["host-c start"]);
}

#[test]
fn a_release_rolls_one_node_at_a_time_each_gated_before_and_after() {
    let servers = Servers::up();
    let old = servers.link("a", "current");
    servers.build("0.2.0");
    servers.ok("stage --yes");
    let new = servers.link("a", "staged");
    assert!(new.starts_with("releases/0.2.0-") && new != old, "{new}");
    assert_eq!(servers.link("a", "current"), old, "stage starts nothing");
    servers.forget();

    let plan: Vec<(u64, String)> = servers.plan("roll").iter().map(short).collect();
    let restarts: Vec<u64> =
        plan.iter().filter(|(_, step)| step.ends_with(" restart")).map(|(wave, _)| *wave).collect();
    assert_eq!(restarts.len(), NODES.len());
    for (node, at) in NODES.iter().zip(&restarts) {
        let in_wave = |wave: u64| -> Vec<&str> {
            plan.iter().filter(|(its, _)| *its == wave).map(|(_, step)| step.as_str()).collect()
        };
        assert_eq!(in_wave(at - 2), [format!("{node} until current")]);
        assert_eq!(
            in_wave(at - 1),
            ["remember release", "next release", "switch release"].map(|id| format!("{node} {id}"))
        );
        assert_eq!(in_wave(*at), [format!("{node} restart")]);
        assert_eq!(in_wave(at + 1), ["until healthy", "until current"].map(|id| format!("{node} {id}")));
    }
    let last = plan.last().unwrap().0;
    assert_eq!(plan.iter().filter(|(wave, _)| *wave == last).count(), 3);
    assert_eq!(plan.last().unwrap().1, "c remove unused releases");

    let done = servers.ok("roll --yes");
    assert!(done.stdout.contains("next: cargo xtask verify"), "{done:?}");
    assert_eq!(servers.starts(), NODES.map(|node| format!("host-{node} restart")));
    for node in NODES {
        let links = ["staged", "current", "previous"].map(|link| servers.link(node, link));
        assert_eq!(links, [new.clone(), new.clone(), old.clone()]);
        assert!(!servers.at(node, "next").exists());
    }
    servers.forget();
    let done = servers.ok("roll --yes");
    assert!(done.stdout.contains("everything was so already: nothing was changed"), "{done:?}");
    assert_eq!(servers.deeds(), Vec::<String>::new());
    servers.ok("roll --yes --restart");
    assert_eq!(servers.starts().len(), 3);
}

#[test]
fn diff_of_a_changing_verb_asks_and_does_nothing() {
    let servers = Servers::up();
    servers.build("0.2.0");
    servers.ok("stage --yes");
    servers.forget();
    let done = servers.run("roll --diff");
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(done.stdout.contains("next: cargo xtask roll --yes"), "{done:?}");
    let said = servers.run("roll --diff --json");
    let plan: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let steps = plan["steps"].as_array().unwrap();
    let changing: Vec<&str> = steps
        .iter()
        .filter(|step| step["state"] == "would_change" && step["node"] == "a")
        .map(|step| step["id"].as_str().unwrap())
        .collect();
    assert!(changing.contains(&"switch release"), "{changing:?}");
    assert!(changing.iter().all(|id| !id.starts_with("until ")), "what waits changes nothing: {changing:?}");
    assert_eq!(servers.deeds(), Vec::<String>::new());
    servers.ok("roll --yes");
    servers.forget();
    let done = servers.ok("roll --diff");
    assert!(done.stdout.contains("nothing would change"), "{done:?}");
    assert_eq!(servers.deeds(), Vec::<String>::new());
}

#[test]
fn what_yes_starts_is_what_the_dry_run_printed() {
    let servers = Servers::up();
    servers.build("0.2.0");
    servers.ok("stage --yes");
    for verb in ["roll", "rollback", "roll --restart --node b"] {
        let (steps, announced) = (servers.plan(verb), servers.announced(verb));
        servers.forget();
        servers.ok(&format!("{verb} --yes"));
        let seen = servers.seen();
        assert!(seen.iter().all(|call| announced.contains(call)), "{verb}: {seen:?}");
        let probes: Vec<_> = steps.iter().map(|step| argv(&step["probe"]["command"])).collect();
        assert!(probes.iter().all(|probe| seen.contains(probe)), "{verb}: {seen:?}");
    }
}

#[test]
fn settings_that_changed_restart_only_the_nodes_that_got_them() {
    let servers = Servers::up();
    servers.ok("stage --yes");
    servers.forget();
    servers.ok("roll --yes");
    assert_eq!(servers.starts(), Vec::<String>::new(), "staging the same again is no news");
    // Whoever took a certificate or a setting away: `stage` puts it back, and that is news to this node alone.
    fs::write(servers.at("b", "tls/server.crt"), "x").unwrap();
    servers.ok("stage --yes");
    servers.forget();
    let done = servers.ok("roll --yes");
    assert_eq!(servers.starts(), ["host-b restart"], "{done:?}");
    for node in NODES {
        assert_eq!(servers.link(node, "previous"), "", "no release was left");
    }
    servers.clone.write("deploy/membershipd-cluster.service", "[Service]\nRestartSec=2\n");
    servers.ok("stage --yes --node c");
    servers.forget();
    servers.ok("roll --yes");
    assert_eq!(servers.starts(), ["host-c restart"]);
}

#[test]
fn a_release_that_does_not_start_goes_back_on_the_first_node_and_touches_no_other() {
    let servers = Servers::up();
    let old = servers.link("a", "current");
    servers.build("0.2.0");
    servers.ok("stage --yes");
    let new = servers.link("a", "staged");
    servers.clone.write("broken", format!("{new}\n"));
    let shown = servers.ok("roll").stdout;
    assert!(shown.contains("does not get well goes back at once"), "{shown}");
    let plan: Value = serde_json::from_str(&servers.ok("roll --json").stdout).unwrap();
    let back = plan["if_a_node_fails"].as_array().unwrap().clone();
    servers.forget();
    let done = servers.run("roll --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    for said in [
        "a: step 'restart' (systemctl): Job for membershipd-cluster.service failed",
        "a went back to its previous release and is well; the other nodes were not touched after that",
        "why it was not well: cargo xtask logs a",
        "cargo xtask roll --yes",
    ] {
        assert!(done.stderr.contains(said), "{said}: {done:?}");
    }
    assert_eq!(servers.starts(), ["host-a restart", "host-a restart"]);
    let links = ["staged", "current", "previous"].map(|link| servers.link("a", link));
    assert_eq!(links, [new.clone(), old.clone(), old.clone()]);
    assert_eq!(servers.link("b", "current"), old);
    // It did what the dry run had announced, and nothing else.
    let calls = servers.seen();
    for step in back.iter().filter(|step| step["node"] == "a" && !step["id"].as_str().unwrap().starts_with("until")) {
        assert!(calls.contains(&argv(&step["command"])), "{step}");
    }

    // The same as JSON.
    let done = servers.run("roll --yes --json");
    assert_eq!(done.code, Some(1), "{done:?}");
    let said: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(
        (&said["done"], &said["went_back"]["node"], &said["went_back"]["done"]),
        (&false.into(), &"a".into(), &true.into())
    );
    let states: Vec<&str> =
        said["steps"].as_array().unwrap().iter().map(|step| step["state"].as_str().unwrap()).collect();
    assert_eq!(states.iter().filter(|state| **state == "failed").count(), 1, "{states:?}");

    // A release that works goes through.
    servers.build("0.3.0");
    servers.ok("stage --yes");
    servers.ok("roll --yes");
    for node in NODES {
        assert!(servers.link(node, "current").starts_with("releases/0.3.0-"));
        assert_eq!(servers.link(node, "previous"), old);
        assert_eq!(servers.releases(node).len(), 2, "the one that never ran is gone: {:?}", servers.releases(node));
    }
}

#[test]
fn a_node_that_is_started_but_not_well_goes_back_too() {
    let servers = Servers::up();
    let old = servers.link("b", "current");
    servers.build("0.2.0");
    servers.ok("stage --yes");
    servers.clone.write("ill", "host-b healthy\n");
    let done = servers.run("roll --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    // It is not well with the old one either, and both are said.
    assert!(
        done.stderr.contains("b: step 'until healthy' (./membershipd): host-b is not healthy: no lease"),
        "{done:?}"
    );
    assert!(done.stderr.contains("b was to go back to its previous release, which failed too"), "{done:?}");
    assert!(done.stderr.contains("next: put that right, then: cargo xtask rollback --node b --yes"), "{done:?}");
    assert_eq!(servers.link("b", "current"), old);
    assert!(servers.link("a", "current").starts_with("releases/0.2.0-"), "a was well");
    assert_eq!(servers.link("c", "current"), old, "c was not reached");
}

#[test]
fn settings_that_do_not_work_take_no_release_back() {
    let servers = Servers::up();
    servers.build("0.2.0");
    servers.ok("stage --yes");
    servers.ok("roll --yes");
    let new = servers.link("a", "current");
    fs::write(servers.at("a", "cluster.env"), "broken\n").unwrap();
    servers.forget();
    let done = servers.run("roll --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(servers.starts(), ["host-a restart"]);
    assert_eq!(servers.link("a", "current"), new, "the release was well yesterday");
    assert!(done.stderr.contains("can be mended alone: cargo xtask roll --node NODE --yes"), "{done:?}");
    // The whole roll waits for a to be well, which it will never be by waiting; alone it is mended.
    servers.ok("stage --yes");
    servers.forget();
    assert_eq!(servers.run("roll --yes").code, Some(1));
    assert_eq!(servers.starts(), Vec::<String>::new());
    servers.ok("roll --node a --yes");
    servers.ok("roll --yes");
    assert_eq!(servers.starts(), ["host-a restart"]);
}

#[test]
fn nothing_is_restarted_while_a_node_is_ill() {
    let servers = Servers::up();
    servers.clone.write("ill", "host-a current\nhost-c healthy\n");
    for verb in ["roll --restart", "roll --restart --node b", "rollback"] {
        servers.forget();
        assert_eq!(servers.run(&format!("{verb} --yes")).code, Some(1), "{verb}");
        assert_eq!(servers.starts(), Vec::<String>::new(), "{verb}");
    }
}

#[test]
fn a_laptop_that_dies_between_switch_and_restart_leaves_work_for_the_next_run() {
    let servers = Servers::up();
    servers.build("0.2.0");
    servers.ok("stage --yes");
    servers.clone.write("hang", "");
    let mut roll = servers.command("roll --yes").spawn().unwrap();
    let begun = Instant::now();
    while !servers.clone.path("hanging").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the restart was never begun");
        std::thread::sleep(Duration::from_millis(20));
    }
    roll.kill().unwrap();
    roll.wait().unwrap();
    // What ran on the server dies with it: the daemon was never restarted.
    servers.clone.write("dead", "");
    fs::remove_file(servers.clone.path("hang")).unwrap();
    while servers.clone.path("dead").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "what ran on the server does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    let new = servers.link("a", "staged");
    assert_eq!(servers.link("a", "current"), new);
    servers.forget();
    servers.ok("roll --yes");
    assert_eq!(servers.starts(), NODES.map(|node| format!("host-{node} restart")));
    for node in NODES {
        assert_eq!(servers.link(node, "current"), new);
        assert!(servers.link(node, "previous").starts_with("releases/0.1.0-"));
    }
}

#[test]
fn rollback_goes_back_everywhere_and_roll_forward_again() {
    let servers = Servers::up();
    let done = servers.run("rollback --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("step 'previous release'"), "{done:?}");
    assert!(done.stderr.contains("a node that was never rolled has no previous release"), "{done:?}");
    assert_eq!(servers.starts(), Vec::<String>::new());

    let old = servers.link("a", "current");
    servers.build("0.2.0");
    servers.ok("stage --yes");
    let new = servers.link("a", "staged");
    servers.ok("roll --yes");
    servers.forget();
    servers.ok("rollback --yes");
    assert_eq!(servers.starts(), NODES.map(|node| format!("host-{node} restart")));
    for node in NODES {
        let links = ["staged", "current", "previous"].map(|link| servers.link(node, link));
        assert_eq!(links, [new.clone(), old.clone(), old.clone()]);
    }
    servers.forget();
    let done = servers.ok("rollback --yes");
    assert!(done.stdout.contains("everything was so already: nothing was changed"), "{done:?}");
    assert_eq!(servers.deeds(), Vec::<String>::new());
    servers.ok("roll --yes");
    assert_eq!(servers.link("c", "current"), new);

    // When everything is down there is nobody to wait for.
    servers.clone.write("ill", NODES.map(|node| format!("host-{node} healthy\n")).concat());
    servers.forget();
    assert_eq!(servers.run("rollback --yes").code, Some(1));
    assert_eq!(servers.starts(), Vec::<String>::new());
    let done = servers.run("rollback --outage --yes");
    assert_eq!(servers.starts().len(), 3, "{done:?}");
    assert!(done.stderr.contains("step 'until healthy'"), "{done:?}");
    assert_eq!(NODES.map(|node| servers.link(node, "current")), [&old, &old, &old].map(Clone::clone));
}

#[test]
fn a_canary_takes_the_release_alone_and_nothing_is_removed() {
    let servers = Servers::up();
    let old = servers.link("a", "current");
    servers.build("0.2.0");
    servers.ok("stage --yes");
    servers.forget();
    servers.ok("roll --node b --yes");
    assert_eq!(servers.starts(), ["host-b restart"]);
    assert_eq!(servers.link("a", "current"), old);
    let deeds = servers.deeds();
    assert!(since_start(&deeds).iter().all(|deed| deed.starts_with("host-b ")), "{deeds:?}");
    servers.ok("rollback --node b --yes");
    assert_eq!(servers.link("b", "current"), old);
}

#[test]
fn only_releases_that_no_link_needs_are_removed() {
    let servers = Servers::up();
    for name in ["0.0.1-0123456789ab", "0.0.2-0123456789ab", "keep", "0.0.3-notahash", ".hidden-0123456789ab"] {
        for node in NODES {
            fs::create_dir(servers.at(node, &format!("releases/{name}"))).unwrap();
            fs::write(servers.at(node, &format!("releases/{name}/file")), "x").unwrap();
        }
    }
    std::os::unix::fs::symlink("releases/0.0.2-0123456789ab", servers.at("b", "previous")).unwrap();
    // A node whose links are not in order loses nothing.
    fs::remove_file(servers.at("c", "staged")).unwrap();
    let before = servers.releases("c");
    let steps = steps(&servers.run("roll --yes --json"));
    let prunes: Vec<&Value> = steps.iter().filter(|step| step["id"] == "remove unused releases").collect();
    assert_eq!(prunes.len(), 3);
    assert!(prunes.iter().all(|step| step["state"] == "not_reached"), "c cannot be switched to nothing: {prunes:?}");
    assert_eq!(servers.releases("c"), before);

    servers.ok("stage --yes");
    servers.ok("roll --yes");
    let current = servers.link("a", "current").replace("releases/", "");
    let kept = |more: &[&str]| {
        let all = ["keep", "0.0.3-notahash", ".hidden-0123456789ab", &current];
        all.iter().chain(more).map(|name| (*name).to_owned()).collect()
    };
    assert_eq!(servers.releases("a"), kept(&[]));
    assert_eq!(servers.releases("b"), kept(&["0.0.2-0123456789ab"]));
}

#[test]
fn another_operator_is_kept_out_and_nobody_after_the_end() {
    let servers = Servers::up();
    let lock = |node: &str| servers.clone.path(&format!("hosts/host-{node}/run/unibus.lock"));
    for node in &NODES[1..] {
        fs::write(lock(node), "somebody else\n").unwrap();
    }
    for verb in ["up", "roll --restart", "rollback --outage", "scale 3", "replace c"] {
        servers.forget();
        let done = servers.run(&format!("{verb} --yes"));
        assert_eq!(done.code, Some(1), "{verb}: {done:?}");
        assert!(done.stderr.contains("somebody else") && done.stderr.contains("--break-lock"), "{verb}: {done:?}");
        assert_eq!(servers.deeds(), Vec::<String>::new(), "{verb}");
    }
    let done = servers.ok("roll --restart --break-lock");
    assert!(done.stdout.contains("next: cargo xtask roll --restart --break-lock --yes"), "{done:?}");
    servers.ok("roll --restart --break-lock --yes");
    // Also where a node had to go back.
    servers.build("0.2.0");
    servers.ok("stage --yes");
    servers.clone.write("broken", format!("{}\n", servers.link("a", "staged")));
    assert_eq!(servers.run("roll --yes").code, Some(1));
    assert!(NODES.iter().all(|node| !lock(node).exists()), "a lock was left behind");
}
