//! Ending connections in this node's engine, and the engine itself where it does not obey.
//!
//! An engine that does not answer at all is killed [`bus::CONFIRM`] after it was to begin. One that answers, however slowly, goes on
//! for [`bus::CUT`] at most, and never past the end of the lease: hundreds of connections cost others nothing, and a user who lost a
//! right is cut in time all the same.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::engine::Engine;
use crate::engine_list;
use crate::gate::{ConnectionId, Gate};
use unibus_core::bus;
use unibus_core::domain::SignPub;
use unibus_core::faults::Fault;
use unibus_store::link::Link;

/// Kicks that are under way at once.
const AT_ONCE: usize = 64;
/// Users up to whom the engine is asked for each one's connections instead of all.
const FEW: usize = 8;
/// Pause before an attempt is repeated.
const PAUSE: Duration = Duration::from_millis(20);

/// The means to cut connections of one node.
#[derive(Debug, Clone)]
pub struct Kicker {
    /// The engine that runs now.
    pub engine: watch::Receiver<Option<Engine>>,
    /// The connections to it.
    pub link: watch::Receiver<Option<Arc<Link>>>,
    /// Who was admitted.
    pub gate: Arc<Gate>,
}

/// Until when the engine may go on with a cut.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// Until then it need not have answered anything.
    begin: Instant,
    /// Then it has to be done.
    end: Instant,
}

impl Patience {
    /// When the engine is given up that answered `heard` last.
    fn until(self, heard: Option<Instant>) -> Instant {
        let goes_on = heard.map_or(self.begin, |heard| heard + bus::CONFIRM);
        goes_on.max(self.begin).min(self.end)
    }
}

/// When the engine answered last, as far as a cut is concerned.
type Heard = watch::Sender<Option<Instant>>;

/// Whose connections are looked for once those that are known were cut.
#[derive(Debug, Clone, Copy)]
enum Look<'a> {
    /// Everybody's: nobody may be connected.
    All,
    /// Those of the users with these keys, as far as they have more than their users.
    Users(&'a BTreeSet<SignPub>),
    /// Those that were not admitted here, or that have more than their users.
    Strays,
}

impl Kicker {
    /// Cuts every member's connection, now that the lease has ended: there is no time beyond [`bus::CONFIRM`] for that.
    pub async fn cut_all(&self) {
        let connections = self.gate.admitted().into_iter().collect();
        let end = Instant::now() + bus::CONFIRM;
        self.cut(connections, Look::All, Patience { begin: end, end }).await;
    }

    /// Cuts these connections, and whatever else the users with these keys have that they may not have any more. An engine that
    /// answers nothing within [`bus::CONFIRM`], or has not confirmed all of it in time, is killed, which cuts every member: when this
    /// returns none of them is served.
    pub async fn cut_off(&self, connections: BTreeSet<ConnectionId>, users: &BTreeSet<SignPub>) {
        self.cut(connections, Look::Users(users), self.patience()).await;
    }

    /// How long an engine that answers may take for what is cut from now on.
    fn patience(&self) -> Patience {
        let now = Instant::now();
        let begin = now + bus::CONFIRM;
        // What is cut was seen under this lease, which no round renews before it is done. Without one there is no time at all.
        let end = self.gate.lease_expires().map_or(begin, |expires| expires + bus::CONFIRM).min(now + bus::CUT);
        Patience { begin, end: end.max(begin) }
    }

    /// Ends every connection that this daemon has not admitted, or whose admission it no longer stands behind, as [`Self::cut_off`].
    /// Returns what `link`'s engine listed.
    pub async fn cut_strays(&self, link: &Link) -> Result<HashSet<ConnectionId>> {
        let listed = listed(link, &self.gate, || {}).await?;
        let mut strays = self.gate.uncovered(listed.iter().copied());
        if !strays.is_empty() {
            // What ended since the list was made was forgotten since.
            let still = self::listed(link, &self.gate, || {}).await?;
            strays.retain(|id| still.contains(id));
        }
        if !strays.is_empty() {
            let unknown = strays.iter().filter(|id| !self.gate.has_admitted(**id)).count();
            if unknown > 0 {
                tracing::warn!(unknown, "the engine has connections that this daemon did not admit; ending them");
            }
            self.cut(strays, Look::Strays, self.patience()).await;
        }
        Ok(listed)
    }

