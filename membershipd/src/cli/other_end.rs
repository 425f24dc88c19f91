//! Which store a copy comes from or goes to: that of the daemon beside it, or of a cluster that is reached through one of its
//! engines.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use nkeys::{KeyPair, KeyPairType};
use secrecy::ExposeSecret;
use tokio::sync::watch;

use super::Daemon;
use crate::blobs::Blobs;
use crate::control::OverSocket;
use crate::transfer::{End, InEngine, OfStore, TransferError};
use unibus_core::private_file;
use unibus_store::KvStore;
use unibus_store::link::Link;

/// The other end of a copy.
#[derive(Debug, clap::Args)]
pub(super) struct OtherEnd {
    /// Reach the cluster through this engine, as nats://HOST:PORT, instead of asking the daemon beside it
    #[arg(long, value_name = "URL", requires_all = ["control_key", "bus_key"])]
    nats_url: Option<NatsUrl>,
    /// A node's key in the account of the buckets: control.nk among its secrets, mode 0600
    #[arg(long, value_name = "FILE", requires = "nats_url")]
    control_key: Option<PathBuf>,
    /// The same node's key in the account of the members, where the streams of rooms are: bus.nk among its secrets, mode 0600
    #[arg(long, value_name = "FILE", requires = "nats_url")]
    bus_key: Option<PathBuf>,
    /// CA of the cluster's data plane; without it only an engine on this machine is spoken to
    #[arg(long, value_name = "FILE", requires = "nats_url")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    daemon: Daemon,
}

/// Where an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NatsUrl {
    host: String,
    port: u16,
}

impl NatsUrl {
    fn is_loopback(&self) -> bool {
        let address = self.host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        // A name may be resolved to anything; that of this machine is not even asked for.
        address.map_or(self.host == "localhost", |address| address.is_loopback())
    }
}

impl FromStr for NatsUrl {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let rule = || "give nats://HOST:PORT, without user or password".to_owned();
        let rest = url.strip_prefix("nats://").or_else(|| url.strip_prefix("tls://")).ok_or_else(rule)?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(rule)?;
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let sound = match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.chars().all(word),
        };
        match port.parse() {
            Ok(port) if sound && port > 0 => Ok(Self { host: host.to_owned(), port }),
            _ => Err(rule()),
        }
    }
}

impl OtherEnd {
    /// The end that was named.
    pub(super) async fn open(&self) -> Result<Box<dyn End>, TransferError> {
        let (Some(url), Some(control), Some(bus)) = (&self.nats_url, &self.control_key, &self.bus_key) else {
            return Ok(Box::new(OverSocket { runtime_dir: self.daemon.runtime_dir() }));
        };
        if self.ca.is_none() && !url.is_loopback() {
            let message = format!(
                "{} is another machine, and without --ca everybody on the way could read and change all",
                url.host
            );
            return Err(refused("bad_request", message, "give --ca, as deploy/tls/ca.crt; or run this on a node"));
        }
        let keys = [&read(control)?, &read(bus)?];
        let link = Link::to_buckets(&url.host, url.port, self.ca.as_deref(), keys).await;
        let link = link.map_err(|error| {
            refused(
                "unavailable",
                format!("{error:#}"),
                "see that the engine runs, and that --ca and both keys are its cluster's",
            )
        })?;
        // The sender may go: what was sent last stays to be seen.
        let link = watch::channel(Some(Arc::new(link))).1;
        let (store, blobs) = (Arc::new(KvStore::new(link.clone())), Arc::new(Blobs::new(link.clone())));
        Ok(Box::new(OfStore::new(store.clone(), Arc::new(InEngine::new(link, store))).with_blobs(blobs)))
    }
}

fn read(key: &Path) -> Result<KeyPair, TransferError> {
    let file = |error: String| refused("file", error, "they are control.nk and bus.nk among the secrets of a node");
    let seed = private_file::read(key).map_err(|error| file(error.to_string()))?;
    let pair =
        KeyPair::from_seed(seed.expose_secret().trim()).ok().filter(|pair| pair.key_pair_type() == KeyPairType::User);
    pair.ok_or_else(|| file(format!("{} does not hold the nkey seed of a user (SU…)", key.display())))
}

fn refused(code: &str, message: String, remedy: &str) -> TransferError {
    TransferError::Daemon { code: code.to_owned(), message, remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<NatsUrl, String> {
        text.parse()
    }

    #[test]
    fn engines_elsewhere_are_told_from_one_here() {
        for here in ["nats://127.0.0.1:4250", "nats://127.9.0.1:4250", "nats://[::1]:4250", "tls://localhost:4250"] {
            assert!(url(here).unwrap().is_loopback(), "{here}");
        }
        for elsewhere in
            ["nats://192.0.2.1:4250", "nats://[2001:db8::1]:1", "nats://homer:4250", "nats://localhost.a:1"]
        {
            assert!(!url(elsewhere).unwrap().is_loopback(), "{elsewhere}");
        }
        let bad = [
            "",
            "homer:4250",
            "nats://homer",
            "nats://:4250",
            "nats://a:0",
            "nats://u:p@a:4250",
            "nats://[1]:2",
            "http://a:1",
        ];
        for bad in bad {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn without_a_ca_nothing_is_sent_to_another_machine() {
        let daemon = Daemon::default();
        let elsewhere = Some(url("nats://192.0.2.1:4250").unwrap());
        let end = OtherEnd {
            nats_url: elsewhere,
            control_key: Some(PathBuf::from("none")),
            bus_key: Some(PathBuf::from("none")),
            ca: None,
            daemon,
        };
        let refused = end.open().await.err().unwrap();
        assert!(refused.to_string().contains("without --ca"), "{refused}");
    }
}
