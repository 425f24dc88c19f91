//! Every mistake in a topology is reported with file and line, all at once, and changes nothing.

use crate::common::{self, Clone, TOPOLOGY};

/// The verbs that need addresses.
const VERBS: [&str; 2] = ["cluster-certs", "secrets"];

fn line_of(text: &str, part: &str) -> usize {
    1 + text.lines().position(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part:?} in:\n{text}"))
}

/// With `from` replaced by `to`, the line that holds `at` must be reported with `why`.
fn check(from: &str, to: &str, at: &str, why: &str) {
    let clone = Clone::new();
    let text = TOPOLOGY.replacen(from, to, 1);
    assert_ne!(text, TOPOLOGY, "{from:?} is not in the topology");
    clone.write("deploy/nodes.toml", &text);
    for verb in VERBS {
        let said = clone.refused(verb);
        let place = format!("deploy/nodes.toml:{}: ", line_of(&text, at));
        let found = said.lines().any(|line| line.contains(&place) && line.contains(why));
        assert!(found, "{to:?}: wanted {place}…{why}…, got:\n{said}");
    }
}

#[test]
fn one_mistake_each() {
    let cases = [
        // Placeholders
        ("192.0.2.1", "<A_PUBLIC>", "<A_PUBLIC>", "placeholder <A_PUBLIC>"),
        ("host-b", "<B_SSH>", "<B_SSH>", "placeholder <B_SSH>"),
        ("route = 6250", "route = \"<PORT>\"", "<PORT>", "placeholder <PORT>"),
        // Duplicates
        ("name = \"b\"", "name = \"a\"  # again", "# again", "\"a\" is taken"),
        ("host-b", "host-a\" #again", "#again", "ssh host \"host-a\" is taken"),
        ("192.0.2.2", "192.0.2.1\" #again", "#again", "192.0.2.1 is taken by another node (line 15)"),
        ("198.51.100.3", "192.0.2.1\" #again", "#again", "192.0.2.1 is taken"),
        ("route = 6250", "route = 4250", "route = 4250", "already ports.client (line 8)"),
        // Seeds and the number of nodes
        ("seed = true", "", "[[node]]", "no node is the seed"),
        (
            "wg = \"198.51.100.2\"",
            "wg = \"198.51.100.2\"\nseed = true # too",
            "# too",
            "second seed; the first is on line 17",
        ),
        ("kv_replicas = 3", "kv_replicas = 5", "kv_replicas", "only 3 nodes"),
        ("kv_replicas = 3", "kv_replicas = 2", "kv_replicas", "odd"),
        ("kv_replicas = 3", "kv_replicas = 0", "kv_replicas", "at least one"),
        ("kv_replicas = 3", "kv_replicas = -1", "kv_replicas", "at least one"),
        ("kv_replicas = 3", "kv_replicas = 7", "kv_replicas", "5 at most"),
        // Unknown keys, wrong types, missing keys
        ("seed = true", "sead = true", "sead", "unknown key node \"a\".sead"),
        ("[ports]", "[ports]\nhttp = 80", "http", "unknown key ports.http"),
        ("[ports]", "[extra]\nx = 1\n[ports]", "[extra]", "unknown key extra"),
        ("client = 4250", "client = \"4250\"", "client", "ports.client must be a whole number"),
        ("name = \"test\"", "name = 7", "name = 7", "cluster.name must be a string"),
        ("seed = true", "seed = \"yes\"", "seed =", "must be true or false"),
        ("wg = \"198.51.100.1\"\n", "", "[[node]]", "node \"a\".wg is missing"),
        ("route = 6250\n", "", "[ports]", "ports.route is missing"),
        ("route = 6250", "route = 6250\nmonitor = 6250", "monitor", "already ports.route"),
        // Bad values
        ("192.0.2.3", "192.0.2.300", "192.0.2.300", "must be an IP address"),
        ("192.0.2.3", "192.0.2.3/24", "/24", "must be an IP address"),
        ("192.0.2.3", "example.org", "example.org", "must be an IP address"),
        ("192.0.2.3", "0.0.0.0", "0.0.0.0", "no single machine"),
        ("192.0.2.3", "224.0.0.1", "224.0.0.1", "no single machine"),
        ("192.0.2.3", "127.0.0.1", "127.0.0.1", "loopback"),
        ("name = \"b\"", "name = \"B\"", "\"B\"", "host name label"),
        ("name = \"b\"", "name = \"../b\"", "../b", "host name label"),
        ("name = \"b\"", "name = \"b-\"", "\"b-\"", "host name label"),
        ("name = \"b\"", "name = \"\"", "name = \"\"", "host name label"),
        ("name = \"b\"", "name = \"a-name-of-thirty-three-characters\"", "a-name-of", "1 to 32 of"),
        ("name = \"test\"", "name = \"a b\"", "a b", "host name label"),
        ("host-b", "-oProxyCommand=x", "-oProxy", "a host as ssh knows it"),
        ("host-b", "root@-oProxyCommand=x", "-oProxy", "a host as ssh knows it"),
        ("host-b", "root@", "root@", "a host as ssh knows it"),
        ("host-b", "a b", "a b", "a host as ssh knows it"),
        ("host-b", "root@h:2222", "h:2222", "a port belongs in ~/.ssh/config"),
        ("host-b", "192.0.2.2:22", "192.0.2.2:22", "a port belongs in ~/.ssh/config"),
        ("host-b", "root@[2001:db8::1]:22", "]:22", "a port belongs in ~/.ssh/config"),
        ("host-b", "ssh://root@h:2222", "ssh://", "a port belongs in ~/.ssh/config"),
        ("host-b", "root@[2001:db8::1]", "[2001", "without brackets: root@2001:db8::1"),
        ("\"wg\"", "\"vpn\"", "vpn", "\"wg\" or \"public\""),
        ("/opt/unibus", "opt/unibus", "opt/unibus", "absolute path"),
        ("/opt/unibus", "/opt/../etc", "/opt/..", "absolute path"),
        ("client = 4250", "client = 0", "client = 0", "from 1024 to 65535"),
        ("client = 4250", "client = 70000", "client = 70000", "from 1024 to 65535"),
        // No TOML
        ("name = \"test\"", "name = \"test", "name = \"test", "not valid TOML"),
        ("[ports]", "[ports", "[ports", "not valid TOML"),
        ("client = 4250", "client = 4250\nclient = 4251", "client = 4251", "not valid TOML"),
    ];
    for (from, to, at, why) in cases {
        check(from, to, at, why);
    }
}

