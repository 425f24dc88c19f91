//! Removals of connected members from a room, each beside one insert into the bare engine.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use async_nats::Event;
use serde_json::json;
use tokio::sync::oneshot;

use super::crew::{Crew, Hand};
use super::drive::Measured;
use super::raw::{self, Raw};
use unibus_client::api::{Changed, Member, Request};
use unibus_core::bus;
use unibus_core::domain::RevocationOutcome;

/// Time for the client library to tell that its connection was closed.
const TOLD: Duration = Duration::from_secs(1);

/// Measures single inserts, and removals by `count`. Both have the cluster for themselves. Whoever is removed is connected, and is
/// not any more when the answer comes.
pub(super) async fn measure(raw: &Raw, crew: &Crew, count: usize) -> Result<(Measured, Measured)> {
    let (mut inserts, mut removals) = (Measured::none(), Measured::none());
    for number in 0..count {
        let since = Instant::now();
        raw.insert().await?;
        inserts.note(since.elapsed());
        // Each owner in turn removes the next one, so that nobody comes near the rate of a key.
        let removed = one(crew, crew.hand(number)?, crew.hand(number + 1)?).await;
        removals.note(removed.with_context(|| format!("removal {number}"))?);
    }
    Ok((inserts, removals))
}

/// Lets `member` join the room of `owner`, connects him, and removes him. Returns how long the removal took.
async fn one(crew: &Crew, owner: &Hand, member: &Hand) -> Result<Duration> {
    let path = format!("{}/members/{}", owner.path(), member.identity.handle);
    owner.api.ask(&Request::put(path.as_str(), Some(json!({ "role": "member" })))).await.context("inviting")?;
    // A node that learns of it later would end the connection that is to be cut by the removal.
    let keep = Some(json!({ "keep_connections": true }));
    member.api.ask(&Request::put(format!("{path}/acceptance"), keep)).await.context("accepting")?;

    let (closed, mut told) = oneshot::channel();
    let closed = std::sync::Mutex::new(Some(closed));
    let options = crew.options(member).event_callback(move |event| {
        let cut = matches!(event, Event::Disconnected | Event::Closed);
        if let Some(closed) = cut.then(|| closed.lock().ok()?.take()).flatten() {
            let _ = closed.send(Instant::now());
        }
        std::future::ready(())
    });
    let client = raw::connected(options, crew.bus()).await?;
    raw::round_trip(&client, &bus::inbox(member.identity.handle.as_str())).await?;
    ensure!(told.try_recv().is_err(), "the member was cut before he was removed");

    let since = Instant::now();
    let removed = owner.api.ask_for::<Changed<Member>>(&Request::delete(path)).await.context("removing")?;
    let took = since.elapsed();
    ensure!(
        removed.fence == Some(RevocationOutcome::Acknowledged),
        "not all nodes acknowledged a removal: is the cluster healthy?"
    );
    match tokio::time::timeout(TOLD, told).await {
        Ok(Ok(_)) => Ok(took),
        _ => bail!("a removed member was still connected when the answer came"),
    }
}
