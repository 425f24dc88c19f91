//! `bench`: what a node of a running cluster does in a second, next to what its bare engine does in the same run.
//!
//! Absolute figures say more about the disk than about us, so every figure of the daemon stands beside one of the engine:
//! signed reads and writes beside plain inserts into a stream with as many copies, admissions through the callout beside
//! those of a key that the engine knows, a fenced removal beside one insert, what is said in a room beside the bare bus. What is compared takes turns, so that a busy
//! moment of the machine does not fall on one side alone.

mod admissions;
mod conversation;
mod crew;
mod drive;
mod raw;
mod removals;
mod report;
mod requests;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crew::Crew;
use drive::Measured;
use raw::Raw;

pub use conversation::Spoken;
pub use report::Report;

/// Requests of the API, and inserts, in flight at once.
const REQUESTS: usize = 64;
/// Connections being made at once.
const CONNECTS: usize = 32;
/// Turns that things which are compared take.
const TURNS: u8 = 4;
// Everybody is invited once at most to each room.
const _: () = assert!(TURNS as usize * requests::INVITED < REQUESTS);
/// Removals for each second that other things are measured, each beside one insert.
const REMOVALS_A_SECOND: usize = 25;

/// A node, and what its operator knows of it.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where it serves its own machine.
    pub address: IpAddr,
    /// Port of its engine, for clients.
    pub client_port: u16,
    /// Port of its API.
    pub api_port: u16,
    /// The CA of its certificate; none: it serves without TLS.
    pub ca: Option<PathBuf>,
    /// The daemon's own key in the account of the buckets.
    pub control: nkeys::KeyPair,
    /// Copies of each bucket.
    pub copies: usize,
    /// The other nodes.
    pub others: Vec<IpAddr>,
}

/// What to measure, and how.
#[derive(Debug)]
pub struct Orders {
    /// The node.
    pub node: Node,
    /// Directory of its control socket.
    pub runtime_dir: PathBuf,
    /// Time for each thing that is measured by the second.
    pub each: Duration,
}

/// Measures. Whatever it made for this is gone at the end, also where it failed or was told to stop. Of users and rooms the tombstones
/// stay, as of any, and of what was done with them the records in the audit: nothing takes those away but a cluster that is thrown away.
pub async fn run(orders: Orders) -> Result<Report> {
    let raw = Raw::open(&orders.node).await?;
    let crew = Crew::new(&orders, REQUESTS)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let measured = tokio::select! {
        measured = measure(&orders, &raw, &crew) => measured,
        _ = terminate.recv() => Err(anyhow::anyhow!("told to stop")),
        _ = interrupt.recv() => Err(anyhow::anyhow!("told to stop")),
    };
    eprintln!("bench: cleaning up");
    let cleaned = crew.leave().await.and(raw.close().await);
    eprintln!(
        "bench: its users and rooms are removed; what stays are their tombstones, {}*, and the records of all that in the audit",
        crew.prefix()
    );
    match (measured, cleaned) {
        (Ok(report), cleaned) => {
            cleaned.context("measured, but not everything that was made for it could be removed")?;
            Ok(report)
        }
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(left)) => {
            Err(error.context(format!("not everything that was made could be removed: {left:#}")))
        }
    }
}

async fn measure(orders: &Orders, raw: &Raw, crew: &Crew) -> Result<Report> {
    eprintln!("bench: making {REQUESTS} users and rooms on {}", orders.node.name);
    crew.join().await?;
    let turn = orders.each / u32::from(TURNS);
    let [mut inserts, mut unsigned, mut reads, mut writes] = [const { Measured::none() }; 4];
    for number in 0..TURNS {
        eprintln!(
            "bench: inserts, requests, signed reads and writes, {REQUESTS} in flight, turn {} of {TURNS}",
            number + 1
        );
        inserts += drive::by_the_second(REQUESTS, turn, |_| raw.insert()).await?;
        unsigned += drive::by_the_second(REQUESTS, turn, |worker| requests::unsigned(crew, worker)).await?;
        reads += drive::by_the_second(REQUESTS, turn, |worker| requests::read(crew, worker)).await?;
        requests::prepare(crew, number.into()).await?;
        writes += drive::by_the_second(REQUESTS, turn, |worker| requests::write(crew, worker)).await?;
    }
    let [mut known, mut admitted] = [const { Measured::none() }; 2];
    // Each connection as the next user: of one user a node takes so many logins a second.
    let turn_of = AtomicUsize::new(0);
    for number in 0..TURNS {
        eprintln!("bench: connections, {CONNECTS} at once, turn {} of {TURNS}", number + 1);
        known += drive::by_the_second(CONNECTS, turn, |_| raw.connect()).await?;
        admitted += drive::by_the_second(CONNECTS, turn, |_| {
            admissions::connect(crew, turn_of.fetch_add(1, Ordering::Relaxed))
        })
        .await?;
    }
    let count = REMOVALS_A_SECOND.saturating_mul(usize::try_from(orders.each.as_secs()).unwrap_or(1).max(1));
    eprintln!("bench: {count} removals of connected members, one after the other");
    let (alone, removed) = removals::measure(raw, crew, count).await?;
    eprintln!("bench: conversations, one speaks and three listen");
    let spoken = conversation::measure(orders, crew, turn).await.context("conversations")?;
    let node = orders.node.name.clone();
    Ok(Report { node, inserts, unsigned, reads, writes, known, admitted, alone, removed, spoken })
}
