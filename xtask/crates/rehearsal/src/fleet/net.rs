//! The two networks between the machines, and what can go wrong with them.
//!
//! A namespace of its own is the switch: a bridge for each network, and one end of every cable. So what is cut or dropped there
//! is out of reach of the machines, as a provider's network is.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};

use super::members::{Member, OPERATOR, PREFIX};
use super::proto::{Network, Unheard};
use unibus_ops::process::bounded;

const SWITCH: &str = "switch";
/// The operator's end of its cable, and the switch's.
const OPERATOR_PORTS: [&str; 2] = ["public0", "op"];
/// Debian's names: the provider's interface, and the one of WireGuard.
const INTERFACES: [(Network, &str); 2] = [(Network::Public, "eth0"), (Network::Mesh, "wg0")];
const TABLE: &str = "bridge fault";
const WITHIN: Duration = Duration::from_secs(20);

/// What does not work at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Faults {
    /// Cables that are pulled: the machine's place in the topology, and the network.
    cut: BTreeSet<(usize, Network)>,
    /// Who does not hear whom, on which network.
    deaf: BTreeSet<(usize, usize, Network)>,
}

/// Both networks.
#[derive(Debug)]
pub(super) struct Switch {
    members: Vec<Member>,
    faults: Mutex<Faults>,
}

impl Switch {
    /// Lays both networks. The caller's own network namespace becomes the operator's place.
    pub(super) fn lay(members: &[Member]) -> Result<Self> {
        let mut here = format!("link set lo up\nnetns add {SWITCH}\n");
        for member in members {
            let _ = writeln!(here, "netns add {}", member.netns());
        }
        ip(None, &here)?;
        let mut bridges = String::new();
        for network in Network::ALL {
            let _ = write!(bridges, "link add {network} type bridge\nlink set {network} up\n");
        }
        ip(Some(SWITCH), &bridges)?;
        let [near, far] = OPERATOR_PORTS;
        ip(
            None,
            &format!(
                "link add {near} type veth peer name {far} netns {SWITCH}\naddress add {OPERATOR}/{PREFIX} dev {near}\n\
                 link set {near} up\n"
            ),
        )?;
        let mut cables = format!("link set {far} master {} up\n", Network::Public);
        for member in members {
            let mut machine = "link set lo up\n".to_owned();
            for (network, interface) in INTERFACES {
                let (port, address) = (member.port(network), member.address(network));
                let _ = write!(
                    machine,
                    "link add {interface} type veth peer name {port} netns {SWITCH}\naddress add {address}/{PREFIX} dev {interface}\n\
                     link set {interface} up\n"
                );
                let _ = writeln!(cables, "link set {port} master {network} up");
            }
            let _ = writeln!(machine, "route add default via {OPERATOR}");
            ip(Some(&member.netns()), &machine)?;
        }
        ip(Some(SWITCH), &cables)?;
        nft(&format!("add table {TABLE}\nadd chain {TABLE} drops {{ type filter hook forward priority 0; }}\n"))?;
        Ok(Self { members: members.to_vec(), faults: Mutex::default() })
    }

    /// Pulls a machine's cables.
    pub(super) fn cut(&self, member: &Member, networks: &[Network]) -> Result<()> {
        self.change(|faults| faults.cut.extend(networks.iter().map(|network| (member.index, *network))))
    }

    /// Lets `member` hear nothing more of `from`.
    pub(super) fn deafen(&self, member: &Member, from: &Member, networks: &[Network]) -> Result<()> {
        self.change(|faults| faults.deaf.extend(networks.iter().map(|network| (member.index, from.index, *network))))
    }

    /// Everything works again.
    pub(super) fn heal(&self) -> Result<()> {
        self.change(|faults| *faults = Faults::default())
    }

    /// What does not work for one machine.
    pub(super) fn faults(&self, member: &Member) -> (Vec<Network>, Vec<Unheard>) {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = faults.cut.iter().filter(|(index, _)| *index == member.index).map(|(_, network)| *network);
        let deaf = faults.deaf.iter().filter(|(index, ..)| *index == member.index).filter_map(|(_, from, network)| {
            self.members.get(*from).map(|from| Unheard { from: from.name.clone(), network: *network })
        });
        (cut.collect(), deaf.collect())
    }

    /// The whole state is put in place each time, so that what is noted and what is so cannot drift apart.
    fn change(&self, change: impl FnOnce(&mut Faults)) -> Result<()> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut faults);
        let mut links = String::new();
        for member in &self.members {
            for network in Network::ALL {
                let state = if faults.cut.contains(&(member.index, network)) { "down" } else { "up" };
                let _ = writeln!(links, "link set {} {state}", member.port(network));
            }
        }
        ip(Some(SWITCH), &links)?;
        let mut rules = format!("flush chain {TABLE} drops\n");
        for (deaf, from, network) in &faults.deaf {
            if let (Some(deaf), Some(from)) = (self.members.get(*deaf), self.members.get(*from)) {
                // ARP goes through: with addresses that expire in between, a fault of one direction became one of both.
                let _ = writeln!(
                    rules,
                    "add rule {TABLE} drops iifname {} oifname {} ether type != arp counter drop",
                    from.port(*network),
                    deaf.port(*network)
                );
            }
        }
        nft(&rules)
    }
}

/// Carries out lines of `ip`, all or, after the first that fails, no more.
fn ip(netns: Option<&str>, lines: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(netns.iter().flat_map(|name| ["-netns", name])).args(["-batch", "-"]);
    run(command, lines)
}

fn nft(rules: &str) -> Result<()> {
    let mut command = Command::new("nsenter");
    command.args([&format!("--net=/run/netns/{SWITCH}"), "nft", "-f", "-"]);
    run(command, rules)
}

fn run(command: Command, lines: &str) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = bounded(command, lines.as_bytes(), WITHIN)?;
    if !output.ok() {
        bail!("{program}: {}\nit was to do:\n{lines}", output.stderr);
    }
    Ok(())
}
