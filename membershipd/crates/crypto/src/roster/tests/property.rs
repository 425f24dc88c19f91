//! Any sequence of entries and epochs, good ones and forged ones, against a naive reference: one that keeps nothing but the entries, and reads
//! all of them again for every question.

use proptest::prelude::*;

use super::*;
use crate::roster::{EpochStatement, RecipientsHash, Takings};
use crate::{Epoch, KeyId};
use RoomRole::{Moderator, Owner};

/// People, and bob with new keys. All of them try everything.
const PEOPLE: [&str; 7] = ["alice", "bob", "carol", "dave", "erin", "mallory", "bob2"];
const LINKS: [u8; 3] = [1, 2, 3];

/// Their handles, in the same order.
fn handles() -> impl Iterator<Item = Handle> {
    PEOPLE.iter().map(|name| handle(name.trim_end_matches('2')))
}

#[derive(Debug, Clone)]
enum Step {
    /// An entry by a person, in the name of another, with a lie in it.
    Write { actor: usize, named: Option<usize>, action: Wish, lie: Option<Lie> },
    /// One invites, and the other accepts.
    Admit { by: usize, who: usize, role: RoomRole },
    /// An epoch that a person makes at an entry, in the name of another, for some people.
    Seal { maker: usize, named: Option<usize>, at: prop::sample::Index, to: u8 },
}

#[derive(Debug, Clone, Copy)]
enum Wish {
    Invite(usize, RoomRole),
    InviteMixed(usize, usize),
    Link(usize, RoomRole),
    Accept,
    AcceptLink(usize),
    Leave,
    Remove(usize),
    Ban(usize),
    Unban(usize),
    Revoke(usize),
    Role(usize, RoomRole),
    Policy(bool),
    Replace(usize),
}

#[derive(Debug, Clone, Copy)]
enum Lie {
    Number(u32),
    Previous,
    Room,
    Signature,
}

fn any_step() -> impl Strategy<Value = Step> {
    let (one, link) = (|| 0..PEOPLE.len(), || 0..LINKS.len());
    let any_role = || prop::sample::select(RoomRole::ALL.to_vec());
    let wish = prop_oneof![
        8 => (one(), any_role()).prop_map(|(who, role)| Wish::Invite(who, role)),
        1 => (one(), one()).prop_map(|(who, keys)| Wish::InviteMixed(who, keys)),
        3 => (link(), any_role()).prop_map(|(link, role)| Wish::Link(link, role)),
        10 => Just(Wish::Accept),
        6 => link().prop_map(Wish::AcceptLink),
        1 => Just(Wish::Leave),
        4 => one().prop_map(Wish::Remove),
        2 => one().prop_map(Wish::Ban),
        2 => one().prop_map(Wish::Unban),
        1 => link().prop_map(Wish::Revoke),
        3 => (one(), any_role()).prop_map(|(who, role)| Wish::Role(who, role)),
        1 => any::<bool>().prop_map(Wish::Policy),
        3 => one().prop_map(Wish::Replace),
    ];
    let lie = prop_oneof![(0u32..12).prop_map(Lie::Number), Just(Lie::Previous), Just(Lie::Room), Just(Lie::Signature)];
    // Alice, who owns the room at first, does most, so that much is done at all.
    let actor = || prop_oneof![2 => Just(0), 3 => one()];
    let named = || prop::option::weighted(0.06, one());
    prop_oneof![
        5 => (actor(), named(), wish, prop::option::weighted(0.06, lie))
            .prop_map(|(actor, named, action, lie)| Step::Write { actor, named, action, lie }),
        2 => (actor(), one(), any_role()).prop_map(|(by, who, role)| Step::Admit { by, who, role }),
        1 => (actor(), named(), any::<prop::sample::Index>(), any::<u8>())
            .prop_map(|(maker, named, at, to)| Step::Seal { maker, named, at, to }),
    ]
}

