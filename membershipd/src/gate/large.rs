//! How long a decision takes with 10,000 users, 1,000 rooms and 100,000 memberships, and how much memory they need.
//!
//! Not run by default. It means something in a release build alone:
//! `cargo test --release -p membershipd --lib gate::large -- --ignored --nocapture`

use std::hint::black_box;

use super::tests::put;
use super::*;
use unibus_core::domain::{
    Claims, MemberState, Policy, Record, Records, Role, Room, RoomRole, Space, State, Subject, User,
};
use unibus_core::view::fixtures::{Entry, member, room, user};

const USERS: usize = 10_000;
const ROOMS: usize = 1_000;
const ROOMS_OF_A_USER: usize = 10;

/// Memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn subject(n: usize) -> Subject {
    format!("room.site-{}.number-{n}", n % 10).parse().unwrap()
}

fn large_room(n: usize) -> Room {
    room(&format!("room-{n:04}"), subject(n).as_str(), Policy::TELEMETRY)
}

fn load(view: &mut View, users: &[User]) {
    let mut revision = 0;
    let mut put = |entry: Entry| {
        revision += 1;
        entry.load(view, revision);
    };
    for user in users {
        put(Entry::claim(user));
        put(Entry::of(&Record::User(user.clone())));
    }
    let claims = (0..ROOMS).try_fold(Claims::none(Space::Room), |all, n| all.claim(&subject(n), &large_room(n).id));
    put(Entry::of(&Record::Claims(claims.unwrap())));
    (0..ROOMS).for_each(|n| put(Entry::of(&Record::Room(large_room(n)))));
    for (n, user) in users.iter().enumerate() {
        for k in 0..ROOMS_OF_A_USER {
            let room = large_room((n + k * 97) % ROOMS);
            let membership = member(room.id.as_str(), user.handle.as_str(), RoomRole::Member, MemberState::Joined);
            put(Entry::of(&Record::Membership(membership)));
        }
    }
}

/// The middle and the slowest of a hundred but one.
fn times(what: &str, mut of: Vec<Duration>) -> Duration {
    of.sort_unstable();
    let (p50, p99) = (of[of.len() / 2], of[of.len() * 99 / 100]);
    println!("{what}: p50 {p50:?}, p99 {p99:?}");
    p50
}

#[test]
#[ignore = "a measurement: run it alone, in a release build"]
fn a_large_view_decides_quickly_in_little_memory() {
    let users: Vec<User> = (0..USERS).map(|n| user(&format!("{n:05}-somebody"), Role::User, State::Active)).collect();
    let (start, before) = (Instant::now(), resident());
    let mut view = View::default();
    load(&mut view, &users);
    println!("loaded in {:?}, {} MB", start.elapsed(), (resident() - before) >> 20);
    let gate = Gate::new(BusAuth::Enforce, start);
    let now = Instant::now() + bus::AUTHORIZATION_TIMEOUT;
    gate.renew(now);
    gate.replace_view(view);

    let timed = |work: &mut dyn FnMut()| {
        let began = Instant::now();
        work();
        began.elapsed()
    };
    let decisions = users.iter().map(|user| {
        timed(&mut || {
            gate.view(|view| {
                let room = view.memberships(&user.handle).next().and_then(|m| view.room(&m.room)).unwrap();
                let subject = Resource::Subject(&room.id, &room.subject);
                black_box(decide(Some(user), Action::Publish, subject, view));
            });
        })
    });
    let decision = times("decision about one action", decisions.collect());
    let admissions = (1..)
        .zip(&users)
        .map(|(id, user)| timed(&mut || drop(black_box(gate.admit(Some(user.sign_pub), id, now).unwrap()))));
    times("admission with all rights", admissions.collect());
    println!("with {USERS} connections {} MB", (resident() - before) >> 20);

    let removals = users.iter().take(1_000).map(|user| {
        let room = gate.view(|view| view.memberships(&user.handle).next().unwrap().room.clone());
        let removed = member(room.as_str(), user.handle.as_str(), RoomRole::Member, MemberState::Removed);
        let entry = Entry::of(&Record::Membership(removed));
        timed(&mut || assert_eq!(put(&gate, &entry, 200_000).review.cut.len(), 1))
    });
    times("removal from a room", removals.collect());
    let ends = (0..100).map(|n| {
        let entry = Entry::of(&Record::Room(large_room(n).removed("alice".parse().unwrap())));
        timed(&mut || assert!(!put(&gate, &entry, 200_000).review.cut.is_empty()))
    });
    times("end of a room with 100 members", ends.collect());
    assert!(decision < Duration::from_micros(50));
    assert!(resident() - before < 100 << 20);
}
