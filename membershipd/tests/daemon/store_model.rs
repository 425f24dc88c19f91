//! The two stores, the same random operations: the same answers, up to the numbers of the revisions.

use std::collections::HashMap;

use crate::stores::cases::{key, next};
use crate::stores::engines::Kv;
use crate::stores::{Sqlite, Subject};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use unibus_store::{Event, Key, Nonce, PageSize, Position, Records, Revision, Standing, Store, StoreError};

const CASES: u32 = 24;
/// Keys of each kind: few, so that operations meet.
const KEYS: u8 = 4;
const BUCKETS: [Records; 2] = [Records::Rooms, Records::Members];

/// Which revision an update names.
#[derive(Debug, Clone, Copy)]
enum Expected {
    /// The last one that the key was given.
    Last,
    /// The one before it.
    Stale,
}

#[derive(Debug, Clone)]
enum Op {
    Get(usize, u8),
    Create(usize, u8, Vec<u8>),
    Update(usize, u8, Vec<u8>, Expected),
    Scan(usize, Option<u8>, usize),
    Watch(usize),
    Append(Vec<u8>),
    Audit(usize),
    Nonce(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let bucket = || 0..BUCKETS.len();
    let value = || vec(any::<u8>(), 0..20);
    let expected = prop_oneof![4 => Just(Expected::Last), 1 => Just(Expected::Stale)];
    prop_oneof![
        3 => (bucket(), 0..KEYS).prop_map(|(bucket, key)| Op::Get(bucket, key)),
        4 => (bucket(), 0..KEYS, value()).prop_map(|(bucket, key, value)| Op::Create(bucket, key, value)),
        6 => (bucket(), 0..KEYS, value(), expected)
            .prop_map(|(bucket, key, value, expected)| Op::Update(bucket, key, value, expected)),
        2 => (bucket(), proptest::option::of(0..KEYS), 1..4usize)
            .prop_map(|(bucket, under, size)| Op::Scan(bucket, under, size)),
        1 => bucket().prop_map(Op::Watch),
        2 => value().prop_map(Op::Append),
        1 => (1..4usize).prop_map(Op::Audit),
        2 => (0..KEYS).prop_map(Op::Nonce),
    ]
}

/// One store in one case. All cases share it, so each has keys of its own, and begins where the one before ended.
struct Player<'a> {
    store: &'a dyn Store,
    case: u32,
    begin: HashMap<Records, Position>,
    begin_audit: Position,
    /// Revisions that were given, in their order: their places are what is compared.
    given: HashMap<(Records, Key), Vec<Revision>>,
    appended: Vec<Revision>,
}

impl<'a> Player<'a> {
    async fn new(store: &'a dyn Store, case: u32) -> Self {
        let mut begin = HashMap::new();
        for bucket in BUCKETS {
            begin.insert(bucket, store.create(bucket, &key(&format!("begin.{case}")), b"").await.unwrap().into());
        }
        let begin_audit = store.append(b"begin").await.unwrap().into();
        Self { store, case, begin, begin_audit, given: HashMap::new(), appended: Vec::new() }
    }

    fn key(&self, number: u8) -> Key {
        // Some keys are under others, so that prefixes mean something.
        let under = if number.is_multiple_of(2) { String::new() } else { format!(".{}", number - 1) };
        key(&format!("case{}{under}.k{number}", self.case))
    }

    fn place(&self, bucket: Records, key: &Key, revision: Revision) -> Option<usize> {
        self.given.get(&(bucket, key.clone()))?.iter().position(|given| *given == revision)
    }

