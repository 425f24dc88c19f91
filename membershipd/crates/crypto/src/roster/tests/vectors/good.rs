//! Logs that are as they should be.

use super::*;
use crate::roster::AdoptedMember;
use RoomRole::{Member, Moderator, Owner, Reader};

/// Alice's kitchen with bob, a moderator, and carol, a member whom bob invited: five entries.
pub(super) fn kitchen() -> Pen {
    let (bob, carol) = (who("bob"), who("carol"));
    let mut pen = Pen::new();
    pen.join(&bob, Moderator);
    pen.add(&bob, invite(&carol, Member));
    pen.add(&carol, accept(&carol));
    pen
}

/// The kitchen, with a link of bob's as its sixth entry.
pub(super) fn with_link() -> (Pen, RoomLink) {
    let (mut pen, bob) = (kitchen(), who("bob"));
    pen.add(&bob, link(7, Member));
    let (inviter, inviter_key, head) = (bob.handle, bob.keys.sign_pub, pen.state.head());
    (pen, RoomLink { room: room("kitchen"), inviter, inviter_key, head, seed: seed(7) })
}

pub(super) fn adopted() -> Pen {
    let member = |name: &str, role, state| {
        let one = who(name);
        AdoptedMember { handle: one.handle, role, state, keys: one.keys }
    };
    let members = vec![
        member("alice", Owner, MemberState::Joined),
        member("bob", Member, MemberState::Joined),
        member("carol", Reader, MemberState::Invited),
        member("dave", Moderator, MemberState::Banned),
    ];
    let policy = Policy { persist: false, ..Policy::CONVERSATION };
    let adopt = RosterAction::Adopt { subject: "room.kitchen".parse().unwrap(), policy, members };
    Pen::begin("kitchen", &who("alice"), adopt)
}

pub(super) fn cases() -> Vec<Case> {
    let (alice, bob, carol, dave, erin, new) =
        (who("alice"), who("bob"), who("carol"), who("dave"), who("erin"), who("bob2"));
    let small = kitchen();
    let pinned = small.state.head();

    let mut lively = kitchen();
    lively.add(&bob, role("carol", Reader));
    lively.add(&alice, RosterAction::SetPolicy { policy: Policy { encrypt: true, persist: false, sign: true } });
    lively.add(&alice, RosterAction::SetSubject { subject: "room.home.kitchen".parse().unwrap() });
    lively.add(&carol, RosterAction::Leave);
    lively.add(&alice, ban("carol"));
    lively.add(&alice, unban("carol"));
    lively.add(&alice, role("bob", Owner));
    lively.add(&bob, invite(&carol, Owner));
    lively.add(&alice, RosterAction::Leave);
    lively.add(&bob, remove("carol"));
    lively.add(&bob, invite(&dave, Reader));

    let (mut linked, by_link) = with_link();
    linked.add(&dave, accept_link(7, &dave));
    linked.add(&alice, link(8, Owner));
    linked.add(&alice, RosterAction::RevokeLink { invite_pub: invite_key(8).public() });
    linked.add(&dave, RosterAction::Leave);
    linked.add(&bob, link(9, Reader));
    linked.add(&dave, accept_link(9, &dave));

    let mut replaced = kitchen();
    replaced.add(&alice, replace(&new));
    replaced.add(&new, accept(&new));
    replaced.add(&new, invite(&erin, Member));

    let mut adopted = adopted();
    adopted.add(&carol, accept(&carol));
    let (hpke_pub, subject) = (bob.keys.hpke_pub, "room.kitchen2".parse().unwrap());
    let policy = Policy::CONVERSATION;
    let successor = RosterAction::Continue { hpke_pub, subject, policy, room: room("kitchen"), head: pinned };
    let successor = Pen::begin("kitchen2", &bob, successor);
    let own = |name| Person { handle: handle(name), ..person(name, 50) };
    let mut other = Pen::begin("kitchen", &own("other"), create(&own("other")));
    other.add(&own("other"), invite(&bob, Owner));

    vec![
        Case::new("a room of one", &Pen::new().entries),
        Case::new("alice invites bob, and bob carol", &small.entries).trusting(Shown::Creator(alice.keys.sign_pub)),
        Case::new("what is new since a head that was seen", &lively.entries).trusting(Shown::Pinned(pinned)),
        Case {
            takings: vec![who("bob"), who("carol"), who("mallory")],
            ..Case::new("the server takes two away, and one whom the log does not have", &small.entries)
        },
        Case {
            takings: vec![who("bob2")],
            ..Case::new("the server takes a key away that bob does not have", &small.entries)
        },
        Case::new("dave comes in with a link, and with another", &linked.entries)
            .trusting(Shown::Link(Box::new(by_link))),
        Case::new("bob lost the keys, and has new ones", &replaced.entries),
        Case::new("a room that is older than its log", &adopted.entries).trusting(Shown::Creator(alice.keys.sign_pub)),
        Case { room: "kitchen2", ..Case::new("a room in the place of another", &successor.entries) },
        Case::new("a member whose handle is 'other'", &other.entries),
    ]
}
