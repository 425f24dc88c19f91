//! Logs that no client may take: lies of a server, of members, and of people who are none.

use super::good::{adopted, kitchen, with_link};
use super::*;
use crate::roster::AdoptedMember;
use RoomRole::{Member, Moderator, Owner, Reader};

pub(super) fn cases() -> Vec<Case> {
    let cases = cases_with_reasons().into_iter().map(|(why, case)| {
        assert_eq!(case.judge().map(|_| ()).unwrap_err().1, why, "{}", case.what);
        case
    });
    cases.collect()
}

/// The kitchen's log and one entry more, which is not taken.
fn more(what: &'static str, pen: &Pen, actor: &Person, action: RosterAction) -> Case {
    Case::new(what, &[pen.entries.clone(), vec![pen.sign(actor, action)]].concat())
}

fn changed(entry: &SignedEntry, at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = entry.bytes().to_vec();
    assert_ne!(bytes[at], byte);
    bytes[at] = byte;
    bytes
}

/// `bytes`, in which `new` stands in the place of `old`.
fn with(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = bytes.windows(old.len()).rposition(|window| window == old).unwrap();
    [&bytes[..at], new, &bytes[at + old.len()..]].concat()
}

/// Signs bytes that are no entry, as the owner of the key could.
fn sign_raw(body: &[u8], who: &Person) -> Vec<u8> {
    [body, &who.pair.sign(body).unwrap()[..]].concat()
}

fn body(entry: &SignedEntry) -> &[u8] {
    &entry.bytes()[..entry.bytes().len() - 64]
}

fn cases_with_reasons() -> Vec<(&'static str, Case)> {
    [servers(), members(), links(), encodings()].into_iter().flatten().collect()
}

/// What a stolen server can do: reorder, drop, fork, replay, and invent.
fn servers() -> Vec<(&'static str, Case)> {
    let (alice, bob, carol, mallory) = (who("alice"), who("bob"), who("carol"), who("mallory"));
    let pen = kitchen();
    let entries = &pen.entries;
    let (mut removed, mut other) = (pen.clone(), pen.clone());
    removed.add(&alice, remove("carol"));
    other.add(&alice, remove("bob"));
    let seen = removed.state.head();
    let pick = |places: &[usize]| places.iter().map(|place| entries[*place - 1].clone()).collect::<Vec<_>>();
    let fake = Person { handle: handle("alice"), ..who("mallory") };
    let mut invented = Pen::begin("kitchen", &fake, create(&mallory));
    invented.add(&fake, invite(&bob, Moderator));
    invented.add(&bob, accept(&bob));
    let cellar = Pen::begin("cellar", &alice, create(&alice));
    let ghost = Entry { actor: handle("ghost"), ..pen.next(&mallory, invite(&mallory, Owner)) };
    let as_bob = Entry { actor: bob.handle.clone(), ..pen.next(&mallory, invite(&mallory, Member)) };
    let good = pen.sign(&bob, invite(&who("dave"), Member));
    let swapped = with(good.bytes(), &who("dave").keys.hpke_pub.to_bytes(), &mallory.keys.hpke_pub.to_bytes());
    let others = with(good.bytes(), &good.bytes()[good.bytes().len() - 64..], &mallory.pair.sign(body(&good)).unwrap());
    let mixed = Entry { room: room("cellar"), ..pen.next(&alice, remove("bob")) };
    let again = Entry { number: 4, ..pen.next(&alice, remove("bob")) };
    let skips = Entry { number: 7, ..pen.next(&alice, remove("bob")) };
    let strange = Entry { previous: RosterHead::from_bytes([5; 32]), ..pen.next(&alice, remove("bob")) };
    let add = |what, entry: SignedEntry| Case::new(what, &[entries.clone(), vec![entry]].concat());
    vec![
        ("gap", Case::new("no log at all", &[])),
        ("gap", Case::new("an entry is left out", &pick(&[1, 2, 4, 5]))),
        ("gap", Case::new("the first entry is left out", &pick(&[2, 3, 4, 5]))),
        ("gap", Case::new("two entries change places", &pick(&[1, 2, 4, 3, 5]))),
        ("gap", add("an entry has a later number", signed(&skips, &alice))),
        ("applied", Case::new("an entry comes twice", &pick(&[1, 2, 3, 4, 5, 5]))),
        ("step-back", Case::new("a removal that was seen is held back", entries).trusting(Shown::Pinned(seen))),
        (
            "fork",
            Case::new("another entry in the place of a removal that was seen", &other.entries)
                .trusting(Shown::Pinned(seen)),
        ),
        (
            "fork",
            Case::new("another log, made up by the server", &invented.entries)
                .trusting(Shown::Pinned(entries[0].head())),
        ),
        (
            "other-creator",
            Case::new("the same, to a client that knows who made the room", &invented.entries)
                .trusting(Shown::Creator(alice.keys.sign_pub)),
        ),
        ("fork", add("an entry of another branch", signed(&again, &alice))),
        ("fork", add("what follows an entry that is not here", signed(&strange, &alice))),
        (
            "fork",
            Case::new(
                "a second beginning",
                &[entries.clone(), vec![opening("kitchen", &who("dave"), create(&who("dave")))]].concat(),
            ),
        ),
        ("foreign-room", Case::new("the log of another room", &cellar.entries)),
        ("foreign-room", add("an entry for another room", signed(&mixed, &alice))),
        ("denied", add("a user whom the server made up invites", signed(&ghost, &mallory))),
        ("other-key", add("in bob's name, with another key", signed(&as_bob, &mallory))),
        ("signature", Case::new("another's keys in the place of the invited one's", entries).raw(swapped)),
        ("signature", Case::new("in bob's name, signed by another", entries).raw(others)),
        (
            "signature",
            Case::new("a signature with a bit changed", entries).raw(changed(&good, good.bytes().len() - 1, 0x7f)),
        ),
        ("denied", more("a stranger accepts an invitation that there is not", &pen, &mallory, accept(&mallory))),
        ("denied", more("a member comes back after a removal", &removed, &carol, accept(&carol))),
    ]
}