fn action(actor: &Person, wish: Wish) -> RosterAction {
    let named = |at: usize| who(PEOPLE[at]);
    let name = |at: usize| named(at).handle.as_str().to_owned();
    match wish {
        Wish::Invite(at, as_role) => invite(&named(at), as_role),
        Wish::InviteMixed(at, keys) => {
            let keys = Keys { hpke_pub: named(keys).keys.hpke_pub, ..named(at).keys };
            invite(&Person { keys, ..named(at) }, RoomRole::Member)
        }
        Wish::Link(at, as_role) => link(LINKS[at], as_role),
        Wish::Accept => accept(actor),
        Wish::AcceptLink(at) => accept_link(LINKS[at], actor),
        Wish::Leave => RosterAction::Leave,
        Wish::Remove(at) => remove(&name(at)),
        Wish::Ban(at) => ban(&name(at)),
        Wish::Unban(at) => unban(&name(at)),
        Wish::Revoke(at) => RosterAction::RevokeLink { invite_pub: invite_key(LINKS[at]).public() },
        Wish::Role(at, new) => role(&name(at), new),
        Wish::Policy(encrypt) => RosterAction::SetPolicy { policy: Policy { encrypt, ..Policy::CONVERSATION } },
        Wish::Replace(at) => replace(&named(at)),
    }
}

/// The entries that were taken, and nothing else.
struct Naive(Vec<SignedEntry>);

