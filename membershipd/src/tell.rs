//! What the daemon tells users on the bus: that a right was gained, which only a new connection has, and that a membership
//! changed.
//!
//! Events are hints, and the API is the truth: nothing is said of what changed while a node was not watching, and an event
//! may come twice or not at all while nodes come and go. Nobody but daemons can publish on these subjects.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use tokio::sync::mpsc;

use crate::gate::{Applied, Gate, Review};
use crate::presence::Presence;
use unibus_api_types::bound::{Bound, BoundMet};
use unibus_core::bus;
use unibus_core::domain::{Author, Handle, MemberState, Records, RoomId, RoomRole};
use unibus_core::view::Change;

/// Events that wait for the engine to take them; what is too much is dropped.
const WAITING: usize = 4096;

/// An event and where it is told.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Told {
    #[serde(skip)]
    subject: String,
    /// How to read this.
    schema: u8,
    #[serde(flatten)]
    event: Event,
}

/// What happened.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
enum Event {
    /// Somebody is allowed more than his connections to `node` are: connecting anew gives it.
    RightsGained {
        node: String,
        /// The room that it comes from, where it is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<RoomId>,
    },
    /// The user met a bound at a node: a connection was refused or ended.
    BoundMet(BoundMet),
    /// A membership was made or changed.
    MembershipChanged { room: RoomId, handle: Handle, role: RoomRole, state: MemberState, by: Author, revision: u64 },
}

/// Finds out what is to be told, and by whom.
///
/// That a right was gained is told by each node to those who are connected to it, as soon as it would admit them with it: who
/// heard it from another node might come back too early. What happened in a room is for all nodes' members alike, and one
/// node tells it: the first by name of those whose heartbeats arrive.
#[derive(Debug)]
pub struct Teller {
    node: String,
    presence: Arc<Presence>,
    events: mpsc::Sender<Told>,
}

/// Events on their way.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<Told>);

impl Teller {
    /// The teller of `node`, and the end at which its events come out.
    pub fn new(node: &str, presence: Arc<Presence>) -> (Self, Events) {
        let (events, waiting) = mpsc::channel(WAITING);
        (Self { node: node.to_owned(), presence, events }, Events(waiting))
    }

    /// Tells what came of the entry with this revision, which `gate` applied at `now`.
    pub fn applied(&self, gate: &Gate, applied: &Applied, revision: u64, now: Instant) {
        match &applied.change {
            Change::Membership(room, handle) if self.speaks(now) => {
                let told = gate.view(|view| view.membership(room, handle).cloned()).map(|m| {
                    let (role, state, by) = (m.role, m.state, m.by);
                    Event::MembershipChanged { room: m.room, handle: m.handle, role, state, by, revision }
                });
                told.into_iter().for_each(|event| self.tell(bus::room_events(room.as_str()), event));
            }
            _ => {}
        }
        let room = match &applied.change {
            Change::Membership(room, _) | Change::Room(room) => Some(room),
            _ => None,
        };
        self.gained(&applied.review, room);
    }

    /// Tells who gained a right.
    pub fn gained(&self, review: &Review, room: Option<&RoomId>) {
        for handle in &review.gained {
            let event = Event::RightsGained { node: self.node.clone(), room: room.cloned() };
            self.tell(user_subject(handle), event);
        }
    }

    /// Tells `handle`, and the log, that a bound was met: what was above it was refused or disconnected. Neither is told each time.
    pub fn met(&self, gate: &Gate, handle: &Handle, bound: Bound, now: Instant) {
        let (telling, most) = (gate.note_met(handle, bound, now), gate.bounds().most(bound));
        if telling.log {
            tracing::warn!(user = %handle, ?bound, most, "a user has as much of the bus as one may: what is more is refused");
        }
        if telling.user {
            let met = BoundMet { node: self.node.clone(), bound, most };
            self.tell(bus::bound_notices(handle.as_str()), Event::BoundMet(met));
        }
    }

    /// Whether no node before this one is there.
    pub fn speaks(&self, now: Instant) -> bool {
        self.presence.nodes(now).first().is_none_or(|first| *first >= self.node)
    }

    fn tell(&self, subject: String, event: Event) {
        if self.events.try_send(Told { subject, schema: 1, event }).is_err() {
            tracing::debug!("an event was dropped: too many wait for the engine");
        }
    }
}

