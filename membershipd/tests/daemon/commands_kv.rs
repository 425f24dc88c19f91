//! Commands on a real engine: several nodes, each with a state of its own, change the same records.

use std::sync::Arc;
use std::time::Duration;

use crate::stores::Subject;
use crate::stores::engines::Kv;
use futures::future::join_all;
use membershipd::commands::{
    CommandError, Commands, Order, Outcome, Pace, Patience, Real, Repair, Repaired, WaitOut, Watched, keys, load,
};
use nkeys::{KeyPair, KeyPairType};
use unibus_core::domain::{
    Command, Handle, MemberState, Policy, Record, Records as _, Role, RoomId, RoomRole, SignPub, State, Terms, User,
};
use unibus_store::{Records, Store};

type Node = Commands;

fn handle(name: &str) -> Handle {
    name.parse().unwrap()
}

async fn add(store: &dyn Store, name: &str) {
    let mut seed = [7; 32];
    seed.iter_mut().zip(name.bytes()).for_each(|(seed, byte)| *seed = byte);
    let pair = KeyPair::new_from_raw(KeyPairType::User, seed).unwrap();
    let sign_pub = SignPub::from_nkey(&pair.public_key()).unwrap();
    let user = User { handle: handle(name), sign_pub, role: Role::User, state: State::Active };
    let record = Record::User(user);
    let key = keys::key(&record.key()).unwrap();
    store.create(Records::Users, &key, &keys::encode(&record).unwrap()).await.unwrap();
}

async fn node(store: &Arc<dyn Store>) -> Node {
    let pace: Arc<dyn Pace> = Arc::new(Real::new().unwrap());
    let state = Watched::follow(store, &pace);
    state.ready().await.unwrap();
    let fence = WaitOut::of(Duration::from_millis(1), pace.clone());
    let patience = Patience { budget: Duration::from_secs(60), ..Patience::default() };
    Commands::new(store.clone(), state, fence, pace, patience)
}

async fn give(node: &Node, who: &str, room: &str, command: Command) -> Result<Outcome, CommandError> {
    let terms = Terms {
        encrypted_only: false,
        quota: unibus_core::domain::Quota::DEFAULT,
        keeping: unibus_core::domain::Keeping::DEFAULT,
    };
    node.run(&Order { by: handle(who), room: room.parse().unwrap(), command, terms, if_match: None }).await
}

fn create(subject: &str) -> Command {
    Command::CreateRoom(subject.parse().unwrap(), Policy::CONVERSATION)
}

async fn left_behind(store: &Arc<dyn Store>) -> Repaired {
    let pace: Arc<dyn Pace> = Arc::new(Real::new().unwrap());
    let fence = WaitOut::of(Duration::ZERO, pace.clone());
    let by = "root@homer".parse().unwrap();
    Repair { store: store.clone(), fence: &fence, pace, by, grace: Duration::ZERO }.run().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_nodes_change_at_once_stays_whole() {
    const MANY: usize = 200;
    let kv = Kv::new().await;
    let store = kv.store();
    let names: Vec<_> = (0..MANY).map(|n| format!("u{n}")).collect();
    for name in names.iter().map(String::as_str).chain(["alice", "bob"]) {
        add(&*store, name).await;
    }
    let nodes = [node(&store).await, node(&store).await];

    // Clashing claims: exactly one is made.
    let both = futures::join!(
        give(&nodes[0], "alice", "kitchen", create("room.kitchen")),
        give(&nodes[1], "bob", "corner", create("room.kitchen.corner"))
    );
    let (owner, room) = match &both {
        (Ok(_), Err(CommandError::Refused(_))) => ("alice", "kitchen"),
        (Err(CommandError::Refused(_)), Ok(_)) => ("bob", "corner"),
        other => panic!("{other:?}"),
    };

    // Many writers on one room: no update is lost.
    let all = names.iter().enumerate().map(|(n, name)| {
        let node = &nodes[n % 2];
        async move {
            give(node, owner, room, Command::Invite(handle(name), RoomRole::Member)).await?;
            give(node, name, room, Command::Accept { keep_connections: false }).await
        }
    });
    for outcome in join_all(all).await {
        outcome.unwrap();
    }
    let id: RoomId = room.parse().unwrap();
    let view = load(&*store).await.unwrap();
    assert_eq!(view.members(&id).filter(|m| m.state == MemberState::Joined).count(), MANY + 1);

    // Two owners leave at once: one stays.
    for n in 0..8 {
        let names = [names[2 * n].as_str(), names[2 * n + 1].as_str()];
        let room = format!("pair{n}");
        give(&nodes[0], names[0], &room, create(&format!("room.{room}"))).await.unwrap();
        give(&nodes[0], names[0], &room, Command::Invite(handle(names[1]), RoomRole::Owner)).await.unwrap();
        let joined = give(&nodes[1], names[1], &room, Command::Accept { keep_connections: false }).await;
        // The other node may not have heard of the invitation yet.
        if joined.is_err() {
            give(&nodes[0], names[1], &room, Command::Accept { keep_connections: false }).await.unwrap();
        }
        let left = futures::join!(
            give(&nodes[0], names[0], &room, Command::Leave),
            give(&nodes[1], names[1], &room, Command::Leave)
        );
        let view = load(&*store).await.unwrap();
        let id: RoomId = room.parse().unwrap();
        let owners = view.members(&id).filter(|m| m.role == RoomRole::Owner && m.state == MemberState::Joined).count();
        assert_eq!(owners, 1, "{left:?}");
    }
    assert_eq!(left_behind(&store).await, Repaired::default());
}
