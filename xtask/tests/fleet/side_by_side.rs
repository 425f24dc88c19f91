//! Several fleets at once, of several sizes, and none in another's way.

use std::fs;

use crate::common::{Clone, Done, TOPOLOGY};
use crate::harness::{Host, Machines, Room, Traces, clone, scratch, signal, wait, xtask};
use rustix::process::Signal;

#[test]
fn two_fleets_share_nothing_and_go_one_by_one() {
    let host = Host::look();
    let five = scratch("five.toml");
    // Addresses are those of documentation, and of nobody here; one node is reached as another user.
    let more = ["d", "e"].map(|name| {
        let last = name.as_bytes()[0];
        format!(
            "\n[[node]]\nname = \"{name}\"\nssh = \"deploy@host-{name}\"\npublic = \"192.0.2.{last}\"\nwg = \"<WG>\"\n"
        )
    });
    fs::write(&five, format!("{TOPOLOGY}{}", more.concat())).unwrap();
    // Taken together, so that two tests cannot each wait for the other's half.
    let _all = Room::for_machines(8);
    let (large, small) = std::thread::scope(|scope| {
        let large = scope.spawn(|| Machines::of("large", &five, Room::for_machines(0)));
        let small = scope.spawn(|| Machines::of("small", &clone().join("deploy/nodes.toml"), Room::for_machines(0)));
        (large.join().unwrap(), small.join().unwrap())
    });
    fs::remove_file(&five).unwrap();
    let traces_of_large = Traces::of(&large.dir, host.clone());

    // The same address is another machine in each.
    let at_11 =
        |machines: &Machines, host: &str| machines.ok(&["sh", "ssh", host, "hostname; ip -4 -br address show eth0"]);
    assert!(at_11(&large, "host-a").starts_with("a\n") && at_11(&large, "host-a").contains("198.51.100.11/24"));
    assert!(at_11(&small, "magnus").starts_with("magnus\n") && at_11(&small, "magnus").contains("198.51.100.11/24"));
    assert!(!small.answers("host-a"), "one fleet's ssh knows nothing of the other's machines");
    assert!(large.answers("deploy@host-e") && large.answers("host-a"));
    assert_eq!(large.ok(&["ssh", "e", "sudo -n id -un"]), "root\n");

    // A fault here is none there; nor is the end.
    large.ok(&["cut", "a"]);
    assert!(small.answers("magnus"));
    let again = small.refused(&["up"]);
    assert!(again.contains("already") && again.contains("down"), "{again}");
    assert!(small.answers("magnus"), "a second `up` must not touch the first");

    // The holder of one is killed: busy, and with processes of the operator's among the machines.
    let sleeping = xtask(&["fleet", "--dir", small.dir.to_str().unwrap(), "sh", "sleep", "1000"]).spawn();
    let mut sleeping = sleeping.unwrap();
    // Its own program by then, which knows nothing of a fleet any more.
    let words = format!("/proc/{}/cmdline", sleeping.id());
    wait("it sleeps among the machines", || {
        !fs::read_to_string(&words).unwrap().split('\0').any(|word| word == "fleet")
    });
    let traces = Traces::of(&small.dir, host);
    signal(traces.holder, Signal::KILL);
    traces.wait_until_gone();
    assert!(!sleeping.wait().unwrap().success());
    large.ok(&["heal"]);
    assert!(large.answers("host-a"));

    // The keeper of the other is told to end, as when the host shuts down.
    signal(traces_of_large.keeper, Signal::TERM);
    traces_of_large.wait_until_gone();
    wait("it is known to be gone", || large.refused(&["status"]).contains("there is no fleet"));
    assert!(small.refused(&["status"]).contains("there is no fleet"));
    assert!(small.ok(&["down"]).contains("there is no fleet"));
}

#[test]
fn a_directory_with_other_things_in_it_is_never_a_fleets() {
    let dir = scratch("foreign");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("thesis"), "precious").unwrap();
    for verb in ["up", "down"] {
        let done = Done::of(xtask(&["fleet", "--dir", dir.to_str().unwrap(), verb]));
        assert_eq!(done.code, Some(if verb == "up" { 2 } else { 0 }), "{done:?}");
    }
    assert_eq!(fs::read_to_string(dir.join("thesis")).unwrap(), "precious");
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn who_is_not_root_is_told_so() {
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    // The binary may lie where nobody else may look: a copy of it does not.
    let [program, rehearsal] =
        ["xtask", "rehearsal"].map(|name| std::env::temp_dir().join(format!("unibus-{name}-{}", std::process::id())));
    fs::copy(env!("CARGO_BIN_EXE_xtask"), &program).unwrap();
    let built = std::env::var_os("UNIBUS_REHEARSAL");
    fs::copy(built.expect("UNIBUS_REHEARSAL is not set; run: cargo xtask test"), &rehearsal).unwrap();
    command.env("UNIBUS_REHEARSAL", &rehearsal);
    let clone = Clone::new();
    command.arg(&program).args(["--root", clone.root.to_str().unwrap(), "fleet", "--dir", "/nonexistent/fleet", "up"]);
    let done = Done::of(command);
    fs::remove_file(&program).unwrap();
    fs::remove_file(&rehearsal).unwrap();
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("not root") && done.stderr.contains("nothing was changed"), "{done:?}");
}