impl Events {
    /// Publishes them through `client`, a connection in the account of the members, until it fails.
    pub async fn publish(&mut self, client: &async_nats::Client) -> anyhow::Result<std::convert::Infallible> {
        while let Some(told) = self.0.recv().await {
            let body = serde_json::to_vec(&told)?;
            client.publish(told.subject, body.into()).await?;
        }
        anyhow::bail!("nobody tells events any more")
    }
}

/// Where one user alone listens; below it, since `Permissions` gives what lies below.
fn user_subject(handle: &Handle) -> String {
    format!("{}.rights", bus::user_events(handle.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BusAuth;
    use crate::gate::tests::put;
    use unibus_core::domain::{Permissions, Policy, Record, Role, State};
    use unibus_core::view::fixtures::{Entry, member, only_claim, room, user};

    fn told(events: &mut Events) -> Vec<(String, serde_json::Value)> {
        std::iter::from_fn(|| events.0.try_recv().ok())
            .map(|told| (told.subject.clone(), serde_json::to_value(&told).unwrap()))
            .collect()
    }

    #[test]
    fn a_membership_is_told_where_members_listen_and_a_gain_where_its_user_does() {
        let start = Instant::now();
        let now = start + bus::AUTHORIZATION_TIMEOUT;
        let gate = Gate::new(BusAuth::Enforce, start);
        gate.renew(now);
        let (teller, mut events) = Teller::new("magnus", Arc::default());
        let bob = user("bob", Role::User, State::Active);
        let kitchen = room("kitchen", "room.kitchen", Policy::CONVERSATION);
        let entries = [
            Entry::of(&Record::User(bob.clone())),
            Entry::claim(&bob),
            Entry::of(&Record::Claims(only_claim(&kitchen))),
            Entry::of(&Record::Room(kitchen.clone())),
        ];
        for entry in entries {
            teller.applied(&gate, &put(&gate, &entry, 1), 1, now);
        }
        gate.admit(Some(bob.sign_pub), 1, now).unwrap();
        assert!(told(&mut events).is_empty());

        let joins = member("kitchen", "bob", RoomRole::Member, MemberState::Joined);
        teller.applied(&gate, &put(&gate, &Entry::of(&Record::Membership(joins)), 7), 7, now);
        let changed = serde_json::json!({
            "schema": 1, "event": "membership_changed", "room": "kitchen", "handle": "bob",
            "role": "member", "state": "joined", "by": "alice", "revision": 7,
        });
        let gained = serde_json::json!({ "schema": 1, "event": "rights_gained", "node": "magnus", "room": "kitchen" });
        let expected = [("unibus.event.kitchen", changed), ("unibus.user.bob.rights", gained)];
        let expected = expected.map(|(subject, event)| (subject.to_owned(), event));
        assert_eq!(told(&mut events), expected);
        let listens = gate.view(|view| Permissions::of(&bob, view)).subscribe.allow;
        assert!(listens.contains(&"unibus.event.kitchen".to_owned()), "{listens:?}");
        assert!(listens.contains(&"unibus.user.bob.>".to_owned()), "{listens:?}");
    }

    #[test]
    fn a_user_hears_of_a_bound_that_it_met() {
        let (teller, mut events) = Teller::new("homer", Arc::default());
        let (gate, now) = (Gate::new(BusAuth::Enforce, Instant::now()), Instant::now());
        for _ in 0..3 {
            teller.met(&gate, &"bob".parse().unwrap(), Bound::Connections, now);
        }
        let told_of = serde_json::json!({
            "schema": 1, "event": "bound_met", "node": "homer", "bound": "connections", "most": 32,
        });
        assert_eq!(told(&mut events), [("unibus.user.bob.bounds".to_owned(), told_of)], "once");
    }

    #[test]
    fn of_the_nodes_that_are_there_the_first_speaks() {
        let now = Instant::now();
        let presence = Arc::new(Presence::default());
        let (teller, _events) = Teller::new("magnus", presence.clone());
        for node in ["magnus", "nelson"] {
            presence.hear(node, now);
            assert!(teller.speaks(now), "after {node}");
        }
        presence.hear("homer", now);
        assert!(!teller.speaks(now));
        assert!(teller.speaks(now + crate::presence::SILENT), "homer is gone");
    }

    #[test]
    fn a_flood_is_dropped_and_holds_nobody_up() {
        let (teller, mut events) = Teller::new("magnus", Arc::default());
        let review = Review { gained: vec!["bob".parse().unwrap(); WAITING + 10], ..Review::default() };
        teller.gained(&review, None);
        assert_eq!(told(&mut events).len(), WAITING);
    }
}
