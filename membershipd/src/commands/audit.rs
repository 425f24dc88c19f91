//! The audit log: who did what to whom, when, how it was decided and what came of it.
//!
//! A command writes two records of one id: what is to be done, durable before anything is changed, and what came of it. So no
//! change is without a record. Whoever crashes in between leaves the first alone: the change may have been made, wholly, in part
//! or not at all; the records it names say which. What is denied leaves one record, or is one of many in a sum (`denied`). Several records that are written at the same
//! time share an entry of the log.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::denied::{DeniedShare, SUM_FIRST};
use super::keys;
use super::pace::Pace;
use crate::config::{Bounds, Hourly};
use unibus_core::bus::Bucket;
use unibus_core::domain::{Author, Handle, InvalidValue, Role, RoomId, RoomRole, Schema};
use unibus_store::group_commit::GroupCommit;
use unibus_store::{Revision, Store, StoreError};

/// Most records that share an entry of the log: a quarter of what fits into one.
const BATCH: usize = 250;

/// Action of a record that sums up denied changes.
const DENIED: &str = "denied";

/// Number of a command, the same in all of its records: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommandId(u128);

impl CommandId {
    /// The id with this number.
    pub fn new(number: u128) -> Self {
        Self(number)
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for CommandId {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let digits = value.len() == 32 && value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        u128::from_str_radix(value, 16).ok().filter(|_| digits).map(Self).ok_or_else(|| InvalidValue {
            what: "command id",
            value: value.chars().take(80).collect(),
            rule: "32 hexadecimal digits",
        })
    }
}

impl From<CommandId> for String {
    fn from(id: CommandId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for CommandId {
    type Error = InvalidValue;

    fn try_from(value: String) -> Result<Self, InvalidValue> {
        value.parse()
    }
}

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// The command.
    pub id: CommandId,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Who.
    pub who: Author,
    /// What: [`unibus_core::domain::Action::name`], `level.copy-claims`, `level.raise`, `repair.` and what was repaired, or
    /// `denied`: a sum of denied changes.
    pub action: String,
    /// Which user of the bus, where one was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Handle>,
    /// In which room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomId>,
    /// Whose membership.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Handle>,
    /// What was asked for beside that: a role, a subject, a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// How far it has come.
    pub stage: Stage,
}

/// What the log says a change is about, the same in all of its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// See [`AuditRecord::who`].
    pub who: Author,
    /// See [`AuditRecord::action`].
    pub action: String,
    /// See [`AuditRecord::user`].
    pub user: Option<Handle>,
    /// See [`AuditRecord::room`].
    pub room: Option<RoomId>,
    /// See [`AuditRecord::member`].
    pub member: Option<Handle>,
    /// See [`AuditRecord::with`].
    pub with: Option<String>,
}

impl About {
    /// `action`, which `who` wants, about nothing yet.
    pub fn new(who: Author, action: &str) -> Self {
        Self { who, action: action.to_owned(), user: None, room: None, member: None, with: None }
    }
}

/// How far a command has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Stage {
    /// It is allowed, and begins.
    Begun(Decided),
    /// It is not allowed, or something stands in its way; nothing was changed.
    Refused(String),
    /// It is done: these records have these revisions.
    Done(Vec<(String, Revision)>),
    /// It was not done, for this reason.
    Failed(String),
    /// It may have been done, wholly or in part.
    Unknown(String),
}

/// By which rights it was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// The role on the bus; none: root on a node.
    pub bus: Option<Role>,
    /// The role in the room.
    pub room: Option<RoomRole>,
}

/// An entry of the log: the records that were written at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEntry {
    /// How to read this.
    pub schema: Schema<1>,
    /// The records, in their order.
    pub records: Vec<AuditRecord>,
}

/// The way into the log. While one entry is being written the next one gathers.
#[derive(Debug)]
pub struct Journal {
    store: Arc<dyn Store>,
    pace: Arc<dyn Pace>,
    group: GroupCommit<AuditRecord, Result<Revision, StoreError>>,
    denied: DeniedShare,
    /// Whether sums of what is denied are being written from time to time.
    summing: AtomicBool,
}

impl Journal {
    /// Into the log of `store`; time and numbers come from `pace`.
    pub fn new(store: Arc<dyn Store>, pace: Arc<dyn Pace>) -> Self {
        Self::recording(store, pace, &Bounds::DEFAULT.hourly)
    }

    /// The same, where of what is denied so much has a record each as `hourly` says.
    pub fn recording(store: Arc<dyn Store>, pace: Arc<dyn Pace>, hourly: &Hourly) -> Self {
        Self {
            denied: DeniedShare::new(hourly, pace.now()),
            summing: AtomicBool::new(false),
            store,
            pace,
            group: GroupCommit::new(BATCH),
        }
    }

    /// A number for a command.
    pub fn number(&self) -> CommandId {
        CommandId::new(self.pace.random())
    }

    /// Adds `record`; it is durable when this returns its entry's revision. After an error that is `Unknown` it may be there.
    pub async fn append(&self, record: AuditRecord) -> Result<Revision, StoreError> {
        // That a record may come twice does no harm: the id is the same.
        self.group.commit(record, |records| self.write(records)).await
    }

    async fn write(&self, records: Vec<AuditRecord>) -> Result<Revision, StoreError> {
        let entry = keys::json(Bucket::Audit, &AuditEntry { schema: Schema, records })?;
        self.store.append(&entry).await
    }

    /// Writes the first record of a change: that it begins, by the rights `decided`. Where this fails nothing may be begun.
    pub async fn begin(&self, id: CommandId, about: &About, decided: Decided) -> Result<(), StoreError> {
        self.append(self.record(id, about, Stage::Begun(decided))).await.map(drop)
    }

