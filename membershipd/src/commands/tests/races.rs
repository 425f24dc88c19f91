//! Many at once, on one node and on several.

use futures::future::join_all;

use super::*;
use unibus_store::faulty::{Fault, FaultyStore};

async fn house(store: &Arc<dyn Store>) -> Result<(), StoreError> {
    people(&**store).await?;
    kitchen(&**store).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_at_once_lose_no_update() {
    const MANY: usize = 200;
    let scratch = Scratch::new();
    let store = scratch.store();
    house(&store).await.unwrap();
    let names: Vec<_> = (0..MANY).map(|n| format!("u{n}")).collect();
    for name in &names {
        add(&*store, name, Role::User).await.unwrap();
    }
    let nodes = [node(&store).await, node(&store).await, node(&store).await];
    let all = names.iter().enumerate().map(|(n, name)| {
        let node = nodes[n % 3].clone();
        async move {
            give(&node, "alice", "kitchen", invite(name)).await?;
            give(&node, name, "kitchen", Command::Accept { keep_connections: false }).await
        }
    });
    for outcome in join_all(all).await {
        assert!(outcome.unwrap().changed);
    }
    let view = load(&*store).await.unwrap();
    assert_eq!(view.members(&id("kitchen")).filter(|m| m.state == MemberState::Joined).count(), MANY + 1);
    assert_eq!(repair(&store).await.unwrap(), Repaired::default(), "the index too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_claim_in_one_space_all_get_their_turn() {
    const MANY: usize = 60;
    let scratch = Scratch::new();
    let store = scratch.store();
    house(&store).await.unwrap();
    let nodes = [node(&store).await, node(&store).await];
    let all = (0..MANY).map(|n| {
        let node = nodes[n % 2].clone();
        async move { give(&node, "bob", &format!("r{n}"), create(&format!("proc.r{n}"))).await }
    });
    for outcome in join_all(all).await {
        outcome.unwrap();
    }
    assert_eq!(repair(&store).await.unwrap(), Repaired::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_clashing_claims_exactly_one_wins() {
    for (a, b) in [("room.x", "room.x"), ("room.x", "room.x.y"), ("room.x.y.z", "room.x")] {
        let scratch = Scratch::new();
        let store = scratch.store();
        people(&*store).await.unwrap();
        let (first, second) = (node(&store).await, node(&store).await);
        let both = futures::join!(give(&first, "alice", "a", create(a)), give(&second, "bob", "b", create(b)));
        let (won, lost) = match both {
            (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
            other => panic!("{other:?}"),
        };
        assert!(won.changed);
        assert_eq!(lost.code(), "refused", "{lost}");
        assert_eq!(repair(&store).await.unwrap(), Repaired::default());
        let scratch = Scratch::new();
        let store = scratch.store();
        people(&*store).await.unwrap();
        let (first, second) = (node(&store).await, node(&store).await);
        let both = futures::join!(give(&first, "alice", "a", create(a)), give(&second, "bob", "a", create(b)));
        assert_eq!(usize::from(both.0.is_ok()) + usize::from(both.1.is_ok()), 1, "one id: {both:?}");
    }
}

/// Who owns the kitchen.
async fn owners(store: &dyn Store) -> Vec<Handle> {
    let view = load(store).await.unwrap();
    let owns = |m: &&Membership| m.role == RoomRole::Owner && m.state == MemberState::Joined;
    view.members(&id("kitchen")).filter(owns).map(|m| m.handle.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_owners_who_leave_at_once_one_stays() {
    for round in 0..12 {
        let scratch = Scratch::new();
        let store = scratch.store();
        house(&store).await.unwrap();
        let mut people = vec!["alice", "bob"];
        people.extend((round % 2 == 0).then_some("carol"));
        for name in &people[1..] {
            member(&*store, "kitchen", name, RoomRole::Owner, MemberState::Joined).await.unwrap();
        }
        let nodes = join_all(people.iter().map(|_| node(&store))).await;
        let leaving = people.iter().zip(&nodes).enumerate().map(|(n, (name, node))| {
            // Leave, be removed by the next one, or give the ownership up.
            let (who, command) = match (round / 2) % 3 {
                0 => (*name, Command::Leave),
                1 => (people[(n + 1) % people.len()], Command::Remove(handle(name))),
                _ => (*name, Command::SetRole(handle(name), RoomRole::Reader)),
            };
            async move { give(node, who, "kitchen", command).await }
        });
        let done = join_all(leaving).await;
        let stayed = owners(&*store).await;
        assert!(!stayed.is_empty(), "round {round}: all went: {done:?}");
        assert!(done.iter().any(Result::is_ok), "round {round}: {done:?}");
        let gone = done.iter().filter(|done| done.is_ok()).count();
        assert_eq!(stayed.len() + gone, people.len(), "round {round}: {done:?}");
    }
}

#[tokio::test]
async fn an_acknowledged_removal_is_not_undone_by_a_grant_that_lands_late() {
    let scratch = Scratch::new();
    let plain = scratch.store();
    house(&plain).await.unwrap();
    let faulty = Arc::new(FaultyStore::new(plain.clone()));
    let slow: Arc<dyn Store> = faulty.clone();
    let slow = slow_node(&slow, Duration::from_secs(2)).await;
    let other = node(&plain).await;
    // The audit, then the invitation.
    faulty.arm(Some((1, Fault::Late)));
    let inviting = tokio::spawn({
        let slow = slow.clone();
        async move { give(&slow, "alice", "kitchen", invite("bob")).await }
    });
    while !faulty.fired() {
        tokio::task::yield_now().await;
    }
    // The answer is lost, the write under way; meanwhile bob is removed, and that is acknowledged.
    give(&other, "alice", "kitchen", Command::Remove(handle("bob"))).await.unwrap();
    let invited = inviting.await.unwrap().unwrap_err();
    assert!(matches!(invited, CommandError::Unknown { .. }), "{invited}");
    assert!(invited.to_string().contains("restricted"), "{invited}");
    let now = standing(&*faulty.truth().await, "kitchen", "bob").await.unwrap();
    assert_eq!(now.1, MemberState::Removed);
    // Who asks again now knows of the removal, and may.
    assert!(give(&slow, "alice", "kitchen", invite("bob")).await.unwrap().changed);
}

#[tokio::test]
async fn a_grant_gives_way_to_what_was_taken_away_meanwhile() {
    let scratch = Scratch::new();
    let store = scratch.store();
    house(&store).await.unwrap();
    let (slow, quick) = (node(&store).await, node(&store).await);
    let (given, taken) = futures::join!(
        give(&slow, "alice", "kitchen", invite("bob")),
        give(&quick, "alice", "kitchen", Command::Ban(handle("bob")))
    );
    assert!(taken.is_ok(), "{taken:?}");
    assert_eq!(standing(&*store, "kitchen", "bob").await.unwrap().1, MemberState::Banned, "{given:?}");
}
