//! The feature level of the cluster: what there is to know of it, and the change that raises it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::commands::audit::{About, Decided, Stage};
use crate::commands::keys::Address;
use crate::commands::{Change, CommandError, Commands, Done, Earlier, NotProven, Plan, State, claims_move};
use crate::fence::{Ledger, Process};
use crate::gate::Gate;
use unibus_core::bus;
use unibus_core::domain::{Author, FeatureLevel, LevelRecord, Record, RecordKey, RevocationOutcome};
use unibus_core::private_file;
use unibus_core::view::View;
use unibus_store::{Records, Store, StoreError};

/// The words of the audit log.
const RAISE: &str = "level.raise";
const COPY_CLAIMS: &str = "level.copy-claims";
const COPIED: &str = "claims";

/// Pause before a note that could not be written is tried again.
const NOTE_AGAIN: Duration = Duration::from_secs(10);

/// Longer than it takes to watch again after a node was lost.
const CATCH_UP: Duration = Duration::from_secs(6);

/// The level of the cluster, as a node that can prove its view knows it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelStatus {
    /// The level of the cluster.
    pub level: FeatureLevel,
    /// The highest level that this daemon can do.
    pub highest: u32,
    /// The highest level that every process of a node can do, by the name of the node; only nodes that were just heard of.
    pub nodes: BTreeMap<String, u32>,
}

/// What came of raising the level.
#[derive(Debug, Serialize)]
pub struct Raised {
    /// The level of the cluster now.
    pub level: FeatureLevel,
    /// False where the cluster was at this level already.
    pub changed: bool,
    /// Milliseconds waited until every node has applied it.
    pub waited_ms: u64,
    /// How that became certain; none: the lowest level needs no entry.
    pub fence: Option<RevocationOutcome>,
}

/// Why the level was not raised, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    /// Not every node can do it, or not every node was heard of.
    #[error("the level stays {at}, since level {wanted} needs every node: {}", .reasons.join("; "))]
    NotReady {
        /// The level of the cluster.
        at: FeatureLevel,
        /// The level that was to be.
        wanted: FeatureLevel,
        /// What is missing, with the names of the nodes.
        reasons: Vec<String>,
    },
    /// This node does not see yet that all claims are in the documents that decide at the new level.
    #[error("the level stays as it is: this node does not see yet that all claims of subjects were copied")]
    NotCopied,
    /// The change was not carried out.
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl LevelError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            LevelError::NotReady { .. } => {
                "roll this release out to every node ('cargo xtask roll'), start those that are down, and run it again"
            }
            LevelError::NotCopied => "run it again: until then no subject can be claimed",
            LevelError::Command(error) => error.remedy(),
        }
    }

    /// A word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            LevelError::NotReady { .. } => "conflict",
            LevelError::NotCopied => "unavailable",
            LevelError::Command(error) => error.code(),
        }
    }
}

impl From<NotProven> for LevelError {
    fn from(error: NotProven) -> Self {
        CommandError::from(error).into()
    }
}

impl From<StoreError> for LevelError {
    fn from(error: StoreError) -> Self {
        CommandError::from(error).into()
    }
}

/// The level of the cluster and what its nodes can do.
pub fn status(state: &dyn State, ledger: &Ledger) -> Result<LevelStatus, NotProven> {
    let level = state.read(|view| view.level())?;
    let mut nodes = BTreeMap::new();
    for (process, can) in ledger.deciding(Instant::now()) {
        nodes.entry(process.node).and_modify(|least: &mut u32| *least = can.min(*least)).or_insert(can);
    }
    Ok(LevelStatus { level, highest: FeatureLevel::highest().number(), nodes })
}