    /// Ends connections whose users are allowed more, so that they come back with it, as far as the engine can be asked now.
    pub async fn send_away(&self, connections: Vec<ConnectionId>) {
        let Some(link) = self.link.borrow().clone() else { return };
        if !connections.is_empty() {
            tracing::info!(count = connections.len(), "ending connections that are to come back with more");
        }
        let link = &*link;
        let kicks = futures::stream::iter(connections).map(|id| async move {
            if let Err(error) = link.kick(id).await {
                tracing::debug!(connection = id, "not sent away: {error:#}");
            }
        });
        kicks.buffer_unordered(AT_ONCE).collect::<()>().await;
    }

    async fn cut(&self, connections: BTreeSet<ConnectionId>, look: Look<'_>, patience: Patience) {
        if Fault::NoKick.active() {
            return;
        }
        // A later engine has other connections; this one takes its own along when it ends.
        let Some(engine) = self.engine.borrow().clone() else { return };
        let (count, began, heard) = (connections.len(), Instant::now(), Heard::new(None));
        let given_up = async {
            loop {
                let until = patience.until(*heard.borrow());
                tokio::time::sleep_until(until.into()).await;
                let last = *heard.borrow();
                if patience.until(last) <= until {
                    return last;
                }
            }
        };
        tokio::select! {
            biased;
            more = self.until_gone(connections, look, &heard) => {
                if count + more > 0 {
                    tracing::info!(count, more, took = ?began.elapsed(), "connections cut");
                }
            }
            _ = engine.exited() => {}
            heard = given_up => {
                let silent_ms = heard.unwrap_or(began).elapsed().as_millis();
                tracing::error!(
                    count, pid = engine.pid, silent_ms, took = ?began.elapsed(),
                    "the engine did not confirm a kick in time: killing it"
                );
                engine.kill();
                engine.exited().await;
            }
        }
    }