/// What members and people who were members can do.
fn members() -> Vec<(&'static str, Case)> {
    let (alice, bob, carol, dave, mallory, new) =
        (who("alice"), who("bob"), who("carol"), who("dave"), who("mallory"), who("bob2"));
    let pen = kitchen();
    let (mut removed, mut banned, mut replaced, mut left) = (pen.clone(), pen.clone(), pen.clone(), pen.clone());
    removed.add(&alice, remove("bob"));
    banned.add(&alice, ban("carol"));
    replaced.add(&alice, replace(&new));
    left.add(&carol, RosterAction::Leave);
    let mut invited = pen.clone();
    invited.add(&alice, invite(&dave, Owner));
    let swapped = Person { keys: Keys { hpke_pub: mallory.keys.hpke_pub, ..dave.keys }, ..who("dave") };
    let mut cheated = pen.clone();
    cheated.add(&bob, invite(&swapped, Member));
    let with_keys = |keys: Keys| invite(&Person { keys, ..who("dave") }, Member);
    let weak = crate::HpkePub::from_bytes([0; 32]);
    vec![
        ("denied", more("a member invites", &pen, &carol, invite(&dave, Reader))),
        ("denied", more("a moderator invites an owner", &pen, &bob, invite(&dave, Owner))),
        ("denied", more("a moderator becomes an owner by their own word", &pen, &bob, role("bob", Owner))),
        ("denied", more("a moderator removes an owner", &pen, &bob, remove("alice"))),
        (
            "denied",
            more("a moderator changes the policy", &pen, &bob, RosterAction::SetPolicy { policy: Policy::TELEMETRY }),
        ),
        ("denied", more("a moderator takes new keys in", &pen, &bob, replace(&person("carol", 70)))),
        ("denied", more("an owner takes in new keys of their own", &pen, &alice, replace(&who("alice2")))),
        ("denied", more("an owner bans themselves", &pen, &alice, ban("alice"))),
        ("denied", more("who was removed goes on inviting", &removed, &bob, invite(&mallory, Member))),
        ("denied", more("an invited owner acts before accepting", &invited, &dave, remove("bob"))),
        ("denied", more("who is banned accepts", &banned, &carol, accept(&carol))),
        ("banned", more("a banned one is invited", &banned, &alice, invite(&carol, Member))),
        ("banned", more("a banned one gets new keys", &banned, &alice, replace(&person("carol", 70)))),
        ("replaced-key", more("a key that was replaced accepts", &replaced, &bob, accept(&bob))),
        ("key-in-use", more("a key that was replaced comes back", &replaced, &alice, replace(&bob))),
        (
            "key-in-use",
            more("another's signing key", &pen, &alice, with_keys(Keys { sign_pub: carol.keys.sign_pub, ..dave.keys })),
        ),
        (
            "key-in-use",
            more("another's HPKE key", &pen, &alice, with_keys(Keys { hpke_pub: carol.keys.hpke_pub, ..dave.keys })),
        ),
        ("key-changed", more("who left is invited with other keys", &left, &bob, invite(&person("carol", 70), Member))),
        (
            "weak-key",
            more("a key that nothing is sealed to", &pen, &bob, with_keys(Keys { hpke_pub: weak, ..dave.keys })),
        ),
        ("other-hpke-key", more("who was invited with another HPKE key accepts", &cheated, &dave, accept(&dave))),
        ("last-owner", more("the last owner leaves", &pen, &alice, RosterAction::Leave)),
        ("last-owner", more("the last owner becomes a member", &pen, &alice, role("alice", Member))),
        ("present", more("a member is invited", &pen, &alice, invite(&carol, Owner))),
        ("not-present", more("a stranger is removed", &pen, &alice, remove("dave"))),
        ("not-present", more("a stranger gets a role", &pen, &alice, role("dave", Member))),
        ("not-banned", more("a member's ban is lifted", &pen, &alice, unban("carol"))),
        ("unchanged", more("a member accepts", &pen, &carol, accept(&carol))),
    ]
}