/// Why a cluster of `nodes` nodes cannot go to `wanted` while these processes may be deciding; empty: it can.
fn reasons_against(wanted: FeatureLevel, deciding: &[(Process, u32)], nodes: usize) -> Vec<String> {
    let mut by_node: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for (process, can) in deciding {
        by_node.entry(&process.node).or_default().insert(*can);
    }
    let mut reasons = Vec::new();
    for (node, can) in &by_node {
        let wanted = wanted.number();
        let (Some(least), Some(most)) = (can.first(), can.last()) else { continue };
        if *most < wanted {
            reasons.push(format!("{node} can do level {most} at most"));
        } else if *least < wanted {
            let seconds = bus::revocation_bound().as_secs() + 1;
            reasons.push(format!("{node} ran an older release less than {seconds} s ago, wait as long"));
        }
    }
    if by_node.len() < nodes {
        let heard: Vec<&str> = by_node.keys().copied().collect();
        reasons.push(format!("only {} of {nodes} nodes were just heard of ({})", heard.len(), heard.join(", ")));
    }
    reasons
}

/// Raises the level of the cluster to what this daemon can do. Given again it writes the same once more and waits again: a run
/// that ended after its write may not have come to its fence.
#[derive(Debug)]
pub struct RaiseLevel {
    /// Root on a node, who gives it.
    pub by: Author,
    /// Which processes there are.
    pub ledger: Arc<Ledger>,
    /// How many nodes the cluster has.
    pub nodes: usize,
}

impl Commands {
    /// Raises the level of the cluster, and waits until every node has applied it. Given again it completes what a run before began.
    pub async fn raise_level(&self, raise: &RaiseLevel) -> Result<Raised, LevelError> {
        if self.state().read(|view| raise.begins(view))?? {
            self.copy_claims(raise).await?;
        }
        let Done { found: level, changed, fenced: fence, waited, .. } = self.carry_out(raise).await?;
        if level >= FeatureLevel::Kept
            && let Err(error) = claims_move::empty_spaces(&**self.store()).await
        {
            // They decide nothing any more, and the next run empties them.
            tracing::warn!("the claims that were copied into small documents are still in the old ones, too: {error}");
        }
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        Ok(Raised { level, changed, waited_ms, fence })
    }

    /// Copies the claims into the documents that decide at the new level; see `claims_move`.
    async fn copy_claims(&self, raise: &RaiseLevel) -> Result<(), LevelError> {
        let (journal, id) = (self.journal(), self.journal().number());
        let about = About::new(raise.by.clone(), COPY_CLAIMS);
        let decided = Decided { bus: None, room: None };
        journal.begin(id, &about, decided).await.map_err(CommandError::Audit)?;
        let copied = claims_move::copy(&**self.store()).await;
        let stage = match &copied {
            Ok(revision) => Stage::Done(revision.map(|revision| (COPIED.to_owned(), revision)).into_iter().collect()),
            Err(error) => Stage::Failed(error.to_string()),
        };
        let _ = journal.end(id, &about, stage).await;
        if let Some(revision) = copied? {
            // Whether the view has it is looked at where the level is raised.
            let _ = tokio::time::timeout(CATCH_UP, self.state().seen(Records::Rooms, revision)).await;
        }
        Ok(())
    }
}

impl RaiseLevel {
    /// Whether the level of `view` is to be raised by this; fails where it cannot be.
    fn begins(&self, view: &View) -> Result<bool, LevelError> {
        let (at, wanted) = (view.level(), FeatureLevel::highest());
        if at >= wanted {
            return Ok(false);
        }
        let reasons = reasons_against(wanted, &self.ledger.deciding(Instant::now()), self.nodes);
        if reasons.is_empty() { Ok(true) } else { Err(LevelError::NotReady { at, wanted, reasons }) }
    }
}

impl Change for RaiseLevel {
    /// The level as it is when this is done.
    type Found = FeatureLevel;
    type Error = LevelError;

    const CATCH_UP: Option<Duration> = Some(CATCH_UP);

    async fn plan(&self, on: &Commands, earlier: &mut Earlier) -> Result<Plan<FeatureLevel>, LevelError> {
        let about = Address::of(&RecordKey::Level)?;
        let (decided, wanted) = (Decided { bus: None, room: None }, FeatureLevel::highest());
        on.state().read(|view| {
            // A cluster at the lowest level has no entry, so that older releases go on.
            if wanted == FeatureLevel::default() {
                return Ok(Plan::stands_already(decided, about, None, view.level()));
            }
            if self.begins(view)? && !claims_move::are_moved(view) {
                return Err(LevelError::NotCopied);
            }
            let step = earlier.step(view, Record::Level(LevelRecord::new(wanted)))?;
            Ok(Plan::new(decided, about, vec![step], wanted).revoking(true))
        })?
    }