    /// Writes the last record of a change: what came of it. Where this fails the change stands all the same; it is logged.
    pub async fn end(&self, id: CommandId, about: &About, stage: Stage) -> Result<(), StoreError> {
        let written = self.append(self.record(id, about, stage)).await;
        written
            .map(drop)
            .inspect_err(|error| tracing::warn!(%id, "the audit lacks the last record of a change: {error}"))
    }

    /// Notes a change that was denied, at `stage`, to a client at the address `from`: in a record of its own, or in one with many.
    /// That it is missing is logged, and what was denied stays so.
    pub async fn deny(self: &Arc<Self>, id: CommandId, about: &About, stage: Stage, from: Option<IpAddr>) {
        if self.denied.has_record(about, from, self.pace.now()) {
            let _ = self.end(id, about, stage).await;
        } else if !self.summing.swap(true, Ordering::AcqRel) {
            let journal = self.clone();
            tokio::spawn(async move {
                while !journal.denied.is_empty() {
                    journal.pace.pause(SUM_FIRST).await;
                    journal.sum_up(false).await;
                }
                // What is counted between the two waits for the next one, or for the end of the process.
                journal.summing.store(false, Ordering::Release);
            });
        }
    }

    /// Writes the sums of what was denied that are due, or all of them.
    pub async fn sum_up(&self, all: bool) {
        for sum in self.denied.due(self.pace.now(), all) {
            let about = About { with: Some(format!("count={}", sum.count)), ..About::new(sum.who.clone(), DENIED) };
            if self.end(self.number(), &about, Stage::Refused(sum.text.clone())).await.is_err() {
                self.denied.again(sum, self.pace.now());
            }
        }
    }

    fn record(&self, id: CommandId, about: &About, stage: Stage) -> AuditRecord {
        let About { who, action, user, room, member, with } = about.clone();
        AuditRecord { id, at_ms: self.pace.unix_ms(), who, action, user, room, member, with, stage }
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::super::pace::Real;
    use super::super::tests::Scratch;
    use super::*;
    use unibus_store::{PageSize, Position};

    pub(super) fn record(number: u128, stage: Stage) -> AuditRecord {
        AuditRecord {
            id: CommandId::new(number),
            at_ms: 1_790_000_000_000,
            who: "alice".parse().unwrap(),
            action: "member.invite".to_owned(),
            user: None,
            room: Some("kitchen".parse().unwrap()),
            member: Some("bob".parse().unwrap()),
            with: None,
            stage,
        }
    }

    #[test]
    fn a_record_reads_as_it_was_written() {
        let decided = Decided { bus: Some(Role::User), room: Some(RoomRole::Moderator) };
        let golden = r#"{"id":"0000000000000000000000000000000a","at_ms":1790000000000,"who":"alice","action":"member.invite","room":"kitchen","member":"bob","stage":{"begun":{"bus":"user","room":"moderator"}}}"#;
        let begun = record(10, Stage::Begun(decided));
        assert_eq!(serde_json::to_string(&begun).unwrap(), golden);
        assert_eq!(serde_json::from_str::<AuditRecord>(golden).unwrap(), begun);
        let done = Stage::Done(vec![("room.kitchen".to_owned(), Revision::new(7).unwrap())]);
        assert_eq!(serde_json::to_string(&done).unwrap(), r#"{"done":[["room.kitchen",7]]}"#);
        for bad in ["0000000000000000000000000000000A", "0a", "+000000000000000000000000000000a"] {
            assert!(
                serde_json::from_str::<AuditRecord>(&golden.replace("0000000000000000000000000000000a", bad)).is_err()
            );
        }
    }

    #[tokio::test]
    async fn records_of_one_time_share_an_entry_and_none_is_lost() {
        let scratch = Scratch::new();
        let store = scratch.store();
        let journal = Journal::new(store.clone(), Arc::new(Real::new().unwrap()));
        let all = join_all((0..600).map(|n| journal.append(record(n, Stage::Refused(String::new()))))).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
        let log = store.audit(Position::default(), PageSize::of(500)).await.unwrap().items;
        let read = |entry: &unibus_store::Entry| serde_json::from_slice::<AuditEntry>(&entry.value).unwrap().records;
        let mut ids: Vec<_> = log.iter().flat_map(read).map(|record| record.id).collect();
        ids.sort();
        assert_eq!(ids, (0..600).map(CommandId::new).collect::<Vec<_>>());
        assert!(log.len() < 10, "{} entries", log.len());
    }

    #[tokio::test]
    async fn what_is_denied_beyond_the_share_is_one_record_and_none_of_it_is_lost() {
        let scratch = Scratch::new();
        let store = scratch.store();
        let hourly = Hourly { denied: 5, ..Bounds::DEFAULT.hourly };
        let journal = Arc::new(Journal::recording(store.clone(), Arc::new(Real::new().unwrap()), &hourly));
        let about = About::new("bob".parse().unwrap(), "room.remove");
        let deny = || journal.deny(journal.number(), &about, Stage::Refused("no".to_owned()), None);
        join_all((0..1_000).map(|_| deny())).await;
        journal.sum_up(true).await;
        journal.sum_up(true).await;
        let log = store.audit(Position::default(), PageSize::of(500)).await.unwrap().items;
        let read = |entry: &unibus_store::Entry| serde_json::from_slice::<AuditEntry>(&entry.value).unwrap().records;
        let records: Vec<_> = log.iter().flat_map(read).collect();
        assert_eq!(records.len(), 6, "{records:?}");
        let sum = records.last().unwrap();
        assert_eq!((sum.action.as_str(), sum.with.as_deref()), ("denied", Some("count=995")));
        assert!(matches!(&sum.stage, Stage::Refused(why) if why.contains("room.remove 995")), "{sum:?}");
    }
}
