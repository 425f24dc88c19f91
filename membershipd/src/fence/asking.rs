//! The asking side: waits until every process that could honour the old state has said that it does not, or cannot any more.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};

use super::ledger::Ledger;
use super::progress::Positions;
use super::waiting::{Acknowledgement, RevocationStatus, Waiting};
use crate::commands::{Fence, Revoked, keys};
use unibus_core::bus;
use unibus_core::domain::RevocationOutcome;
use unibus_store::link::Link;

/// Acknowledgements that wait to be read; what is too much is asked for again.
const WAITING: usize = 64;

/// The fence of a daemon.
#[derive(Debug, Clone)]
pub struct RevocationFence {
    ledger: Arc<Ledger>,
    link: watch::Receiver<Option<Arc<Link>>>,
}

impl RevocationFence {
    /// Rests on what `ledger` knows, and asks through `link`.
    pub fn new(ledger: Arc<Ledger>, link: watch::Receiver<Option<Arc<Link>>>) -> Self {
        Self { ledger, link }
    }

    async fn pass(&self, wanted: Positions) -> RevocationOutcome {
        let committed = Instant::now();
        let over = committed + bus::revocation_bound();
        // Without a current view nobody knows whom to ask, but that by then nobody is left.
        let how = tokio::time::timeout_at(over.into(), async {
            let waiting = self.ledger.waiting(wanted, committed).await;
            self.wait_for(waiting).await
        });
        how.await.unwrap_or(RevocationOutcome::WaitedOut)
    }

    async fn wait_for(&self, mut waiting: Waiting) -> RevocationOutcome {
        let wanted = *waiting.wanted();
        let others = waiting.asks_others(self.ledger.own());
        let (heard, mut answers) = mpsc::channel(WAITING);
        let asking = async {
            if others {
                self.ask(&wanted, &heard).await;
            }
            std::future::pending::<RevocationOutcome>().await
        };
        let own = async {
            self.ledger.settled(&wanted).await;
            let _ = heard.send(self.ledger.acknowledgement()).await;
            std::future::pending::<RevocationOutcome>().await
        };
        let collecting = async {
            loop {
                let over = match waiting.status(Instant::now()) {
                    RevocationStatus::Open(over) => over,
                    RevocationStatus::Over(how) => break how,
                };
                tokio::select! {
                    Some(by) = answers.recv() => waiting.acknowledged(&by),
                    () = tokio::time::sleep_until(over.into()) => {}
                }
            }
        };
        let how = tokio::select! {
            how = collecting => how,
            never = own => never,
            never = asking => never,
        };
        if how == RevocationOutcome::WaitedOut {
            let missing: Vec<&str> = waiting.missing().iter().map(|witness| witness.node.as_str()).collect();
            tracing::warn!(?missing, "a revocation was not acknowledged by all; their time is over");
        }
        how
    }

    /// Asks again and again, on whichever connection there is.
    async fn ask(&self, wanted: &Positions, heard: &mpsc::Sender<Acknowledgement>) {
        let mut links = self.link.clone();
        loop {
            let link = match links.wait_for(Option::is_some).await {
                Ok(link) => link.clone(),
                Err(_) => return,
            };
            let Some(link) = link else { continue };
            if let Err(error) = ask_through(&link, wanted, heard).await {
                tracing::debug!("cannot ask the other nodes: {error:#}");
            }
            tokio::time::sleep(bus::FENCE_AGAIN).await;
        }
    }
}

impl Fence for RevocationFence {
    /// Takes `bus::revocation_bound` at most.
    fn wait_for_revocation<'a>(&'a self, revoked: &'a [Revoked]) -> BoxFuture<'a, RevocationOutcome> {
        let mut wanted = Positions::default();
        for Revoked { record, revision } in revoked {
            wanted.reach(keys::bucket(record).bucket(), revision.get());
        }
        self.pass(wanted).boxed()
    }
}

async fn ask_through(link: &Link, wanted: &Positions, heard: &mpsc::Sender<Acknowledgement>) -> Result<()> {
    let inbox = link.system.new_inbox();
    let mut answers = link.system.subscribe(inbox.clone()).await.context("cannot listen")?;
    let question = serde_json::to_vec(wanted)?;
    let mut again = tokio::time::interval(bus::FENCE_AGAIN);
    loop {
        tokio::select! {
            _ = again.tick() => {
                let (inbox, question) = (inbox.clone(), question.clone());
                link.system.publish_with_reply(bus::FENCE_SUBJECT, inbox, question.into()).await.context("cannot ask")?;
            }
            answer = answers.next() => {
                let Some(answer) = answer else { bail!("the connection ended") };
                match serde_json::from_slice::<Acknowledgement>(&answer.payload) {
                    Ok(by) => heard.send(by).await.context("nobody waits any more")?,
                    // The engine's word that nobody listens is one, too.
                    Err(error) => tracing::debug!("an answer of the fence is not understood: {error}"),
                }
            }
            () = link.lost.cancelled() => bail!("the connection was lost"),
        }
    }
}
