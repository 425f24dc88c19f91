//! Three nodes of one cluster, each of which can be killed and started again, and the two ways in: the bus and the API.

use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use nkeys::{KeyPair, XKey};
use serde_json::Value;
use unibus_client::api::{Client as Api, ClientError, Request};
use unibus_client::identity::Identity;

use crate::cable::{Cable, FAR, NEAR};
use crate::common::nats::Client;
use crate::common::requests::API_PORT;
use crate::common::{Authority, Daemon, Dir, alive, engine, membershipd, own_address, said};

pub(crate) const NODES: [&str; 3] = ["magnus", "homer", "datardos"];

/// A node, and how to start it again.
pub(crate) struct Node {
    daemon: Daemon,
    flags: Vec<String>,
    cable: Option<Arc<Cable>>,
}

/// Three nodes on loopback.
pub(crate) fn start(extra: &[&str]) -> [Node; 3] {
    start_at([(); 3].map(|()| own_address()), extra, None)
}

/// Two at the near end of a cable, the last one at its far end.
pub(crate) fn start_apart(cable: &Arc<Cable>) -> [Node; 3] {
    let addresses = [NEAR[0], NEAR[1], FAR].map(|address| address.parse().unwrap());
    start_at(addresses, &[], Some(cable))
}

fn start_at(addresses: [IpAddr; 3], extra: &[&str], cable: Option<&Arc<Cable>>) -> [Node; 3] {
    let dirs = [(); 3].map(|()| Dir::new());
    let authority = Authority::new(&dirs[0]);
    let ca = std::fs::read_to_string(dirs[0].path().join("ca.crt")).unwrap();
    let (issuer, xkey) = (KeyPair::new_account().seed().unwrap(), XKey::new().seed().unwrap());
    let drawn = data_encoding::HEXLOWER.encode(&XKey::new().seed().unwrap().as_bytes()[..32]);
    let (password, id) = (drawn.as_str(), &drawn[..32]);
    for (dir, address) in dirs.iter().zip(addresses) {
        dir.write("ca.crt", &ca, 0o644);
        authority.leaf(dir, address, 365);
        dir.write("cluster.pass", password, 0o600);
        dir.write_secrets();
        dir.write("secrets/issuer.nk", &issuer, 0o600);
        dir.write("secrets/xkey.nk", &xkey, 0o600);
    }
    let engine = engine();
    let mut nodes = dirs.into_iter().zip(addresses).zip(NODES).map(|((dir, address), name)| {
        let others = addresses.iter().filter(|other| **other != address);
        let routes = others.map(|other| format!("nats-route://{other}:6250")).collect::<Vec<_>>().join(",");
        let settings = [
            ["--runtime-dir", "run"],
            ["--bind", &address.to_string()],
            ["--engine", engine.to_str().unwrap()],
            ["--cluster-name", "test"],
            ["--store", "kv"],
            ["--cluster-id", id],
            ["--node-name", name],
            ["--routes", &routes],
            ["--cluster-pass-file", "cluster.pass"],
            ["--secrets-dir", "secrets"],
            ["--tls-cert", "server.crt"],
            ["--tls-key", "server.key"],
            ["--tls-ca", "ca.crt"],
            ["--route-cert", "server.crt"],
            ["--route-key", "server.key"],
            ["--route-ca", "ca.crt"],
        ];
        let flags: Vec<String> = settings.as_flattened().iter().chain(extra).map(|flag| (*flag).to_owned()).collect();
        let cable = cable.filter(|_| name == NODES[2]).cloned();
        let child = spawn(&dir, &flags, cable.as_deref());
        Node { daemon: Daemon { dir, address, child }, flags, cable }
    });
    let nodes = [(); 3].map(|()| nodes.next().unwrap());
    nodes.iter().for_each(|node| node.wait_for_lease());
    nodes
}

fn spawn(dir: &Dir, flags: &[String], cable: Option<&Cable>) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.path().join("log")).unwrap();
    let mut command: Command = membershipd(dir.path());
    command.args(flags).stderr(log);
    match cable {
        Some(cable) => cable.beyond(|| command.spawn().unwrap()),
        None => command.spawn().unwrap(),
    }
}

/// The API of these nodes, asked in this order until one can say, for requests signed by `who`.
pub(crate) fn api(who: &Identity, nodes: &[&Node]) -> Api {
    let url = |node: &&Node| format!("https://{}:{API_PORT}", node.address).parse().unwrap();
    Api::new(who, nodes.iter().map(url).collect(), Some(&nodes[0].dir.path().join("ca.crt"))).unwrap()
}

impl Node {
    /// Ends the daemon with SIGKILL, and with it its engine.
    pub(crate) fn kill(&mut self) {
        let engine = self.engine_pid().expect("an engine to be killed");
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.wait("end of the engine", || !alive(engine));
    }

    /// Starts what was killed; returns before it is there.
    pub(crate) fn start_again(&mut self) {
        self.daemon.child = spawn(&self.daemon.dir, &self.flags, self.cable.as_deref());
    }

    /// Does what a service manager does: a daemon that could not cut its clients in time has ended itself.
    pub(crate) fn start_if_ended(&mut self) {
        if self.child.try_wait().unwrap().is_some() {
            self.start_again();
        }
    }

    /// Waits until every copy of everything is current, as this node sees it.
    pub(crate) fn wait_until_current(&self) {
        let output = self.ask(&["wait", "--for", "current", "--within", "60"]);
        assert!(output.status.success(), "{}\n{}", said(&output), self.log());
    }

    /// The longest that a revocation takes.
    pub(crate) fn bound(&self) -> Duration {
        Duration::from_millis(self.status().unwrap()["lease"]["bound_ms"].as_u64().unwrap())
    }

    /// The API of the node, for requests signed by `who`.
    pub(crate) fn api(&self, who: &Identity) -> Api {
        api(who, &[self])
    }

    /// What the node answers to a request.
    pub(crate) fn request(&self, who: &Identity, request: &Request) -> Result<Value, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.api(who).ask(request))
    }

    /// A stock client, where the node lets it in.
    pub(crate) fn connect(&self, seed: &str, handle: &str) -> Option<Client> {
        let ca = self.dir.path().join("ca.crt");
        let (client, answer) = Client::connect_trusting(self, Some(&ca), seed, &format!("_INBOX.{handle}"));
        (answer["ok"] == true).then_some(client)
    }

    /// Connects as soon as the node knows of the user.
    pub(crate) fn connected(&self, seed: &str, handle: &str) -> Client {
        let found = std::cell::RefCell::new(None);
        self.wait(&format!("admission of {handle}"), || {
            *found.borrow_mut() = self.connect(seed, handle);
            found.borrow().is_some()
        });
        found.into_inner().unwrap()
    }
}

impl Deref for Node {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Node {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}
