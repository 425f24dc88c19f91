//! The removal of one room: a member of others keeps its connection, goes on speaking, and finds what was said.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use async_nats::Event;
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::crowd::{Crowd, Made};
use super::reading::last_page;
use super::saying::Speaker;
use unibus_client::api::{ClientError, Request, room_path};

/// Rooms whose histories are compared.
const COMPARED: usize = 200;
/// Pages that are read at once.
const AT_ONCE: usize = 8;
/// How long connections are watched afterwards, beyond every bound of a revocation.
const WATCHED: Duration = Duration::from_secs(15);

pub(super) async fn remove(crowd: &Crowd) -> Result<Value> {
    let (removed, others) = crowd.rooms.split_first().context("there are no rooms")?;
    // Every so many, so that rooms of all users and shards are among them.
    let compared: Vec<&Made> = others.iter().step_by((others.len() / COMPARED).max(1)).collect();
    let before = histories(crowd, &compared).await.context("before the removal")?;
    let cut = Arc::new(AtomicUsize::new(0));
    let mut connections = Vec::new();
    for user in (0..crowd.users.len()).filter(|user| *user != removed.user) {
        let counted = |options: async_nats::ConnectOptions| {
            let cut = cut.clone();
            options.event_callback(move |event| {
                if matches!(event, Event::Disconnected | Event::Closed) {
                    cut.fetch_add(1, Ordering::Relaxed);
                }
                std::future::ready(())
            })
        };
        connections.push(crowd.connect(user, counted).await?);
    }
    let began = Instant::now();
    let api = crowd.api(removed.user, 0)?;
    let answer = api.ask(&Request::delete(room_path(&removed.id))).await.context("removing the room")?;
    let took = began.elapsed();
    tokio::time::sleep(WATCHED).await;
    let cut = cut.load(Ordering::Relaxed);
    drop(connections);
    let after = histories(crowd, &compared).await.context("after the removal")?;
    let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    match api.ask(&last_page(removed)).await {
        Err(ClientError::Refused(_)) => {}
        Err(error) => return Err(error).context("asking for the history of the room that was removed"),
        Ok(_) => bail!("the history of the room that was removed can be read"),
    }
    let goes_on = (0..crowd.users.len()).map(|user| async move {
        let Some(room) = crowd.rooms_of(user).pop().filter(|room| room.id != removed.id) else { return Ok(()) };
        let mut speaker = Speaker::connect(crowd, user).await?;
        speaker.publish(&room).await?;
        speaker.wait(0).await
    });
    try_join_all(goes_on).await.context("saying something in other rooms")?;
    ensure!(!before.is_empty(), "no other room was looked at");
    Ok(json!({
        "seconds": took.as_secs_f64(), "fence": answer.get("fence"), "compared": before.len(), "changed": changed,
        "connections": crowd.users.len() - 1, "cut": cut,
    }))
}

/// The last pages of rooms.
async fn histories(crowd: &Crowd, rooms: &[&Made]) -> Result<Vec<Value>> {
    let pages: Vec<_> = rooms
        .iter()
        .enumerate()
        .map(|(number, room)| async move {
            let page = crowd.api(room.user, number)?.ask(&last_page(room)).await?;
            anyhow::Ok(page.get("messages").cloned().unwrap_or_default())
        })
        .collect();
    stream::iter(pages).buffered(AT_ONCE).try_collect().await
}
