//! Many rooms by many users, by orders: what it costs to make them, to say something in each, to read while others write, and to
//! remove one; and what one hostile member can do to the others. The proof that gives the orders measures the nodes in between. What is made stays: the cluster is that of a proof.

mod crowd;
mod harm;
mod reading;
mod removing;
mod saying;
mod socket;
mod working;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bench::Node;
use crowd::Crowd;
use unibus_core::domain::{Handle, RoomId, Subject};

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
    /// Have members do their usual work.
    Work {
        /// For how long.
        seconds: u64,
        /// How long after the beginning of one operation a member begins the next.
        pace_ms: u64,
    },
    /// Invite a user of another crowd to the first room.
    Invite {
        /// Whom.
        handle: Handle,
    },
    /// As the first user, accept the invitation to a room of another crowd, and do its members as much harm as one can.
    Harm {
        /// For how long.
        seconds: u64,
        /// The room.
        room: RoomId,
        /// Its subject.
        subject: Subject,
    },
    /// Take the user of another crowd out of the first room, and say how long that took.
    Expel {
        /// Whom.
        handle: Handle,
    },
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
                let crowd = self.crowd()?;
                let first = crowd.rooms.first().map(|room| json!({ "room": room.id, "subject": room.subject }));
                let handle = crowd.user(0)?.identity.handle.clone();
                let seconds = begun.elapsed().as_secs_f64();
                Ok(json!({ "rooms": rooms, "again": again, "seconds": seconds, "first": first, "handle": handle }))
            }
            Order::Say { messages } => saying::say(self.crowd()?, *messages).await,
            Order::Read { seconds } => reading::read(self.crowd()?, Duration::from_secs(*seconds)).await,
            Order::Remove => removing::remove(self.crowd()?).await,
            Order::Work { seconds, pace_ms } => {
                working::work(self.crowd()?, Duration::from_secs(*seconds), Duration::from_millis(*pace_ms)).await
            }
            Order::Invite { handle } => harm::invite(self.crowd()?, handle).await,
            Order::Harm { seconds, room, subject } => {
                harm::harm(self.crowd()?, Duration::from_secs(*seconds), room, subject).await
            }
            Order::Expel { handle } => harm::expel(self.crowd()?, handle).await,
        }
    }

    fn crowd(&self) -> Result<&Crowd> {
        self.crowd.as_ref().context("there are no rooms yet: the first order is to make some")
    }
}