impl Naive {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().map(SignedEntry::entry)
    }

    /// How a user stood after the first `length` entries.
    fn at(&self, handle: &Handle, length: usize) -> Option<(Standing, Keys)> {
        use MemberState::{Banned, Invited, Joined, Removed};
        let mut now: Option<(Standing, Keys)> = None;
        for entry in self.entries().take(length) {
            let own = entry.actor == *handle;
            let (standing, keys) = match (&mut now, own, &entry.action) {
                (_, true, RosterAction::Create { hpke_pub, .. }) => {
                    let keys = Keys { sign_pub: entry.actor_key, hpke_pub: *hpke_pub };
                    (Standing { role: Owner, state: Joined }, keys)
                }
                (_, _, RosterAction::Invite { target, keys, role }) if target == handle => {
                    (Standing { role: *role, state: Invited }, *keys)
                }
                (_, true, RosterAction::AcceptLink { invite_pub, hpke_pub }) => {
                    let role = self.link(*invite_pub).unwrap().0;
                    let keys = Keys { sign_pub: entry.actor_key, hpke_pub: *hpke_pub };
                    (Standing { role, state: Joined }, keys)
                }
                (Some((was, keys)), true, RosterAction::Accept { .. }) => (Standing { state: Joined, ..*was }, *keys),
                (Some((was, keys)), true, RosterAction::Leave) => (Standing { state: Removed, ..*was }, *keys),
                (Some((was, keys)), _, RosterAction::Remove { target } | RosterAction::Unban { target })
                    if target == handle =>
                {
                    (Standing { state: Removed, ..*was }, *keys)
                }
                (Some((was, keys)), _, RosterAction::Ban { target }) if target == handle => {
                    (Standing { state: Banned, ..*was }, *keys)
                }
                (Some((was, keys)), _, RosterAction::SetRole { target, role }) if target == handle => {
                    (Standing { role: *role, ..*was }, *keys)
                }
                (Some((was, _)), _, RosterAction::ReplaceKey { target, keys }) if target == handle => {
                    let state = if was.state == Joined { Invited } else { was.state };
                    (Standing { state, ..*was }, *keys)
                }
                _ => continue,
            };
            now = Some((standing, keys));
        }
        now
    }

    fn now(&self, handle: &Handle) -> Option<(Standing, Keys)> {
        self.at(handle, self.0.len())
    }

    fn is_present(&self, handle: &Handle) -> bool {
        self.now(handle).is_some_and(|(now, _)| now.state.is_present())
    }

    /// The role of a link, who made it with which key, and whether it is open.
    fn link(&self, key: SignPub) -> Option<(RoomRole, Handle, SignPub, bool)> {
        let mut found = None;
        for entry in self.entries() {
            match &entry.action {
                RosterAction::InviteLink { invite_pub, role } if *invite_pub == key => {
                    found = Some((*role, entry.actor.clone(), entry.actor_key, true));
                }
                RosterAction::AcceptLink { invite_pub, .. } | RosterAction::RevokeLink { invite_pub }
                    if *invite_pub == key =>
                {
                    found = found.map(|(role, by, by_key, _)| (role, by, by_key, false));
                }
                _ => {}
            }
        }
        found
    }

    /// All keys that an entry ever named, and whose they were.
    fn keys(&self) -> Vec<(Handle, Keys)> {
        let named = self.entries().filter_map(|entry| {
            let own = |hpke_pub| (entry.actor.clone(), Keys { sign_pub: entry.actor_key, hpke_pub });
            match &entry.action {
                RosterAction::Create { hpke_pub, .. } | RosterAction::AcceptLink { hpke_pub, .. } => {
                    Some(own(*hpke_pub))
                }
                RosterAction::Invite { target, keys, .. } | RosterAction::ReplaceKey { target, keys } => {
                    Some((target.clone(), *keys))
                }
                _ => None,
            }
        });
        named.collect()
    }

    fn are_free(&self, keys: Keys) -> bool {
        let named = self.keys();
        let is_known =
            named.iter().any(|(_, known)| known.sign_pub == keys.sign_pub || known.hpke_pub == keys.hpke_pub);
        !is_known && self.link(keys.sign_pub).is_none()
    }

    /// The role of who is in.
    fn role(&self, handle: &Handle) -> Option<RoomRole> {
        self.now(handle).filter(|(now, _)| now.state == MemberState::Joined).map(|(now, _)| now.role)
    }

    fn is_above(&self, actor: &Handle, role: RoomRole) -> bool {
        match self.role(actor) {
            Some(Owner) => true,
            Some(Moderator) => role < Moderator,
            _ => false,
        }
    }

    fn may_end(&self, actor: &Handle, target: &Handle) -> bool {
        let held = self.now(target).map(|(now, _)| now.role);
        actor != target && held.is_some_and(|held| self.is_above(actor, held))
    }

    fn is_last_owner(&self, handle: &Handle) -> bool {
        let owners: Vec<_> = handles().filter(|one| self.role(one) == Some(Owner)).collect();
        self.role(handle) == Some(Owner) && owners.iter().all(|owner| owner == handle)
    }

    fn policy(&self) -> Policy {
        let said = self.entries().filter_map(|entry| match &entry.action {
            RosterAction::Create { policy, .. } | RosterAction::SetPolicy { policy } => Some(*policy),
            _ => None,
        });
        said.last().unwrap()
    }

    /// Whether an entry belongs here; its signatures are looked at elsewhere.
    fn takes(&self, entry: &Entry) -> bool {
        let last = self.0.last().unwrap();
        if entry.room != room("kitchen") || entry.number as usize != self.0.len() + 1 || entry.previous != last.hash() {
            return false;
        }
        let actor = &entry.actor;
        let own = self.now(actor);
        let comes_in = matches!(entry.action, RosterAction::AcceptLink { .. });
        if !comes_in && own.is_none_or(|(_, keys)| keys.sign_pub != entry.actor_key) {
            return false;
        }
        match &entry.action {
            RosterAction::Create { .. } | RosterAction::Adopt { .. } | RosterAction::Continue { .. } => false,
            RosterAction::SetSubject { .. } => unreachable!("not among the wishes"),
            RosterAction::Invite { target, keys, role } => {
                let known = self.now(target);
                let free = known.map_or_else(|| self.are_free(*keys), |(_, before)| before == *keys);
                let banned = known.is_some_and(|(now, _)| now.state == MemberState::Banned);
                self.is_above(actor, *role) && target != actor && !self.is_present(target) && !banned && free
            }
            RosterAction::InviteLink { invite_pub, role } => {
                let is_person = self.keys().iter().any(|(_, keys)| keys.sign_pub == *invite_pub);
                self.is_above(actor, *role) && self.link(*invite_pub).is_none() && !is_person
            }
            RosterAction::Accept { hpke_pub } => {
                own.is_some_and(|(now, keys)| now.state == MemberState::Invited && keys.hpke_pub == *hpke_pub)
            }
            RosterAction::AcceptLink { invite_pub, hpke_pub } => {
                let Some((role, by, by_key, open)) = self.link(*invite_pub) else { return false };
                let maker = self.now(&by).is_some_and(|(_, keys)| keys.sign_pub == by_key) && self.is_above(&by, role);
                let keys = Keys { sign_pub: entry.actor_key, hpke_pub: *hpke_pub };
                let fits = match own {
                    None => self.are_free(keys),
                    Some((now, before)) => now.state == MemberState::Removed && before == keys,
                };
                open && maker && fits
            }
            RosterAction::Leave => self.is_present(actor) && !self.is_last_owner(actor),
            RosterAction::Remove { target } => self.may_end(actor, target) && self.is_present(target),
            RosterAction::Ban { target } => {
                self.may_end(actor, target) && self.now(target).is_some_and(|(now, _)| now.state != MemberState::Banned)
            }
            RosterAction::Unban { target } => {
                self.may_end(actor, target) && self.now(target).is_some_and(|(now, _)| now.state == MemberState::Banned)
            }
            RosterAction::RevokeLink { invite_pub } => {
                self.link(*invite_pub).is_some_and(|(role, _, _, open)| open && self.is_above(actor, role))
            }
            RosterAction::SetRole { target, role } => {
                let Some((now, _)) = self.now(target) else { return false };
                let above = self.is_above(actor, now.role) && self.is_above(actor, *role);
                let demotes_last = *role != Owner && self.is_last_owner(target);
                above && now.state.is_present() && now.role != *role && !demotes_last
            }
            RosterAction::SetPolicy { policy } => self.role(actor) == Some(Owner) && *policy != self.policy(),
            RosterAction::ReplaceKey { target, keys } => {
                let known = self.now(target).is_some_and(|(now, _)| now.state != MemberState::Banned);
                self.role(actor) == Some(Owner) && target != actor && known && self.are_free(*keys)
            }
        }
    }
}

