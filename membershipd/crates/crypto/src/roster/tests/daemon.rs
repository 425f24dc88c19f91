//! The rules of the log are the daemon's: for each actor and each target, both decide on each command. Where they differ is named.

use super::*;
use unibus_core::domain::{Change, Command, Keeping, Quota, Record, Role, State as UserState, Terms, User, change};
use unibus_core::view::View;
use unibus_core::view::fixtures::{Entry as StoreEntry, member as membership, only_claim, room as record};

/// How a user may stand to the room.
const STANDINGS: [Option<(RoomRole, MemberState)>; 17] = {
    use MemberState::{Banned, Invited, Joined, Removed};
    use RoomRole::{Member, Moderator, Owner, Reader};
    [
        None,
        Some((Owner, Joined)),
        Some((Moderator, Joined)),
        Some((Member, Joined)),
        Some((Reader, Joined)),
        Some((Owner, Invited)),
        Some((Moderator, Invited)),
        Some((Member, Invited)),
        Some((Reader, Invited)),
        Some((Owner, Removed)),
        Some((Moderator, Removed)),
        Some((Member, Removed)),
        Some((Reader, Removed)),
        Some((Owner, Banned)),
        Some((Moderator, Banned)),
        Some((Member, Banned)),
        Some((Reader, Banned)),
    ]
};

/// What comes of a command for the user whom it concerns.
#[derive(Debug, PartialEq)]
enum Outcome {
    Refused,
    /// It is so already.
    Unchanged,
    Now(Standing),
}

/// A log in which these two stand so; an owner is there beside them.
fn log(actor: Option<(RoomRole, MemberState)>, target: Option<(RoomRole, MemberState)>, alone: bool) -> Pen {
    let alice = who("alice");
    let mut pen = Pen::new();
    for (person, standing) in [(who("bob"), actor), (who("carol"), target)] {
        let Some((role, state)) = standing else { continue };
        pen.add(&alice, invite(&person, role));
        if matches!(state, MemberState::Joined) {
            pen.add(&person, accept(&person));
        }
        if matches!(state, MemberState::Removed | MemberState::Banned) {
            pen.add(
                &alice,
                if state == MemberState::Banned { ban(person.handle.as_str()) } else { remove(person.handle.as_str()) },
            );
        }
    }
    if alone {
        pen.add(&alice, RosterAction::Leave);
    }
    pen
}

/// The same in the records of a daemon.
fn view(pen: &Pen) -> View {
    let kitchen = record("kitchen", "room.kitchen", Policy::CONVERSATION);
    let mut records = vec![Record::Claims(only_claim(&kitchen)), Record::Room(kitchen)];
    records.extend(["alice", "bob", "carol"].map(|name| {
        let sign_pub = who(name).keys.sign_pub;
        Record::User(User { handle: handle(name), sign_pub, role: Role::User, state: UserState::Active })
    }));
    let members = pen.state.people().map(|(handle, now)| membership("kitchen", handle.as_str(), now.role, now.state));
    records.extend(members.map(Record::Membership));
    let mut view = View::default();
    records.iter().zip(1..).for_each(|(record, revision)| drop(StoreEntry::of(record).load(&mut view, revision)));
    view
}

fn by_daemon(view: &View, command: &Command, concerned: &Person, before: Option<Standing>) -> Outcome {
    use unibus_core::domain::Records;
    let terms = Terms { encrypted_only: false, quota: Quota::DEFAULT, keeping: Keeping::DEFAULT };
    let Ok(Change { writes, .. }) = change(view.user(&handle("bob")), &room("kitchen"), command, view, terms) else {
        return Outcome::Refused;
    };
    let written = writes.iter().find_map(|record| match record {
        Record::Membership(one) if one.handle == concerned.handle => Some(one.standing()),
        _ => None,
    });
    match written {
        Some(now) if Some(now) != before => Outcome::Now(now),
        _ => Outcome::Unchanged,
    }
}

