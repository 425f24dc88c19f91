//! Words that people write down or read to each other: the English list of BIP 39, 11 bits a word.
//!
//! The list is made for it: its words differ in their first four letters and are hard to take for each other.

use std::fmt;

use bip39::Language;
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::recipient::Recipient;
use crate::roster::Head;
use unibus_core::domain::RoomId;

/// Bits of a word.
const BITS: usize = 11;
/// Words for one person: 66 bits.
const PERSON: usize = 6;
/// Words that two people compare.
const SHARED: usize = 2 * PERSON;
/// How often a hash is hashed again, so that looking for a key with the same words takes so much longer: 2^12 times, which makes 78 bits of
/// work of the 66.
const ROUNDS: usize = 4096;

/// Words that two people compare over the telephone or face to face. They are the same on both sides, unless a server has shown one of them
/// something else.
///
/// Those of two people are six for each of them, in the order of their signing keys. Each person has their own half because a server that
/// stands between two people chooses a key for each side: with one hash over both it would look for two that make the same words, which is
/// the square root of the work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SharedWords([&'static str; SHARED]);

impl SharedWords {
    /// Those by which two people know each other's keys.
    pub fn of_people(one: &Recipient, other: &Recipient) -> Self {
        let (first, second) = if one.sign_pub <= other.sign_pub { (one, other) } else { (other, one) };
        let mut words = [""; SHARED];
        let halves = person(first).into_iter().chain(person(second));
        words.iter_mut().zip(halves).for_each(|(word, of)| *word = of);
        Self(words)
    }

    /// Those by which members know that they are shown the same log of a room, as far as entry `head.number`.
    pub fn of_room(room: &RoomId, head: Head) -> Self {
        let context = Context::new("unibus.room-words.1").and(room.as_str());
        Self(words(&stretched(&context.and(head.number.to_be_bytes()).and(head.hash.to_bytes()))))
    }

    /// The words.
    pub fn words(&self) -> &[&'static str] {
        &self.0
    }
}

impl fmt::Display for SharedWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

impl fmt::Debug for SharedWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedWords({self})")
    }
}

/// The words of one person, by which others know their keys.
fn person(person: &Recipient) -> [&'static str; PERSON] {
    let context = Context::new("unibus.person-words.1").and(person.handle.as_str());
    words(&stretched(&context.and(person.sign_pub.to_bytes()).and(person.hpke_pub.to_bytes())))
}

fn stretched(context: &Context) -> [u8; 32] {
    let first: [u8; 32] = Sha256::digest(context.bytes()).into();
    (0..ROUNDS).fold(first, |hash, _| Sha256::new().chain_update(hash).chain_update(context.bytes()).finalize().into())
}

/// The first bits of `bytes` as words.
pub(crate) fn words<const N: usize>(bytes: &[u8]) -> [&'static str; N] {
    let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0);
    let number =
        |word: usize| (word * BITS..(word + 1) * BITS).fold(0, |number, at| number << 1 | usize::from(bit(at)));
    std::array::from_fn(|word| Language::English.word_list().get(number(word)).copied().unwrap_or_default())
}

/// The place of a word in the list.
pub(crate) fn place(word: &str) -> Option<usize> {
    Language::English.word_list().binary_search(&word).ok()
}

/// Words of the list that look like `word`: those that differ in the fewest letters, two at most; three of them at most.
pub(crate) fn alike(word: &str) -> Vec<&'static str> {
    let list = Language::English.word_list().iter().copied();
    let mut near: Vec<_> = list.map(|other| (distance(word, other), other)).filter(|(far, _)| *far <= 2).collect();
    near.sort_unstable();
    let nearest = near.first().map_or(0, |(far, _)| *far);
    near.into_iter().filter(|(far, _)| *far == nearest).map(|(_, word)| word).take(3).collect()
}

/// How many letters are wrong, missing, too many or swapped with their neighbour (optimal string alignment).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().take(16).collect(), other.chars().collect());
    let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let changed = at(&row, j) + usize::from(a != b);
            let mut least = changed.min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = i > 0 && j > 0 && one.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            if swapped {
                least = least.min(at(&before, j - 1) + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    at(&row, other.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipient::HpkeSecret;
    use nkeys::{KeyPair, KeyPairType};
    use unibus_core::domain::SignPub;

    fn someone(handle: &str, seed: u8) -> Recipient {
        let pair = KeyPair::new_from_raw(KeyPairType::User, [seed; 32]).unwrap();
        Recipient {
            handle: handle.parse().unwrap(),
            sign_pub: SignPub::from_nkey(&pair.public_key()).unwrap(),
            hpke_pub: HpkeSecret::from_bytes([seed + 100; 32]).public().unwrap(),
        }
    }

    #[test]
    fn both_sides_see_the_same_words_and_a_swapped_key_changes_its_half() {
        let (alice, bob, mallory) = (someone("alice", 1), someone("bob", 2), someone("bob", 3));
        let words = SharedWords::of_people(&alice, &bob);
        assert_eq!(words, SharedWords::of_people(&bob, &alice));
        assert!(words.words().iter().all(|word| place(word).is_some()), "{words}");
        assert_eq!(words.to_string().split(' ').count(), SHARED);
        // Alice is shown mallory's keys as bob's. Alice's own half stays, so both can tell which side is wrong.
        let swapped = SharedWords::of_people(&alice, &mallory);
        assert!(person(&alice).iter().all(|word| swapped.words().contains(word)));
        assert!(person(&bob).iter().any(|word| !swapped.words().contains(word)));
        // Each of the two keys counts, and so does the name.
        for other in [
            Recipient { hpke_pub: mallory.hpke_pub, ..bob.clone() },
            Recipient { sign_pub: mallory.sign_pub, ..bob.clone() },
            Recipient { handle: "bot".parse().unwrap(), ..bob.clone() },
        ] {
            assert_ne!(SharedWords::of_people(&alice, &other), words);
        }
    }

    #[test]
    fn words_of_a_room_are_of_its_log() {
        let head = |number, byte| Head { number, hash: crate::RosterHead::from_bytes([byte; 32]) };
        let (kitchen, cellar): (RoomId, RoomId) = ("kitchen".parse().unwrap(), "cellar".parse().unwrap());
        let words = SharedWords::of_room(&kitchen, head(3, 1));
        assert_eq!(words, SharedWords::of_room(&kitchen, head(3, 1)));
        for other in [(&cellar, head(3, 1)), (&kitchen, head(4, 1)), (&kitchen, head(3, 2))] {
            assert_ne!(words, SharedWords::of_room(other.0, other.1));
        }
    }

    #[test]
    fn mistyped_words_are_known_again() {
        for (typed, meant) in [
            ("abandn", "abandon"),
            ("abadnon", "abandon"),
            ("abandonn", "abandon"),
            ("zoo0", "zoo"),
            ("oxigen", "oxygen"),
        ] {
            assert_eq!(alike(typed), [meant], "{typed}");
        }
        assert!(alike("qqqqqqqq").is_empty());
        assert!(alike(&"a".repeat(100_000)).is_empty(), "bounded");
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
