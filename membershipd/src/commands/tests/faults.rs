//! Every command under every fault at every call: what is said is true, and a repetition or a repair gets to the end.

use std::cell::Cell;

use super::*;
use unibus_core::domain::Author;
use unibus_core::view::View;
use unibus_store::faulty::{FaultyStore, under_every_fault};
use unibus_store::{Operation, PageSize, Position};

/// Whether what was ordered is so.
type IsSo = fn(&View) -> bool;

/// A command, and how to see whether it is done.
struct Case {
    who: &'static str,
    room: &'static str,
    command: Command,
    takes_away: bool,
    is_so: IsSo,
}

fn is(view: &View, room: &str, name: &str) -> Option<MemberState> {
    view.membership(&id(room), &handle(name)).map(|m| m.state)
}

fn holder(view: &View, subject: &str) -> Option<RoomId> {
    let subject: unibus_core::domain::Subject = subject.parse().unwrap();
    view.holder(&subject).cloned()
}

fn cases() -> Vec<Case> {
    let case = |who, room, command, is_so: IsSo| {
        let gives = matches!(command, Command::CreateRoom(..) | Command::Invite(..) | Command::Accept { .. });
        Case { who, room, command, takes_away: !gives, is_so }
    };
    vec![
        case("dave", "cellar", create("room.cellar"), |view| {
            is(view, "cellar", "dave") == Some(MemberState::Joined) && holder(view, "room.cellar") == Some(id("cellar"))
        }),
        case("alice", "kitchen", invite("dave"), |view| is(view, "kitchen", "dave") == Some(MemberState::Invited)),
        case("carol", "kitchen", Command::Accept { keep_connections: false }, |view| {
            is(view, "kitchen", "carol") == Some(MemberState::Joined)
        }),
        case("alice", "kitchen", Command::Remove(handle("bob")), |view| {
            is(view, "kitchen", "bob") == Some(MemberState::Removed)
        }),
        case("alice", "kitchen", Command::Ban(handle("carol")), |view| {
            is(view, "kitchen", "carol") == Some(MemberState::Banned)
        }),
        case("alice", "kitchen", Command::Leave, |view| is(view, "kitchen", "alice") == Some(MemberState::Removed)),
        case("alice", "kitchen", Command::ChangeRoom(Some("rpc.kitchen".parse().unwrap()), None, None), |view| {
            view.room(&id("kitchen")).unwrap().subject.as_str() == "rpc.kitchen"
                && holder(view, "rpc.kitchen") == Some(id("kitchen"))
        }),
        case("alice", "kitchen", Command::RemoveRoom, |view| {
            view.room(&id("kitchen")).unwrap().state == unibus_core::domain::RoomState::Removed
        }),
    ]
}

/// A kitchen with two owners, a member and one who is invited.
async fn prepare(store: &dyn Store) -> Result<(), StoreError> {
    people(store).await?;
    kitchen(store).await?;
    member(store, "kitchen", "root", RoomRole::Owner, MemberState::Joined).await?;
    member(store, "kitchen", "bob", RoomRole::Member, MemberState::Joined).await?;
    member(store, "kitchen", "carol", RoomRole::Member, MemberState::Invited).await
}

/// Every change of a room or a membership by a user has a record in the audit that came before it.
async fn is_audited(store: &dyn Store, before: &View, after: &View) -> Result<(), String> {
    let log = store.audit(Position::default(), PageSize::of(500)).await.unwrap().items;
    let records: Vec<_> = log
        .iter()
        .flat_map(|entry| serde_json::from_slice::<audit::AuditEntry>(&entry.value).unwrap().records)
        .collect();
    let begun = |room: &RoomId| {
        records.iter().any(|r| r.room.as_ref() == Some(room) && matches!(r.stage, audit::Stage::Begun(_)))
    };
    let rooms = after.rooms().filter(|room| before.room(&room.id) != Some(room)).map(|room| &room.id);
    let members = after.all_memberships().filter(|m| before.membership(&m.room, &m.handle) != Some(m));
    match rooms.chain(members.map(|m| &m.room)).find(|room| !begun(room)) {
        Some(room) => Err(format!("'{room}' was changed without a record")),
        None => Ok(()),
    }
}

/// Nobody's right, and nothing of a room, is left half made.
fn is_whole(view: &View) -> Result<(), String> {
    for room in view.rooms().filter(|room| room.state == unibus_core::domain::RoomState::Active) {
        let Author::User(_) = &room.created_by else { return Err(format!("{room:?}")) };
        if holder(view, room.subject.as_str()) != Some(room.id.clone()) {
            return Err(format!("'{}' has not its subject", room.id));
        }
        let owned = view.members(&room.id).any(|m| m.role == RoomRole::Owner && m.state == MemberState::Joined);
        if !owned {
            return Err(format!("'{}' has no owner", room.id));
        }
    }
    let unused = view.all_claims().flat_map(|claims| claims.unused(|id| view.room(id))).next();
    unused.map_or(Ok(()), |(subject, room)| Err(format!("'{subject}' is claimed by '{room}' for nothing")))
}

