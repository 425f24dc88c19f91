//! What can happen to a machine happens to that one only, is seen by the others, and heals.

use crate::harness::{Host, Machines, Traces, wait};

const MAGNUS: &str = "198.51.100.11";
const HOMER: &str = "198.51.100.12";
const HOMER_MESH: &str = "10.21.0.12";

#[test]
fn machines_take_logins_on_both_networks_and_every_fault_is_real_and_heals() {
    let host = Host::look();
    let machines = Machines::up("faults");

    // The operator's own ssh, by the operator's own aliases; a third node's alias is not its name.
    for host in ["magnus", "homer", "dd", "op@magnus", "nosudo@magnus"] {
        assert!(machines.answers(host), "{host}");
    }
    let said = machines.ok(&["ssh", "datardos", "hostname; id -un; systemctl is-system-running --wait"]);
    assert_eq!(said, "datardos\nroot\nrunning\n");
    let may = |user: &str| machines.run(&["sh", "ssh", &format!("{user}@homer"), "sudo -n id -u"]).code;
    assert_eq!((may("op"), may("nosudo")), (Some(0), Some(1)));
    let config = machines.ok(&["sh", "ssh", "-G", "dd"]);
    assert!(config.contains("stricthostkeychecking true"), "{config}");
    for address in [HOMER, HOMER_MESH, "datardos", "198.51.100.1"] {
        assert!(machines.pings("magnus", address), "{address}");
    }

    // A host key that is not the known one is refused, for the operator as in life.
    machines.ok(&[
        "ssh",
        "homer",
        "mv /etc/ssh/ssh_host_ed25519_key /root/key; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key",
    ]);
    let refused = machines.on("homer", "true");
    assert!(refused.stderr.contains("Host key verification failed"), "{refused:?}");
    machines.ok(&["ssh", "magnus", "echo magnus is not concerned"]);
    // sshd of every connection reads the key anew; a machine's disk can be reached through the operator's own place.
    let key = machines.dir.join("machines/homer/root");
    let (from, to) = (key.join("root/key"), key.join("etc/ssh/ssh_host_ed25519_key"));
    machines.ok(&["sh", "mv", from.to_str().unwrap(), to.to_str().unwrap()]);
    assert!(machines.answers("homer"));

    // One cable: the other one still works.
    machines.ok(&["cut", "homer", "mesh"]);
    assert!(!machines.pings("magnus", HOMER_MESH) && machines.pings("magnus", HOMER) && machines.answers("homer"));
    assert_eq!(machines.status("homer")["cut"], serde_json::json!(["mesh"]));
    machines.ok(&["heal"]);
    assert!(machines.pings("magnus", HOMER_MESH));

    // Both cables: off the net, and running.
    machines.ok(&["cut", "homer"]);
    assert!(!machines.answers("homer") && !machines.pings("magnus", HOMER) && machines.pings("magnus", "datardos"));
    assert_eq!(machines.status("homer")["power"], "up");
    machines.ok(&["heal"]);
    assert!(machines.answers("homer"));

    // One direction: what homer says arrives, what is answered does not. Others hear and are heard.
    machines.ok(&["deaf", "homer", "magnus", "mesh"]);
    let before = received(&machines, "magnus");
    assert!(!machines.pings("homer", "10.21.0.11"), "the answer must not arrive");
    assert!(received(&machines, "magnus") > before, "magnus still hears homer");
    assert!(!machines.pings("magnus", HOMER_MESH) && machines.pings("datardos", HOMER_MESH));
    assert!(machines.pings("magnus", HOMER), "the other network is not concerned");
    machines.ok(&["heal"]);
    assert!(machines.pings("homer", "10.21.0.11"));

    // Frozen: there on the network, and silent.
    machines.ok(&["freeze", "homer"]);
    assert_eq!(machines.status("homer")["power"], "frozen");
    assert!(machines.pings("magnus", HOMER), "its kernel answers");
    assert!(!machines.answers("homer"));
    assert!(machines.refused(&["reboot", "homer"]).contains("thaw it first"));
    machines.ok(&["thaw", "homer"]);
    assert!(machines.answers("homer"));

    // A power cut, also of one that is frozen; the disk stays.
    machines.ok(&["ssh", "homer", "echo kept > /root/kept"]);
    machines.ok(&["freeze", "homer"]);
    machines.ok(&["kill", "homer"]);
    assert_eq!(machines.status("homer")["power"], "off");
    assert!(!machines.answers("homer") && machines.answers("magnus"));
    assert!(machines.refused(&["kill", "homer"]).contains("homer is off"));
    machines.ok(&["boot", "homer"]);
    assert_eq!(machines.ok(&["ssh", "homer", "cat /root/kept"]), "kept\n");
    assert!(machines.refused(&["boot", "homer"]).contains("on already"));

    // Restarts, by us and by itself, in good order: the journal of every boot is whole.
    machines.ok(&["reboot", "homer"]);
    assert_eq!(machines.status("homer")["boots"], 3);
    machines.on("homer", "systemctl reboot");
    wait("homer restarts by itself", || {
        let homer = machines.status("homer");
        homer["boots"] == 4 && homer["power"] == "up"
    });
    let boots = machines.ok(&["ssh", "homer", "journalctl --list-boots --no-pager -q | grep -c :"]);
    assert_eq!(boots, "4\n");

    // Off in good order, and on again with the public network cut: what is known of it does not need the network.
    machines.ok(&["stop", "homer"]);
    assert_eq!(machines.status("homer")["power"], "off");
    machines.ok(&["cut", "homer", "public"]);
    machines.ok(&["boot", "homer"]);
    assert!(!machines.pings("magnus", HOMER) && machines.pings("magnus", HOMER_MESH));
    machines.ok(&["heal"]);
    assert!(machines.answers("homer") && machines.pings("homer", MAGNUS));

    let unknown = machines.refused(&["freeze", "hector"]);
    assert!(unknown.contains("\"hector\"") && unknown.contains("magnus, homer, datardos"), "{unknown}");
    assert!(machines.refused(&["deaf", "homer", "homer"]).contains("hears itself"));

    // The ordinary end.
    let traces = Traces::of(&machines.dir, host);
    machines.ok(&["down"]);
    traces.wait_until_gone();
}

/// Echo requests that a machine's kernel has heard.
fn received(machines: &Machines, node: &str) -> u64 {
    let line = machines.ok(&["ssh", node, "grep ^Icmp: /proc/net/snmp | tail -n 1"]);
    line.split_whitespace().nth(9).unwrap().parse().unwrap()
}
