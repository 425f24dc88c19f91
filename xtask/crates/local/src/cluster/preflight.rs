//! Everything that could stand in the way, found before anything is done, all at once and each with its remedy.

use std::net::{IpAddr, SocketAddr, TcpListener};

use anyhow::Result;

use super::sockets;
use unibus_ops::exit::BadInput;
use unibus_ops::topology::Topology;

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Obstacle {
    what: String,
    remedy: String,
}

/// Fails with all obstacles.
pub(super) fn check(topology: &Topology) -> Result<()> {
    let found = ports(topology);
    if found.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> =
        found.iter().map(|obstacle| format!("\n  {}\n    remedy: {}", obstacle.what, obstacle.remedy)).collect();
    Err(BadInput::new(format!("this machine is not ready; nothing was changed:{}", lines.concat())))
}

fn ports(topology: &Topology) -> Vec<Obstacle> {
    let ports = topology.ports;
    let named = [("client", ports.client), ("control plane", ports.control_plane), ("route", ports.route)];
    let wanted = topology
        .nodes
        .iter()
        .flat_map(|node| named.map(|(name, port)| (node.name.as_str(), name, SocketAddr::new(node.public, port))));
    wanted.filter_map(|(node, name, address)| port(node, name, address)).collect()
}

fn port(node: &str, name: &str, address: SocketAddr) -> Option<Obstacle> {
    let error = TcpListener::bind(address).err()?;
    if error.kind() == std::io::ErrorKind::AddrInUse {
        let who = sockets::listener(address).unwrap_or_else(|| "a process that cannot be seen from here".to_owned());
        return Some(Obstacle {
            what: format!("{address} ({name} port of {node}) is in use by {who}"),
            remedy: "end that process, or choose other addresses: --base-address 127.0.1.11".to_owned(),
        });
    }
    let remedy = if matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
        "see that the loopback device is up: ip link set lo up"
    } else {
        "a local cluster lives on loopback: --base-address 127.0.0.11"
    };
    Some(Obstacle { what: format!("{address} ({name} port of {node}): {error}"), remedy: remedy.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_its_owner() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let obstacle = port("magnus", "client", address).unwrap();
        assert!(obstacle.what.contains(&address.to_string()), "{obstacle:?}");
        assert!(obstacle.what.contains(&format!("pid {}", std::process::id())), "{obstacle:?}");
        drop(taken);
        assert_eq!(port("magnus", "client", address), None);
    }

    #[test]
    fn an_address_that_is_not_here_is_named() {
        let obstacle = port("magnus", "client", "192.0.2.1:4250".parse().unwrap()).unwrap();
        assert!(obstacle.remedy.contains("loopback"), "{obstacle:?}");
    }
}
