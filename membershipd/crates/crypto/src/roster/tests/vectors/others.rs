//! Examples of what is beside the log: strict signatures, links, keys of rooms, identities, and words.

use super::good::{kitchen, with_link};
use super::*;
use crate::roster::{EpochStatement, RecipientsHash, SignedEpoch, Staleness};
use crate::{Epoch, IdentitySecret, KeyId, Recipient, SharedWords, words};

const KEY: &str = "fd1724385aa0c75b64fb78cd602fa1d991fdebf76b13c58ed702eac835e9f618";
const WEAK: &str = "0100000000000000000000000000000000000000000000000000000000000000";
const R: &str = "0eaa06cc598aaac8bcde8584f2c7e1aa493c5afde276395af8e7ac89c3f8567c";

/// Signatures over 'unibus' that some libraries take and others do not.
pub(super) fn signatures() -> Vec<Value> {
    let s = "dbe2627e23804897091460d4e157474ef4a6b411f3eca9c68207d0c3b9782509";
    let above = "c8b658db3de35aefdfb05777c0512663f4a6b411f3eca9c68207d0c3b9782519";
    let of_small = "59a2f6dc4b3c50f1021f9681e497909cdab6a1272920d9afd0fb9d632e11a303";
    let base = "5866666666666666666666666666666666666666666666666666666666666666";
    let cases = [
        ("a good one", KEY, format!("{R}{s}"), true),
        ("the same, with the group's order added to S", KEY, format!("{R}{above}"), false),
        ("with an R of small order, by the key's owner", KEY, format!("{WEAK}{of_small}"), false),
        (
            "with a key of small order, by a program without any key",
            WEAK,
            format!("{base}01{}", "00".repeat(31)),
            false,
        ),
    ];
    let cases = cases.map(|(what, key, signature, good)| {
        let bytes = HEXLOWER.decode(signature.as_bytes()).unwrap();
        let taken = key.parse::<SignPub>().is_ok_and(|key| key.verifies(b"unibus", &bytes));
        assert_eq!(taken, good, "{what}");
        let mut vector =
            json!({ "what": what, "sign_pub": key, "message": BASE64.encode(b"unibus"), "signature": signature });
        if good {
            vector["good"] = json!(true)
        } else {
            vector["refused"] = json!("signature")
        }
        vector
    });
    cases.to_vec()
}

pub(super) fn links() -> Vec<Value> {
    let link = with_link().1;
    let text = link.reveal();
    let key = link.seed.invite_key().unwrap().public();
    let mut good = json!({ "what": "as it is sent", "text": text });
    good["link"] = json!({
        "room": link.room, "inviter": link.inviter, "inviter_key": link.inviter_key, "head": link.head,
        "token": link.seed.token().unwrap().reveal(), "invite_pub": key,
    });
    let other = if text.ends_with('A') { "B" } else { "A" };
    let refused = [
        ("of another kind", text.replacen("unibus-room", "unibus-invite", 1), "foreign"),
        ("of another version", text.replacen(":1:", ":2:", 1), "version"),
        ("with a letter changed", format!("{}{other}", &text[..text.len() - 1]), "broken"),
        ("cut off", text[..text.len() - 8].to_owned(), "broken"),
    ];
    let refused = refused.map(|(what, text, why)| {
        use crate::roster::BadRoomLink::{Broken, Foreign, Version, Wrong};
        let code = match text.parse::<RoomLink>().unwrap_err() {
            Foreign => "foreign",
            Version => "version",
            Broken => "broken",
            Wrong => "wrong",
        };
        assert_eq!(code, why, "{what}");
        json!({ "what": what, "text": text, "refused": why })
    });
    [good].into_iter().chain(refused).collect()
}

fn key(byte: u8) -> KeyId {
    KeyId::from_bytes([byte; 16])
}