/// The log that a client has, and what the reference makes of the same.
struct Both {
    client: Pen,
    naive: Naive,
    taken: usize,
    fresh: usize,
}

impl Both {
    fn write(&mut self, actor: usize, named: Option<usize>, wish: Wish, lie: Option<Lie>) {
        let person = who(PEOPLE[actor]);
        let mut entry = self.client.next(&person, action(&person, wish));
        if let Some(named) = named {
            entry.actor = handles().nth(named).unwrap();
        }
        match lie {
            Some(Lie::Number(number)) => entry.number = number,
            Some(Lie::Previous) => entry.previous = RosterHead::from_bytes([7; 32]),
            Some(Lie::Room) => entry.room = room("cellar"),
            Some(Lie::Signature) | None => {}
        }
        // Some entries cannot even be written.
        let invite =
            entry.action.invite_key().and_then(|key| LINKS.map(invite_key).into_iter().find(|one| one.public() == key));
        let Ok(mut signed) = SignedEntry::sign(&entry, &person.pair, invite.as_ref()) else { return };
        if let Some(Lie::Signature) = lie {
            let mut bytes = signed.bytes().to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            signed = SignedEntry::decode(&bytes).unwrap();
        }
        let expected = !matches!(lie, Some(Lie::Signature)) && self.naive.takes(&entry);
        let before = self.client.state.clone();
        let outcome = self.client.state.apply(&signed);
        assert_eq!(
            outcome.is_ok(),
            expected,
            "{outcome:?} of {entry:?} after {:#?}",
            self.naive.entries().collect::<Vec<_>>()
        );
        if expected {
            self.naive.0.push(signed);
            self.taken += 1;
        } else {
            assert_eq!(self.client.state, before, "what is refused changes nothing");
        }
    }

    /// An honest client seals for those alone whom a signed entry let in.
    fn check_recipients(&self) {
        for left_out in PEOPLE {
            let out = who(left_out);
            let takings = Takings::from_iter([(out.handle.clone(), out.keys.sign_pub)]);
            for person in self.client.state.recipients(&takings) {
                let (standing, keys) = self.naive.now(&person.handle).expect("the log knows all recipients");
                assert!(standing.state.is_present() && keys == Keys::from(&person), "{person:?}");
                assert!(self.naive.keys().contains(&(person.handle.clone(), keys)), "an entry named the key");
                assert!(person.sign_pub != out.keys.sign_pub || person.handle != out.handle, "taken away");
            }
        }
        let present = handles().filter(|handle| self.naive.is_present(handle));
        let present: std::collections::BTreeSet<_> = present.collect();
        assert_eq!(self.client.state.recipients(&Takings::default()).len(), present.len());
    }