fn links() -> Vec<(&'static str, Case)> {
    let (alice, bob, dave, erin) = (who("alice"), who("bob"), who("dave"), who("erin"));
    let (pen, by_link) = with_link();
    let (mut used, mut revoked, mut gone, mut lowered, mut left) =
        (pen.clone(), pen.clone(), pen.clone(), pen.clone(), pen.clone());
    used.add(&dave, accept_link(7, &dave));
    revoked.add(&alice, RosterAction::RevokeLink { invite_pub: invite_key(7).public() });
    gone.add(&alice, remove("bob"));
    lowered.add(&alice, role("bob", Member));
    let mut replaced = pen.clone();
    replaced.add(&alice, replace(&who("bob2")));
    replaced.add(&who("bob2"), accept(&who("bob2")));
    left.add(&dave, accept_link(7, &dave));
    left.add(&dave, RosterAction::Leave);
    left.add(&alice, link(8, Member));
    let good = pen.sign(&dave, accept_link(7, &dave));
    let twice = |bytes: &[u8]| {
        let body = &bytes[..bytes.len() - 128];
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let statement = [&22u32.to_be_bytes()[..], b"unibus.roster-invite.1", &length, body].concat();
        invite_key(8).pair().sign(&statement).unwrap()
    };
    let by_another = twice(good.bytes());
    let invented = Person { handle: handle("alice"), ..who("mallory") };
    let mut forged = Pen::begin("kitchen", &invented, create(&invented));
    forged.add(&invented, invite(&bob, Moderator));
    forged.add(&bob, accept(&bob));
    forged.add(&invented, invite(&who("carol"), Member));
    forged.add(&who("carol"), accept(&who("carol")));
    forged.add(&bob, link(7, Member));
    let trust = |link: RoomLink| Shown::Link(Box::new(link));
    vec![
        ("link-used", more("a link is used again", &used, &erin, accept_link(7, &erin))),
        ("link-revoked", more("a link that was taken back", &revoked, &dave, accept_link(7, &dave))),
        ("link-maker-gone", more("the link of a moderator who was removed", &gone, &dave, accept_link(7, &dave))),
        ("link-maker-gone", more("a moderator comes back with their own link", &gone, &bob, accept_link(7, &bob))),
        (
            "link-maker-gone",
            more("the link of one who may not invite any more", &lowered, &dave, accept_link(7, &dave)),
        ),
        ("link-maker-gone", more("the link of a moderator with new keys", &replaced, &dave, accept_link(7, &dave))),
        ("no-such-link", more("a link that the log does not have", &pen, &dave, accept_link(8, &dave))),
        (
            "invite-signature",
            Case::new("the link's token alone, without its key", &pen.entries).raw(with(
                good.bytes(),
                &good.bytes()[good.bytes().len() - 64..],
                &by_another,
            )),
        ),
        (
            "key-changed",
            more(
                "with other keys, by the name of one who left",
                &left,
                &person("dave", 70),
                accept_link(8, &person("dave", 70)),
            ),
        ),
        ("present", more("a member comes in with a link", &pen, &who("carol"), accept_link(7, &who("carol")))),
        (
            "denied",
            more(
                "a member takes a link back",
                &pen,
                &who("carol"),
                RosterAction::RevokeLink { invite_pub: invite_key(7).public() },
            ),
        ),
        (
            "fork",
            Case::new("a log that the server made up, to who has a link", &forged.entries)
                .trusting(trust(by_link.clone())),
        ),
        ("step-back", Case::new("a log that ends before the link", &pen.entries[..5]).trusting(trust(by_link.clone()))),
        (
            "other-link",
            Case::new("a link that names another inviter", &pen.entries)
                .trusting(trust(RoomLink { inviter: alice.handle, ..by_link.clone() })),
        ),
        (
            "other-link",
            Case::new("a link with another seed", &pen.entries).trusting(trust(RoomLink { seed: seed(8), ..by_link })),
        ),
    ]
}

