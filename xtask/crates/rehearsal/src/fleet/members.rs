//! Who is on the two networks, at which test addresses, and the operator's topology with those addresses in it.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::proto::Network;
use unibus_ops::exit::BadInput;
use unibus_ops::topology::{RouteNetwork, Topology};

/// The operator's own place on the public network.
pub(super) const OPERATOR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Bits of both networks.
pub(super) const PREFIX: u8 = 24;
/// TEST-NET-2 (RFC 5737): never anybody's real address.
const PUBLIC: [u8; 3] = [198, 51, 100];
const MESH: [u8; 3] = [10, 21, 0];
/// The first machine's last byte, and the last possible one.
const FIRST: u8 = 11;
const LAST: u8 = 250;

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its place in the topology.
    pub(super) index: usize,
    pub(super) name: String,
    /// What the operator types after `ssh`.
    pub(super) ssh: String,
    pub(super) public: IpAddr,
    pub(super) mesh: IpAddr,
}

impl Member {
    /// The host in what the operator types, without the user.
    pub(super) fn host(&self) -> &str {
        self.ssh.rsplit_once('@').map_or(self.ssh.as_str(), |(_, host)| host)
    }

    /// The user in what the operator types.
    pub(super) fn user(&self) -> &str {
        self.ssh.rsplit_once('@').map_or("root", |(user, _)| user)
    }

    /// Its network namespace.
    pub(super) fn netns(&self) -> String {
        format!("m{}", self.index)
    }

    /// The switch's end of its cable.
    pub(super) fn port(&self, network: Network) -> String {
        let letter = match network {
            Network::Public => 'p',
            Network::Mesh => 'w',
        };
        format!("{letter}{}", self.index)
    }

    /// Its address on a network.
    pub(super) fn address(&self, network: Network) -> IpAddr {
        match network {
            Network::Public => self.public,
            Network::Mesh => self.mesh,
        }
    }
}

/// The machines of a topology that [`topology`] made.
pub(super) fn members(topology: &Topology) -> Vec<Member> {
    let members = topology.nodes.iter().enumerate().map(|(index, node)| Member {
        index,
        name: node.name.clone(),
        ssh: node.ssh.clone(),
        public: node.public,
        mesh: node.wg,
    });
    members.collect()
}

/// The operator's topology, `text`, with test addresses in place of the real ones or their placeholders. Everything else
/// stays as it was typed, and every mistake in it is reported as always.
pub(super) fn topology(text: &str, shown: &str, routes: Option<RouteNetwork>) -> Result<(String, Topology)> {
    let filled = fill(text, routes).with_context(|| format!("giving the nodes of {shown} test addresses"))?;
    let topology = Topology::parse(&filled, shown)?;
    Ok((filled, topology))
}

fn fill(text: &str, routes: Option<RouteNetwork>) -> Result<String> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // The topology's own reader says what is wrong, and where.
        return Ok(text.to_owned());
    }
    let mut changes: Vec<(std::ops::Range<usize>, String)> = Vec::new();
    let table = document.get_ref();
    if let (Some(routes), Some(network)) = (routes, table.get("cluster").and_then(|c| c.get_ref().get("route_network")))
    {
        changes.push((network.span(), routes.to_string()));
    }
    let nodes = table.get("node").and_then(|nodes| nodes.get_ref().as_array());
    for (index, node) in nodes.into_iter().flatten().enumerate() {
        let last = u8::try_from(index).ok().and_then(|index| index.checked_add(FIRST)).filter(|last| *last <= LAST);
        let last = last.ok_or_else(|| BadInput::new(format!("no more than {} machines fit", LAST - FIRST + 1)))?;
        for (key, [a, b, c]) in [("public", PUBLIC), ("wg", MESH)] {
            let typed: Option<&Spanned<DeValue<'_>>> = node.get_ref().get(key);
            if let Some(typed) = typed.filter(|typed| typed.get_ref().is_str()) {
                changes.push((typed.span(), Ipv4Addr::new(a, b, c, last).to_string()));
            }
        }
    }
    changes.sort_by_key(|(span, _)| span.start);
    let mut filled = String::new();
    let mut done = 0;
    for (span, value) in changes {
        filled.push_str(text.get(done..span.start).context("a value lies outside the text")?);
        filled.push_str(&format!("\"{value}\""));
        done = span.end;
    }
    filled.push_str(text.get(done..).context("a value lies outside the text")?);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../../../../deploy/nodes.toml");

    #[test]
    fn the_shipped_topology_can_be_rehearsed_with_its_placeholders() {
        let (text, topology) = topology(SHIPPED, "nodes.toml", None).unwrap();
        let members = members(&topology);
        let at: Vec<_> = members.iter().map(|m| (m.name.as_str(), m.ssh.as_str(), m.public.to_string())).collect();
        assert_eq!(
            at,
            [
                ("magnus", "magnus", "198.51.100.11".to_owned()),
                ("homer", "homer", "198.51.100.12".to_owned()),
                ("datardos", "dd", "198.51.100.13".to_owned()),
            ]
        );
        assert_eq!(members[2].mesh.to_string(), "10.21.0.13");
        assert!(!text.contains("141.94.69.66") && !text.contains("51.91.100.142"), "no real address may be left");
        assert_eq!(text.lines().count(), SHIPPED.lines().count(), "mistakes are found on the line they were typed on");
        assert!(text.contains("# in 10.21.0.x"), "comments stay");
    }

    #[test]
    fn routes_can_go_over_the_other_network() {
        let (_, topology) = topology(SHIPPED, "nodes.toml", Some(RouteNetwork::Public)).unwrap();
        assert_eq!(topology.cluster.route_network, RouteNetwork::Public);
    }

    #[test]
    fn mistakes_are_reported_with_their_line() {
        let wrong = SHIPPED.replace("kv_replicas = 3", "kv_replicas = 4");
        let error = topology(&wrong, "nodes.toml", None).unwrap_err().to_string();
        assert!(error.contains("kv_replicas is 4") && !error.contains("placeholder"), "{error}");
        topology("node = 7 = 8", "nodes.toml", None).unwrap_err();
    }

    #[test]
    fn a_user_in_the_ssh_host_is_told_from_the_host() {
        let (_, topology) = topology(&SHIPPED.replace("\"dd\"", "\"deploy@dd\""), "nodes.toml", None).unwrap();
        let member = members(&topology).remove(2);
        assert_eq!((member.user(), member.host()), ("deploy", "dd"));
    }
}