    /// Kicks until the engine has confirmed it and lists nobody that would have to be kicked, however often it takes. Says how
    /// many there were beyond those known.
    async fn until_gone(&self, mut connections: BTreeSet<ConnectionId>, look: Look<'_>, heard: &Heard) -> usize {
        let mut links = self.link.clone();
        let mut more = 0;
        loop {
            let link = links.wait_for(Option::is_some).await.ok().and_then(|link| link.clone());
            let Some(link) = link else { std::future::pending().await };
            match self.kick(&link, &mut connections, look, heard).await {
                Ok(left) if left.is_empty() => return more,
                Ok(left) => {
                    more += left.difference(&connections).count();
                    connections = left;
                }
                Err(error) => tracing::debug!("a kick was not confirmed: {error:#}"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One attempt. Takes out of `connections` what the engine has confirmed, and says who is left.
    async fn kick(
        &self,
        link: &Link,
        connections: &mut BTreeSet<ConnectionId>,
        look: Look<'_>,
        heard: &Heard,
    ) -> Result<BTreeSet<ConnectionId>> {
        let mut kicks = futures::stream::iter(connections.clone())
            .map(|id| async move { (id, link.kick(id).await) })
            .buffer_unordered(AT_ONCE);
        let mut failed = None;
        while let Some((id, answer)) = kicks.next().await {
            // A confirmed kick, or the engine's word that there is no such connection, is the same to us.
            match answer {
                Ok(_) => {
                    heard.send_replace(Some(Instant::now()));
                    connections.remove(&id);
                }
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let answered = || {
            heard.send_replace(Some(Instant::now()));
        };
        match look {
            Look::All => Ok(listed(link, &self.gate, answered).await?.into_iter().collect()),
            Look::Strays => Ok(self.gate.uncovered(listed(link, &self.gate, answered).await?)),
            Look::Users(users) => Ok(self.gate.uncovered(listed_of(link, users, answered).await?)),
        }
    }
}

/// Ids of the members' connections that the engine lists.
///
/// `answered` is told of each page.
async fn listed(link: &Link, gate: &Gate, answered: impl Fn()) -> Result<HashSet<ConnectionId>> {
    let listed = list(link, json!({ "acc": bus::ACCOUNT_BUS, "auth": true }), &answered).await?;
    // The daemon is among the members, too. Where nothing is authenticated a member may show its key, but was admitted all the same.
    let own = |(id, user): &(ConnectionId, String)| *user == link.bus_key && !gate.has_admitted(*id);
    Ok(listed.into_iter().filter(|entry| !own(entry)).map(|(id, _)| id).collect())
}

/// Ids of these users' connections that the engine lists.
async fn listed_of(link: &Link, users: &BTreeSet<SignPub>, answered: impl Fn()) -> Result<Vec<ConnectionId>> {
    let of_all = json!({ "acc": bus::ACCOUNT_BUS, "auth": true });
    let named: BTreeSet<String> = users.iter().map(|key| key.to_nkey()).collect();
    if users.len() > FEW {
        let listed = list(link, of_all, &answered).await?.into_iter();
        return Ok(listed.filter(|(_, user)| named.contains(user)).map(|(id, _)| id).collect());
    }
    let of_one = |user| json!({ "acc": bus::ACCOUNT_BUS, "auth": true, "user": user });
    let of_each = named.iter().map(|user| list(link, of_one(user), &answered));
    let listed = futures::future::try_join_all(of_each).await?;
    Ok(listed.into_iter().flatten().map(|(id, _)| id).collect())
}

/// The connections that the engine lists, and their users where it was asked for them.
async fn list(link: &Link, query: Value, answered: &impl Fn()) -> Result<Vec<(ConnectionId, String)>> {
    let ask = move |query| async move {
        let answer = link.ask("CONNZ", query).await?;
        answered();
        Ok(answer)
    };
    let read = |entry: &Value| {
        let user = entry.get("authorized_user").and_then(Value::as_str).unwrap_or_default();
        Some((entry.get("cid")?.as_u64()?, user.to_owned()))
    };
    engine_list::list(ask, query, read).await
}

/// Ids of the members' connections of this engine, as they end.
pub async fn ended(link: &Link) -> Result<impl Stream<Item = ConnectionId> + Unpin + use<>> {
    let subject = format!("$SYS.ACCOUNT.{}.DISCONNECT", bus::ACCOUNT_BUS);
    let events = link.system.subscribe(subject).await.context("cannot subscribe to the engine's events")?;
    let server = link.server.clone();
    // Every engine of the cluster tells everybody.
    let own = move |message: async_nats::Message| {
        let event: Value = serde_json::from_slice(&message.payload).ok()?;
        let from = event.pointer("/server/id").and_then(Value::as_str)?;
        event.pointer("/client/id").and_then(Value::as_u64).filter(|_| from == server)
    };
    Ok(Box::pin(events.filter_map(move |message| std::future::ready(own(message)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_answers_is_given_time_and_a_silent_one_or_a_late_one_is_not() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let patience = Patience { begin: at(800), end: at(6_000) };
        assert_eq!(patience.until(None), at(800), "it says nothing");
        assert_eq!(patience.until(Some(at(10))), at(810));
        assert_eq!(patience.until(Some(at(700))), at(1_500));
        assert_eq!(patience.until(Some(at(5_900))), at(6_000), "not for ever");
        let none = Patience { begin: at(800), end: at(800) };
        assert_eq!(none.until(Some(at(700))), at(800), "the lease has ended");
    }
}