    fn about(&self, _: &Earlier) -> Option<About> {
        let with = Some(format!("level={}", FeatureLevel::highest()));
        Some(About { with, ..About::new(self.by.clone(), RAISE) })
    }

    fn stage(&self, error: &LevelError) -> Stage {
        match error {
            LevelError::NotReady { .. } => Stage::Refused(error.to_string()),
            LevelError::Command(CommandError::Unknown { .. }) => Stage::Unknown(error.to_string()),
            LevelError::NotCopied | LevelError::Command(_) => Stage::Failed(error.to_string()),
        }
    }

    fn failed(&self, error: CommandError) -> LevelError {
        error.into()
    }
}

/// The file beside the engine's store that says at which level the cluster is; none: at the lowest one.
pub fn note(store: &Path) -> PathBuf {
    private_file::sibling(store, "level")
}

/// Tells the `store` what it does otherwise from a level on, and keeps the level in the file beside `file`, for root to compare another release with before it is started, also where no daemon
/// runs. It decides nothing: what a daemon may do the view says.
pub async fn keep_noted(file: PathBuf, gate: Arc<Gate>, store: Arc<dyn Store>) {
    let (path, mut moves, mut noted) = (note(&file), gate.moves(), FeatureLevel::default());
    loop {
        let level = gate.view(View::level);
        if level >= FeatureLevel::Kept {
            store.begin_log();
        }
        if level > noted {
            if let Err(error) = private_file::write(&path, format!("{level}\n").as_bytes()) {
                tracing::error!(%level, "the feature level was not noted for the tools of the operator, next try soon: {error}");
                tokio::time::sleep(NOTE_AGAIN).await;
                continue;
            }
            noted = level;
        }
        if moves.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unibus_core::bus::Bucket;
    use unibus_core::view::Heartbeat;

    fn process(node: &str, boot: &str) -> Process {
        Process { node: node.to_owned(), boot: boot.to_owned() }
    }

    #[test]
    fn every_process_that_may_decide_has_to_be_able_and_every_node_heard_of() {
        let of = |nodes: &[(&str, &str, u32)]| -> Vec<_> {
            nodes.iter().map(|(node, boot, can)| (process(node, boot), *can)).collect()
        };
        let against = |nodes: &[(&str, &str, u32)]| reasons_against(FeatureLevel::Kept, &of(nodes), 3);
        let (magnus, homer, datardos) = (("magnus", "m", 2), ("homer", "h", 2), ("datardos", "d", 3));
        assert_eq!(against(&[magnus, homer, datardos]), [""; 0]);
        assert_eq!(against(&[magnus, ("homer", "h", 1), datardos]), ["homer can do level 1 at most"]);
        let replaced = against(&[magnus, ("homer", "old", 1), homer, datardos]);
        assert_eq!(replaced, ["homer ran an older release less than 14 s ago, wait as long"]);
        let missing = against(&[magnus, ("magnus", "n", 2), homer]);
        assert_eq!(missing, ["only 2 of 3 nodes were just heard of (homer, magnus)"]);
    }

    #[test]
    fn processes_count_for_as_long_as_they_may_decide() {
        let ledger = Ledger::new(process("magnus", "m"));
        let beat = |boot: &str, level| Heartbeat { boot: boot.to_owned(), round: 1, alone: true, level };
        let (bound, start) = (bus::revocation_bound(), Instant::now());
        ledger.heard(Bucket::Rooms, "homer", &beat("old", 1), start);
        ledger.heard(Bucket::Rooms, "homer", &beat("new", 2), start + bound / 2);
        let at = |now| ledger.deciding(now).into_iter().map(|(of, can)| (of.boot, can)).collect::<Vec<_>>();
        assert_eq!(at(start + bound / 2), [("new".to_owned(), 2), ("old".to_owned(), 1)]);
        assert_eq!(at(start + bound), [("new".to_owned(), 2)]);
    }
}
