//! Whatever is sent: what was signed is accepted, what was changed is refused, and nothing panics.

use data_encoding::BASE64;
use proptest::prelude::*;

use super::{Draft, NOW, Sent, directory, names, public, sha_256};
use unibus_core::domain::SignPub;

use crate::{BodyDigest, Claim, Nonce, Refusal, RequestHead, Signer, Standing};

/// What is found is shrunk and shown; no file is left beside the sources.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() }
}

/// Requests that are right: any method, target, precondition and body.
fn draft() -> impl Strategy<Value = Draft> {
    let target = ("[A-Z]{1,10}", "/[!-\"$->@-~]{0,40}", proptest::option::of("[!-\"$-~]{0,40}"));
    let content = (proptest::option::of("\"[!#-~]{0,20}\""), proptest::collection::vec(any::<u8>(), 0..64));
    (target, content, any::<[u8; 16]>(), -119..=30i64).prop_map(
        |((method, path, query), (if_match, body), nonce, age)| {
            let mut draft = Draft { method, path, query, digest: sha_256(&body), body, ..Draft::new() };
            if if_match.is_none() {
                draft.cover_no_more("if-match");
            }
            draft.if_match = if_match;
            draft.set("nonce", &format!("\"{}\"", BASE64.encode(&nonce)));
            draft.set("created", &(NOW + age).to_string());
            draft.set("expires", &(NOW + age + 120).to_string());
            draft
        },
    )
}

/// One change of one part; nothing where the part is not there or the change would change nothing.
fn change(sent: &mut Sent, part: usize, at: usize, to: u8) -> Option<()> {
    let printable = b' ' + to % 95;
    match part {
        0 => change_text(&mut sent.method, at, printable),
        1 => change_text(&mut sent.path, at, printable),
        2 => change_text(sent.query.as_mut()?, at, printable),
        3 => {
            let before = sent.authority.clone();
            change_text(&mut sent.authority, at, printable)?;
            *sent.field("Host") = sent.authority.clone().into_bytes();
            (!before.eq_ignore_ascii_case(&sent.authority)).then_some(())
        }
        4 => change_byte(&mut sent.body, at, to),
        5 => change_byte(sent.field("Content-Digest"), at, to),
        6 => change_byte(sent.field("Signature-Input"), at, to),
        7 => {
            // The bytes of the signature: in base64 some of them have several spellings, which mean the same.
            let text = String::from_utf8(sent.field("Signature").clone()).unwrap();
            let mut bytes = BASE64.decode(text.trim_start_matches("sig=:").trim_end_matches(':').as_bytes()).unwrap();
            change_byte(&mut bytes, at, to)?;
            *sent.field("Signature") = format!("sig=:{}:", BASE64.encode(&bytes)).into_bytes();
            Some(())
        }
        8 => change_byte(&mut sent.fields.iter_mut().find(|(name, _)| name == "If-Match")?.1, at, to),
        9 => {
            sent.query = match sent.query.take() {
                Some(query) if query.is_empty() => return None,
                Some(_) => None,
                None => Some("x".to_owned()),
            };
            Some(())
        }
        10 => {
            sent.path.push(char::from(printable));
            Some(())
        }
        _ => {
            sent.body.push(to);
            Some(())
        }
    }
}

fn change_text(text: &mut String, at: usize, to: u8) -> Option<()> {
    let mut bytes = std::mem::take(text).into_bytes();
    let changed = change_byte(&mut bytes, at, to);
    *text = String::from_utf8(bytes).unwrap();
    changed
}

