//! Two network namespaces and a cable between them, so that a node can lose its routes while its clients still reach it.
//!
//! On loopback nothing tells one node's packets from another's. Both namespaces are the test's own and end with it.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// The near end has an address each for the nodes that stay together, the far one that of the node that can be cut off.
pub(crate) const NEAR: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
pub(crate) const FAR: &str = "10.77.0.3";

/// The engine's packets between nodes, in both directions and whoever began; those of clients have other ports.
const CUT: &str = r#"
table inet cut {
    chain arriving { type filter hook input priority 0; iifname "near" tcp sport 6250 drop; iifname "near" tcp dport 6250 drop; }
    chain leaving { type filter hook output priority 0; oifname "near" tcp sport 6250 drop; oifname "near" tcp dport 6250 drop; }
}
"#;

/// A cable. Whoever laid it is at its near end, and so is whatever is started from there.
pub(crate) struct Cable {
    far: File,
}

impl Cable {
    /// Moves this thread, and no other one, into a namespace of its own. Needs root.
    pub(crate) fn lay() -> Self {
        let far = thread::spawn(namespace).join().unwrap();
        let _ = namespace();
        let end = format!("/proc/{}/fd/{}", std::process::id(), far.as_raw_fd());
        run(&["ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", &end]);
        let cable = Self { far };
        cable.beyond(|| {
            run(&["ip", "address", "add", &format!("{FAR}/24"), "dev", "far"]);
            run(&["ip", "link", "set", "far", "up"]);
        });
        for address in NEAR {
            run(&["ip", "address", "add", &format!("{address}/24"), "dev", "near"]);
        }
        run(&["ip", "link", "set", "near", "up"]);
        cable
    }

    /// Does something at the far end.
    pub(crate) fn beyond<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let there = || {
            setns(&self.far, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(there).join().unwrap())
    }

    /// From now on no node hears anything of one at the other end.
    pub(crate) fn cut(&self) {
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(CUT.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "nft cannot cut the cable");
    }

    /// Takes the cut back.
    pub(crate) fn mend(&self) {
        run(&["nft", "delete", "table", "inet", "cut"]);
    }
}

/// Moves this thread into a new namespace with its own loopback.
fn namespace() -> File {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
    run(&["ip", "link", "set", "lo", "up"]);
    // Else the kernel asks ever less often whether a connection through a cut is whole again, after half a minute not for another.
    std::fs::write("/proc/sys/net/ipv4/tcp_retries2", "5").unwrap();
    File::open("/proc/thread-self/ns/net").unwrap()
}

fn run(words: &[&str]) {
    let status = Command::new(words[0]).args(&words[1..]).status();
    assert!(status.is_ok_and(|status| status.success()), "{words:?} failed; what it said is above");
}
