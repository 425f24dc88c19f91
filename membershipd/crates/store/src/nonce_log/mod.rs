//! The log of used nonces: a signed request is for one authority, and so a nonce is used once in the log of that authority.
//!
//! The log of an authority has some lanes, by key; a lane is the messages on one subject, each with the nonces of a moment. An append
//! names the sequence of the last message of its lane that this process has read, so it succeeds only where the process knows every
//! nonce before it, whichever process noted it: another life of this node, another node that the authority was moved to, or one that
//! shares it. Where an authority is one node's alone no append ever meets another, and a node notes the nonces of all requests of a
//! moment in one replicated write. Nothing has to be configured or agreed for that.
//!
//! A cluster whose nodes note nonces as entries comes over in two steps: for a while a nonce is noted both ways, and then the entries that
//! are left are read once.

mod lane;
#[cfg(test)]
mod model;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{DeliverPolicy, push};
use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::Key;
use crate::contract::Nonce;
use crate::error::{Operation, StoreError};
use crate::group_commit::GroupCommit;
use crate::kv::{asked_again, next_message};
use crate::link::Link;
use crate::watch;
use crate::write::{self, WriteError};
use lane::{BatchId, Id, Lane, Token};
use unibus_core::bus::{self, Bucket};

/// Lanes of an authority. While one message is under way in a lane the next gathers; a few of them keep the engine busy meanwhile.
const LANES: usize = 4;
/// Nonces in one message.
const MOST: usize = 1_000;
/// Silence after which reading a lane is given up.
const SILENCE: Duration = Duration::from_secs(5);
/// How often others may be faster in one write; there are as many processes as nodes, and two lives of each.
const OVERTAKEN: usize = 64;

/// The log as one process uses it.
#[derive(Debug)]
pub(crate) struct NonceLog {
    both_ways: Duration,
    lanes: Mutex<HashMap<(String, usize), Arc<OneLane>>>,
    tokens: AtomicU64,
    /// When this process learned that nonces are logged.
    began: OnceLock<Instant>,
    /// What was noted as entries, once that is read.
    entries: OnceCell<Entries>,
}

/// The tokens of those whose nonces are noted.
type Noted = Result<Arc<HashSet<Token>>, Failed>;

#[derive(Debug)]
struct OneLane {
    key: String,
    group: GroupCommit<(Id, Token), Noted>,
    lane: tokio::sync::Mutex<Lane>,
}

/// Nonces that were noted as entries, and when that was read.
#[derive(Debug)]
struct Entries(Instant, Mutex<HashSet<Id>>);

/// Why nothing is known to be noted.
#[derive(Debug, Clone)]
enum Failed {
    Unknown(String),
    Unavailable(String),
}

impl Failed {
    fn of(error: &WriteError) -> Self {
        match error {
            WriteError::Unavailable | WriteError::Refused(_) => Self::Unavailable(error.to_string()),
            WriteError::Unknown | WriteError::Conflict => Self::Unknown(error.to_string()),
        }
    }

    fn about(self, operation: Operation) -> StoreError {
        match self {
            Self::Unknown(why) => StoreError::Unknown { operation, why },
            Self::Unavailable(why) => StoreError::Unavailable { operation, why },
        }
    }
}

impl NonceLog {
    /// The log of a process that notes nonces as entries, too, for so long after the first.
    pub(crate) fn new(both_ways: Duration) -> Self {
        let (lanes, tokens, began, entries) = Default::default();
        Self { both_ways, lanes, tokens, began, entries }
    }

    /// Notes `nonce` in the log of `authority`, which has one spelling.
    pub(crate) async fn note(&self, link: &Arc<Link>, authority: &str, nonce: &Key) -> Result<Nonce, StoreError> {
        let operation = || Operation::at("insert into", Bucket::NonceLog, nonce);
        let id = id_of(nonce.as_str());
        if !self.is_alone() {
            let entry = write::put(link, Bucket::Nonces, nonce.as_str(), &[], 0).await;
            match entry {
                Ok(_) => {}
                Err(WriteError::Conflict) => return Ok(Nonce::Replayed),
                Err(error) => return Err(Failed::of(&error).about(operation())),
            }
        } else if self.entries(link).await.map_err(|failed| failed.about(operation()))?.has(id) {
            return Ok(Nonce::Replayed);
        }
        let token = Token::new(self.tokens.fetch_add(1, Ordering::Relaxed));
        let lane = self.lane(authority, id);
        let noted = lane
            .group
            .commit((id, token), |items| {
                let (link, lane) = (link.clone(), lane.clone());
                // A task of its own: a client that goes away must not leave the lane in the middle of a write.
                let writing = tokio::spawn(async move { lane.write(&link, &items).await });
                async move { writing.await.unwrap_or_else(|error| Err(Failed::Unknown(error.to_string()))) }
            })
            .await;
        let noted = noted.map_err(|failed| failed.about(operation()))?;
        Ok(if noted.contains(&token) { Nonce::Fresh } else { Nonce::Replayed })
    }

    /// The process knows that nonces are logged from now on.
    pub(crate) fn begin(&self) -> Instant {
        *self.began.get_or_init(Instant::now)
    }

