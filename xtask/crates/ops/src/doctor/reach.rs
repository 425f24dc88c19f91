//! Whether the nodes reach each other: what each tried, judged beside what listens there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::judge::{holder, ours};
use super::question::{Facts, Reach};
use super::{Check, Level};
use crate::topology::{Node, RouteNetwork, Topology};

/// Checks of this family have the other node's name at the end of their id.
pub(super) const FAMILY: &str = "reach.";

/// One attempt that every node makes at every other.
struct Target {
    /// `reach.route.wg`
    id: String,
    address: IpAddr,
    port: u16,
    /// What it means when nothing gets through.
    lack: Level,
    why: &'static str,
}

/// The attempts at `node`. Where both networks are one, it is tried once.
fn targets(topology: &Topology, node: &Node) -> Vec<Target> {
    let ports = topology.ports;
    let routes = topology.cluster.route_network;
    let mut found = Vec::new();
    for (network, address) in [(routes, topology.route_address(node)), other_network(topology, node)] {
        let own = network == routes;
        if own || address != topology.route_address(node) {
            let (lack, why) = if own {
                (
                    Level::Fail,
                    "the routes need it: open the port in the firewall there, and see that the mesh is up (wg show)",
                )
            } else {
                (
                    Level::Warn,
                    "nothing, unless route_network is to become this network; closed to strangers it is better off",
                )
            };
            found.push(Target { id: format!("{FAMILY}route.{network}"), address, port: ports.route, lack, why });
        }
    }
    let clients = "clients come from there: open the port in the firewall";
    for (name, port) in [("client", ports.client), ("control_plane", ports.control_plane)] {
        let id = format!("{FAMILY}{name}.public");
        found.push(Target { id, address: node.public, port, lack: Level::Warn, why: clients });
    }
    found
}

fn other_network(topology: &Topology, node: &Node) -> (RouteNetwork, IpAddr) {
    match topology.cluster.route_network {
        RouteNetwork::Wg => (RouteNetwork::Public, node.public),
        RouteNetwork::Public => (RouteNetwork::Wg, node.wg),
    }
}

/// The words that have a node try all others.
pub(super) fn words(topology: &Topology, node: &Node) -> Vec<String> {
    let all = topology.others(node).flat_map(|other| targets(topology, other));
    all.flat_map(|target| [target.address.to_string(), target.port.to_string()]).collect()
}

/// What `node` reached of the others. `answers` has the facts of those that answered.
pub(super) fn checks(topology: &Topology, node: &Node, facts: &Facts, answers: &BTreeMap<&str, &Facts>) -> Vec<Check> {
    let mut checks = Vec::new();
    for other in topology.others(node) {
        let there = answers.get(other.name.as_str()).copied();
        for target in targets(topology, other) {
            let tried =
                facts.reached.iter().find(|(address, port, _)| (*address, *port) == (target.address, target.port));
            checks.push(judge(&node.name, other, &target, tried.map(|(.., reach)| reach), there));
        }
    }
    // Attempts of one kind stand together.
    checks.sort_by(|one, other| one.row().cmp(other.row()));
    checks
}

/// The ids of all attempts of a node, for one that could not be asked.
pub(super) fn ids(topology: &Topology, node: &Node) -> Vec<String> {
    let all = topology.others(node);
    let mut ids: Vec<String> = all
        .flat_map(|other| targets(topology, other).into_iter().map(|target| format!("{}.{}", target.id, other.name)))
        .collect();
    ids.sort();
    ids
}

fn judge(node: &str, other: &Node, target: &Target, tried: Option<&Reach>, there: Option<&Facts>) -> Check {
    let Target { id, address, port, lack, why } = target;
    let id = format!("{id}.{}", other.name);
    let want = format!("{address} port {port} reached");
    let check = |level, got: String| Check::new(id.clone(), node, level, want.clone(), got);
    let from = format!("from {node} to {} ({address} port {port}): {why}", other.name);
    match tried {
        Some(Reach::Open) => check(Level::Ok, "open".to_owned()),
        // Before `up` nobody listens, and that a refusal arrives shows that packets pass both ways.
        Some(Reach::Closed) if !listens(there, *address, *port) => check(Level::Ok, "closed but reachable".to_owned()),
        Some(Reach::Closed) => check(*lack, "refused, although it listens there".to_owned())
            .remedy(format!("a firewall rejects it, or another machine has that address; {from}")),
        Some(Reach::Filtered(how)) => check(*lack, format!("filtered: {how}")).remedy(from),
        None => check(*lack, "it was not tried".to_owned())
            .remedy("run this again; bash must be able to open /dev/tcp there"),
    }
}

