//! The golden matrix: every role, resource and action, as a table in `tests/golden/authorization.txt`.
//!
//! The test makes the table anew from `decide` and compares; with `UNIBUS_BLESS=1` it writes it instead.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::LazyLock;

use super::action::Action;
use super::decide::{Decision, Resource, decide};
use super::fixtures::Memory;
use super::member::{MemberState, RoomRole};
use super::records::{Record, Records};
use super::room::{Policy, RoomId};
use super::rules::Denial;
use super::subject::Subject;
use super::user::{Handle, Role, State, User};

/// Columns: a handle, and how it stands to the room. The admin is not in it.
const ROOM_ROLES: [(&str, Option<(RoomRole, MemberState)>); 9] = [
    ("owner", Some((RoomRole::Owner, MemberState::Joined))),
    ("moderator", Some((RoomRole::Moderator, MemberState::Joined))),
    ("member", Some((RoomRole::Member, MemberState::Joined))),
    ("reader", Some((RoomRole::Reader, MemberState::Joined))),
    ("invited", Some((RoomRole::Owner, MemberState::Invited))),
    ("removed", Some((RoomRole::Owner, MemberState::Removed))),
    ("banned", Some((RoomRole::Owner, MemberState::Banned))),
    ("stranger", None),
    ("admin", None),
];

/// Rows of who is concerned, beside oneself.
const TARGETS: [(&str, Option<(RoomRole, MemberState)>); 7] = [
    ("an owner", Some((RoomRole::Owner, MemberState::Joined))),
    ("a moderator", Some((RoomRole::Moderator, MemberState::Joined))),
    ("a member", Some((RoomRole::Member, MemberState::Joined))),
    ("an invited member", Some((RoomRole::Member, MemberState::Invited))),
    ("a removed owner", Some((RoomRole::Owner, MemberState::Removed))),
    ("a banned moderator", Some((RoomRole::Moderator, MemberState::Banned))),
    ("a stranger", None),
];

const WIDTH: usize = 15;

static ROOM: LazyLock<RoomId> = LazyLock::new(|| "r".parse().unwrap());
static SUBJECT: LazyLock<Subject> = LazyLock::new(|| "room.r".parse().unwrap());
static RPC_SUBJECT: LazyLock<Subject> = LazyLock::new(|| "rpc.r".parse().unwrap());
static OTHER_SUBJECT: LazyLock<Subject> = LazyLock::new(|| "room.other".parse().unwrap());

fn golden() -> String {
    let mut table = String::from(
        "Who may do what. Made from `decide` by the test `the_matrix_is_as_committed`; UNIBUS_BLESS=1 writes it anew.\n\
         Rows are actions, columns who asks; a cell is 'yes' or why not. 'invited', 'removed' and 'banned' are so as owners,\n\
         'admin' is an admin of the bus who is not in the room. A user who is disabled, removed or unknown may do nothing.\n",
    );
    on_the_bus(&mut table);
    for (policy, name) in [(Policy::CONVERSATION, "sealed, kept, signed"), (Policy::TELEMETRY, "none of it")] {
        for subject in [&*SUBJECT, &*RPC_SUBJECT] {
            let memory = people().with_room("r", subject.as_str(), policy);
            let title = format!("In a room of the space '{}', policy: {name}", subject.space());
            room(&mut table, &title, &memory, &[Resource::Room(&ROOM), Resource::Subject(&ROOM, subject)]);
        }
    }
    let memory = lively();
    room(&mut table, "In a room, on a subject not its own", &memory, &[Resource::Subject(&ROOM, &OTHER_SUBJECT)]);
    let mut gone = memory.clone();
    gone.put(Record::Room(memory.room(&ROOM).unwrap().removed("root@magnus".parse().unwrap())));
    let both = [Resource::Room(&ROOM), Resource::Subject(&ROOM, &SUBJECT)];
    room(&mut table, "In a room that was removed", &gone, &both);
    members(&mut table, "On oneself", &memory, None);
    for (name, standing) in TARGETS {
        let mut memory = memory.clone().with_user("target", Role::User);
        if let Some((role, state)) = standing {
            memory = memory.with_member("r", "target", role, state);
        }
        members(&mut table, &format!("On {name}"), &memory, Some("target"));
    }
    let ownerless = memory.with_member("r", "owner", RoomRole::Owner, MemberState::Removed);
    let ownerless = ownerless.with_user("target", Role::User);
    for (name, state) in [("a member", MemberState::Joined), ("an invited member", MemberState::Invited)] {
        let title = format!("On {name} of a room without an owner who could act ('owner' was removed from it)");
        let memory = ownerless.clone().with_member("r", "target", RoomRole::Member, state);
        members(&mut table, &title, &memory, Some("target"));
    }
    table
}

fn on_the_bus(table: &mut String) {
    let memory =
        Memory::default().with_user("admin", Role::Admin).with_user("user", Role::User).with_user("other", Role::User);
    let off = |role, state| User { role, state, ..memory.who("user").unwrap().clone() };
    let columns = [
        ("admin", memory.who("admin").cloned()),
        ("user", memory.who("user").cloned()),
        ("disabled admin", Some(off(Role::Admin, State::Disabled))),
        ("removed admin", Some(off(Role::Admin, State::Removed))),
        ("unknown key", None),
    ];
    let other = &memory.who("other").unwrap().handle;
    type On = for<'a> fn(&'a Handle, &'a Handle) -> Resource<'a>;
    let titles: [(&str, On); 3] = [
        ("On the bus", |_, _| Resource::Bus),
        ("On oneself", |own, _| Resource::User(own)),
        ("On another user", |_, other| Resource::User(other)),
    ];
    for (title, on) in titles {
        heading(table, title, columns.iter().map(|(name, _)| *name));
        for action in Action::ALL {
            let decision = |who: &Option<User>| {
                let own = who.as_ref().map_or(other, |who| &who.handle);
                decide(who.as_ref(), action, on(own, other), &memory)
            };
            row(table, action, &columns.iter().map(|(_, who)| decision(who)).collect::<Vec<_>>());
        }
    }
}

