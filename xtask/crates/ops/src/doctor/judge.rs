//! Whether one node is fit, from what it said of itself: pure.

use std::net::IpAddr;

use super::question::{Facts, Listener, Room};
use super::{Check, Level};
use crate::node_files::Placement;
use crate::staging::{UNIT, USER};
use crate::topology::{Node, RouteNetwork, Topology};

/// What servers run is built for it.
const ARCH: &str = "x86_64";
/// The unit needs LoadCredential= with %d.
const SYSTEMD: u32 = 252;
const DEBIAN: u32 = 12;
const KIB_A_GIB: u64 = 1 << 20;
/// Release, settings and the first stores.
const LEAST_GIB: u64 = 2;
/// What the daemon lets its engine store (`STORE_BYTES` there), and what lies beside it.
const STORE_GIB: u64 = 10;
const BESIDE_GIB: u64 = 2;
/// Every check of a node that needs no other node.
pub(super) fn node(topology: &Topology, node: &Node, facts: &Facts) -> Vec<Check> {
    let name = &node.name;
    let mut checks = vec![arch(name, facts), debian(name, facts), systemd(name, facts), rsync(name, facts)];
    checks.push(user(name, facts, &topology.cluster.install_dir));
    checks.extend(disk(name, facts));
    checks.push(ntp(name, facts));
    checks.push(credentials(name, facts));
    checks.extend(ports(topology, node, facts));
    checks.extend(addresses(topology, node, facts));
    checks
}

fn arch(node: &str, facts: &Facts) -> Check {
    let level = if facts.arch == ARCH { Level::Ok } else { Level::Fail };
    Check::new("architecture", node, level, ARCH, &*facts.arch)
        .remedy("membershipd and the engine are built for x86-64: take another machine")
}

fn debian(node: &str, facts: &Facts) -> Check {
    let release = facts.os.strip_prefix("debian ").and_then(|release| release.split('.').next()?.parse::<u32>().ok());
    let level = if release.is_some_and(|release| release >= DEBIAN) { Level::Ok } else { Level::Warn };
    Check::new("system", node, level, format!("debian {DEBIAN} or later"), or_unknown(&facts.os))
        .remedy("it was only ever tried on Debian 12 and later; with systemd as new as that it should do")
}

fn systemd(node: &str, facts: &Facts) -> Check {
    let release = facts.systemd.split_whitespace().nth(1).and_then(|word| word.parse::<u32>().ok());
    let level = if release.is_some_and(|release| release >= SYSTEMD) { Level::Ok } else { Level::Fail };
    let got = release.map_or_else(|| or_unknown(&facts.systemd).to_owned(), |release| release.to_string());
    Check::new("systemd", node, level, format!("{SYSTEMD} or later"), got)
        .remedy("the unit hands secrets over by LoadCredential= and %d, which older ones lack: upgrade to Debian 12")
}

fn rsync(node: &str, facts: &Facts) -> Check {
    let version = facts.rsync.split_whitespace().nth(2);
    let level = if version.is_some() { Level::Ok } else { Level::Fail };
    Check::new("rsync", node, level, "installed", version.unwrap_or("not there")).remedy("apt-get install rsync")
}

/// `stage` makes the user; one that is there must be the one that it makes.
fn user(node: &str, facts: &Facts, home: &str) -> Check {
    let want = format!("free, or a system user with home {home}");
    let check = |level, got: String| Check::new("user", node, level, want.clone(), got);
    let remedy =
        format!("{USER} is what the daemon runs as: rename the other one (usermod --login, groupmod --new-name)");
    let fields: Vec<&str> = facts.passwd.split(':').collect();
    match (fields.as_slice(), facts.group.is_empty()) {
        ([_, _, _, _, _, dir, shell], _) => {
            let ours = *dir == home && ["/nologin", "/false"].iter().any(|end| shell.ends_with(end));
            let (level, got) = if ours {
                (Level::Ok, "there".to_owned())
            } else {
                (Level::Fail, format!("another's: home {dir}, shell {shell}"))
            };
            check(level, got).remedy(remedy)
        }
        (_, false) => check(Level::Fail, format!("a group {USER} without the user")).remedy(remedy),
        (_, true) => check(Level::Ok, "free".to_owned()),
    }
}

fn disk(node: &str, facts: &Facts) -> Vec<Check> {
    let same = facts.install.as_ref().map(|room| &room.mount) == facts.stores.as_ref().map(|room| &room.mount);
    let mut checks = Vec::new();
    if !same {
        let enough = |free| if free < LEAST_GIB { Level::Fail } else { Level::Ok };
        checks.push(room(node, "disk.install", facts.install.as_ref(), 0, LEAST_GIB, enough));
    }
    let want = STORE_GIB + BESIDE_GIB;
    let enough = |free| match free {
        0..LEAST_GIB => Level::Fail,
        free if free < want => Level::Warn,
        _ => Level::Ok,
    };
    checks.push(room(node, "disk.stores", facts.stores.as_ref(), facts.used, want, enough));
    checks
}