/// Whether our unit on that node listens where the attempt went, by the node's own account.
fn listens(there: Option<&Facts>, address: IpAddr, port: u16) -> bool {
    let listeners = there.and_then(|facts| facts.listeners.as_ref());
    listeners.is_some_and(|all| holder(all, address, port).is_some_and(ours))
}

#[cfg(test)]
mod tests {
    use super::super::judge::tests::{bare, listening, topology};
    use super::*;

    /// The checks of `a`, where `b` and `c` are as given, and every attempt ends in the same way.
    fn tried(network: &str, reach: &Reach, b: &Facts) -> Vec<Check> {
        let topology = topology(network);
        let a = &topology.nodes[0];
        let mut facts = bare(1);
        let words = words(&topology, a);
        for pair in words.chunks(2) {
            facts.reached.push((pair[0].parse().unwrap(), pair[1].parse().unwrap(), reach.clone()));
        }
        let c = bare(3);
        let answers = BTreeMap::from([("a", &facts), ("b", b), ("c", &c)]);
        let checks = checks(&topology, a, &facts, &answers);
        let mut found: Vec<String> = checks.iter().map(|check| check.id.clone()).collect();
        found.sort();
        assert_eq!(found, ids(&topology, a));
        checks
    }

    fn levels(checks: &[Check], id: &str) -> Vec<Level> {
        checks.iter().filter(|check| check.row() == id).map(|check| check.level).collect()
    }

    #[test]
    fn open_and_closed_are_both_well() {
        for reach in [Reach::Open, Reach::Closed] {
            let checks = tried("wg", &reach, &bare(2));
            assert_eq!(checks.len(), 2 * 4);
            assert!(checks.iter().all(|check| check.level == Level::Ok && check.remedy.is_empty()), "{checks:?}");
        }
    }

    #[test]
    fn a_filtered_route_fails_on_the_network_of_the_routes_alone() {
        let filtered = Reach::Filtered("no answer within 8 s".to_owned());
        let checks = tried("wg", &filtered, &bare(2));
        assert_eq!(levels(&checks, "reach.route.wg"), [Level::Fail; 2]);
        for id in ["reach.route.public", "reach.client.public", "reach.control_plane.public"] {
            assert_eq!(levels(&checks, id), [Level::Warn; 2], "{id}");
        }
        let checks = tried("public", &filtered, &bare(2));
        assert_eq!(levels(&checks, "reach.route.public"), [Level::Fail; 2]);
        assert_eq!(levels(&checks, "reach.route.wg"), [Level::Warn; 2]);
        let fails = checks.iter().find(|check| check.level == Level::Fail).unwrap();
        assert!(fails.remedy.contains("from a to b (192.0.2.2 port 6250)"), "{fails:?}");
        assert!(fails.got.contains("no answer within 8 s"), "{fails:?}");
    }

    #[test]
    fn a_refusal_where_somebody_listens_is_a_firewall() {
        let mut b = bare(2);
        b.listeners = Some(vec![listening("198.51.100.2", 6250, "nats-server")]);
        let checks = tried("wg", &Reach::Closed, &b);
        assert_eq!(levels(&checks, "reach.route.wg"), [Level::Fail, Level::Ok]);
        // On the public address nobody listens for routes, so a refusal is right there.
        assert_eq!(levels(&checks, "reach.route.public"), [Level::Ok; 2]);
    }

    #[test]
    fn what_was_not_tried_is_not_called_well() {
        let topology = topology("wg");
        let facts = bare(1);
        let checks = checks(&topology, &topology.nodes[0], &facts, &BTreeMap::new());
        assert_eq!(levels(&checks, "reach.route.wg"), [Level::Fail; 2]);
    }

    #[test]
    fn two_networks_in_one_are_tried_once() {
        let text = topology("public").to_toml().replace("198.51.100", "192.0.2");
        let topology = Topology::parse(&text, "test").unwrap();
        let words = words(&topology, &topology.nodes[0]);
        assert_eq!(words.iter().filter(|word| *word == "6250").count(), 2, "{words:?}");
        assert_eq!(ids(&topology, &topology.nodes[0]).len(), 2 * 3);
    }
}
