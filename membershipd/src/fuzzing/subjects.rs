//! The fuzz target of subjects and what is built on them: claims, and the permissions that an engine is told.
//!
//! The input is lines: a user, then rooms, each with its id, its subject, and the user's role and state in it. Where fewer words
//! are given the rest is usual.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use unibus_core::bus::Bucket;
use unibus_core::domain::{
    Author, ClaimError, Claims, ClaimsKey, FeatureLevel, Handle, InvalidValue, LevelRecord, MemberState, Membership,
    Permissions, Policy, Record, Role, Room, RoomId, RoomRole, SignPub, Space, Standing, State, Subject, SubjectList,
    User,
};
use unibus_core::view::{View, record_key};

/// Rooms that are made at most.
const ROOMS: usize = 64;
/// Longest refusal that repeats what was given, in characters.
const REFUSAL: usize = 400;

/// Builds rooms, claims and memberships as the lines say, by way of the records that a store has, and asks for the permissions
/// of the user. Holds that
/// - a name that is taken is printed as it was written, and read again is the same; one that is refused makes no flood;
/// - a claim is made exactly where no other room has a subject equal, above or below;
/// - what the user may publish or hear lies in his inbox, in what is told to him, or in a room in which he is, as his role has
///   it, or is an answer to a member who asks in that room; never in another room, in the engine's own spaces, or, for publishing, in what the daemon alone tells.
pub fn subjects(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let Some(handle) = name::<Handle>(lines.next().unwrap_or_default()) else { return };
    for level in FeatureLevel::ALL {
        let Some(mut world) = World::of(handle.clone(), level) else { return };
        for line in lines.clone().take(ROOMS) {
            world.add(line);
        }
        world.check(text);
    }
}

/// A name that is taken or refused.
fn name<T>(text: &str) -> Option<T>
where
    T: std::str::FromStr<Err = InvalidValue>
        + std::fmt::Display
        + PartialEq
        + std::fmt::Debug
        + Serialize
        + DeserializeOwned,
{
    match text.parse::<T>() {
        Ok(name) => {
            assert_eq!(name.to_string(), text);
            same(&name);
            Some(name)
        }
        Err(error) => {
            assert!(error.to_string().chars().count() < REFUSAL, "{error}");
            None
        }
    }
}

/// As JSON, after it was found to come back as it was.
fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) -> Vec<u8> {
    let text = serde_json::to_vec(value).unwrap_or_default();
    assert_eq!(serde_json::from_slice::<T>(&text).ok().as_ref(), Some(value));
    text
}

/// A room as the line about it was understood.
struct Known {
    subject: Subject,
    role: RoomRole,
    joined: bool,
}

struct World {
    user: User,
    view: View,
    revision: u64,
    rooms: BTreeMap<RoomId, Known>,
    claims: BTreeMap<ClaimsKey, Claims>,
}

impl World {
    fn of(handle: Handle, level: FeatureLevel) -> Option<Self> {
        // The public key of RFC 8032 section 7.1, test 1.
        let key: SignPub = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a".parse().ok()?;
        let user = User { handle, sign_pub: key, role: Role::User, state: State::Active };
        let (rooms, claims) = (BTreeMap::new(), BTreeMap::new());
        let mut world = Self { user: user.clone(), view: View::default(), revision: 0, rooms, claims };
        if level != FeatureLevel::default() {
            world.put(&Record::Level(LevelRecord::new(level)));
        }
        world.put(&Record::User(user));
        Some(world)
    }

    /// Puts a record as a node finds it in its store.
    fn put(&mut self, record: &Record) {
        let value = match record {
            Record::User(user) => same(user),
            Record::Claims(claims) => same(claims),
            Record::Room(room) => same(room),
            Record::Membership(membership) => same(membership),
            Record::Level(level) => same(level),
        };
        let (bucket, key): (Bucket, String) = record_key(&record.key());
        self.revision += 1;
        let applied = self.view.apply(bucket, &key, &value, self.revision);
        assert!(applied.is_ok(), "{record:?}: {applied:?}");
    }

    /// A room that somebody makes, where he may, and how the user stands to it.
    fn add(&mut self, line: &str) {
        let mut words = line.split(' ');
        let id = name::<RoomId>(words.next().unwrap_or_default());
        let subject = words.next().and_then(name::<Subject>);
        let (Some(id), Some(subject)) = (id, subject) else { return };
        let word = |word: Option<&str>| serde_json::Value::from(word.unwrap_or_default());
        let role = serde_json::from_value(word(words.next())).unwrap_or(RoomRole::Member);
        let state = serde_json::from_value(word(words.next())).unwrap_or(MemberState::Joined);
        if self.rooms.contains_key(&id) || !self.claim(&id, &subject) {
            return;
        }
        let Ok(owner) = "owner".parse() else { return };
        self.put(&Record::Room(Room::new(id.clone(), subject.clone(), Policy::TELEMETRY, owner)));
        let by = Author::User(self.user.handle.clone());
        let standing = Standing { role, state };
        self.put(&Record::Membership(Membership::new(id.clone(), self.user.handle.clone(), standing, by)));
        self.rooms.insert(id, Known { subject, role, joined: state == MemberState::Joined });
    }