fn change_byte(bytes: &mut [u8], at: usize, to: u8) -> Option<()> {
    let length = bytes.len();
    let byte = bytes.get_mut(at.checked_rem(length)?)?;
    // White space around a value is no part of it (RFC 9421 section 2.1).
    let outside = [0, length - 1].contains(&(at % length)) && matches!(to, b' ' | b'\t');
    (std::mem::replace(byte, to) != to && !outside).then_some(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_signed_is_accepted(draft in draft()) {
        prop_assert_eq!(draft.sign().check(), Ok(()));
    }

    #[test]
    fn what_our_signer_signs_is_accepted(draft in draft(), entropy: [u8; 32], nonce: [u8; 16], late in 0..60i64) {
        let pair = nkeys::KeyPair::new_from_raw(nkeys::KeyPairType::User, entropy).unwrap();
        let seed = pair.seed().unwrap();
        let key = SignPub::from_nkey(&pair.public_key()).unwrap();
        let mut sent = draft.sign();
        for ours in ["Content-Digest", "Signature-Input", "Signature"] {
            sent.drop_field(ours);
        }
        let (body, nonce) = (BodyDigest::of(&sent.body), Nonce::from_entropy(nonce));
        let signer = Signer::new(pair).unwrap();
        let signed = sent.with_head(|head| signer.sign(head, body, NOW, nonce)).unwrap();
        for (name, value) in signed.fields() {
            sent.add_field(name, value.as_bytes());
        }
        let unspent = sent.claim(NOW).unwrap().prove(body, NOW + late, |shown| {
            (*shown == key).then_some(Standing::Active(()))
        });
        prop_assert_eq!(unspent.unwrap().nonce_use().nonce, nonce);
        let shown = format!("{signer:?}");
        prop_assert!(!shown.contains(seed.as_str()), "the seed shows");
    }

    #[test]
    fn what_was_changed_is_refused(draft in draft(), part in 0..12usize, at: usize, to: u8) {
        let mut sent = draft.sign();
        prop_assume!(change(&mut sent, part, at, to).is_some());
        prop_assert!(sent.check().is_err(), "{:?}", sent);
    }

    #[test]
    fn nothing_panics_whatever_the_fields_are(
        texts in [".{0,20}", ".{0,40}", ".{0,40}"],
        query in proptest::option::of(".{0,40}"),
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 5),
        body in any::<[u8; 32]>(),
        now: i64,
    ) {
        let known = ["signature-input", "signature", "content-digest", "if-match", "host"];
        let fields: Vec<_> = known.into_iter().zip(values.iter().map(Vec::as_slice)).collect();
        let [method, authority, path] = &texts;
        let head = RequestHead { method, authority, path, query: query.as_deref(), fields: &fields };
        let claim = Claim::read(&head, &names(), now);
        let refused = claim.and_then(|claim| claim.prove(BodyDigest::from_sha256(body), now, directory)).is_err();
        prop_assert!(refused);
    }

    #[test]
    fn nothing_panics_on_fields_that_look_right(
        pieces in proptest::collection::vec(piece(), 0..24),
        signature in proptest::collection::vec(piece(), 0..6),
        now: i64,
    ) {
        let mut sent = Draft::new().sign();
        *sent.field("Signature-Input") = pieces.concat().into_bytes();
        *sent.field("Signature") = signature.concat().into_bytes();
        *sent.field("Content-Digest") = pieces.concat().into_bytes();
        prop_assert!(sent.claim(now).is_err());
    }
}

/// Pieces of which fields of signatures are made, right ones and wrong ones.
fn piece() -> impl Strategy<Value = String> {
    let keyid = format!("\"{}\"", public(super::ALICE));
    let fixed = [
        "sig=",
        "(",
        ")",
        ";",
        ",",
        " ",
        "\t",
        "=",
        ":",
        "\"",
        "\\",
        "\"@method\"",
        "\"@path\"",
        "\"if-match\"",
        "created=",
        "expires=",
        "nonce=",
        "keyid=",
        "tag=",
        "alg=",
        "\"unibus\"",
        "1800000000",
        "-1",
        "999999999999999",
        "0.5",
        "?1",
        "@1",
        "%\"a%c3\"",
        ":AA==:",
        ":A:",
        "sha-256=",
        "sha-512=",
        "*",
        "\u{e9}",
        "\0",
        &keyid,
    ];
    proptest::sample::select(fixed.map(str::to_owned).to_vec())
}

#[test]
fn the_refusals_quote_nothing_of_the_request() {
    let mut sent = Draft::new().sign();
    *sent.field("Signature-Input") = b"sig=(\"secret\");secret=\"secret\"".to_vec();
    let refusal: Refusal = sent.check().unwrap_err();
    assert!(!format!("{refusal} {refusal:?}").contains("secret"), "{refusal}");
}
