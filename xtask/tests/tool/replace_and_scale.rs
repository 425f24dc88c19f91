//! `replace` and `scale`: a machine in another one's place, and more copies. The servers are directories.

use std::fs;

use crate::common::hosts::Servers;
use crate::common::{NODES, TOPOLOGY};
use serde_json::Value;

/// c is another machine now: another host for ssh, and other addresses.
fn moved() -> String {
    TOPOLOGY.replace("host-c", "host-d").replace("192.0.2.3", "192.0.2.33").replace("198.51.100.3", "198.51.100.33")
}

/// Servers that run, of which the last is lost, and a new machine for it.
fn lost() -> Servers {
    let servers = Servers::up();
    fs::remove_dir_all(servers.clone.path("hosts/host-c")).unwrap();
    servers.machine("host-d");
    servers.clone.write("deploy/nodes.toml", moved());
    servers
}

fn log(servers: &Servers) -> Vec<String> {
    fs::read_to_string(servers.clone.path("log")).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn replace_and_scale_refuse_before_anything_happens() {
    let servers = Servers::new();
    for verb in ["replace magnus", "replace magnus --yes", "scale 3", "scale 3 --json"] {
        servers.clone.write("deploy/nodes.toml", include_str!("../../../deploy/nodes.toml"));
        let done = servers.run(verb);
        assert_eq!(done.code, Some(2), "{verb}: {done:?}");
        for left in ["<MAGNUS_PUBLIC_IP>", "<MAGNUS_WG_IP>", "<HOMER_WG_IP>", "<DATARDOS_WG_IP>"] {
            assert!(done.stderr.contains(left), "{verb}: {left}: {done:?}");
        }
    }
    servers.clone.write("deploy/nodes.toml", TOPOLOGY);
    let cases = [
        ("replace d", "no node \"d\"; the topology has a, b, c"),
        ("replace", "required"),
        ("replace a --local", "replace needs servers"),
        ("scale 2", "an even number"),
        ("scale 5 --yes", "there are only 3 nodes"),
        ("scale 1 --yes", "there are 3, and scale never lowers"),
        ("scale three", "invalid value"),
        ("scale 3 --local --topology x", "exclude each other"),
    ];
    for (line, why) in cases {
        let done = servers.run(line);
        assert_eq!(done.code, Some(2), "{line}: {done:?}");
        assert!(done.stderr.contains(why), "{line}: {done:?}");
    }
    // An address that was typed, but not yet made into certificates and settings.
    servers.clone.write("deploy/nodes.toml", moved());
    for line in ["replace c", "replace c --yes", "scale 3 --yes"] {
        let done = servers.run(line);
        assert_eq!(done.code, Some(2), "{line}: {done:?}");
        assert!(done.stderr.contains("cargo xtask cluster-certs && cargo xtask secrets"), "{line}: {done:?}");
    }
    assert_eq!(servers.seen(), Vec::<Vec<String>>::new());
}

#[test]
fn a_new_machine_takes_the_place_and_the_others_learn_its_address_one_at_a_time() {
    let servers = lost();
    servers.ok("cluster-certs");
    servers.ok("secrets");
    let before = servers.clone.tree();
    let shown = servers.ok("replace c");
    assert!(shown.stdout.contains("must never be started again: two nodes of one name fight"), "{shown:?}");
    assert!(shown.stdout.contains("next: cargo xtask replace c --yes"), "{shown:?}");
    assert!(servers.clone.tree() == before, "a dry run changed something");

    let steps = servers.plan("replace c");
    let short = |step: &Value| format!("{} {}", step["node"].as_str().unwrap(), step["id"].as_str().unwrap());
    let wave = |wave: u64| -> Vec<String> { steps.iter().filter(|step| step["wave"] == wave).map(short).collect() };
    assert_eq!(wave(2), ["a until healthy", "b until healthy"]);
    assert!(wave(3).contains(&"c user".to_owned()) && wave(3).contains(&"a settings".to_owned()), "{:?}", wave(3));
    assert!(!wave(3).contains(&"a programs".to_owned()), "the others keep their release");
    let later = (4..=12).map(wave).collect::<Vec<_>>();
    let node = |name: &str| {
        [
            vec![format!("{name} until current")],
            vec![format!("{name} restart")],
            vec![format!("{name} until healthy"), format!("{name} until current")],
        ]
    };
    let first = [
        vec!["c enable".to_owned()],
        vec!["c restart".to_owned()],
        vec!["c until healthy".to_owned(), "c until current".to_owned()],
    ];
    assert_eq!(later, [first, node("a"), node("b")].concat());

    let done = servers.ok("replace c --yes");
    assert_eq!(servers.starts(), ["host-d restart", "host-a restart", "host-b restart"], "{done:?}");
    let asked = log(&servers);
    let first_deed = asked.iter().position(|line| line.starts_with("host-d")).unwrap();
    for host in ["host-a", "host-b"] {
        let gate = format!("{host} membershipd wait --for healthy --within 0");
        assert!(asked[..first_deed].iter().any(|line| line.starts_with(&gate)), "{gate}: {asked:?}");
    }
    for node in ["a", "b"] {
        let settings = fs::read_to_string(servers.at(node, "cluster.env")).unwrap();
        assert!(settings.contains("198.51.100.33"), "{node}: {settings}");
    }
    let new = servers.clone.path("hosts/host-d/opt/unibus");
    assert_eq!(fs::read_link(new.join("current")).unwrap(), fs::read_link(new.join("staged")).unwrap());
    servers.forget();
    let done = servers.ok("replace c --yes");
    assert!(done.stdout.contains("everything was so already: nothing was changed"), "{done:?}");
    assert_eq!(servers.starts(), Vec::<String>::new());
}

#[test]
fn no_machine_is_replaced_while_another_one_is_ill() {
    let servers = lost();
    servers.ok("cluster-certs");
    servers.ok("secrets");
    servers.clone.write("ill", "host-b healthy\n");
    servers.forget();
    let done = servers.run("replace c --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("b: step 'until healthy' (./membershipd): host-b is not healthy"), "{done:?}");
    let new = fs::read_dir(servers.clone.path("hosts/host-d/opt/unibus")).unwrap();
    let new: Vec<_> = new.map(|entry| entry.unwrap().file_name()).collect();
    assert!(new.iter().all(|name| name == "operations.jsonl"), "the new machine has more than a note of this: {new:?}");
    assert_eq!(servers.starts(), Vec::<String>::new());
    // A machine that dies meanwhile stops it, and the next run goes on.
    servers.clone.write("ill", "");
    servers.clone.write("cut", "useradd");
    servers.clone.script("server/id", "#!/bin/sh\ncase $1 in -u) echo 0;; *) [ -e user ] && echo unibus;; esac\n");
    for host in ["a", "b"] {
        fs::write(servers.clone.path(&format!("hosts/host-{host}/user")), "").unwrap();
    }
    servers.clone.script("server/useradd", "#!/bin/sh\n: > user\n");
    let done = servers.run("replace c --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("c: step 'user' (unibus): ssh host-d: ssh: connect to host host-d"), "{done:?}");
    assert_eq!(servers.starts(), Vec::<String>::new());
    fs::remove_file(servers.clone.path("cut")).unwrap();
    servers.ok("replace c --yes");
    assert_eq!(servers.starts(), ["host-d restart", "host-a restart", "host-b restart"]);
}

#[test]
fn scale_raises_in_place_then_says_so_to_the_nodes_and_in_the_topology() {
    let servers = Servers::new();
    let topology = format!("# ours\n{}", TOPOLOGY.replace("kv_replicas = 3", "kv_replicas = 1 # for now"));
    servers.clone.write("deploy/nodes.toml", &topology);
    servers.ok("secrets");
    for verb in ["stage --yes", "up --yes"] {
        servers.ok(verb);
    }
    servers.forget();
    let before = servers.clone.tree();
    let shown = servers.ok("scale 3");
    for part in [
        "run ./membershipd scale 3 --within 300 --json --runtime-dir /run/unibus",
        "unless ./membershipd scale 3 --check --runtime-dir /run/unibus",
        "| UNIBUS_KV_REPLICAS=3",
        "here, when all of that has ended well: deploy/nodes.toml:5: kv_replicas becomes 3",
        "here, when all of that has ended well: deploy/out/test/b/cluster.env: the same",
        "dry run: nothing was changed, no connection was opened\nnext: cargo xtask scale 3 --yes",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
    let steps = servers.plan("scale 3");
    let raise = steps.iter().filter(|step| step["id"] == "raise the copies").collect::<Vec<_>>();
    assert_eq!((raise.len(), &raise[0]["node"], &raise[0]["wave"]), (1, &"a".into(), &3.into()));
    assert!(servers.clone.tree() == before, "a dry run changed something");

    // Where a node is ill nothing happens, here neither.
    servers.clone.write("ill", "host-c current\n");
    let done = servers.run("scale 3 --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(servers.clone.read("deploy/nodes.toml"), topology);
    assert_eq!(servers.clone.read("copies"), "1\n");
    servers.clone.write("ill", "");

    servers.clone.chmod("deploy/nodes.toml", 0o640);
    let announced = servers.announced("scale 3");
    servers.forget();
    let done = servers.ok("scale 3 --yes");
    assert!(done.stdout.contains("deploy/nodes.toml:5: kv_replicas becomes 3"), "{done:?}");
    assert!(servers.seen().iter().all(|call| announced.contains(call)));
    assert_eq!(servers.clone.read("copies"), "3\n");
    assert_eq!(servers.clone.read("deploy/nodes.toml"), topology.replace("kv_replicas = 1", "kv_replicas = 3"));
    assert_eq!(servers.clone.mode("deploy/nodes.toml"), 0o640);
    for node in NODES {
        let settings = fs::read_to_string(servers.at(node, "cluster.env")).unwrap();
        assert_eq!(settings, servers.clone.read(&format!("deploy/out/test/{node}/cluster.env")));
        assert!(settings.contains("UNIBUS_KV_REPLICAS=3\n"), "{settings}");
    }
    assert_eq!(servers.starts(), Vec::<String>::new(), "nothing is restarted for it");
    let done = servers.ok("scale 3 --yes");
    assert!(done.stdout.contains("everything was so already: nothing was changed"), "{done:?}");
    servers.ok("stage");
}
