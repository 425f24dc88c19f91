//! The rules of a topology: what was typed, turned into what was meant, every mistake noted.

use std::collections::BTreeMap;
use std::net::IpAddr;

use unibus_names::{LABEL_RULE, MIN_CLUSTER_NODES, REPLICAS, is_cluster_size, is_label};

use super::typed::{self, At, Field, Mistakes};
use super::{Cluster, INSTALL_DIR, Node, Ports, RouteNetwork, Topology};
use crate::transport::is_ipv6;

/// The daemon does not run as root and gets no capability for lower ones.
const LOWEST_PORT: i64 = 1024;

/// The topology that was meant, unless something in it is wrong; every mistake is noted.
pub(super) fn all(file: &typed::File, mistakes: &mut Mistakes) -> Option<Topology> {
    let nodes: Vec<Option<Node>> = file.nodes.iter().map(|n| node(n, mistakes)).collect();
    let ports = ports(&file.ports, mistakes);
    let cluster = cluster(file, mistakes);
    if !file.nodes.is_empty() {
        node_count(file, mistakes);
        seeds(file, mistakes);
        duplicates(file, mistakes);
        loopback(file, mistakes);
    }
    Some(Topology { cluster: cluster?, ports: ports?, nodes: nodes.into_iter().collect::<Option<Vec<_>>>()? })
}

fn cluster(file: &typed::File, mistakes: &mut Mistakes) -> Option<Cluster> {
    let typed = &file.cluster;
    let name = label("cluster.name", &typed.name, mistakes);
    let route_network = typed.route_network.as_ref().and_then(|At { value, line }| match value.as_str() {
        "wg" => Some(RouteNetwork::Wg),
        "public" => Some(RouteNetwork::Public),
        other => {
            mistakes.add(*line, format!("cluster.route_network is {other:?}; it must be \"wg\" or \"public\""));
            None
        }
    });
    let kv_replicas = typed.kv_replicas.as_ref().and_then(|typed| replicas(typed, file.nodes.len(), mistakes));
    let install_dir = typed.install_dir.as_ref().and_then(|typed| install_dir(typed, mistakes));
    Some(Cluster { name: name?, route_network: route_network?, kv_replicas: kv_replicas?, install_dir: install_dir? })
}

fn replicas(typed: &At<i64>, nodes: usize, mistakes: &mut Mistakes) -> Option<u32> {
    let At { value, line } = *typed;
    let mut wrong = |why: String| {
        mistakes.add(line, format!("cluster.kv_replicas is {value}; {why}"));
    };
    let copies = usize::try_from(value).unwrap_or(0);
    if value < 1 {
        wrong("there must be at least one".to_owned());
    } else if value % 2 == 0 {
        wrong("it must be odd: an even number tolerates no more failures than one less".to_owned());
    } else if !REPLICAS.contains(&copies) {
        wrong(format!("the engine allows {} at most", REPLICAS.into_iter().max().unwrap_or_default()));
    } else if copies > nodes && nodes > 0 {
        wrong(format!("there are only {nodes} nodes to hold them"));
    }
    u32::try_from(value).ok()
}

fn install_dir(typed: &At<String>, mistakes: &mut Mistakes) -> Option<String> {
    let At { value, line } = typed;
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b))
    };
    let good = value.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain));
    if !good {
        mistakes.add(
            *line,
            format!(
                "cluster.install_dir is {value:?}; it must be an absolute path of letters, digits and . _ - + \
                 without a slash at its end, such as {INSTALL_DIR}"
            ),
        );
    }
    good.then(|| value.clone())
}

fn ports(typed: &typed::Ports, mistakes: &mut Mistakes) -> Option<Ports> {
    let fields = [
        ("client", &typed.client),
        ("control_plane", &typed.control_plane),
        ("route", &typed.route),
        ("monitor", &typed.monitor),
    ];
    let mut seen: BTreeMap<i64, (&str, usize)> = BTreeMap::new();
    for (key, field) in fields {
        let Some(At { value, line }) = field else {
            continue;
        };
        if *value < LOWEST_PORT || *value > i64::from(u16::MAX) {
            mistakes.add(
                *line,
                format!(
                    "ports.{key} is {value}; it must be from {LOWEST_PORT} to {} (the daemon is not root)",
                    u16::MAX
                ),
            );
        }
        match seen.get(value) {
            Some((first, at)) => {
                mistakes.add(*line, format!("ports.{key} is {value}, which is already ports.{first} (line {at})"))
            }
            None => {
                seen.insert(*value, (key, *line));
            }
        }
    }
    let port = |field: &Field<i64>| field.as_ref().and_then(|at| u16::try_from(at.value).ok());
    Some(Ports {
        client: port(&typed.client)?,
        control_plane: port(&typed.control_plane)?,
        route: port(&typed.route)?,
        monitor: port(&typed.monitor),
    })
}

fn node(typed: &typed::Node, mistakes: &mut Mistakes) -> Option<Node> {
    let title = match &typed.name {
        Some(name) => format!("node {:?}", name.value),
        None => "node".to_owned(),
    };
    let name = label(&format!("{title}.name"), &typed.name, mistakes);
    let ssh = typed.ssh.as_ref().and_then(|typed| ssh(&title, typed, mistakes));
    let public = address(&format!("{title}.public"), &typed.public, mistakes);
    let wg = address(&format!("{title}.wg"), &typed.wg, mistakes);
    Some(Node { name: name?, ssh: ssh?, public: public?, wg: wg?, seed: typed.seed.value })
}

