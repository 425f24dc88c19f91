//! Messages of one user from one of its connections to another, each connection at home on another node.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Workload;
use super::awaited::Awaited;
use super::bench::Bench;
use super::bus_user::BusUser;
use super::kinds::{Failure, Kind};

/// Time for a message to arrive, for each of two attempts.
const ARRIVAL: Duration = Duration::from_secs(2);

/// The workload.
pub(super) struct Messages {
    bench: Arc<Bench>,
    user: BusUser,
}

impl Messages {
    /// Messages of `user`.
    pub(super) fn new(bench: Arc<Bench>, user: BusUser) -> Self {
        Self { bench, user }
    }

    async fn run(&self, stop: &CancellationToken) -> anyhow::Result<()> {
        let awaited = Awaited::default();
        let mut tasks = JoinSet::new();
        let mut connections = Vec::new();
        for (index, _) in self.bench.relays.iter().enumerate() {
            let client = self.user.connection(index).await?;
            tasks.spawn(listen(client.clone(), index, self.user.subject("message.*.*"), awaited.clone()));
            connections.push(client);
        }
        let connections: Arc<[Client]> = connections.into();
        let mut tick = tokio::time::interval(Duration::from_secs(1) / self.bench.orders.rates.messages.max(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut under_way = JoinSet::new();
        for turn in 0usize.. {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => break,
            }
            while under_way.try_join_next().is_some() {}
            let (bench, user) = (self.bench.clone(), self.user.clone());
            under_way.spawn(send(bench, user, connections.clone(), turn, awaited.clone()));
        }
        while under_way.join_next().await.is_some() {}
        tasks.shutdown().await;
        Ok(())
    }
}

impl Workload for Messages {
    fn work(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) = self.run(&stop).await {
                self.bench.history.event("messages-broke", Some(&format!("{error:#}")));
            }
        })
    }
}

/// Tells who waits that a message arrived here, if it was sent on another connection.
async fn listen(client: Client, own: usize, subject: String, awaited: Awaited) {
    let Ok(mut messages) = client.subscribe(subject).await else { return };
    while let Some(message) = messages.next().await {
        let mut tokens = message.subject.rsplit('.').map(str::parse::<u64>);
        let (Some(Ok(from)), Some(Ok(number))) = (tokens.next(), tokens.next()) else { continue };
        if usize::try_from(from) == Ok(own) {
            continue;
        }
        awaited.arrived(number, client.server_info().server_name);
    }
}

async fn send(bench: Arc<Bench>, user: BusUser, connections: Arc<[Client]>, turn: usize, awaited: Awaited) {
    let mut op = bench.history.begin(Kind::Message);
    let number = op.number();
    let mut arrival = awaited.begin(number);
    for from in [turn % connections.len(), (turn + 1) % connections.len()] {
        let Some(connection) = connections.get(from) else { break };
        op.tries(&connection.server_info().server_name);
        let subject = user.subject(&format!("message.{number}.{from}"));
        let sent = tokio::time::timeout(ARRIVAL, async {
            connection.publish(subject, "".into()).await.map_err(|error| Failure::certain(error.to_string()))?;
            (&mut arrival).await.map_err(|_| Failure::unknown("nobody listens"))
        });
        match sent.await {
            Ok(Ok(server)) => return op.ok(&server),
            Ok(Err(failure)) => op.failed(&failure),
            Err(_) => op.failed(&Failure::unknown("it did not arrive in time")),
        }
    }
    awaited.forget(number);
}
