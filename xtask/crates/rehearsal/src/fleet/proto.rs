//! What is said to a fleet's holder and by it: one line of JSON each way.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub(super) const SCHEMA: u32 = 1;

/// One of the two networks that all machines are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Network {
    /// Where the operator and the clients are too
    Public,
    /// What WireGuard is on real servers
    Mesh,
}

impl Network {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Public, Self::Mesh];
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Mesh => "mesh",
        })
    }
}

/// What the holder is asked to do. It answers when that is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Request {
    /// Nothing but to tell.
    Status,
    /// Powers a machine on and waits until it takes logins.
    Boot { node: String },
    /// Powers it off in good order.
    Stop { node: String },
    /// Cuts its power.
    Kill { node: String },
    /// Restarts it in good order, and waits until it takes logins again.
    Reboot { node: String },
    /// Another machine in its place: an empty disk, another host key, the same addresses.
    Reinstall { node: String },
    /// Stops all of its processes where they are.
    Freeze { node: String },
    /// Lets them run on.
    Thaw { node: String },
    /// Pulls its cables to these networks.
    Cut { node: String, networks: Vec<Network> },
    /// From now on `node` hears nothing of what `from` says; `from` still hears `node`.
    Deaf { node: String, from: String, networks: Vec<Network> },
    /// Ends every fault of the networks.
    Heal,
}

/// What a machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Power {
    Off,
    /// Runs, and takes no logins yet or no longer.
    Booting,
    Up,
    Frozen,
}

/// Something a machine does not hear.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Unheard {
    pub(crate) from: String,
    pub(crate) network: Network,
}

/// One machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MachineStatus {
    pub(crate) name: String,
    /// What the operator types after `ssh`.
    pub(crate) ssh: String,
    pub(crate) public: IpAddr,
    pub(crate) mesh: IpAddr,
    pub(crate) power: Power,
    /// Times it was powered on or restarted.
    pub(crate) boots: u32,
    pub(crate) cut: Vec<Network>,
    pub(crate) deaf: Vec<Unheard>,
}

/// The holder's answer to every request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) schema: u32,
    pub(crate) dir: PathBuf,
    pub(crate) nodes: Vec<MachineStatus>,
    /// Why the request was not carried out.
    pub(crate) error: Option<String>,
    /// Nothing is wrong but what was asked.
    pub(crate) refused: bool,
}

/// What the keeper is told first, on its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Spec {
    /// The topology, with the addresses of the machines.
    pub(super) topology: String,
    /// The tree that every machine's disk begins as.
    pub(super) base: PathBuf,
}

/// Said to the keeper later: it shall not end with whoever started it. Without this word the end of its standard input is
/// the end of the fleet.
pub(super) const STAY: &str = "stay";

/// What keeper and holder tell whoever starts the fleet, until it is up or has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum News {
    /// A machine takes logins.
    Up { node: String },
    /// All do.
    Ready,
    /// It came to nothing, and has been swept.
    Failed { why: String, refused: bool },
}

impl News {
    /// Says it. Whoever is not there any more need not hear it.
    pub(super) fn tell(&self) {
        use std::io::Write;
        if let Ok(line) = serde_json::to_string(self) {
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_one_readable_line() {
        let request = Request::Cut { node: "homer".to_owned(), networks: vec![Network::Mesh] };
        let line = serde_json::to_string(&request).unwrap();
        assert_eq!(line, r#"{"verb":"cut","node":"homer","networks":["mesh"]}"#);
        assert_eq!(serde_json::from_str::<Request>(r#"{"verb":"heal"}"#).unwrap(), Request::Heal);
        serde_json::from_str::<Request>(r#"{"verb":"explode"}"#).unwrap_err();
    }
}