/// A label of a host name: node and cluster names become host names in certificates, folders and account names.
fn label(key: &str, field: &Field<String>, mistakes: &mut Mistakes) -> Option<String> {
    let At { value, line } = field.as_ref()?;
    let good = is_label(value);
    if !good {
        mistakes.add(*line, format!("{key} is {value:?}; it must be a host name label: {LABEL_RULE}"));
    }
    good.then(|| value.clone())
}

/// What ssh is told to connect to. It must never be taken for one of its options.
fn ssh(title: &str, typed: &At<String>, mistakes: &mut Mistakes) -> Option<String> {
    let At { value, line } = typed;
    let wrong = not_for_ssh(value);
    if let Some(why) = &wrong {
        mistakes.add(*line, format!("{title}.ssh is {value:?}; {why}"));
    }
    wrong.is_none().then(|| value.clone())
}

/// Why ssh, and rsync by it, would not understand a host as it is meant.
fn not_for_ssh(value: &str) -> Option<&'static str> {
    const PORT: &str = "a port belongs in ~/.ssh/config: Host, HostName and Port there, and that Host here";
    let bare = value.strip_prefix("ssh://").unwrap_or(value);
    let (user, host) = bare.rsplit_once('@').map_or((None, bare), |(user, host)| (Some(user), host));
    let in_brackets = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match in_brackets {
        Some((_, "")) => return Some("an address of IPv6 stands there without brackets: root@2001:db8::1"),
        Some(_) => return Some(PORT),
        None if host.contains(':') && !is_ipv6(host) => return Some(PORT),
        None => {}
    }
    let word = |part: &str, more: &[u8]| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b) || more.contains(&b);
        !part.is_empty() && !part.starts_with('-') && part.bytes().all(plain)
    };
    let good = bare == value && word(host, b":%") && user.is_none_or(|user| word(user, b"@"));
    (!good).then_some("it must be a host as ssh knows it: an alias, or user@host")
}

fn address(key: &str, field: &Field<String>, mistakes: &mut Mistakes) -> Option<IpAddr> {
    let At { value, line } = field.as_ref()?;
    let Ok(address) = value.parse::<IpAddr>() else {
        mistakes
            .add(*line, format!("{key} is {value:?}; it must be an IP address, without a port or a network length"));
        return None;
    };
    let usable = match address {
        IpAddr::V4(v4) => !v4.is_broadcast(),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_none() && !v6.is_unicast_link_local(),
    };
    if !usable || address.is_unspecified() || address.is_multicast() {
        mistakes.add(*line, format!("{key} is {value}, at which no single machine can be reached"));
        return None;
    }
    Some(address)
}

fn node_count(file: &typed::File, mistakes: &mut Mistakes) {
    let count = file.nodes.len();
    let line = file.nodes.last().map_or(1, |node| node.line);
    if count < MIN_CLUSTER_NODES {
        mistakes.add(
            line,
            format!("{count} node(s): a cluster needs at least {MIN_CLUSTER_NODES} to survive the loss of one"),
        );
    } else if !is_cluster_size(count) {
        mistakes.add(
            line,
            format!(
                "{count} nodes: the number must be odd, for a majority of an even number tolerates no more failures"
            ),
        );
    }
}

fn seeds(file: &typed::File, mistakes: &mut Mistakes) {
    let mut seeds = file.nodes.iter().filter(|node| node.seed.value);
    match (seeds.next(), seeds.next()) {
        (None, _) => {
            let line = file.nodes.first().map_or(1, |node| node.line);
            mistakes.add(line, "no node is the seed: give exactly one of them seed = true");
        }
        (Some(first), Some(second)) => mistakes.add(
            second.seed.line,
            format!("a second seed; the first is on line {}, and exactly one node may be it", first.seed.line),
        ),
        (Some(_), None) => {}
    }
}

/// No two nodes may share a name, a machine or an address; one node's public and wg address may be equal.
fn duplicates(file: &typed::File, mistakes: &mut Mistakes) {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut hosts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut addresses: BTreeMap<IpAddr, (usize, usize)> = BTreeMap::new();
    for (index, node) in file.nodes.iter().enumerate() {
        for (what, field, seen) in [("name", &node.name, &mut names), ("ssh host", &node.ssh, &mut hosts)] {
            let Some(At { value, line }) = field else {
                continue;
            };
            match seen.get(value.as_str()) {
                Some(first) => {
                    mistakes.add(*line, format!("the {what} {value:?} is taken by another node (line {first})"))
                }
                None => {
                    seen.insert(value, *line);
                }
            }
        }
        for At { value, line } in [&node.public, &node.wg].into_iter().flatten() {
            let Ok(address) = value.parse::<IpAddr>() else {
                continue;
            };
            match addresses.get(&address) {
                Some((first, at)) if *first != index => {
                    mistakes.add(*line, format!("the address {address} is taken by another node (line {at})"))
                }
                Some(_) => {}
                None => {
                    addresses.insert(address, (index, *line));
                }
            }
        }
    }
}

/// Nodes on loopback are a cluster on one machine: all of them, or it is a slip.
fn loopback(file: &typed::File, mistakes: &mut Mistakes) {
    let typed: Vec<(IpAddr, usize)> = file
        .nodes
        .iter()
        .flat_map(|node| [&node.public, &node.wg])
        .flatten()
        .filter_map(|at| Some((at.value.parse().ok()?, at.line)))
        .collect();
    if typed.iter().all(|(address, _)| address.is_loopback()) {
        return;
    }
    for (address, line) in typed {
        if address.is_loopback() {
            mistakes.add(line, format!("{address} is a loopback address, which no other machine can reach"));
        }
    }
}
