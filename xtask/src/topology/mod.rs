//! The cluster as it is meant to be: nodes.toml, validated as a whole.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result};

use crate::exit::BadInput;
use crate::paths::Paths;

use self::typed::{At, Field, Mistakes};

mod typed;

/// Three nodes, five or seven, and what they have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topology {
    pub(crate) cluster: Cluster,
    pub(crate) ports: Ports,
    pub(crate) nodes: Vec<Node>,
}

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) route_network: RouteNetwork,
    pub(crate) kv_replicas: u32,
    pub(crate) install_dir: String,
}

/// Which of a node's addresses the other nodes dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteNetwork {
    Wg,
    Public,
}

/// `[ports]`, the same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) client: u16,
    pub(crate) control_plane: u16,
    pub(crate) route: u16,
    pub(crate) monitor: u16,
}

impl Ports {
    /// The ports as shipped in deploy/nodes.toml (a test compares).
    pub(crate) const SHIPPED: Self = Self { client: 4250, control_plane: 8470, route: 6250, monitor: 8250 };

    fn named(self) -> [(&'static str, u16); 4] {
        [
            ("client", self.client),
            ("control_plane", self.control_plane),
            ("route", self.route),
            ("monitor", self.monitor),
        ]
    }
}

/// `[[node]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) ssh: String,
    pub(crate) public: IpAddr,
    pub(crate) wg: IpAddr,
    pub(crate) seed: bool,
}

/// JetStream itself knows no more replicas than this.
const MOST_REPLICAS: i64 = 5;
const FEWEST_NODES: usize = 3;
/// The daemon does not run as root and gets no capability for lower ones.
const LOWEST_PORT: i64 = 1024;
const INSTALL_DIR: &str = "/opt/unibus";

impl Topology {
    /// Reads a topology; every mistake in it is reported, with its line.
    pub(crate) fn load(file: &Path) -> Result<Self> {
        let shown = Paths::shown(file);
        let text = fs::read_to_string(file)
            .map_err(|error| BadInput::new(format!("reading the topology {shown}: {error}")))?;
        Self::parse(&text, &shown)
    }

    /// Reads a topology from `text`; `shown` names it in messages.
    pub(crate) fn parse(text: &str, shown: &str) -> Result<Self> {
        let mut mistakes = Mistakes::default();
        let typed = typed::parse(text, &mut mistakes);
        let checked = check(&typed, &mut mistakes);
        match checked {
            Some(topology) if mistakes.is_empty() => Ok(topology),
            _ => Err(refusal(shown, mistakes)),
        }
    }

    /// The cluster that `local` runs: three nodes on consecutive loopback addresses.
    #[allow(dead_code)]
    pub(crate) fn local(base: Ipv4Addr, kv_replicas: u32) -> Result<Self> {
        let mut nodes = Vec::new();
        for (offset, name) in (0..).zip(["magnus", "homer", "datardos"]) {
            let address = u32::from(base)
                .checked_add(offset)
                .map(|bits| IpAddr::V4(Ipv4Addr::from(bits)))
                .filter(IpAddr::is_loopback)
                .with_context(|| format!("{base} has no room for three loopback addresses"))?;
            nodes.push(Node {
                name: name.to_owned(),
                ssh: name.to_owned(),
                public: address,
                wg: address,
                seed: offset == 0,
            });
        }
        let topology = Self {
            cluster: Cluster {
                name: "unibus".to_owned(),
                route_network: RouteNetwork::Wg,
                kv_replicas,
                install_dir: INSTALL_DIR.to_owned(),
            },
            ports: Ports::SHIPPED,
            nodes,
        };
        // One set of rules for what was typed and for what was made here.
        Self::parse(&topology.to_toml(), "the local cluster")
    }

