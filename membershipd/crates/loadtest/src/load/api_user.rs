//! A user of the signed API: its requests, each to one node, and what is known of their effect.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::time::sleep;

use super::bus_user::BusUser;
use super::kinds::Failure;
use super::orders::Orders;
use unibus_client::api::{Client, ClientError, Request};
use unibus_core::domain::Handle;

/// Time for a change that takes nothing away; longer than an election usually lasts.
pub(super) const CHANGE: Duration = Duration::from_secs(4);
/// Pause before something that must be done is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// A user, on the bus and in front of the API.
#[derive(Clone)]
pub(super) struct ApiUser {
    pub(super) bus: BusUser,
    /// One client for each node, so that it is known which node was asked.
    nodes: Arc<[(String, Client)]>,
}

impl ApiUser {
    /// `bus` with a way to the API of each node in the orders.
    pub(super) fn new(bus: BusUser, orders: &Orders) -> Result<Self> {
        let client = |node: &super::orders::NodeOrder| {
            let url = node.api.parse().with_context(|| format!("{}: {} is no address", node.name, node.api))?;
            let client = Client::new(bus.identity(), vec![url], Some(&orders.ca_file))?;
            Ok((node.name.clone(), client))
        };
        let nodes = orders.nodes.iter().map(client).collect::<Result<Vec<_>>>()?;
        Ok(Self { bus, nodes: nodes.into() })
    }

    /// Its name.
    pub(super) fn handle(&self) -> &Handle {
        self.bus.handle()
    }

    /// Asks a node, counted round and round, and waits so long at most.
    pub(super) async fn ask(&self, node: usize, request: &Request, within: Duration) -> Result<Value, Failure> {
        let Some((name, client)) = self.nodes.get(node % self.nodes.len().max(1)) else {
            return Err(Failure::certain("there is no node"));
        };
        match tokio::time::timeout(within, client.ask(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let certain = match &error {
                    ClientError::Refused(_) | ClientError::Nobody(_) => true,
                    ClientError::Unknown(_) | ClientError::Form(_) => false,
                };
                Err(Failure { code: error.code().to_owned(), certain, why: format!("{name}: {error}") })
            }
            // The node may have it, and goes on with it whether anybody waits or not.
            Err(_) => Err(Failure::unknown(format!("no answer from {name} within {} s", within.as_secs_f32()))),
        }
    }

    /// Asks one node after the other until one has done it: for what has to be there before anything begins.
    pub(super) async fn insist(&self, request: &Request, within: Duration) -> Result<Value> {
        let deadline = Instant::now() + within;
        let mut node = 0;
        loop {
            match self.ask(node, request, CHANGE).await {
                Ok(answer) => return Ok(answer),
                Err(failure) if Instant::now() >= deadline => {
                    return Err(failure).with_context(|| format!("not done within {} s", within.as_secs()));
                }
                // Also a refusal: a node may not have heard yet of what another has just done.
                Err(_) => sleep(PAUSE).await,
            }
            node += 1;
        }
    }
}