/// Epochs of the kitchen: `log` is that of the case with this name.
pub(super) fn epochs() -> Vec<Value> {
    let (alice, bob, carol, mallory) = (who("alice"), who("bob"), who("carol"), who("mallory"));
    let pen = kitchen();
    let none = Takings::default();
    let all = pen.state.recipients(&none);
    let without_carol: Vec<Recipient> = all.iter().filter(|one| one.handle != carol.handle).cloned().collect();
    let say = |number: u32, maker: &Person, at: usize, recipients: &[Recipient]| EpochStatement {
        room: room("kitchen"),
        epoch: Epoch::new(number).unwrap(),
        key: key(u8::try_from(number).unwrap()),
        previous: Epoch::new(number - 1).map(|before| key(u8::try_from(before.get()).unwrap())),
        head: pen.entries[at - 1].hash(),
        maker: maker.handle.clone(),
        recipients: RecipientsHash::of(&room("kitchen"), recipients),
    };
    let handles = |recipients: &[Recipient]| recipients.iter().map(|one| one.handle.clone()).collect::<Vec<_>>();
    let first = say(1, &bob, 5, &all);
    let sign = |said: &EpochStatement, by: &Person| said.clone().sign(&by.pair).unwrap();
    let (good, to) = (sign(&first, &bob), handles(&all));
    let ghost = EpochStatement { maker: mallory.handle.clone(), ..first.clone() };
    let changed = SignedEpoch { statement: EpochStatement { key: key(8), ..first.clone() }, ..good.clone() };
    let unknown = EpochStatement { head: RosterHead::from_bytes([9; 32]), ..first.clone() };
    let strangers = [to.clone(), vec![mallory.handle.clone()]].concat();
    let second = say(2, &alice, 5, &all);
    let skips = EpochStatement { previous: Some(key(9)), ..second.clone() };
    let earlier = say(2, &alice, 3, &without_carol);
    let foreign = EpochStatement { room: room("cellar"), ..first.clone() };
    let cases: Vec<(&str, SignedEpoch, Vec<Handle>, Option<&EpochStatement>)> = vec![
        ("the first, for all who are there", good.clone(), to.clone(), None),
        ("the second", sign(&second, &alice), to.clone(), Some(&first)),
        (
            "without carol, whom the server has taken away",
            sign(&say(1, &bob, 5, &without_carol), &bob),
            handles(&without_carol),
            None,
        ),
        ("made before carol was invited", sign(&say(1, &bob, 3, &without_carol), &bob), handles(&without_carol), None),
        ("by a user whom the server made up", sign(&ghost, &mallory), to.clone(), None),
        ("in bob's name, signed by another", sign(&first, &mallory), to.clone(), None),
        ("with another key than was signed", changed, to.clone(), None),
        ("for one who is not there", good.clone(), strangers, None),
        ("with one less than was signed", good.clone(), to[1..].to_vec(), None),
        ("made at a head that the log does not have", sign(&unknown, &bob), to.clone(), None),
        ("of another room", sign(&foreign, &bob), to.clone(), None),
        (
            "by carol, before she accepted",
            sign(&EpochStatement { maker: carol.handle.clone(), ..say(1, &bob, 4, &all) }, &carol),
            to.clone(),
            None,
        ),
        ("that follows another key", sign(&skips, &alice), to.clone(), Some(&first)),
        ("made by an older list than the one before", sign(&earlier, &alice), handles(&without_carol), Some(&first)),
    ];
    let cases = cases.into_iter().map(|(what, signed, to, before)| {
        let mut vector = json!({ "what": what, "log": "alice invites bob, and bob carol", "epoch": signed, "to": to });
        if let Some(before) = before {
            vector["before"] = json!(before);
        }
        match pen.state.check_epoch(&signed, &to, before) {
            Ok(proven) => {
                let Staleness { gone, missing } = pen.state.staleness(&proven, &none);
                vector["proven"] = json!({ "made_at": proven.made_at, "gone": gone, "missing": missing });
            }
            Err(refusal) => vector["refused"] = json!(refusal.code()),
        }
        vector
    });
    let cases: Vec<Value> = cases.collect();
    let refused: std::collections::BTreeSet<_> = cases.iter().filter_map(|case| case["refused"].as_str()).collect();
    let all = ["foreign-room", "maker", "previous", "recipients", "signature", "stranger", "unknown-head", "went-back"];
    assert_eq!(refused.into_iter().collect::<Vec<_>>(), all);
    cases
}

/// Places of words in the list, which other languages can check without it.
fn numbers(words: &[&str]) -> Vec<usize> {
    words.iter().map(|word| words::place(word).unwrap()).collect()
}

pub(super) fn identities() -> Vec<Value> {
    let secrets = [[0; 32], [0xff; 32], std::array::from_fn(|at| u8::try_from(at).unwrap() * 7)];
    let cases = secrets.map(|secret| {
        let (identity, words) = (IdentitySecret::from_bytes(secret), IdentitySecret::from_bytes(secret).words());
        let sign_pub = SignPub::from_nkey(&identity.key_pair().unwrap().public_key()).unwrap();
        json!({
            "secret": HEXLOWER.encode(&secret), "words": words.join(" "), "numbers": numbers(&words), "sign_pub": sign_pub,
            "hpke_pub": identity.hpke_secret().unwrap().public().unwrap(),
        })
    });
    cases.to_vec()
}

pub(super) fn words() -> Vec<Value> {
    let of = |name: &str| {
        let person = who(name);
        person.keys.of(person.handle)
    };
    let people = [("alice", "bob"), ("bob", "alice"), ("alice", "bob2"), ("carol", "mallory")].map(|(one, other)| {
        let words = SharedWords::of_people(&of(one), &of(other));
        json!({ "people": [one, other], "words": words.to_string(), "numbers": numbers(words.words()) })
    });
    let head = kitchen().state.head();
    let words = SharedWords::of_room(&room("kitchen"), head);
    let of_room =
        json!({ "room": "kitchen", "head": head, "words": words.to_string(), "numbers": numbers(words.words()) });
    people.into_iter().chain([of_room]).collect()
}
