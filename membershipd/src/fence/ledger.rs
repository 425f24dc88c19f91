//! The account that a process keeps of itself and the others, shared by those who feed it and those who wait for it.

use std::collections::BTreeMap;
use std::time::Instant;

use tokio::sync::watch;

use super::progress::{Positions, Progress};
use super::roster::{Process, Roster};
use super::waiting::{Acknowledgement, Waiting};
use unibus_core::bus::Bucket;
use unibus_core::view::Heartbeat;

#[derive(Debug, Default)]
struct Account {
    /// Whether the buckets were read from their beginning.
    loaded: bool,
    progress: Progress,
    rosters: BTreeMap<Bucket, Roster>,
}

/// The account of this process.
#[derive(Debug)]
pub struct Ledger {
    own: Process,
    account: watch::Sender<Account>,
}

impl Ledger {
    /// An empty account of the process `own`.
    pub fn new(own: Process) -> Self {
        Self { own, account: watch::Sender::new(Account::default()) }
    }

    /// Whose account it is.
    pub fn own(&self) -> &Process {
        &self.own
    }

    /// Notes a heartbeat that a watch delivered at `now`.
    pub fn heard(&self, bucket: Bucket, node: &str, heartbeat: &Heartbeat, now: Instant) {
        self.account.send_modify(|account| account.rosters.entry(bucket).or_default().heard(node, heartbeat, now));
    }

    /// A new view has everything up to `positions`, and who has less by it than before was cut.
    pub fn loaded(&self, positions: &Positions) {
        self.account.send_modify(|account| {
            for bucket in Bucket::DECIDING {
                account.progress.applied(bucket, positions.get(bucket), false);
                account.progress.whole(bucket, positions.get(bucket));
            }
            account.loaded = true;
        });
    }

    /// Whether there was a view at all.
    pub fn is_loaded(&self) -> bool {
        self.account.borrow().loaded
    }

    /// Notes that the view has the entry at `revision`. Where that `cuts`, [`Self::cut`] follows; where it is the `last` one
    /// that the bucket has now, nothing before it can have been passed over.
    pub fn applied(&self, bucket: Bucket, revision: u64, cuts: bool, last: bool) {
        self.account.send_modify(|account| {
            account.progress.applied(bucket, revision, cuts);
            if last {
                account.progress.whole(bucket, revision);
            }
        });
    }

    /// Notes that whoever lost something by these entries is no longer connected.
    pub fn cut(&self, entries: impl IntoIterator<Item = (Bucket, u64)>) {
        self.account.send_modify(|account| {
            entries.into_iter().for_each(|(bucket, revision)| account.progress.cut(bucket, revision));
        });
    }

    /// Whether nobody who ran on this node before can be deciding at `now`, as far as this process knows.
    pub fn alone(&self, now: Instant) -> bool {
        let account = self.account.borrow();
        account.loaded && account.rosters.values().all(|roster| roster.alone(&self.own, now))
    }

    /// The processes that may be deciding at `now`, each with the highest feature level that it can do.
    pub fn deciding(&self, now: Instant) -> Vec<(Process, u32)> {
        let account = self.account.borrow();
        // Heartbeats are in every bucket that decides; the level is in this one.
        let roster = account.rosters.get(&Bucket::Rooms);
        roster.iter().flat_map(|roster| roster.deciding(now)).map(|(process, level)| (process.clone(), level)).collect()
    }

    /// What this process can say of itself now.
    pub fn acknowledgement(&self) -> Acknowledgement {
        Acknowledgement { process: self.own.clone(), settled: self.account.borrow().progress.settled() }
    }

    /// Ends when this process has come as far as `wanted`.
    pub async fn settled(&self, wanted: &Positions) {
        self.until(|account| account.progress.settled().cover(wanted)).await;
    }

    /// Ends when everything is settled that the view has now.
    pub async fn all_settled(&self) {
        let seen = self.account.borrow().progress.seen();
        self.settled(&seen).await;
    }

    /// What has to be waited for until `wanted`, committed at `committed` at the latest, is honoured by nobody. Ends when all
    /// heartbeats before it were delivered here.
    pub async fn waiting(&self, wanted: Positions, committed: Instant) -> Waiting {
        self.until(|account| account.progress.seen_whole().cover(&wanted)).await;
        let account = self.account.borrow();
        let of = |bucket: &Bucket| wanted.get(*bucket) > 0;
        let rosters = account.rosters.iter().filter(|(bucket, _)| of(bucket)).map(|(_, roster)| roster);
        let witnesses = rosters.flat_map(|roster| roster.witnesses(committed)).collect();
        Waiting::new(wanted, committed, &self.own, witnesses)
    }

    async fn until(&self, condition: impl Fn(&Account) -> bool) {
        // The sender lives as long as we do.
        let _ = self.account.subscribe().wait_for(|account| condition(account)).await;
    }
}