    /// The node of that name.
    #[allow(dead_code)]
    pub(crate) fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            BadInput::new(format!("there is no node {name:?}; the topology has {}", known.join(", ")))
        })
    }

    /// The node that is started first.
    #[allow(dead_code)]
    pub(crate) fn seed(&self) -> Result<&Node> {
        self.nodes.iter().find(|node| node.seed).context("the topology has no seed node")
    }

    /// Every node but this one.
    pub(crate) fn others<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |other| other.name != node.name)
    }

    /// Where the other nodes dial this one.
    pub(crate) fn route_address(&self, node: &Node) -> IpAddr {
        match self.cluster.route_network {
            RouteNetwork::Wg => node.wg,
            RouteNetwork::Public => node.public,
        }
    }

    /// The topology as a file that [`Topology::load`] reads back.
    pub(crate) fn to_toml(&self) -> String {
        // Every string in here passed `check`, which allows none that would need escaping.
        let Cluster { name, route_network, kv_replicas, install_dir } = &self.cluster;
        let mut text = format!(
            "[cluster]\nname = \"{name}\"\nroute_network = \"{route_network}\"\n\
             kv_replicas = {kv_replicas}\ninstall_dir = \"{install_dir}\"\n\n[ports]\n"
        );
        for (key, port) in self.ports.named() {
            let _ = writeln!(text, "{key} = {port}");
        }
        for node in &self.nodes {
            let Node { name, ssh, public, wg, seed } = node;
            let _ =
                write!(text, "\n[[node]]\nname = \"{name}\"\nssh = \"{ssh}\"\npublic = \"{public}\"\nwg = \"{wg}\"\n");
            if *seed {
                text.push_str("seed = true\n");
            }
        }
        text
    }
}

impl fmt::Display for RouteNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wg => "wg",
            Self::Public => "public",
        })
    }
}

fn refusal(shown: &str, mistakes: Mistakes) -> anyhow::Error {
    let mistakes = mistakes.sorted();
    let mut message = match mistakes.len() {
        1 => format!("{shown} has a mistake; nothing was changed"),
        n => format!("{shown} has {n} mistakes; nothing was changed"),
    };
    for mistake in &mistakes {
        let _ = write!(message, "\n  {shown}:{}: {}", mistake.line, mistake.what);
    }
    if mistakes.iter().any(|m| m.what.contains("placeholder")) {
        message.push_str(
            "\nPut the real value in place of each <…>. Without a WireGuard mesh write route_network = \"public\" \
             and give each node's public address as its wg too.",
        );
    }
    BadInput::new(message)
}

fn check(file: &typed::File, mistakes: &mut Mistakes) -> Option<Topology> {
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
    if value < 1 {
        wrong("there must be at least one".to_owned());
    } else if value % 2 == 0 {
        wrong("it must be odd: an even number tolerates no more failures than one less".to_owned());
    } else if value > MOST_REPLICAS {
        wrong(format!("the engine allows {MOST_REPLICAS} at most"));
    } else if usize::try_from(value).is_ok_and(|value| value > nodes) && nodes > 0 {
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
        monitor: port(&typed.monitor)?,
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
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let good =
        (1..=63).contains(&value.len()) && value.bytes().all(inner) && !value.starts_with('-') && !value.ends_with('-');
    if !good {
        mistakes.add(
            *line,
            format!(
                "{key} is {value:?}; it must be a host name label: 1 to 63 of a-z, 0-9 and -, \
                 neither first nor last a -"
            ),
        );
    }
    good.then(|| value.clone())
}

/// What ssh is told to connect to. It must never be taken for one of its options.
fn ssh(title: &str, typed: &At<String>, mistakes: &mut Mistakes) -> Option<String> {
    let At { value, line } = typed;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-@:%[]".contains(&b);
    let good = !value.is_empty() && !value.starts_with('-') && value.bytes().all(plain);
    if !good {
        mistakes
            .add(*line, format!("{title}.ssh is {value:?}; it must be a host as ssh knows it: an alias, or user@host"));
    }
    good.then(|| value.clone())
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
    if count < FEWEST_NODES {
        mistakes
            .add(line, format!("{count} node(s): a cluster needs at least {FEWEST_NODES} to survive the loss of one"));
    } else if count.is_multiple_of(2) {
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
