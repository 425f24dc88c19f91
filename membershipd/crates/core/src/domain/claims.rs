//! Which room has which subject: documents in which two claims that overlap are two changes of one record.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::claims_key::ClaimsKey;
use super::limits::CLAIMS_PER_DOCUMENT;
use super::room::{Room, RoomId, RoomState};
use super::schema::Schema;
use super::subject::{Space, Subject};

/// The claimed subjects of a space, or of a second token in it (see [`ClaimsKey`]). Invariant: no subject of one room is equal to, above or below one of another room.
///
/// A changed document is written by compare-and-set on the revision of the one it was made from; who loses begins anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Document")]
pub struct Claims {
    schema: Schema<1>,
    space: Space,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    frozen: bool,
    claims: BTreeMap<Subject, RoomId>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: Schema<1>,
    space: Space,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    frozen: bool,
    claims: BTreeMap<Subject, RoomId>,
}

/// Why a subject cannot be claimed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Another room has the subject, or one above or below it. The message keeps to itself which.
    #[error("the subject '{subject}' is another room's, or lies above or below one: choose another")]
    Overlap {
        /// What was to be claimed.
        subject: Subject,
        /// What is claimed already.
        claimed: Subject,
        /// The room that has it.
        holder: RoomId,
    },
    /// The document is full.
    #[error("all {CLAIMS_PER_DOCUMENT} subjects of the space '{0}' are taken: remove a room, or use another space")]
    Full(ClaimsKey),
    /// The claims are on their way into small documents.
    #[error("no subject can be claimed while the feature level of the cluster is being raised")]
    Frozen,
    /// The document is that of another space, or of another token.
    #[error("the subject '{0}' is not in the space '{1}'")]
    OtherSpace(Subject, ClaimsKey),
}

impl Claims {
    /// A document in which nothing is claimed.
    pub fn none(key: impl Into<ClaimsKey>) -> Self {
        let key = key.into();
        let (space, token) = (key.space(), key.token().map(str::to_owned));
        Self { schema: Schema, space, token, frozen: false, claims: BTreeMap::new() }
    }

    /// Which document it is.
    pub fn key(&self) -> ClaimsKey {
        // What was read or made is one.
        ClaimsKey::of(self.space, self.token.clone()).unwrap_or_else(|| self.space.into())
    }

    /// Whether nothing in it changes any more: its claims are on their way into small documents, or there already.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// The same claims, of which none changes any more.
    #[must_use]
    pub fn freeze(&self) -> Self {
        Self { frozen: true, ..self.clone() }
    }