    /// Whether no node notes nonces as entries alone any more.
    fn is_alone(&self) -> bool {
        self.begin().elapsed() >= self.both_ways
    }

    async fn entries(&self, link: &Link) -> Result<&Entries, Failed> {
        let read = || async {
            let mut found = HashSet::new();
            let load = watch::load(link, Bucket::Nonces, |key, _, _| {
                found.insert(id_of(key));
                Ok(())
            });
            match tokio::time::timeout(bus::STORE_BUDGET, load).await {
                Ok(Ok(_)) => Ok(Entries(Instant::now(), Mutex::new(found))),
                Ok(Err(error)) => Err(Failed::Unavailable(format!("{error:#}"))),
                Err(_) => Err(Failed::Unavailable("what was noted before is not told".to_owned())),
            }
        };
        self.entries.get_or_try_init(read).await
    }

    fn lane(&self, authority: &str, id: Id) -> Arc<OneLane> {
        let number = id.number(LANES);
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || Arc::new(OneLane::new(authority, number));
        lanes.entry((authority.to_owned(), number)).or_insert_with(made).clone()
    }
}

impl Entries {
    /// As long as such a request may be valid; then they take no memory any more.
    fn has(&self, id: Id) -> bool {
        let mut entries = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.elapsed() >= Bucket::Nonces.max_age() && !entries.is_empty() {
            *entries = HashSet::new();
        }
        entries.contains(&id)
    }
}

impl OneLane {
    fn new(authority: &str, number: usize) -> Self {
        let name = Sha256::digest(authority).iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>();
        Self { key: format!("{name}.{number}"), group: GroupCommit::new(MOST), lane: tokio::sync::Mutex::default() }
    }

    /// Notes those of the items that are new to this lane, and returns the tokens of all that were noted first by their caller.
    async fn write(&self, link: &Link, items: &[(Id, Token)]) -> Noted {
        let mut lane = self.lane.lock().await;
        for _ in 0..OVERTAKEN {
            let now = Instant::now();
            lane.forget(now);
            let last = match lane.last(now) {
                Some(last) => last,
                None => {
                    let read = || async { read(link, &self.key).await.map_err(|error| format!("{error:#}")) };
                    let read = asked_again(link, now + bus::STORE_BUDGET, read).await.map_err(Failed::Unavailable)?;
                    let what = "another release has noted what this one cannot read";
                    lane.begin(read, now).ok_or_else(|| Failed::Unavailable(what.to_owned()))?
                }
            };
            let (noted, fresh) = lane.judge(items);
            if fresh.is_empty() {
                return Ok(Arc::new(noted));
            }
            let batch = BatchId::random().map_err(|error| Failed::Unavailable(error.to_string()))?;
            let value = lane::encode(batch, fresh.iter().map(|(id, _)| *id));
            match write::put_next(link, Bucket::NonceLog, &self.key, &value, last, &batch.to_string()).await {
                Ok(sequence) => lane.noted(sequence, &fresh, now),
                Err(WriteError::Conflict) => {
                    match asked_again(link, now + bus::STORE_BUDGET, || read_on(link, &self.key, last)).await {
                        Ok(more) => lane.overtaken(more, batch, &fresh, now),
                        Err(why) => {
                            lane.lose();
                            return Err(Failed::Unknown(why));
                        }
                    }
                }
                Err(error) => {
                    // It may be written yet; then it is read.
                    lane.lose();
                    return Err(Failed::of(&error));
                }
            }
        }
        Err(Failed::Unknown("other nodes were always faster".to_owned()))
    }
}

/// All that a lane has, oldest first.
async fn read(link: &Link, key: &str) -> anyhow::Result<BTreeMap<u64, Vec<u8>>> {
    let stream = link.jetstream.get_stream(Bucket::NonceLog.stream()).await?;
    let config = push::OrderedConfig {
        deliver_subject: link.control.new_inbox(),
        deliver_policy: DeliverPolicy::All,
        filter_subject: format!("{}{key}", Bucket::NonceLog.key_prefix()),
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let mut found = BTreeMap::new();
    if consumer.cached_info().num_pending == 0 {
        return Ok(found);
    }
    let mut messages = consumer.messages().await?;
    loop {
        let message = tokio::time::timeout(SILENCE, messages.next()).await?;
        let message = message.ok_or_else(|| anyhow::anyhow!("reading ended"))??;
        let info = message.info().map_err(|error| anyhow::anyhow!("a message without its place: {error}"))?;
        let pending = info.pending;
        found.insert(info.stream_sequence, message.payload.to_vec());
        if pending == 0 {
            return Ok(found);
        }
    }
}

/// What a lane has after `last`, by its leader.
async fn read_on(link: &Link, key: &str, last: u64) -> Result<BTreeMap<u64, Vec<u8>>, String> {
    let (mut found, mut from) = (BTreeMap::new(), last + 1);
    while let Some(message) = next_message(link, Bucket::NonceLog, key, from).await? {
        from = message.sequence + 1;
        found.insert(message.sequence, message.payload.to_vec());
    }
    Ok(found)
}

/// What stands for a nonce in the log: of all of the name of its use.
fn id_of(nonce: &str) -> Id {
    Id::from_digest(&Sha256::digest(nonce))
}
