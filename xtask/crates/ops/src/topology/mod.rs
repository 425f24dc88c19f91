//! The cluster as it is meant to be: nodes.toml, validated as a whole.

use std::fmt::{self, Write as _};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result};

use crate::exit::BadInput;
use crate::paths::Paths;

use self::typed::{Mistake, Mistakes};

mod check;
mod edit;
mod typed;

pub use self::edit::with_replicas;

/// Three nodes, five or seven, and what they have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// What holds for all nodes.
    pub cluster: Cluster,
    /// The same on every node.
    pub ports: Ports,
    /// In the order of the file.
    pub nodes: Vec<Node>,
}

/// `[cluster]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// A label, as a node's name is.
    pub name: String,
    /// Where routes run.
    pub route_network: RouteNetwork,
    /// Copies of every bucket: 1, 3 or 5.
    pub kv_replicas: u32,
    /// Absolute, and the same on every server.
    pub install_dir: String,
}

/// Which of a node's addresses the other nodes dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteNetwork {
    /// The WireGuard mesh.
    Wg,
    /// The public addresses.
    Public,
}

/// `[ports]`, the same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Clients of the bus, over TLS.
    pub client: u16,
    /// The signed API, over HTTPS.
    pub control_plane: u16,
    /// Routes between the engines, over mutual TLS.
    pub route: u16,
    /// Where release 0.1.0, to which a rollback may lead, has its engine's monitor; later ones have none.
    pub monitor: Option<u16>,
}

impl Ports {
    /// The ports as shipped in deploy/nodes.toml (a test compares).
    pub const SHIPPED: Self = Self { client: 4250, control_plane: 8470, route: 6250, monitor: None };

    fn named(self) -> impl Iterator<Item = (&'static str, u16)> {
        let always = [("client", self.client), ("control_plane", self.control_plane), ("route", self.route)];
        always.into_iter().chain(self.monitor.map(|port| ("monitor", port)))
    }
}

/// `[[node]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// A label of a host name.
    pub name: String,
    /// What ssh is told to connect to.
    pub ssh: String,
    /// Where clients reach it.
    pub public: IpAddr,
    /// Its address in the mesh.
    pub wg: IpAddr,
    /// Whether it is started first.
    pub seed: bool,
}

/// So many of `all` are a majority, and without them there is none.
pub const fn majority(all: usize) -> usize {
    all / 2 + 1
}

/// Where everything lies on a node, as shipped; the unit is written for it.
pub(crate) const INSTALL_DIR: &str = "/opt/unibus";

impl Topology {
    /// Reads a topology; every mistake in it is reported, with its line.
    pub fn load(file: &Path) -> Result<Self> {
        let shown = Paths::shown(file);
        let text = fs::read_to_string(file)
            .map_err(|error| BadInput::new(format!("reading the topology {shown}: {error}")))?;
        Self::parse(&text, &shown)
    }

    /// Reads a topology from `text`; `shown` names it in messages.
    pub fn parse(text: &str, shown: &str) -> Result<Self> {
        let mut mistakes = Mistakes::default();
        let typed = typed::parse(text, &mut mistakes);
        let checked = check::all(&typed, &mut mistakes);
        match checked {
            Some(topology) if mistakes.is_empty() => Ok(topology),
            _ => Err(refusal(shown, mistakes)),
        }
    }

    /// What is still to be filled in, and what is wrong besides; each with its file and line. Both empty: it may be loaded.
    pub(crate) fn unfinished(file: &Path) -> Result<(Vec<String>, Vec<String>)> {
        let shown = Paths::shown(file);
        let text = fs::read_to_string(file)
            .map_err(|error| BadInput::new(format!("reading the topology {shown}: {error}")))?;
        let mut mistakes = Mistakes::default();
        let typed = typed::parse(&text, &mut mistakes);
        check::all(&typed, &mut mistakes);
        let (left, wrong): (Vec<_>, Vec<_>) = mistakes.sorted().into_iter().partition(is_placeholder);
        let line = |mistake: Mistake| format!("{shown}:{}: {}", mistake.line, mistake.what);
        Ok((left.into_iter().map(line).collect(), wrong.into_iter().map(line).collect()))
    }

