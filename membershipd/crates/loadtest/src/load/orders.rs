//! What `load` is told to do: one line of JSON, checked as a whole.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use unibus_client::api::NodeUrl;

const SCHEMA: u32 = 4;

/// The orders.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orders {
    schema: u32,
    /// The same seed makes the same choices.
    pub seed: u64,
    /// Name of the run; the names of its users contain it.
    pub run: String,
    /// It ends by itself after so long, should nobody tell it.
    pub seconds: u64,
    /// The nodes.
    pub nodes: Vec<NodeOrder>,
    /// The CA that the servers' certificates must be of.
    pub ca_file: PathBuf,
    /// How much of everything.
    #[serde(default)]
    pub rates: Rates,
}

/// A node, and the three ways to it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeOrder {
    /// Its name.
    pub name: String,
    /// Where clients connect: `tls://host:port`.
    pub url: String,
    /// Where its signed API is: `https://host:port`.
    pub api: String,
    /// A command that relays requests to the node's daemon, as `membershipd control` does.
    pub control: Vec<String>,
}

/// Operations a second of each kind; 0: none.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Writes of registers.
    pub writes: u32,
    /// New connections.
    pub connects: u32,
    /// Messages from one connection to another.
    pub messages: u32,
    /// Messages of a user who is about to be disabled.
    pub victims: u32,
    /// Changes of the record that several clients contend for.
    pub contests: u32,
    /// Tries of each guest, who is removed from a room and tries on.
    pub guests: u32,
    /// Messages in a room that keeps them, of all its members together.
    pub says: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { writes: 10, connects: 5, messages: 10, victims: 5, contests: 6, guests: 3, says: 3 }
    }
}

/// More of anything would measure this program and not the cluster.
const MOST_RATE: u32 = 200;

impl Orders {
    /// Reads a line; what is wrong with it is said all at once.
    pub fn parse(line: &str) -> Result<Self> {
        ensure!(!line.trim().is_empty(), "no orders: one line of JSON is expected on standard input");
        let orders: Self = serde_json::from_str(line).context("the orders are not understood")?;
        let mut wrong = Vec::new();
        let mut must = |ok: bool, rule: &str| {
            if !ok {
                wrong.push(rule.to_owned());
            }
        };
        must(orders.schema == SCHEMA, "schema must be 4");
        must(orders.seconds > 0, "seconds must be above 0");
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        must(
            (1..=12).contains(&orders.run.len()) && orders.run.chars().all(word),
            "run must be 1 to 12 of a-z and 0-9",
        );
        must(orders.nodes.len() >= 2, "nodes must be two or more");
        must(orders.nodes.iter().all(|node| !node.control.is_empty()), "every node needs a control command");
        must(orders.nodes.iter().all(|node| node.url.starts_with("tls://")), "every url must begin with tls://");
        must(
            orders.nodes.iter().all(|node| node.api.parse().is_ok_and(|url: NodeUrl| url.is_https())),
            "every api must be https:// and host:port",
        );
        let mut names: Vec<&str> = orders.nodes.iter().map(|node| node.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        must(names.len() == orders.nodes.len(), "no two nodes may have the same name");
        let Rates { writes, connects, messages, victims, contests, guests, says } = orders.rates;
        let rates = [writes, connects, messages, victims, contests, guests, says];
        must(rates.iter().all(|rate| *rate <= MOST_RATE), "no rate may be above 200");
        must(rates.iter().any(|rate| *rate > 0), "some rate must be above 0");
        ensure!(wrong.is_empty(), "the orders cannot be followed: {}", wrong.join("; "));
        Ok(orders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"schema":4,"seed":7,"run":"ab12","seconds":60,"ca_file":"ca.crt","nodes":[
        {"name":"a","url":"tls://127.0.0.1:4250","api":"https://127.0.0.1:8470","control":["x"]},
        {"name":"b","url":"tls://127.0.0.2:4250","api":"https://127.0.0.2:8470","control":["x"]}]}"#;

    #[test]
    fn good_orders_are_taken_with_the_usual_rates() {
        let orders = Orders::parse(GOOD).unwrap();
        assert_eq!((orders.seed, orders.nodes.len(), orders.rates.writes), (7, 2, 10));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let bad = GOOD.replace("\"schema\":4", "\"schema\":9").replace("ab12", "A B").replace("tls://127.0.0.2", "x");
        let bad = bad.replace("https://127.0.0.2", "http://127.0.0.2");
        let error = Orders::parse(&bad.replace("\"b\"", "\"a\"")).unwrap_err().to_string();
        for part in ["schema", "run", "tls://", "https://", "same name"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(Orders::parse("").is_err());
        assert!(Orders::parse(&GOOD.replace("seed", "sead")).is_err(), "an unknown key");
    }
}