fn members(table: &mut String, title: &str, memory: &Memory, target: Option<&str>) {
    heading(table, title, ROOM_ROLES.iter().map(|(name, _)| *name));
    for action in Action::ALL {
        let decision = |name: &str| {
            let target = &memory.who(target.unwrap_or(name)).unwrap().handle;
            decide(memory.who(name), action, Resource::Member(&ROOM, target), memory)
        };
        row(table, action, &ROOM_ROLES.map(|(name, _)| decision(name)));
    }
}

fn room(table: &mut String, title: &str, memory: &Memory, on: &[Resource<'_>]) {
    heading(table, title, ROOM_ROLES.iter().map(|(name, _)| *name));
    for action in Action::ALL {
        for resource in on.iter().filter(|resource| applies(action, **resource)) {
            row(table, action, &ROOM_ROLES.map(|(name, _)| decide(memory.who(name), action, *resource, memory)));
        }
    }
}

fn heading<'a>(table: &mut String, title: &str, columns: impl Iterator<Item = &'a str>) {
    let mut line = format!("{:<26}", "");
    columns.for_each(|column| write!(line, "{column:<WIDTH$} ").unwrap());
    write!(table, "\n== {title}\n{}\n", line.trim_end()).unwrap();
}

fn row(table: &mut String, action: Action, decisions: &[Decision]) {
    // What is not made for this kind of resource is denied to everybody who is admitted at all: no row.
    let none = |d: &Decision| {
        use Denial::{Disabled, NotApplicable, Removed, UnknownKey};
        matches!(d, Decision::Deny(NotApplicable | Disabled | Removed | UnknownKey))
    };
    if decisions.iter().all(none) {
        return;
    }
    let name = match action {
        Action::InviteMember(role) | Action::SetMemberRole(role) => {
            format!("{} {}", action.name(), format!("{role:?}").to_lowercase())
        }
        _ => action.name().to_owned(),
    };
    let mut line = format!("{name:<26}");
    for decision in decisions {
        let cell = match decision {
            Decision::Allow => "yes".to_owned(),
            Decision::Deny(denial) => words(&format!("{denial:?}")),
        };
        write!(line, "{cell:<WIDTH$} ").unwrap();
    }
    writeln!(table, "{}", line.trim_end()).unwrap();
}

/// `RoleTooLow` as `role-too-low`.
fn words(name: &str) -> String {
    let word = |(at, c): (usize, char)| if at > 0 && c.is_uppercase() { format!("-{c}") } else { c.to_string() };
    name.char_indices().map(word).collect::<String>().to_lowercase()
}

fn people() -> Memory {
    ROOM_ROLES.iter().fold(Memory::default(), |memory, (name, standing)| {
        let memory = memory.with_user(name, if *name == "admin" { Role::Admin } else { Role::User });
        match standing {
            Some((role, state)) => memory.with_member("r", name, *role, *state),
            None => memory,
        }
    })
}

/// A room in which everything is there to be used.
fn lively() -> Memory {
    people().with_room("r", SUBJECT.as_str(), Policy::CONVERSATION)
}

fn applies(action: Action, resource: Resource<'_>) -> bool {
    let memory = lively();
    decide(memory.who("owner"), action, resource, &memory) != Decision::Deny(Denial::NotApplicable)
}

#[test]
fn the_matrix_is_as_committed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/authorization.txt");
    let now = golden();
    if std::env::var_os("UNIBUS_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    let differs = now.lines().zip(committed.lines()).enumerate().find(|(_, (now, committed))| now != committed);
    assert!(
        now == committed,
        "who may do what has changed, first here (line, now, committed): {differs:#?}\nIf that is meant: UNIBUS_BLESS=1, \
         and read the difference"
    );
}

#[test]
fn every_action_is_on_exactly_one_kind_of_resource() {
    let memory = lively();
    let handle = &memory.who("member").unwrap().handle;
    let missing = "missing".parse().unwrap();
    let resources = |room| [Resource::Room(room), Resource::Member(room, handle), Resource::Subject(room, &SUBJECT)];
    for action in Action::ALL {
        let on_bus = [Resource::Bus, Resource::User(handle)];
        let kinds = on_bus.into_iter().chain(resources(&ROOM)).filter(|resource| applies(action, *resource));
        assert_eq!(kinds.count(), 1, "{action:?}");
        for resource in resources(&missing) {
            assert!(!decide(memory.who("admin"), action, resource, &memory).is_allow(), "{action:?}");
        }
    }
}

#[test]
fn the_list_of_actions_is_whole() {
    let listed: BTreeSet<_> = Action::ALL.into_iter().collect();
    assert_eq!(listed.len(), Action::ALL.len(), "none twice");
    let names: BTreeSet<_> = Action::ALL.iter().map(|action| action.name()).collect();
    // Two actions come once for each of the four roles, under one name.
    assert_eq!(names.len(), Action::ALL.len() - 2 * 3);
}
