//! Users who are disabled while they use the bus: after the acknowledgement nothing of theirs may succeed.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::time::{MissedTickBehavior, sleep};
use tokio_util::sync::CancellationToken;

use super::Workload;
use super::bench::Bench;
use super::bus_user::BusUser;
use super::connects::connect_steadily;
use super::kinds::{Failure, Kind};
use unibus_api_types::control::Request;
use unibus_core::domain::State;

/// How long a victim is an ordinary user, and how long it knocks in vain afterwards.
const BEFORE: Duration = Duration::from_secs(3);
const AFTERWARDS: Duration = Duration::from_secs(5);
/// Time for a revocation: its bound, the write, and a view that has to catch up.
const DISABLE: Duration = Duration::from_secs(30);
/// Time for a message to itself.
const ARRIVAL: Duration = Duration::from_secs(1);
/// Time for a user to be made; without a quorum nobody is, and the next one is tried.
const MADE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(1);
/// Connects a second.
const CONNECTS: u32 = 2;

/// The workload: one victim after the other.
pub(super) struct Victims {
    bench: Arc<Bench>,
}

impl Victims {
    /// Victims of this run.
    pub(super) fn new(bench: Arc<Bench>) -> Self {
        Self { bench }
    }

    async fn one(&self, number: usize, stop: &CancellationToken) {
        let role = format!("victim-{number}");
        let made = tokio::select! {
            made = self.bench.new_user(&role, MADE) => made,
            () = stop.cancelled() => return,
        };
        let Ok(victim) = made else { return };
        let over = CancellationToken::new();
        let knocks = connect_steadily(self.bench.clone(), victim.clone(), Kind::VictimConnect, CONNECTS, over.clone());
        let knocking = tokio::spawn(knocks);
        let talking = tokio::spawn(talk(self.bench.clone(), victim.clone(), over.clone()));
        tokio::select! {
            () = self.fate(&victim, number) => {}
            () = stop.cancelled() => {}
        }
        // Also where the run ends in the middle of it: nothing may be left under way.
        over.cancel();
        let _ = futures::join!(knocking, talking);
    }

    /// What happens to a victim while it goes about its business.
    async fn fate(&self, victim: &BusUser, number: usize) {
        sleep(BEFORE).await;
        let mut first = number;
        while !self.disable(victim, first).await {
            first += 1;
            sleep(PAUSE).await;
        }
        sleep(AFTERWARDS).await;
        self.bench.remove(victim.handle()).await;
    }

    async fn disable(&self, victim: &BusUser, first: usize) -> bool {
        let handle = victim.handle().clone();
        let mut op = self.bench.history.begin(Kind::Disable).key(handle.as_str());
        let request = Request::UserSet { handle, state: State::Disabled, last_admin: false };
        for relay in [self.bench.relay(first), self.bench.relay(first + 1)] {
            op.tries(&relay.node);
            match relay.ask(&request, DISABLE).await {
                Ok(_) => {
                    op.ok(&relay.node);
                    return true;
                }
                Err(failure) => op.failed(&failure),
            }
        }
        false
    }
}

impl Workload for Victims {
    fn work(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            for number in 1.. {
                if stop.is_cancelled() {
                    return;
                }
                self.one(number, &stop).await;
            }
        })
    }
}

/// Messages to itself on a connection that lasts as long as it is let.
async fn talk(bench: Arc<Bench>, victim: BusUser, over: CancellationToken) {
    let Ok(client) = victim.connection(bench.dice(victim.handle().as_str()).choose(bench.relays.len())).await else {
        return;
    };
    let Ok(mut back) = client.subscribe(victim.subject("self.*")).await else { return };
    let mut tick = tokio::time::interval(Duration::from_secs(1) / bench.orders.rates.victims.max(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = over.cancelled() => return,
        }
        let mut op = bench.history.begin(Kind::VictimMessage).key(victim.handle().as_str());
        op.tries(&client.server_info().server_name);
        let subject = victim.subject(&format!("self.{}", op.number()));
        let round_trip = async {
            client.publish(subject.clone(), "".into()).await.ok()?;
            loop {
                // Older ones arrive late when the connection comes back.
                let message = back.next().await?;
                if message.subject.as_str() == subject {
                    return Some(());
                }
            }
        };
        match tokio::time::timeout(ARRIVAL, round_trip).await {
            Ok(Some(())) => op.ok(&client.server_info().server_name),
            Ok(None) => op.failed(&Failure::certain("the connection is over")),
            Err(_) => op.failed(&Failure::unknown("it did not come back in time")),
        }
    }
}