#[test]
fn every_host_that_ssh_takes_is_one() {
    let clone = Clone::new();
    clone.ok("client-ca");
    for host in ["homer", "root@homer", "root@192.0.2.2", "2001:db8::1", "root@2001:db8::1", "fe80::1%eth0", "a@b@c"] {
        clone.write("deploy/nodes.toml", TOPOLOGY.replacen("host-b", host, 1));
        clone.ok("cluster-certs");
    }
}

#[test]
fn the_number_of_nodes_is_odd_and_three_at_least() {
    let clone = Clone::new();
    let node = |name: &str, last: u8| {
        format!("[[node]]\nname = \"{name}\"\nssh = \"{name}\"\npublic = \"192.0.2.{last}\"\nwg = \"192.0.2.{last}\"\n")
    };
    let (two, _) = TOPOLOGY.rsplit_once("[[node]]").unwrap();
    clone.write("deploy/nodes.toml", two);
    assert!(clone.refused("cluster-certs").contains("at least 3"));
    let four = format!("{TOPOLOGY}{}", node("d", 4));
    clone.write("deploy/nodes.toml", &four);
    assert!(clone.refused("cluster-certs").contains("must be odd"));
    clone.write("deploy/nodes.toml", format!("{four}{}", node("e", 5)));
    clone.ok("client-ca");
    clone.ok("cluster-certs");
    assert!(clone.path("deploy/out/test/e/tls/route.crt").is_file());
    let (none, _) = TOPOLOGY.split_once("[[node]]").unwrap();
    clone.write("deploy/nodes.toml", none);
    assert!(clone.refused("cluster-certs").contains("nodes: one [[node]] section each is missing"));
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let clone = Clone::new();
    let text = TOPOLOGY
        .replacen("192.0.2.1", "<ONE>", 1)
        .replacen("192.0.2.2", "nowhere", 1)
        .replacen("host-c", "host-b", 1)
        .replacen("seed = true", "sead = true", 1)
        .replacen("kv_replicas = 3", "kv_replicas = 4", 1);
    clone.write("deploy/nodes.toml", &text);
    let said = clone.refused("cluster-certs");
    for part in ["6 mistakes", "<ONE>", "nowhere", "host-b", "sead", "kv_replicas is 4", "no node is the seed"] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

#[test]
fn the_shipped_topology_waits_for_its_four_addresses() {
    let clone = Clone::new();
    let shipped = include_str!("../../../deploy/nodes.toml");
    clone.write("deploy/nodes.toml", shipped);
    let said = clone.refused("secrets");
    assert!(said.contains("4 mistakes"), "{said}");
    for left in ["<MAGNUS_PUBLIC_IP>", "<MAGNUS_WG_IP>", "<HOMER_WG_IP>", "<DATARDOS_WG_IP>"] {
        let place = format!("deploy/nodes.toml:{}: ", line_of(shipped, &format!("= \"{left}\"")));
        assert!(said.lines().any(|line| line.contains(&place) && line.contains(left)), "{place}{left}:\n{said}");
    }
    assert!(shipped.contains("141.94.69.66") && shipped.contains("51.91.100.142"));
}

#[test]
fn a_topology_of_ones_own_is_named_in_messages() {
    let clone = Clone::new();
    clone.write("deploy/nodes.toml", "not read");
    clone.write("mine.toml", TOPOLOGY);
    clone.ok("client-ca");
    clone.ok("cluster-certs --topology mine.toml");
    clone.write("mine.toml", TOPOLOGY.replacen("192.0.2.3", "x", 1));
    assert!(clone.refused("--topology mine.toml cluster-certs").contains("mine.toml:28: "));
    assert!(clone.refused("cluster-certs --topology none.toml").contains("none.toml"));
    assert!(clone.refused("cluster-certs --topology").contains("--topology"));
}

#[test]
fn public_routes_need_no_second_network() {
    let clone = Clone::new();
    let mut text = TOPOLOGY.replacen("\"wg\"", "\"public\"", 1);
    for last in 1..=3 {
        text = text.replacen(&format!("198.51.100.{last}"), &format!("192.0.2.{last}"), 1);
    }
    clone.write("deploy/nodes.toml", text);
    for verb in ["client-ca", "cluster-certs", "secrets"] {
        clone.ok(verb);
    }
    let env = clone.read("deploy/out/test/b/cluster.env");
    assert!(env.contains("UNIBUS_ROUTES=nats-route://192.0.2.1:6250,nats-route://192.0.2.3:6250\n"), "{env}");
    assert!(env.contains("UNIBUS_ROUTE_BIND=0.0.0.0\n"), "{env}");
}

#[test]
fn what_is_bound_follows_the_address_that_clients_come_to() {
    let clone = Clone::new();
    let bound = |text: &str, node: &str| {
        clone.write("deploy/nodes.toml", text);
        for verb in ["client-ca", "cluster-certs", "secrets"] {
            clone.ok(verb);
        }
        let env = clone.read(&format!("deploy/out/test/{node}/cluster.env"));
        let value = |key: &str| {
            let line = env.lines().find_map(|line| line.strip_prefix(&format!("UNIBUS_{key}=")));
            line.unwrap_or_else(|| panic!("{key}: {env}")).to_owned()
        };
        ["BIND", "ADVERTISE", "ROUTE_BIND"].map(value)
    };
    let mixed = TOPOLOGY.replacen("192.0.2.2", "2001:db8::2", 1);
    assert_eq!(bound(&mixed, "b"), ["::", "2001:db8::2", "198.51.100.2"], "clients by IPv6, the mesh by IPv4");
    assert_eq!(bound(&mixed, "a"), ["0.0.0.0", "192.0.2.1", "198.51.100.1"]);
    let other = TOPOLOGY.replacen("198.51.100.2", "fd00::2", 1);
    assert_eq!(bound(&other, "b"), ["0.0.0.0", "192.0.2.2", "fd00::2"], "clients by IPv4, the mesh by IPv6");
    let routes = mixed.replacen("\"wg\"", "\"public\"", 1);
    assert_eq!(bound(&routes, "b"), ["::", "2001:db8::2", "::"]);
}

#[test]
fn outside_of_a_clone_the_way_in_is_told() {
    let clone = Clone::new();
    std::fs::remove_dir_all(clone.path("deploy")).unwrap();
    assert!(clone.refused("client-ca").contains("--root DIR"));
    assert!(clone.refused("client-ca --root nowhere").contains("--root nowhere"));
    let real = Clone::new();
    let mut command = clone.command(["client-ca"]);
    command.env("UNIBUS_ROOT", &real.root);
    assert_eq!(common::Done::of(command).code, Some(0));
    assert!(real.path("deploy/tls/ca.key").is_file());
    assert!(!clone.path("deploy").exists());
}
