//! What members take of this node's engine, once a second: the connections of a user who has above its share are closed, the largest
//! first, until the rest is within it.
//!
//! The engine is asked for the connections with the most, and for more of them only while the last one has enough to matter. So it
//! costs little however many connections there are, and a user whose many connections have little each may be above the bound by half
//! before that is seen.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use crate::gate::{ConnectionId, Gate};
use crate::tell::Teller;
use unibus_api_types::bound::Bound;
use unibus_core::bus;
use unibus_core::domain::Handle;
use unibus_store::link::Link;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Connections that the engine is asked for first.
const FIRST: usize = 16;
/// And at most: what a page of its list may have.
const MOST: usize = 1024;

/// What the engine says of connections, and how it names that.
const KINDS: [(Bound, &str, &str); 2] =
    [(Bound::Subscriptions, "subs", "subscriptions"), (Bound::Pending, "pending", "pending_bytes")];

/// Looks for as long as the session lasts.
pub async fn keep(link: &Link, gate: &Gate, teller: &Teller) -> Infallible {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for (bound, order, field) in KINDS {
            if let Err(error) = look(link, gate, teller, bound, order, field).await {
                tracing::debug!("what members take of the engine is not known: {error:#}");
            }
        }
    }
}

async fn look(link: &Link, gate: &Gate, teller: &Teller, bound: Bound, order: &str, field: &str) -> Result<()> {
    let most = gate.bounds().most(bound);
    // Those that are not looked at have less than this each, and together no more than half of what a user may have.
    let least = (most / 2 / gate.bounds().most(Bound::Connections)).max(1);
    let mut limit = FIRST;
    let listed = loop {
        let query = json!({ "acc": bus::ACCOUNT_BUS, "sort": order, "limit": limit });
        let answer = link.ask("CONNZ", query).await?;
        let listed = read(&answer, field).context("the engine's list of connections is not understood")?;
        let ends = listed.len() < limit || listed.last().is_none_or(|(_, much)| *much < least);
        if ends || limit >= MOST {
            break listed;
        }
        limit = (limit * 8).min(MOST);
    };
    for Above { handle, connections } in above(gate.owned(listed), most) {
        teller.met(gate, &handle, bound, Instant::now());
        let mut closed = 0;
        for id in connections {
            // One that ended meanwhile is as good; the next look tells. The engine forgets what waits for a connection once the write
            // that it is at has ended, after 5 s at most; until then nothing more waits.
            let answer = link.ask("KICK", json!({ "cid": id })).await;
            closed += u32::from(answer.is_ok_and(|answer| answer.get("error").is_none()));
        }
        if closed > 0 {
            tracing::info!(user = %handle, ?bound, closed, "connections of a user above its share were closed");
        }
    }
    Ok(())
}

fn read(answer: &Value, field: &str) -> Option<Vec<(ConnectionId, u64)>> {
    let connections = answer.pointer("/data/connections")?.as_array()?;
    // What is zero the engine may leave out.
    let much = |entry: &Value| entry.get(field).and_then(Value::as_u64).unwrap_or_default();
    connections.iter().map(|entry| Some((entry.get("cid")?.as_u64()?, much(entry)))).collect()
}

/// A user who is above the bound, and the connections that are to be closed for it.
#[derive(Debug, PartialEq, Eq)]
struct Above {
    handle: Handle,
    connections: Vec<ConnectionId>,
}

/// Of each user who has more than `most` in all, the largest connections without which it is within that.
fn above(owned: Vec<(Handle, ConnectionId, u64)>, most: u64) -> Vec<Above> {
    let mut by_user: BTreeMap<Handle, Vec<(u64, ConnectionId)>> = BTreeMap::new();
    for (handle, id, much) in owned {
        by_user.entry(handle).or_default().push((much, id));
    }
    let close = |(handle, mut all): (Handle, Vec<(u64, ConnectionId)>)| {
        all.sort_unstable();
        let mut left: u64 = all.iter().map(|(much, _)| much).sum();
        let mut connections = Vec::new();
        while left > most {
            let (much, id) = all.pop()?;
            left -= much;
            connections.push(id);
        }
        (!connections.is_empty()).then_some(Above { handle, connections })
    };
    by_user.into_iter().filter_map(close).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_user_above_the_bound_the_largest_connections_go_and_the_others_stay() {
        let [alice, bob]: [Handle; 2] = ["alice", "bob"].map(|handle| handle.parse().unwrap());
        let of = |handle: &Handle, id, much| (handle.clone(), id, much);
        let owned = vec![of(&alice, 1, 40), of(&bob, 2, 90), of(&alice, 3, 50), of(&alice, 4, 20), of(&bob, 5, 10)];
        assert_eq!(above(owned.clone(), 100), [Above { handle: alice.clone(), connections: vec![3] }]);
        let closed = [Above { handle: alice, connections: vec![3, 1] }, Above { handle: bob, connections: vec![2] }];
        assert_eq!(above(owned.clone(), 30), closed);
        assert_eq!(above(owned, 110), []);
    }

    #[test]
    fn what_the_engine_leaves_out_is_nothing_and_a_list_that_is_none_is_not_understood() {
        let answer = json!({ "data": { "connections": [{ "cid": 7, "subscriptions": 3 }, { "cid": 8 }] } });
        assert_eq!(read(&answer, "subscriptions"), Some(vec![(7, 3), (8, 0)]));
        assert_eq!(read(&json!({ "data": {} }), "subscriptions"), None);
    }
}
