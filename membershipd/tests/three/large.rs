//! A cluster with 10,000 users, 1,000 rooms and 100,000 memberships: how soon a node is ready, and how much memory it takes.
//!
//! Not run by default: it writes for minutes, and means something in a release build alone:
//! `cargo test --release -p membershipd --test three -- --ignored --nocapture large`

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use membershipd::commands::keys;
use nkeys::{KeyPair, KeyPairType};
use unibus_core::domain::{
    Author, Claims, Handle, MemberState, Membership, Policy, Record, Role, Room, RoomRole, SignPub, Space, Standing,
    State, Subject, User,
};
use unibus_core::view::claim_key;
use unibus_store::{NewFile, Records, Revision};

use crate::common::said;
use crate::nodes::{self, Node};

const USERS: usize = 10_000;
const ROOMS: usize = 1_000;
const ROOMS_OF_A_USER: usize = 10;

/// Time from its start to a node that admits and answers.
const READY: Duration = Duration::from_secs(12);
/// Memory of its daemon, bytes.
const MEMORY: usize = 150 << 20;

/// Numbers the entries of a file as they come.
struct Filling {
    file: NewFile,
    revision: u64,
}

impl Filling {
    fn entry(&mut self, bucket: Records, key: &str, value: &[u8]) {
        self.revision += 1;
        let revision = Revision::new(self.revision).unwrap();
        self.file.entry(bucket, &key.parse().unwrap(), revision, value).unwrap();
    }

    fn record(&mut self, record: &Record) {
        let (bucket, key) = (keys::bucket(&record.key()), keys::key(&record.key()).unwrap());
        self.entry(bucket, key.as_str(), &keys::encode(record).unwrap());
    }
}

fn user(number: usize) -> User {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
    let pair = KeyPair::new_from_raw(KeyPairType::User, seed).unwrap();
    let sign_pub = SignPub::from_nkey(&pair.public_key()).unwrap();
    let role = if number == 0 { Role::Admin } else { Role::User };
    User { handle: format!("{number:05}-somebody").parse().unwrap(), sign_pub, role, state: State::Active }
}

fn fill(path: &Path) {
    let author: Author = "root@magnus".parse().unwrap();
    let mut filling = Filling { file: NewFile::create(path).unwrap(), revision: 0 };
    let users: Vec<User> = (0..USERS).map(user).collect();
    for user in &users {
        let handle = serde_json::to_vec::<Handle>(&user.handle).unwrap();
        filling.entry(Records::Users, &claim_key(&user.sign_pub), &handle);
        filling.record(&Record::User(user.clone()));
    }
    let subject = |n: usize| -> Subject { format!("room.site-{}.number-{n}", n % 10).parse().unwrap() };
    let rooms = (0..ROOMS).map(|n| {
        let id = format!("room-{n:04}").parse().unwrap();
        Room::new(id, subject(n), Policy { persist: false, ..Policy::CONVERSATION }, author.clone())
    });
    let rooms: Vec<Room> = rooms.collect();
    let claims = rooms.iter().try_fold(Claims::none(Space::Room), |all, room| all.claim(&room.subject, &room.id));
    filling.record(&Record::Claims(claims.unwrap()));
    for room in &rooms {
        filling.record(&Record::Room(room.clone()));
    }
    for (n, user) in users.iter().enumerate() {
        let of_user: BTreeSet<usize> = (0..ROOMS_OF_A_USER).map(|k| (n + k * 97) % ROOMS).collect();
        for room in of_user {
            let standing = Standing { role: RoomRole::Owner, state: MemberState::Joined };
            let room = rooms[room].id.clone();
            let index = keys::index_key(&user.handle, &room).unwrap();
            filling.entry(Records::RoomsByMember, index.as_str(), br#"{"schema":1,"present":true}"#);
            filling.record(&Record::Membership(Membership::new(room, user.handle.clone(), standing, author.clone())));
        }
    }
    filling.file.finish().unwrap();
}

/// Memory of a node's daemon, bytes.
fn resident(node: &Node) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
#[ignore = "a measurement: run it alone, in a release build"]
fn a_large_cluster_is_ready_soon_and_takes_little_memory() {
    let mut nodes = nodes::start(&[]);
    let file = nodes[0].dir.path().join("large.db");
    fill(&file);
    let since = Instant::now();
    let carried = nodes[0].ask(&["migrate-to-kv", "--db", file.to_str().unwrap()]);
    assert!(carried.status.success(), "{}", said(&carried));
    println!("carried into the cluster in {:?}", since.elapsed());
    nodes.iter().for_each(Node::wait_until_current);
    for node in &mut nodes {
        node.kill();
        let since = Instant::now();
        node.start_again();
        node.wait_for_lease();
        let (ready, memory) = (since.elapsed(), resident(node));
        println!("ready {ready:?} after its start, {} MB", memory >> 20);
        node.log().lines().filter(|line| line.contains("loaded what")).for_each(|line| println!("{line}"));
        assert!(ready < READY && memory < MEMORY);
        node.wait_until_current();
    }
}