    /// The frozen document without its claims, which are in small documents now.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self { claims: BTreeMap::new(), ..self.freeze() }
    }

    /// The claims as small documents, by key.
    pub fn small_documents(&self) -> BTreeMap<ClaimsKey, Self> {
        let mut documents: BTreeMap<ClaimsKey, Self> = BTreeMap::new();
        for (subject, room) in &self.claims {
            let key = ClaimsKey::small(subject);
            let document = documents.entry(key.clone()).or_insert_with(|| Self::none(key));
            document.claims.insert(subject.clone(), room.clone());
        }
        documents
    }

    /// The room that has exactly this subject.
    pub fn holder(&self, subject: &Subject) -> Option<&RoomId> {
        self.claims.get(subject)
    }

    /// Whether a room has this subject, or one above it.
    pub fn covers(&self, subject: &Subject) -> bool {
        subject.lineage().any(|text| self.claims.contains_key(text))
    }

    /// All claims, by subject.
    pub fn iter(&self) -> impl Iterator<Item = (&Subject, &RoomId)> {
        self.claims.iter()
    }

    /// The document with `subject` claimed for `room`; the same one where it is already.
    pub fn claim(&self, subject: &Subject, room: &RoomId) -> Result<Self, ClaimError> {
        let key = self.key();
        if !key.covers(subject) {
            return Err(ClaimError::OtherSpace(subject.clone(), key));
        }
        if self.holder(subject) == Some(room) {
            return Ok(self.clone());
        }
        if self.frozen {
            return Err(ClaimError::Frozen);
        }
        if let Some((claimed, holder)) = self.overlapping(subject, room) {
            let (claimed, holder) = (claimed.clone(), holder.clone());
            return Err(ClaimError::Overlap { subject: subject.clone(), claimed, holder });
        }
        if self.claims.len() >= CLAIMS_PER_DOCUMENT {
            return Err(ClaimError::Full(key));
        }
        let mut changed = self.clone();
        changed.claims.insert(subject.clone(), room.clone());
        Ok(changed)
    }

    /// The document without the claim of `room` on `subject`; the same one where it has none.
    ///
    /// Only for a subject that nobody can use any more: until every node has cut the connections of the room that had it,
    /// they would hear the next one.
    pub fn release(&self, subject: &Subject, room: &RoomId) -> Self {
        let mut changed = self.clone();
        if changed.holder(subject) == Some(room) {
            changed.claims.remove(subject);
        }
        changed
    }

    /// Claims that no room uses: the room was removed, has another subject, or was never made. What an interrupted change
    /// leaves behind, for a repair; for a room never made write `Room::never_made` before the release.
    pub fn unused<'a>(
        &'a self,
        room: impl Fn(&RoomId) -> Option<&'a Room>,
    ) -> impl Iterator<Item = (&'a Subject, &'a RoomId)> {
        let used = move |subject: &Subject, id: &RoomId| {
            room(id).is_some_and(|room| room.state == RoomState::Active && room.subject == *subject)
        };
        self.claims.iter().filter(move |(subject, id)| !used(subject, id))
    }

    /// A claim of another room that `subject` would overlap.
    fn overlapping(&self, subject: &Subject, room: &RoomId) -> Option<(&Subject, &RoomId)> {
        let above = subject.lineage().filter_map(|text| self.claims.get_key_value(text));
        // What begins alike stands together in the order of texts.
        let prefix = format!("{subject}.");
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let below = self.claims.range::<str, _>(from).take_while(|(claimed, _)| claimed.as_str().starts_with(&prefix));
        above.chain(below).find(|(_, holder)| *holder != room)
    }
}

impl TryFrom<Document> for Claims {
    type Error = String;

