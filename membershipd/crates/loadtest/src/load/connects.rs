//! New connections: each made for one round trip, by a client that knows all nodes and tries twice.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Workload;
use super::bench::Bench;
use super::bus_user::BusUser;
use super::kinds::{DENIED, Kind};

/// Connections under way at once; at the usual rate that is more than all time-outs together need.
const AT_ONCE: usize = 64;

/// The workload.
pub(super) struct Connects {
    bench: Arc<Bench>,
    user: BusUser,
}

impl Connects {
    /// Connections of `user`.
    pub(super) fn new(bench: Arc<Bench>, user: BusUser) -> Self {
        Self { bench, user }
    }
}

impl Workload for Connects {
    fn work(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        let rate = self.bench.orders.rates.connects;
        Box::pin(connect_steadily(self.bench.clone(), self.user.clone(), Kind::Connect, rate, stop))
    }
}

/// So many connections a second until `stop`.
pub(super) async fn connect_steadily(
    bench: Arc<Bench>,
    user: BusUser,
    kind: Kind,
    per_second: u32,
    stop: CancellationToken,
) {
    let mut dice = bench.dice(user.handle().as_str());
    let mut tick = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => break,
        }
        while under_way.try_join_next().is_some() {}
        if under_way.len() < AT_ONCE {
            let first = dice.choose(bench.relays.len());
            under_way.spawn(connect(bench.clone(), user.clone(), kind, first));
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// Two attempts. Each goes through the nodes as client libraries do: on to the next where nobody is there, but not past one
/// that says no.
async fn connect(bench: Arc<Bench>, user: BusUser, kind: Kind, first: usize) {
    let mut op = bench.history.begin(kind).key(user.handle().as_str());
    let count = bench.relays.len();
    for attempt in 0..2 {
        for step in 0..count {
            let node = (first + attempt + step) % count;
            let name = &bench.relay(node).node;
            if step == 0 {
                op.tries(name)
            } else {
                op.goes_on_at(name)
            }
            match user.connect_once(node).await {
                Ok(server) => return op.ok(&server),
                Err(failure) => {
                    op.failed(&failure);
                    if failure.code == DENIED {
                        break;
                    }
                }
            }
        }
    }
}