fn room(node: &str, id: &str, room: Option<&Room>, used_kib: u64, want: u64, level: impl Fn(u64) -> Level) -> Check {
    let wanted = format!("{want} GiB free, what is stored by now counted in");
    let Some(room) = room else {
        return Check::new(id, node, Level::Fail, wanted, "df gave no answer").remedy("df -Pk there");
    };
    let gib = room.free_kib.saturating_add(used_kib) / KIB_A_GIB;
    let stored =
        if used_kib / KIB_A_GIB > 0 { format!(" and {} GiB stored", used_kib / KIB_A_GIB) } else { String::new() };
    Check::new(
        id,
        node,
        level(gib),
        wanted,
        format!("{} GiB free on {}{stored}", room.free_kib / KIB_A_GIB, room.mount),
    )
    .remedy(format!(
        "make room on {}: the engine may store {STORE_GIB} GiB, and stops taking writes on a full disk",
        room.mount
    ))
}

fn ntp(node: &str, facts: &Facts) -> Check {
    let level = if facts.ntp == "yes" { Level::Ok } else { Level::Warn };
    Check::new(
        "ntp",
        node,
        level,
        "synchronized",
        if level == Level::Ok { "synchronized" } else { or_unknown(&facts.ntp) },
    )
    .remedy("apt-get install systemd-timesyncd && timedatectl set-ntp true")
}

/// A drop-in for all services, as some systems put into containers, may take back what hands the unit its secrets. `stage` cannot see
/// it, and the daemon would not start.
fn credentials(node: &str, facts: &Facts) -> Check {
    let want = format!("no drop-in takes LoadCredential= from {UNIT}");
    let Some(file) = &facts.emptied else { return Check::new("credentials", node, Level::Ok, want, "left alone") };
    let name = file.rsplit('/').next().unwrap_or(file);
    let units = "/etc/systemd/system";
    Check::new("credentials", node, Level::Fail, want, format!("{file} empties LoadCredential=")).remedy(format!(
        "the daemon would start without its secrets. To leave that file out for this unit alone, there: mkdir -p {units}/{UNIT}.d \
         && ln -s /dev/null {units}/{UNIT}.d/{name} && systemctl daemon-reload. In an LXC container systemd needs nesting for that \
         (Proxmox: pct set ID --features nesting=1)"
    ))
}

/// Each port is free where it will be bound, or is held by our own unit.
fn ports(topology: &Topology, node: &Node, facts: &Facts) -> Vec<Check> {
    let ports = topology.ports;
    let at = Placement::server(topology, node);
    let wanted = [
        ("ports.client", at.bind, ports.client),
        ("ports.control_plane", at.bind, ports.control_plane),
        ("ports.route", at.route_bind, ports.route),
    ];
    let one = |(id, bind, port): (&str, IpAddr, u16)| {
        let want = format!("{port} free, or ours");
        let check = |level, got: &str| Check::new(id, &node.name, level, want.clone(), got);
        let Some(listeners) = &facts.listeners else {
            return check(Level::Warn, "ss gave no answer").remedy("apt-get install iproute2");
        };
        match holder(listeners, bind, port) {
            None => check(Level::Ok, "free"),
            Some(listener) if ours(listener) => check(Level::Ok, "ours"),
            Some(listener) => check(Level::Fail, &format!("{port} held by {}", listener.who)).remedy(format!(
                "end what listens there, or give unibus another port in [ports] of nodes.toml ({port} now)"
            )),
        }
    };
    wanted.map(one).to_vec()
}

/// Whoever keeps us from binding there: any address excludes all, and the other way round.
pub(super) fn holder(listeners: &[Listener], bind: IpAddr, port: u16) -> Option<&Listener> {
    let clashes = |listener: &&Listener| {
        listener.port == port && (bind.is_unspecified() || listener.address.is_none_or(|address| address == bind))
    };
    // A stranger among several is the news.
    let mut all: Vec<&Listener> = listeners.iter().filter(clashes).collect();
    all.sort_by_key(|listener| ours(listener));
    all.first().copied()
}

pub(super) fn ours(listener: &Listener) -> bool {
    listener.cgroup.split('/').any(|part| part == UNIT)
}

