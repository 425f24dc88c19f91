//! Many rooms by many users, by orders: what it costs to make them, to say something in each, to read while others write, and to
//! remove one. The proof that gives the orders measures the nodes in between. What is made stays: the cluster is that of a proof.

mod crowd;
mod reading;
mod removing;
mod saying;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bench::Node;
use crowd::Crowd;

/// What is to be done.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// Make users, and rooms that persist, evenly among them.
    Make {
        /// How many users.
        users: usize,
        /// How many rooms.
        rooms: usize,
    },
    /// Say so many messages, evenly in all rooms.
    Say {
        /// How many.
        messages: usize,
    },
    /// Read pages while others write.
    Read {
        /// For how long.
        seconds: u64,
    },
    /// Remove a room, and look whether that disturbs another.
    Remove,
}

/// All orders are carried out on what the earlier ones made.
pub struct Rooms {
    node: Node,
    runtime_dir: PathBuf,
    crowd: Option<Crowd>,
}

impl Rooms {
    /// Nothing yet, on the cluster of `node`, whose daemon answers in `runtime_dir`.
    pub fn new(node: Node, runtime_dir: PathBuf) -> Self {
        Self { node, runtime_dir, crowd: None }
    }

    /// Carries an order out, and says what was measured.
    ///
    /// # Errors
    /// Something failed, or rooms were not made before.
    pub async fn carry_out(&mut self, order: &Order) -> Result<Value> {
        match order {
            Order::Make { users, rooms } => {
                let crowd = Crowd::join(&self.node, &self.runtime_dir, *users).await.context("making users")?;
                let begun = Instant::now();
                let (crowd, again) = crowd.make(*rooms).await.context("making rooms")?;
                self.crowd = Some(crowd);
                Ok(json!({ "rooms": rooms, "again": again, "seconds": begun.elapsed().as_secs_f64() }))
            }
            Order::Say { messages } => saying::say(self.crowd()?, *messages).await,
            Order::Read { seconds } => reading::read(self.crowd()?, Duration::from_secs(*seconds)).await,
            Order::Remove => removing::remove(self.crowd()?).await,
        }
    }

    fn crowd(&self) -> Result<&Crowd> {
        self.crowd.as_ref().context("there are no rooms yet: the first order is to make some")
    }
}