    /// The cluster that `local` runs: three nodes on consecutive loopback addresses.
    pub fn local(base: Ipv4Addr, kv_replicas: u32) -> Result<Self> {
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
            // Three monitors of release 0.1.0 on one machine need an address each, which the settings then name.
            ports: Ports { monitor: Some(8250), ..Ports::SHIPPED },
            nodes,
        };
        // One set of rules for what was typed and for what was made here.
        Self::parse(&topology.to_toml(), "the local cluster")
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            BadInput::new(format!("there is no node {name:?}; the topology has {}", known.join(", ")))
        })
    }

    /// The node that is started first.
    pub fn seed(&self) -> Result<&Node> {
        self.nodes.iter().find(|node| node.seed).context("the topology has no seed node")
    }

    /// Every node but this one.
    pub fn others<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |other| other.name != node.name)
    }

    /// How many of the nodes are a majority.
    pub fn majority(&self) -> usize {
        majority(self.nodes.len())
    }

    /// Where the other nodes dial this one.
    pub(crate) fn route_address(&self, node: &Node) -> IpAddr {
        match self.cluster.route_network {
            RouteNetwork::Wg => node.wg,
            RouteNetwork::Public => node.public,
        }
    }

    /// The topology as a file that [`Topology::load`] reads back.
    pub fn to_toml(&self) -> String {
        // Every string in here passed `check::all`, which allows none that would need escaping.
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
    if mistakes.iter().any(is_placeholder) {
        message.push_str(
            "\nPut the real value in place of each <…>. Without a WireGuard mesh write route_network = \"public\" \
             and give each node's public address as its wg too.",
        );
    }
    BadInput::new(message)
}

fn is_placeholder(mistake: &Mistake) -> bool {
    mistake.what.contains("placeholder")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> String {
        let mut text = include_str!("../../../../../deploy/nodes.toml").to_owned();
        let left = ["<MAGNUS_PUBLIC_IP>", "<MAGNUS_WG_IP>", "<HOMER_WG_IP>", "<DATARDOS_WG_IP>"];
        for (placeholder, last) in left.into_iter().zip(1..) {
            text = text.replace(placeholder, &format!("10.21.0.{last}"));
        }
        text
    }

    #[test]
    fn the_shipped_topology_is_the_design() {
        let topology = Topology::parse(&shipped(), "nodes.toml").unwrap();
        assert_eq!(topology.ports, Ports::SHIPPED);
        let Cluster { name, route_network, kv_replicas, install_dir } = &topology.cluster;
        assert_eq!((name.as_str(), *route_network, *kv_replicas), ("unibus", RouteNetwork::Wg, 3));
        assert_eq!(install_dir, INSTALL_DIR);
        let nodes: Vec<_> = topology.nodes.iter().map(|n| (n.name.as_str(), n.ssh.as_str(), n.seed)).collect();
        assert_eq!(nodes, [("magnus", "magnus", true), ("homer", "homer", false), ("datardos", "dd", false)]);
        let local = Topology::local(Ipv4Addr::new(127, 0, 0, 11), 3).unwrap();
        let names = |topology: &Topology| topology.nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&local), names(&topology));
        assert_eq!((&local.cluster, Ports { monitor: None, ..local.ports }), (&topology.cluster, topology.ports));
    }

    #[test]
    fn a_topology_survives_being_written_and_read() {
        let topology = Topology::parse(&shipped(), "nodes.toml").unwrap();
        assert_eq!(Topology::parse(&topology.to_toml(), "again").unwrap(), topology);
        let v6 = shipped().replace("141.94.69.66", "2001:db8::2");
        let topology = Topology::parse(&v6, "nodes.toml").unwrap();
        assert_eq!(Topology::parse(&topology.to_toml(), "again").unwrap(), topology);
    }

    #[test]
    fn the_local_cluster_has_three_loopback_addresses() {
        let local = Topology::local(Ipv4Addr::new(127, 0, 0, 11), 1).unwrap();
        let addresses: Vec<String> = local.nodes.iter().map(|node| node.public.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.11", "127.0.0.12", "127.0.0.13"]);
        assert!(local.nodes.iter().all(|node| node.wg == node.public));
        assert!(Topology::local(Ipv4Addr::new(127, 255, 255, 254), 3).is_err());
        assert!(Topology::local(Ipv4Addr::new(192, 0, 2, 1), 3).is_err());
        assert!(Topology::local(Ipv4Addr::new(127, 0, 0, 11), 2).is_err());
    }

    #[test]
    fn nodes_are_found_by_name_and_know_the_others() {
        let topology = Topology::parse(&shipped(), "nodes.toml").unwrap();
        let homer = topology.node("homer").unwrap();
        let others: Vec<&str> = topology.others(homer).map(|node| node.name.as_str()).collect();
        assert_eq!(others, ["magnus", "datardos"]);
        assert_eq!(topology.seed().unwrap().name, "magnus");
        assert_eq!(topology.route_address(homer), homer.wg);
        let public = shipped().replace("route_network = \"wg\"", "route_network = \"public\"");
        let public = Topology::parse(&public, "nodes.toml").unwrap();
        assert_eq!(public.route_address(homer), homer.public);
        let error = topology.node("home").unwrap_err().to_string();
        assert!(error.contains("\"home\"") && error.contains("magnus, homer, datardos"), "{error}");
    }
}
