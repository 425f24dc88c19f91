//! Registers: written by compare-and-set through any node, one writer each, and read back.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use serde_json::Value;
use tokio::time::{MissedTickBehavior, sleep};
use tokio_util::sync::CancellationToken;

use super::Workload;
use super::bench::Bench;
use super::dice::Dice;
use super::kinds::{Failure, Kind};
use super::relay::Relay;
use unibus_api_types::control::Request;
use unibus_api_types::control::{ProbeValue, REGISTERS, Register};
use unibus_core::bus;

/// Time for the first node to answer, before the second is asked the same: long enough for a healthy one, short beside an
/// election.
const FIRST: Duration = Duration::from_secs(3);
/// Time for the second: all attempts that the daemon makes, and some.
const SECOND: Duration = bus::STORE_BUDGET.saturating_add(bus::ATTEMPT).saturating_add(bus::ASK);
/// Time for a read, and attempts at each when everything is over.
const READ: Duration = Duration::from_secs(3);
const LAST_READS: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// The workload.
pub(super) struct Registers {
    bench: Arc<Bench>,
}

/// What the one writer of a register knows about it.
struct Writer {
    bench: Arc<Bench>,
    register: Register,
    dice: Dice,
    /// The revision that the next write replaces.
    base: Option<u64>,
    /// Whether that may be out of date: the last write was not acknowledged.
    doubtful: bool,
    count: u64,
}

impl Registers {
    /// The registers, for this run.
    pub(super) fn new(bench: Arc<Bench>) -> Self {
        Self { bench }
    }
}

impl Workload for Registers {
    fn work(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        // Each writer has its share of the rate, and its turn.
        let every = Duration::from_secs(u64::from(REGISTERS)) / self.bench.orders.rates.writes.max(1);
        Box::pin(async move {
            let writers = Register::all().map(|register| {
                let writer = Writer::new(self.bench.clone(), register);
                writer.work(every, every / u32::from(REGISTERS) * u32::from(register.number()), stop.clone())
            });
            join_all(writers.map(tokio::spawn)).await;
        })
    }

    /// Every register from every node that answers.
    fn look_back(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let reads = self.bench.relays.iter().flat_map(|relay| {
                let bench = &self.bench;
                Register::all().map(move |register| async move {
                    for attempt in 0..LAST_READS {
                        if attempt > 0 {
                            sleep(PAUSE).await;
                        }
                        if read(bench, register, &[relay]).await.is_some() {
                            return;
                        }
                    }
                })
            });
            join_all(reads).await;
        })
    }
}

/// Reads a register through the first of `relays` that answers; notes it in the history.
async fn read(bench: &Bench, register: Register, relays: &[&Relay]) -> Option<u64> {
    let mut op = bench.history.begin(Kind::Read).key(register.number().to_string());
    for relay in relays {
        op.tries(&relay.node);
        match look(relay, register).await {
            Ok((value, revision)) => {
                op.ok_at(&relay.node, value, revision);
                return Some(revision);
            }
            Err(failure) => op.failed(&failure),
        }
    }
    None
}

async fn look(relay: &Relay, register: Register) -> Result<(Option<String>, u64), Failure> {
    let answer = relay.ask(&Request::ProbeRead { key: register }, READ).await?;
    Ok((answer.get("value").and_then(Value::as_str).map(str::to_owned), revision(&answer)?))
}

fn revision(answer: &Value) -> Result<u64, Failure> {
    let revision = answer.get("revision").and_then(Value::as_u64);
    revision.ok_or_else(|| Failure::unknown("an answer without a revision"))
}

impl Writer {
    fn new(bench: Arc<Bench>, register: Register) -> Self {
        let dice = bench.dice(&format!("register {}", register.number()));
        Self { bench, register, dice, base: None, doubtful: true, count: 0 }
    }

    async fn work(mut self, every: Duration, first: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + first, every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            let bench = self.bench.clone();
            let node = self.dice.choose(bench.relays.len());
            let relays = [bench.relay(node), bench.relay(node + 1)];
            if self.doubtful
                && let Some(revision) = read(&bench, self.register, &relays).await
            {
                self.base = Some(revision);
                self.doubtful = false;
            }
            // Without an answer the old base will do: compare-and-set tells if it does not.
            if let Some(base) = self.base {
                self.write(&bench, relays, base).await;
            }
        }
    }

    async fn write(&mut self, bench: &Bench, relays: [&Relay; 2], expected: u64) {
        self.count += 1;
        let text = format!("{}.{}.{}", bench.orders.run, self.register.number(), self.count);
        let Ok(value) = ProbeValue::try_from(text.clone()) else { return };
        let request = Request::ProbeWrite { key: self.register, value, expected };
        let mut op = bench.history.begin(Kind::Write).key(self.register.number().to_string()).writes(&text, expected);
        self.doubtful = true;
        for (relay, within) in relays.into_iter().zip([FIRST, SECOND]) {
            op.tries(&relay.node);
            match relay.ask(&request, within).await.and_then(|answer| revision(&answer)) {
                Ok(revision) => {
                    (self.base, self.doubtful) = (Some(revision), false);
                    return op.ok_at(&relay.node, None, revision);
                }
                Err(failure) if failure.code == "conflict" && op.in_doubt() => {
                    // Our own first attempt may be what it conflicts with. Nobody else writes here, so what the register
                    // holds now tells: ours is there, or can never be, because what it expected is gone.
                    return match look(relay, self.register).await {
                        Ok((Some(now), revision)) if now == text => {
                            (self.base, self.doubtful) = (Some(revision), false);
                            op.ok_at(&relay.node, None, revision);
                        }
                        Ok((_, revision)) if revision > expected => op.did_not_happen(&failure.why),
                        Ok(_) | Err(_) => op.failed(&failure),
                    };
                }
                Err(failure) => op.failed(&failure),
            }
        }
    }
}