    /// Claims the subject, if no other room is in the way.
    fn claim(&mut self, id: &RoomId, subject: &Subject) -> bool {
        let key = ClaimsKey::deciding(subject, self.view.level());
        let none = Claims::none(key.clone());
        let claims = self.claims.get(&key).unwrap_or(&none);
        let in_the_way = claims.iter().find(|(claimed, room)| *room != id && related(claimed, subject));
        let claimed = claims.claim(subject, id);
        assert_eq!(
            claimed.is_ok(),
            in_the_way.is_none(),
            "'{subject}' of '{id}': {claimed:?}, in the way: {in_the_way:?}"
        );
        let changed = match claimed {
            Ok(changed) => changed,
            Err(ClaimError::Overlap { claimed, holder, .. }) => {
                assert!(related(&claimed, subject) && holder != *id, "'{claimed}' is not in the way of '{subject}'");
                return false;
            }
            Err(ClaimError::Full(_) | ClaimError::Frozen | ClaimError::OtherSpace(..)) => return false,
        };
        self.put(&Record::Claims(changed.clone()));
        self.claims.insert(key, changed);
        true
    }

    fn check(&self, text: &str) {
        let rights = Permissions::of(&self.user, &self.view);
        for pattern in rights.publish.allow.iter().chain(&rights.subscribe.allow) {
            let mut tokens = pattern.split('.').rev();
            let last = tokens.next().unwrap_or_default();
            let fine = |token: &str| !token.is_empty() && !token.contains([' ', '\t', '>']);
            assert!((last == ">" || fine(last)) && tokens.all(fine), "the engine does not know '{pattern}'");
        }
        let tried = text.split_ascii_whitespace().filter(|word| literal(word)).map(str::to_owned);
        let known = self.rooms.values().flat_map(|room| {
            let below = [format!("{}.x", room.subject), format!("{}.x.y", room.subject), format!("{}x", room.subject)];
            let above = room.subject.as_str().rsplit_once('.').map(|(above, _)| above.to_owned());
            below.into_iter().chain(above).chain([room.subject.to_string()])
        });
        let events = self.rooms.keys().map(|id| format!("unibus.event.{id}"));
        let handle = &self.user.handle;
        let own = [format!("_INBOX.{handle}.x"), format!("unibus.user.{handle}.rights")];
        let inboxes = self.rooms.keys().flat_map(|id| [format!("_INBOX.x.{id}.y"), format!("_INBOX.x.{id}")]);
        let others = [
            "_INBOX.x.y",
            "_INBOX.x.y.z",
            "unibus.user.x.y",
            "unibus.event.x",
            "$JS.API.INFO",
            "$KV.UNIBUS_users.x",
            "$SYS.x",
        ];
        for subject in tried.chain(known).chain(events).chain(inboxes).chain(own).chain(others.map(str::to_owned)) {
            self.judge(&subject, &rights);
        }
    }

    /// Compares what the permissions say about a subject with what they should.
    fn judge(&self, subject: &str, rights: &Permissions) {
        let handle = self.user.handle.as_str();
        let inbox = below(subject, &format!("_INBOX.{handle}"));
        let joined = || self.rooms.iter().filter(|(_, room)| room.joined);
        let tree = |room: &Known| subject == room.subject.as_str() || below(subject, room.subject.as_str());
        let writes = joined().any(|(_, room)| room.role >= RoomRole::Member && tree(room));
        let mut answers =
            joined().filter(|(_, room)| room.role >= RoomRole::Member && room.subject.space() == Space::Rpc);
        let answer = match subject.split('.').collect::<Vec<_>>()[..] {
            ["_INBOX", _, _, ..] if self.view.level() < FeatureLevel::Kept => answers.next().is_some(),
            ["_INBOX", _, asked, _, ..] => answers.any(|(id, _)| id.as_str() == asked),
            _ => false,
        };
        assert_eq!(allows(&rights.publish, subject), inbox || writes || answer, "{handle} publishes to {subject}");
        let told = below(subject, &format!("unibus.user.{handle}"))
            || joined().any(|(id, _)| subject == format!("unibus.event.{id}"));
        let hears = joined().any(|(_, room)| tree(room));
        assert_eq!(allows(&rights.subscribe, subject), inbox || told || hears, "{handle} hears {subject}");
    }
}

/// Whether one of the two is the other or lies below it, token by token.
fn related(one: &Subject, other: &Subject) -> bool {
    one.as_str().split('.').zip(other.as_str().split('.')).all(|(one, other)| one == other)
}

/// Whether a message can be sent to it.
fn literal(subject: &str) -> bool {
    subject.split('.').all(|token| !token.is_empty() && token != "*" && token != ">")
}

fn below(subject: &str, above: &str) -> bool {
    subject.strip_prefix(above).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether the engine lets a message through: allowed, and not denied.
fn allows(list: &SubjectList, subject: &str) -> bool {
    let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, subject));
    any(&list.allow) && !any(&list.deny)
}

/// Wildcards as the engine has them (docs.nats.io, 'Subject-Based Messaging'): `*` is one token, `>` at the end one or more.
fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}