/// What is not in the one encoding, signed by an owner.
fn encodings() -> Vec<(&'static str, Case)> {
    let (alice, bob) = (who("alice"), who("bob"));
    let pen = kitchen();
    let good = pen.sign(&alice, role("bob", Member));
    let body = body(&good);
    let raw = |what, bytes: Vec<u8>| ("malformed", Case::new(what, &pen.entries).raw(bytes));
    let first = adopted().entries[0].clone();
    let first_body = self::body(&first);
    let bobs = AdoptedMember { handle: bob.handle.clone(), role: Member, state: MemberState::Joined, keys: bob.keys };
    let lower = RosterAction::Adopt {
        subject: "room.kitchen".parse().unwrap(),
        policy: Policy::CONVERSATION,
        members: vec![AdoptedMember { handle: alice.handle.clone(), role: Moderator, keys: alice.keys, ..bobs }],
    };
    let lower = opening("kitchen", &alice, lower);
    let alone = |bytes: Vec<u8>| Case::new("", &[]).raw(bytes);
    let flags = |entry: &SignedEntry| {
        let body = self::body(entry);
        [&body[..body.len() - 1], &[8]].concat()
    };
    let keyed = |key: &[u8]| {
        let link = pen.sign(&alice, link(8, Member));
        sign_raw(&with(self::body(&link), &invite_key(8).public().to_bytes(), key), &alice)
    };
    let policy = pen.sign(&alice, RosterAction::SetPolicy { policy: Policy::TELEMETRY });
    vec![
        raw("a byte too many", sign_raw(&[body, &[0]].concat(), &alice)),
        raw("a part too many", sign_raw(&[body, &[0, 0, 0, 0]].concat(), &alice)),
        raw("cut off", good.bytes()[..good.bytes().len() - 65].to_vec()),
        raw("nothing", vec![]),
        raw("of another version", sign_raw(&with(body, b"unibus.roster-entry.1", b"unibus.roster-entry.2"), &alice)),
        raw("an action that there is not", sign_raw(&with(body, b"role", b"rule"), &alice)),
        raw("a role that there is not", sign_raw(&with(body, b"member", b"Member"), &alice)),
        raw("a handle that is none", sign_raw(&with(body, b"\0\0\0\x03bob", b"\0\0\0\x03Bob"), &alice)),
        raw("a flag that there is not", sign_raw(&flags(&policy), &alice)),
        raw("a number 0", sign_raw(&with(body, &[0, 0, 0, 4, 0, 0, 0, 6], &[0, 0, 0, 4, 0, 0, 0, 0]), &alice)),
        raw("a weak signing key", keyed(&[&[1][..], &[0; 31]].concat())),
        raw("a signing key that is no point of the curve", keyed(&[&[2][..], &[0; 31]].concat())),
        (
            "malformed",
            Case {
                what: "a snapshot that is not in order",
                ..alone(sign_raw(&with(first_body, b"bob", b"aaa"), &alice))
            },
        ),
        ("denied", Case { what: "a snapshot by one who is no owner in it", ..alone(lower.bytes().to_vec()) }),
        (
            "malformed",
            Case {
                what: "a beginning behind another entry",
                ..alone(sign_raw(
                    &with(
                        first_body,
                        &[&[0, 0, 0, 32][..], &[0; 32]].concat(),
                        &[&[0, 0, 0, 32][..], &[1; 32]].concat(),
                    ),
                    &alice,
                ))
            },
        ),
    ]
}