    fn try_from(document: Document) -> Result<Self, String> {
        let Document { schema, space, token, frozen, claims } = document;
        let key =
            ClaimsKey::of(space, token.clone()).ok_or_else(|| format!("no subject of '{space}' has {token:?}"))?;
        let read = Self { schema, space, token, frozen, claims };
        if read.claims.len() > CLAIMS_PER_DOCUMENT {
            return Err(format!("{} claims, more than {CLAIMS_PER_DOCUMENT}", read.claims.len()));
        }
        for (subject, room) in &read.claims {
            if !key.covers(subject) {
                return Err(format!("'{subject}' among the claims of '{key}'"));
            }
            if let Some((other, _)) = read.overlapping(subject, room) {
                return Err(format!("'{subject}' and '{other}' overlap and belong to two rooms"));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::limits::{ROOM_ID_BYTES, SUBJECT_BYTES};
    use crate::domain::room::Policy;

    fn subject(text: &str) -> Subject {
        text.parse().unwrap()
    }

    fn id(text: &str) -> RoomId {
        text.parse().unwrap()
    }

    #[test]
    fn equal_higher_and_lower_subjects_of_another_room_conflict() {
        let (a, b) = (id("a"), id("b"));
        let claims = Claims::none(Space::Room).claim(&subject("room.x.y"), &a).unwrap();
        for taken in ["room.x.y", "room.x", "room.x.y.z", "room.x.y.z.0"] {
            let error = claims.claim(&subject(taken), &b).unwrap_err();
            let ClaimError::Overlap { claimed, holder, .. } = &error else { panic!("{error}") };
            assert_eq!((claimed.as_str(), holder), ("room.x.y", &a), "{taken}");
            assert!(!error.to_string().contains("'a'"), "whose it is stays unsaid: {error}");
        }
        for free in ["room.x-y", "room.x.y-z", "room.x.yz", "room.x.z", "room.y"] {
            assert!(claims.claim(&subject(free), &b).is_ok(), "{free}");
        }
        assert_eq!(claims.claim(&subject("room.x.y"), &a).unwrap(), claims, "a repetition changes nothing");
        assert!(claims.claim(&subject("room.x"), &a).is_ok(), "a room may move within what is its own");
        let elsewhere = subject("rpc.x");
        assert_eq!(claims.claim(&elsewhere, &b), Err(ClaimError::OtherSpace(elsewhere, Space::Room.into())));
    }

    #[test]
    fn only_the_holder_releases() {
        let claims = Claims::none(Space::Rpc).claim(&subject("rpc.x"), &id("a")).unwrap();
        assert_eq!(claims.release(&subject("rpc.x"), &id("b")), claims);
        assert_eq!(claims.release(&subject("rpc.x.y"), &id("a")), claims);
        let free = claims.release(&subject("rpc.x"), &id("a"));
        assert_eq!(free, Claims::none(Space::Rpc));
        assert!(free.claim(&subject("rpc.x.y"), &id("b")).is_ok());
    }

    #[test]
    fn a_full_space_says_so_and_fits_into_a_message() {
        let mut claims = Claims::none(Space::Proc);
        for n in 0..CLAIMS_PER_DOCUMENT {
            let room = format!("{n:0>width$}", width = ROOM_ID_BYTES);
            let long = format!("proc.{n:0>width$}", width = SUBJECT_BYTES - 5);
            claims.claims.insert(subject(&long), id(&room));
        }
        let error = claims.claim(&subject("proc.one-more"), &id("more")).unwrap_err();
        assert_eq!(error, ClaimError::Full(Space::Proc.into()));
        assert!(error.to_string().contains("2000"), "{error}");
        let text = serde_json::to_string(&claims).unwrap();
        assert!(text.len() < 512 * 1024, "{}", text.len());
        assert_eq!(serde_json::from_str::<Claims>(&text).unwrap(), claims);
        claims.claims.insert(subject("proc.one-more"), id("more"));
        assert!(serde_json::from_str::<Claims>(&serde_json::to_string(&claims).unwrap()).is_err());
    }

    #[test]
    fn the_document_reads_as_it_was_written() {
        let claims = Claims::none(Space::Agent)
            .claim(&subject("agent.bob"), &id("bobs"))
            .and_then(|claims| claims.claim(&subject("agent.alice"), &id("alices")))
            .unwrap();
        let golden = r#"{"schema":1,"space":"agent","claims":{"agent.alice":"alices","agent.bob":"bobs"}}"#;
        assert_eq!(serde_json::to_string(&claims).unwrap(), golden);
        assert_eq!(serde_json::from_str::<Claims>(golden).unwrap(), claims);
        for bad in [
            r#"{"schema":2,"space":"agent","claims":{}}"#,
            r#"{"space":"agent","claims":{}}"#,
            r#"{"schema":1,"space":"blog","claims":{}}"#,
            r#"{"schema":1,"space":"agent","claims":{},"more":1}"#,
            r#"{"schema":1,"space":"agent","claims":{"room.a":"a"}}"#,
            r#"{"schema":1,"space":"agent","claims":{"agent.*":"a"}}"#,
            r#"{"schema":1,"space":"agent","claims":{"agent.a":"a.b"}}"#,
            r#"{"schema":1,"space":"agent","claims":{"agent.a":"a","agent.a-b":"c","agent.a.b":"b"}}"#,
        ] {
            assert!(serde_json::from_str::<Claims>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_frozen_document_changes_no_more_and_comes_apart_by_second_token() {
        let claims = [("room.a", "a"), ("room.a.b", "a"), ("room.b", "b")].into_iter();
        let claims =
            claims.fold(Claims::none(Space::Room), |claims, (s, room)| claims.claim(&subject(s), &id(room)).unwrap());
        let frozen = claims.freeze();
        assert_eq!(frozen.claim(&subject("room.c"), &id("c")), Err(ClaimError::Frozen));
        assert_eq!(frozen.claim(&subject("room.a"), &id("a")), Ok(frozen.clone()), "what a room has it has");
        let small = frozen.small_documents();
        let texts: Vec<String> = small.values().map(|claims| serde_json::to_string(claims).unwrap()).collect();
        let golden = [
            r#"{"schema":1,"space":"room","token":"a","claims":{"room.a":"a","room.a.b":"a"}}"#,
            r#"{"schema":1,"space":"room","token":"b","claims":{"room.b":"b"}}"#,
        ];
        assert_eq!(texts, golden);
        for (document, text) in small.values().zip(golden) {
            assert_eq!(serde_json::from_str::<Claims>(text).unwrap(), *document);
            assert!(matches!(document.claim(&subject("room.c"), &id("c")), Err(ClaimError::OtherSpace(..))));
        }
        let emptied = r#"{"schema":1,"space":"room","frozen":true,"claims":{}}"#;
        assert_eq!(serde_json::to_string(&frozen.emptied()).unwrap(), emptied);
        let foreign = r#"{"schema":1,"space":"room","token":"a","claims":{"room.b":"b"}}"#;
        assert!(serde_json::from_str::<Claims>(foreign).is_err());
    }

    #[test]
    fn what_no_room_uses_is_found() {
        let (kept, moved, gone) = ("room.kept", "room.moved", "room.gone");
        let claims = [(kept, "kept"), (moved, "moved"), ("room.new", "moved"), (gone, "gone"), ("room.never", "never")]
            .into_iter()
            .try_fold(Claims::none(Space::Room), |claims, (s, room)| claims.claim(&subject(s), &id(room)))
            .unwrap();
        let room = |name: &str, s: &str| Room::new(id(name), subject(s), Policy::TELEMETRY, "root".parse().unwrap());
        let rooms =
            [room("kept", kept), room("moved", "room.new"), room("gone", gone).removed("root".parse().unwrap())];
        let unused: Vec<_> =
            claims.unused(|id| rooms.iter().find(|room| room.id == *id)).map(|(s, _)| s.as_str()).collect();
        assert_eq!(unused, [gone, moved, "room.never"]);
    }

    fn few_subjects() -> impl Strategy<Value = Subject> {
        // Few tokens, among them those that sort around the dot, so that subjects meet often.
        let token = prop::sample::select(vec!["a", "b", "-", "a-", "a_", "a0", "ab"]);
        prop::collection::vec(token, 1..4).prop_map(|tokens| subject(&format!("room.{}", tokens.join("."))))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_two_rooms_ever_overlap(
            steps in prop::collection::vec((any::<bool>(), few_subjects(), 0..4u8), 1..60),
        ) {
            let mut claims = Claims::none(Space::Room);
            for (claiming, subject, room) in steps {
                let room = id(&room.to_string());
                let others = claims.iter().filter(|(_, holder)| **holder != room);
                let overlaps = others.map(|(claimed, _)| claimed.clone()).find(|claimed| claimed.overlaps(&subject));
                if claiming {
                    match claims.claim(&subject, &room) {
                        Ok(changed) => {
                            prop_assert_eq!(overlaps, None);
                            prop_assert_eq!(changed.holder(&subject), Some(&room));
                            claims = changed;
                        }
                        Err(error) => prop_assert!(overlaps.is_some(), "{}", error),
                    }
                } else {
                    claims = claims.release(&subject, &room);
                    prop_assert_ne!(claims.holder(&subject), Some(&room));
                }
                for (a, room_a) in claims.iter() {
                    prop_assert!(claims.iter().all(|(b, room_b)| room_a == room_b || !a.overlaps(b)));
                }
                let text = serde_json::to_string(&claims).unwrap();
                prop_assert_eq!(serde_json::from_str::<Claims>(&text).unwrap(), claims.clone());
            }
        }
    }
}