    /// An honest client goes on with no epoch that a removed member has, once it has seen the removal.
    fn seal(&mut self, maker: usize, named: Option<usize>, at: prop::sample::Index, to: u8) {
        let person = who(PEOPLE[maker]);
        let state = &self.client.state;
        let length = at.index(self.naive.0.len()) + 1;
        // The server's choice, or just those who were there.
        let all: std::collections::BTreeSet<_> = handles().collect();
        let there = |handle: &Handle| self.naive.at(handle, length).filter(|(standing, _)| standing.state.is_present());
        let to: Vec<Handle> = match to {
            0..128 => all.iter().filter(|handle| there(handle).is_some()).cloned().collect(),
            bits => all.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, one)| one.clone()).collect(),
        };
        let keys = |handle: &Handle| there(handle).map_or(who("mallory").keys, |(_, keys)| keys);
        let recipients: Vec<_> = to.iter().map(|handle| keys(handle).of(handle.clone())).collect();
        let statement = EpochStatement {
            room: room("kitchen"),
            epoch: Epoch::FIRST,
            key: KeyId::from_bytes([1; 16]),
            previous: None,
            head: self.naive.0[length - 1].hash(),
            maker: handles().nth(named.unwrap_or(maker)).unwrap(),
            recipients: RecipientsHash::of(&room("kitchen"), &recipients),
        };
        let maker_then = self.naive.at(&statement.maker, length);
        let speaks = |(now, keys): (Standing, Keys)| {
            now.state == MemberState::Joined && now.role >= RoomRole::Member && keys.sign_pub == person.keys.sign_pub
        };
        let expected = maker_then.is_some_and(speaks) && to.iter().all(|handle| there(handle).is_some());
        let proven = state.check_epoch(&statement.sign(&person.pair).unwrap(), &to, None);
        assert_eq!(proven.is_ok(), expected, "{proven:?}");
        let Ok(proven) = proven else { return };
        if state.staleness(&proven, &Takings::default()).is_fresh() {
            self.fresh += 1;
            for person in &proven.recipients {
                let now = self.naive.now(&person.handle);
                assert!(
                    now.is_some_and(|(now, keys)| now.state.is_present() && keys == Keys::from(person)),
                    "{person:?}"
                );
            }
        }
    }
}

/// Carries the steps out, and says how many entries were taken and how many epochs could be used.
fn run(steps: Vec<Step>) -> (usize, usize) {
    let client = Pen::new();
    let naive = Naive(client.entries.clone());
    let mut both = Both { client, naive, taken: 0, fresh: 0 };
    for step in steps {
        match step {
            Step::Write { actor, named, action, lie } => both.write(actor, named, action, lie),
            Step::Admit { by, who, role } => {
                both.write(by, None, Wish::Invite(who, role), None);
                both.write(who, None, Wish::Accept, None);
            }
            Step::Seal { maker, named, at, to } => both.seal(maker, named, at, to),
        }
    }
    both.check_recipients();
    assert_eq!(verify(&both.naive.0, Trust::FirstUse).as_ref(), Ok(&both.client.state), "at once, or one by one");
    (both.taken, both.fresh)
}

#[test]
fn no_sequence_seals_for_a_key_that_no_entry_let_in() {
    let (taken, fresh) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    proptest!(ProptestConfig::with_cases(150), |(steps in prop::collection::vec(any_step(), 1..90))| {
        let (entries, epochs) = run(steps);
        taken.set(taken.get() + entries);
        fresh.set(fresh.get() + epochs);
    });
    assert!(
        taken.get() > 1_000 && fresh.get() > 50,
        "enough was done: {} entries, {} epochs",
        taken.get(),
        fresh.get()
    );
}