    fn write(&mut self, bucket: Records, key: Key, written: Result<Revision, StoreError>) -> String {
        match written {
            Ok(revision) => {
                let given = self.given.entry((bucket, key)).or_default();
                assert!(given.last().is_none_or(|last| *last < revision));
                given.push(revision);
                format!("written {}", given.len())
            }
            Err(StoreError::Conflict { current: Standing::At(revision), .. }) => {
                format!("conflict with {:?}", self.place(bucket, &key, revision).unwrap())
            }
            Err(StoreError::Conflict { current, .. }) => format!("conflict with {current:?}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// Carries `op` out and says what came of it, without the numbers.
    async fn play(&mut self, op: &Op) -> String {
        match op {
            Op::Get(bucket, number) => {
                let (bucket, key) = (BUCKETS[*bucket], self.key(*number));
                let found = self.store.get(bucket, &key).await.unwrap();
                format!("{:?}", found.map(|entry| (self.place(bucket, &key, entry.revision).unwrap(), entry.value)))
            }
            Op::Create(bucket, number, value) => {
                let (bucket, key) = (BUCKETS[*bucket], self.key(*number));
                let written = self.store.create(bucket, &key, value).await;
                self.write(bucket, key, written)
            }
            Op::Update(bucket, number, value, expected) => {
                let (bucket, key) = (BUCKETS[*bucket], self.key(*number));
                let given = self.given.get(&(bucket, key.clone()));
                let back = |places: usize| given.and_then(|given| given.iter().rev().nth(places)).copied();
                let expected = match expected {
                    Expected::Last => back(0),
                    Expected::Stale => back(1),
                };
                // A revision that was never given is nobody's to expect.
                let Some(expected) = expected else { return "nothing to expect".to_owned() };
                let written = self.store.update(bucket, &key, value, expected).await;
                self.write(bucket, key, written)
            }
            Op::Scan(bucket, under, size) => {
                let (bucket, case) = (BUCKETS[*bucket], self.case);
                let prefix = under.map_or_else(|| format!("case{case}"), |under| format!("case{case}.{under}"));
                let (mut said, mut after) = (Vec::new(), Some(Position(0)));
                while let Some(from) = after {
                    let page =
                        self.store.scan(bucket, &prefix.parse().unwrap(), from, PageSize::of(*size)).await.unwrap();
                    said.push(
                        page.items.iter().map(|item| (item.key.clone(), item.entry.value.clone())).collect::<Vec<_>>(),
                    );
                    after = page.next;
                }
                format!("{said:?}")
            }
            Op::Watch(bucket) => {
                let bucket = BUCKETS[*bucket];
                let mut events = self.store.watch(bucket, self.begin[&bucket]).await.unwrap();
                let mut said = Vec::new();
                while let Event::Changed(new) = next(&mut events).await {
                    said.push((self.place(bucket, &new.key, new.entry.revision).unwrap(), new.key, new.entry.value));
                }
                format!("{said:?}")
            }
            Op::Append(record) => {
                self.appended.push(self.store.append(record).await.unwrap());
                assert!(self.appended.is_sorted_by(|one, next| one < next));
                "appended".to_owned()
            }
            Op::Audit(size) => {
                let page = self.store.audit(self.begin_audit, PageSize::of(*size)).await.unwrap();
                let place = |revision| self.appended.iter().position(|given| *given == revision).unwrap();
                let said: Vec<_> =
                    page.items.iter().map(|entry| (place(entry.revision), entry.value.clone())).collect();
                format!("{said:?}, more: {}", page.next.is_some())
            }
            Op::Nonce(number) => {
                let fresh = self.store.insert_nonce(&self.key(*number)).await.unwrap() == Nonce::Fresh;
                format!("fresh: {fresh}")
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stores_answer_alike() {
    let (sqlite, kv) = (Sqlite::new(), Kv::new().await);
    let (one, other) = (sqlite.store(), kv.store());
    // The same sequences in each run: a failure can be looked at again.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let case = std::cell::Cell::new(0);
    let runtime = tokio::runtime::Handle::current();
    let outcome = tokio::task::block_in_place(|| {
        TestRunner::new_with_rng(config, rng).run(&vec(op(), 5..40), |ops| {
            case.set(case.get() + 1);
            runtime.block_on(compare(&*one, &*other, case.get(), &ops))
        })
    });
    outcome.unwrap();
}

async fn compare(one: &dyn Store, other: &dyn Store, case: u32, ops: &[Op]) -> Result<(), TestCaseError> {
    let (mut one, mut other) = (Player::new(one, case).await, Player::new(other, case).await);
    for op in ops {
        let (said, answered) = (one.play(op).await, other.play(op).await);
        if said != answered {
            return Err(TestCaseError::fail(format!("{op:?}: SQLite says {said}, JetStream says {answered}")));
        }
    }
    Ok(())
}