fn addresses(topology: &Topology, node: &Node, facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    let wg_lack = match topology.cluster.route_network {
        RouteNetwork::Wg => Level::Fail,
        RouteNetwork::Public => Level::Warn,
    };
    for (id, address, lack) in [("address.public", node.public, Level::Warn), ("address.wg", node.wg, wg_lack)] {
        let want = format!("{address} on an interface");
        let found = facts.addresses.iter().find(|(here, _)| *here == address);
        let check = match found {
            Some((_, device)) => Check::new(id, &node.name, Level::Ok, want, format!("on {device}")),
            None => Check::new(id, &node.name, lack, want, format!("{address} is not there")),
        };
        let remedy = match (id, lack) {
            ("address.public", _) => {
                "well if a provider translates it (NAT); otherwise nodes.toml names another machine".to_owned()
            }
            (_, Level::Fail) => {
                "the routes bind to it: bring WireGuard up there (wg-quick up wg0), correct `wg` in nodes.toml, \
                                 or set route_network = \"public\""
                    .to_owned()
            }
            _ => "nothing, while route_network = \"public\"".to_owned(),
        };
        checks.push(check.remedy(remedy));
    }
    checks
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn topology(network: &str) -> Topology {
        let mut text =
            "[cluster]\nname = \"test\"\nroute_network = \"NET\"\nkv_replicas = 3\ninstall_dir = \"/opt/unibus\"\n\
                        [ports]\nclient = 4250\ncontrol_plane = 8470\nroute = 6250\n"
                .replace("NET", network);
        for (name, n, seed) in [("a", 1, true), ("b", 2, false), ("c", 3, false)] {
            text.push_str(&format!(
                "[[node]]\nname = \"{name}\"\nssh = \"host-{name}\"\npublic = \"192.0.2.{n}\"\nwg = \"198.51.100.{n}\"\nseed = {seed}\n"
            ));
        }
        Topology::parse(&text, "test").unwrap()
    }

    /// A bare Debian 12, ready to be staged.
    pub(crate) fn bare(n: u8) -> Facts {
        let room = || Some(Room { free_kib: 40 * KIB_A_GIB, mount: "/".to_owned() });
        Facts {
            arch: "x86_64".to_owned(),
            os: "debian 12".to_owned(),
            systemd: "systemd 252 (252.39-1~deb12u1)".to_owned(),
            rsync: "rsync  version 3.2.7  protocol version 31".to_owned(),
            ntp: "yes".to_owned(),
            install: room(),
            stores: room(),
            addresses: vec![
                (IpAddr::from([192, 0, 2, n]), "eth0".to_owned()),
                (IpAddr::from([198, 51, 100, n]), "wg0".to_owned()),
            ],
            listeners: Some(vec![listening("0.0.0.0", 22, "sshd")]),
            ..Facts::default()
        }
    }

    pub(crate) fn listening(address: &str, port: u16, name: &str) -> Listener {
        let address: IpAddr = address.parse().unwrap();
        let unit = if name == "sshd" { "ssh.service" } else { UNIT };
        Listener {
            address: Some(address).filter(|address| !address.is_unspecified()),
            port,
            who: format!("{name} (pid 7)"),
            cgroup: format!("0::/system.slice/{unit}"),
        }
    }

    /// What is not as it should be after `breaking` was done to a bare machine.
    fn broken(network: &str, breaking: impl Fn(&mut Facts)) -> Vec<(String, Level, String)> {
        let topology = topology(network);
        let mut facts = bare(1);
        breaking(&mut facts);
        let checks = node(&topology, &topology.nodes[0], &facts);
        for check in &checks {
            assert_eq!(check.remedy.is_empty(), check.level == Level::Ok, "{check:?}");
            assert_eq!(check.node, "a");
        }
        checks.into_iter().filter(|check| check.level != Level::Ok).map(|c| (c.id, c.level, c.got)).collect()
    }

    fn one(found: Vec<(String, Level, String)>) -> (String, Level, String) {
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    }

    fn is(found: Vec<(String, Level, String)>, id: &str, level: Level, says: &str) {
        let (got_id, got_level, got) = one(found);
        assert_eq!((got_id.as_str(), got_level), (id, level), "{got}");
        assert!(got.contains(says), "{got}");
    }

    #[test]
    fn a_bare_debian_is_fit() {
        assert_eq!(broken("wg", |_| {}), []);
        assert_eq!(broken("public", |_| {}), []);
        assert_eq!(broken("wg", |facts| "debian 13.1".clone_into(&mut facts.os)), []);
    }

    #[test]
    fn a_machine_of_another_kind_is_not() {
        is(broken("wg", |f| "aarch64".clone_into(&mut f.arch)), "architecture", Level::Fail, "aarch64");
        is(broken("wg", |f| "ubuntu 24.04".clone_into(&mut f.os)), "system", Level::Warn, "ubuntu");
        is(broken("wg", |f| "debian 11".clone_into(&mut f.os)), "system", Level::Warn, "11");
        is(broken("wg", |f| f.os.clear()), "system", Level::Warn, "unknown");
        is(broken("wg", |f| "systemd 247 (247.3-7)".clone_into(&mut f.systemd)), "systemd", Level::Fail, "247");
        is(broken("wg", |f| f.systemd.clear()), "systemd", Level::Fail, "unknown");
        is(broken("wg", |f| f.rsync.clear()), "rsync", Level::Fail, "not there");
    }

    #[test]
    fn room_is_counted_with_what_is_stored() {
        let gib = |n: u64, used: u64| {
            broken("wg", |facts| {
                let room = Some(Room { free_kib: n * KIB_A_GIB, mount: "/".to_owned() });
                (facts.install, facts.stores, facts.used) = (room.clone(), room, used * KIB_A_GIB);
            })
        };
        is(gib(1, 0), "disk.stores", Level::Fail, "1 GiB free on /");
        is(gib(11, 0), "disk.stores", Level::Warn, "11 GiB");
        assert_eq!(gib(12, 0), []);
        assert_eq!(gib(4, 9), [], "a full store has its room already");
        let found = broken("wg", |facts| facts.install = Some(Room { free_kib: 0, mount: "/opt".to_owned() }));
        is(found, "disk.install", Level::Fail, "0 GiB free on /opt");
        is(broken("wg", |facts| (facts.install, facts.stores) = (None, None)), "disk.stores", Level::Fail, "df");
        let daemon = include_str!("../../../../../membershipd/crates/core/src/bus.rs");
        assert!(daemon.contains(&format!("STORE_BYTES: u64 = {STORE_GIB} * GIB;")), "the daemon has another limit");
    }

    #[test]
    fn time_is_kept_and_credentials_are_left_alone() {
        is(broken("wg", |f| "no".clone_into(&mut f.ntp)), "ntp", Level::Warn, "no");
        let file = "/run/systemd/system/service.d/zzz-lxc-service.conf";
        is(broken("wg", |f| f.emptied = Some(file.to_owned())), "credentials", Level::Fail, file);
    }

    #[test]
    fn a_port_is_free_ours_or_taken() {
        let with = |listeners: Vec<Listener>| broken("wg", |facts| facts.listeners = Some(listeners.clone()));
        is(with(vec![listening("127.0.0.1", 4250, "sshd")]), "ports.client", Level::Fail, "4250 held by sshd (pid 7)");
        is(with(vec![listening("0.0.0.0", 6250, "sshd")]), "ports.route", Level::Fail, "sshd");
        // The routes are bound to the mesh alone, and no monitor is bound at all.
        assert_eq!(with(vec![listening("192.0.2.1", 6250, "sshd"), listening("0.0.0.0", 8250, "sshd")]), []);
        let own = ["4250", "8470", "6250"].map(|port| listening("0.0.0.0", port.parse().unwrap(), "nats-server"));
        assert_eq!(with(own.to_vec()), []);
        // One of ours beside a stranger does not hide the stranger.
        let both = vec![listening("0.0.0.0", 4250, "nats-server"), listening("127.0.0.1", 4250, "sshd")];
        is(with(both), "ports.client", Level::Fail, "sshd");
        let unknown = broken("wg", |facts| facts.listeners = None);
        assert_eq!(unknown.iter().filter(|(_, level, _)| *level == Level::Warn).count(), 3, "{unknown:?}");
    }

    #[test]
    fn the_mesh_address_must_be_there_when_routes_use_it() {
        let without = |network, device: &'static str| {
            broken(network, move |facts| facts.addresses.retain(|(_, on)| on != device))
        };
        is(without("wg", "wg0"), "address.wg", Level::Fail, "198.51.100.1 is not there");
        is(without("public", "wg0"), "address.wg", Level::Warn, "198.51.100.1");
        is(without("wg", "eth0"), "address.public", Level::Warn, "192.0.2.1");
    }

    #[test]
    fn a_user_of_that_name_must_be_the_one_that_stage_makes() {
        let user = |passwd: &'static str, group: &'static str| {
            broken("wg", move |facts| {
                passwd.clone_into(&mut facts.passwd);
                group.clone_into(&mut facts.group);
            })
        };
        assert_eq!(user("unibus:x:999:999::/opt/unibus:/usr/sbin/nologin", "unibus:x:999:"), []);
        is(user("unibus:x:1000:1000::/home/unibus:/bin/bash", "unibus:x:1000:"), "user", Level::Fail, "/home/unibus");
        is(user("", "unibus:x:999:"), "user", Level::Fail, "group");
    }

    #[test]
    fn the_unit_that_holds_a_port_is_the_one_that_is_staged() {
        assert!(ours(&listening("0.0.0.0", 1, "nats-server")));
        let mut other = listening("0.0.0.0", 1, "nats-server");
        other.cgroup = "0::/system.slice/nats-server.service".to_owned();
        assert!(!ours(&other));
    }
}