async fn check(case: &Case, faulty: Arc<FaultyStore>, dies: bool) -> Result<(), String> {
    let store: Arc<dyn Store> = faulty.clone();
    let before = load(&*faulty.truth().await).await.unwrap();
    let said = {
        let pace: Arc<dyn Pace> = Arc::new(Real::new().unwrap());
        let state = Watched::follow(&store, &pace);
        // One after the other, so that the calls have the same numbers each time.
        let node = {
            state.ready().await.map_err(|error| error.to_string())?;
            let fence = WaitOut::of(Duration::ZERO, pace.clone());
            let patience = Patience {
                budget: Duration::from_secs(20),
                catch_up: Duration::from_secs(5),
                pause: Duration::from_millis(1),
            };
            Commands::new(store.clone(), state, fence, pace, patience)
        };
        let order = order(case.who, case.room, case.command.clone());
        let run = node.run(&order);
        let fired = Cell::new(false);
        let died = std::future::poll_fn(|context| {
            if dies && (fired.replace(faulty.fired()) || faulty.fired()) {
                return std::task::Poll::Ready(());
            }
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        });
        tokio::select! {
            biased;
            () = died, if dies => None,
            said = run => Some(said),
        }
    };
    let truth = faulty.truth().await;
    // What who died had still under way is done before this is: the store writes in one order.
    truth.insert_nonce(&"barrier".parse().unwrap()).await.unwrap();
    let after = load(&*truth).await.unwrap();
    match &said {
        Some(Ok(_)) if !(case.is_so)(&after) => return Err(format!("said to be done: {said:?}")),
        Some(Err(CommandError::Unknown { .. })) | None | Some(Ok(_)) => {}
        Some(Err(error)) if (case.is_so)(&after) => return Err(format!("said not to be done: {error}")),
        Some(Err(CommandError::Unavailable(_))) => {}
        Some(Err(error)) => return Err(format!("no fault of that kind: {error}")),
    }
    is_audited(&*truth, &before, &after).await?;

    // A repair first, as at the start of a daemon: it completes nothing that was not allowed, and stands in nobody's way.
    let repaired = repair(&truth).await.map_err(|error| error.to_string())?;
    let again = repair(&truth).await.map_err(|error| error.to_string())?;
    if again != Repaired::default() {
        return Err(format!("{repaired:?} left {again:?}"));
    }
    is_whole(&load(&*truth).await.unwrap())?;
    let spent = repaired.never_made.contains(&id(case.room));
    let node = node(&truth).await;
    let repeated = give(&node, case.who, case.room, case.command.clone()).await;
    let view = load(&*truth).await.unwrap();
    match repeated {
        // Who repeats what takes something away waits for the fence once more, also in a process that never heard of it.
        Ok(done) if (case.is_so)(&view) && (done.fenced.is_some() || !case.takes_away) => {}
        // The id is spent, and said to be: another one has to be chosen.
        Err(CommandError::Refused(unibus_core::domain::Refusal::RoomRemoved(_))) if spent => {}
        other => return Err(format!("repeated: {other:?}")),
    }
    if repair(&truth).await.map_err(|error| error.to_string())? != Repaired::default() && repaired.released.is_empty() {
        // A second pass only has to do what the repetition could not.
        is_whole(&view)?;
    }
    is_whole(&load(&*truth).await.unwrap())
}

async fn all(dies: bool, of: impl Fn(&Command) -> bool) {
    for case in cases().into_iter().filter(|case| of(&case.command)) {
        let scratches = std::sync::Mutex::new(Vec::new());
        let fresh = async || {
            let scratch = Scratch::new();
            let store = scratch.store();
            // One at a time is kept: the one before is done.
            let mut kept = scratches.lock().unwrap();
            kept.clear();
            kept.push(scratch);
            store
        };
        let coverage = under_every_fault(fresh, prepare, async |faulty| check(&case, faulty, dies).await).await;
        let coverage = coverage.unwrap_or_else(|why| panic!("{:?} by {}: {why}", case.command, case.who));
        let writes = |call: &&Operation| matches!(call.verb, "create" | "update");
        assert!(coverage.calls.iter().any(|call| writes(&call)), "{:?}", coverage.calls);
        println!("{:?}: {} calls, {} runs", case.command, coverage.calls.len(), coverage.runs.len());
    }
}

#[tokio::test]
async fn whatever_fails_what_is_said_is_true_and_is_finished() {
    all(false, |_| true).await;
}

#[tokio::test]
async fn whoever_dies_anywhere_leaves_nothing_that_is_not_finished() {
    // One of each shape: several writes, one that gives, one that takes, one that relies on another, one with a release.
    let shapes = |command: &Command| !matches!(command, Command::Accept { .. } | Command::Ban(_) | Command::RemoveRoom);
    all(true, shapes).await;
}

#[tokio::test]
async fn of_two_clashing_rooms_never_both_are_made_whatever_fails() {
    let scratches = std::sync::Mutex::new(Vec::new());
    let fresh = async || {
        let scratch = Scratch::new();
        let store = scratch.store();
        let mut kept = scratches.lock().unwrap();
        kept.clear();
        kept.push(scratch);
        store
    };
    let scenario = async |faulty: Arc<FaultyStore>| {
        let store: Arc<dyn Store> = faulty.clone();
        let first = give(&*node(&store).await, "dave", "cellar", create("room.cellar")).await;
        // The second one begins while what the first one did not hear of may still be under way.
        let second = give(&*node(&store).await, "carol", "wine", create("room.cellar.wine")).await;
        let truth = faulty.truth().await;
        let view = load(&*truth).await.unwrap();
        let (a, b) = (holder(&view, "room.cellar"), holder(&view, "room.cellar.wine"));
        for (said, held) in [(&first, a == Some(id("cellar"))), (&second, b == Some(id("wine")))] {
            if said.is_ok() != held && !matches!(said, Err(CommandError::Unknown { .. } | CommandError::Unavailable(_)))
            {
                return Err(format!("{first:?}, {second:?}, {a:?}, {b:?}"));
            }
        }
        if a.is_some() && b.is_some() {
            return Err("both are claimed".to_owned());
        }
        repair(&truth).await.map_err(|error| error.to_string())?;
        is_whole(&load(&*truth).await.unwrap())
    };
    let coverage = under_every_fault(fresh, people, scenario).await.unwrap();
    assert!(coverage.runs.len() > 30, "{coverage:?}");
}