fn by_log(pen: &Pen, action: RosterAction, concerned: &Person) -> Outcome {
    let mut pen = pen.clone();
    match pen.try_add(&who("bob"), action) {
        Ok(()) => Outcome::Now(pen.standing(concerned.handle.as_str()).unwrap()),
        Err(_) => Outcome::Refused,
    }
}

/// Where a log says less than a daemon, and why.
fn differs(command: &Command, daemons: &Outcome, before: Option<Standing>) -> Option<&'static str> {
    match (command, daemons) {
        (_, Outcome::Unchanged) => {
            Some("what changes nothing is no entry; a daemon writes it again, to keep a grant off that is on its way")
        }
        (Command::Invite(..), Outcome::Now(_)) if before.is_some_and(|before| before.state == MemberState::Invited) => {
            Some("another role for an invited user is said in one way, by role")
        }
        (Command::Remove(_) | Command::Ban(_), Outcome::Now(_)) if before.is_none() => {
            Some("the log has no keys for a user whom it never had; the daemon's record keeps them out")
        }
        _ => None,
    }
}

#[test]
fn the_log_permits_what_the_daemon_permits_and_names_where_it_does_not() {
    let (bob, carol) = (who("bob"), who("carol"));
    let mut seen = std::collections::BTreeSet::new();
    let mut compared = 0;
    for alone in [false, true] {
        for actor in STANDINGS {
            for target in STANDINGS {
                // Where alice leaves, another owner has to be there.
                let owner = Some((RoomRole::Owner, MemberState::Joined));
                if alone && actor != owner && target != owner {
                    continue;
                }
                let pen = log(actor, target, alone);
                let view = view(&pen);
                let mut check = |command: Command, action: RosterAction, concerned: &Person| {
                    let before = pen.standing(concerned.handle.as_str());
                    let (daemons, logs) =
                        (by_daemon(&view, &command, concerned, before), by_log(&pen, action, concerned));
                    compared += 1;
                    if daemons == logs {
                        return;
                    }
                    let why = differs(&command, &daemons, before);
                    let what = format!("{actor:?} to {target:?}: {command:?}: {daemons:?}, but by the log {logs:?}");
                    assert_eq!(logs, Outcome::Refused, "{what}");
                    seen.insert(why.unwrap_or_else(|| panic!("{what}")));
                };
                let (own, other) = (|| bob.handle.clone(), || carol.handle.clone());
                check(Command::Accept { keep_connections: true }, accept(&bob), &bob);
                check(Command::Leave, RosterAction::Leave, &bob);
                check(Command::Remove(other()), remove("carol"), &carol);
                check(Command::Ban(other()), ban("carol"), &carol);
                check(Command::Unban(other()), unban("carol"), &carol);
                check(Command::Remove(own()), remove("bob"), &bob);
                check(Command::Ban(own()), ban("bob"), &bob);
                check(Command::Unban(own()), unban("bob"), &bob);
                for new in RoomRole::ALL {
                    check(Command::Invite(other(), new), invite(&carol, new), &carol);
                    check(Command::SetRole(other(), new), role("carol", new), &carol);
                    check(Command::Invite(own(), new), invite(&bob, new), &bob);
                    check(Command::SetRole(own(), new), role("bob", new), &bob);
                }
            }
        }
    }
    assert_eq!(seen.len(), 3, "every difference that is named is there: {seen:#?}");
    assert!(compared > 7_000, "{compared}");
}

#[test]
fn who_is_called_as_the_rules_call_another_is_no_other() {
    // `Facts` has to name another user than the actor.
    for name in ["other", "another"] {
        let (own, bob) = (person(name, 50), who("bob"));
        let mut pen = Pen::begin("kitchen", &own, create(&own));
        pen.add(&own, invite(&bob, RoomRole::Member));
        pen.add(&own, link(1, RoomRole::Owner));
        assert_eq!(pen.refusal(&own, RosterAction::Leave), "last-owner");
        assert_eq!(pen.refusal(&own, remove(name)), "denied");
        pen.add(&own, remove("bob"));
    }
}
