//! Every refusal there is, reached by one change to a request that is right.

use std::collections::BTreeSet;
use std::sync::Mutex;

use data_encoding::{BASE64, BASE64URL};

use super::{ALICE, DISABLED, Draft, NOW, STRANGER, Sent, directory, public, sha_256};
use crate::{BodyDigest, NonceError, NonceUse, Nonces, Refusal};

/// A change, and the slug of the refusal that it leads to.
enum Spoilt {
    /// Changed before it was signed: the signature is right, the request is not.
    Signed(&'static str, fn(&mut Draft)),
    /// Changed on its way.
    Sent(&'static str, fn(&mut Sent)),
}

use Spoilt::{Sent as OnItsWay, Signed};

const SPOILT: &[Spoilt] = &[
    OnItsWay("head-too-large", |sent| (0..100).for_each(|_| sent.add_field("x", b""))),
    OnItsWay("head-too-large", |sent| sent.add_field("x", &[b'x'; 16 * 1024])),
    Signed("head-too-large", |draft| draft.path = format!("/{}", "x".repeat(16 * 1024))),
    OnItsWay("signature-field-too-large", |sent| sent.field("Signature").extend([b' '; 1024])),
    OnItsWay("signature-field-too-large", |sent| sent.field("Signature-Input").extend(b";x=1".repeat(41))),
    OnItsWay("signature-field-too-large", |sent| sent.field("Content-Digest").extend(b", x=1".repeat(41))),
    OnItsWay("signature-field-too-large", |sent| sent.field("If-Match").extend([b'x'; 1024])),
    OnItsWay("signature-field-repeated", |sent| sent.add_field("SIGNATURE", b"sig=:AA==:")),
    OnItsWay("signature-field-repeated", |sent| sent.add_field("signature-input", b"sig=()")),
    OnItsWay("signature-field-repeated", |sent| sent.add_field("content-digest", sha_256(b"").as_bytes())),
    OnItsWay("signature-field-repeated", |sent| sent.add_field("if-match", b"\"8\"")),
    OnItsWay("signature-field-repeated", |sent| sent.add_field("host", b"magnus.example:8470")),
    OnItsWay("signature-missing", |sent| sent.drop_field("Signature")),
    OnItsWay("signature-missing", |sent| sent.drop_field("Signature-Input")),
    OnItsWay("digest-missing", |sent| sent.drop_field("Content-Digest")),
    OnItsWay("signature-malformed", |sent| sent.field("Signature").clear()),
    OnItsWay("signature-malformed", |sent| sent.field("Signature-Input").clear()),
    OnItsWay("signature-malformed", |sent| sent.field("Signature-Input").push(b'\xff')),
    OnItsWay("signature-malformed", |sent| *sent.field("Signature-Input") = b"sig=1".to_vec()),
    OnItsWay("signature-malformed", |sent| *sent.field("Signature") = b"sig=1".to_vec()),
    OnItsWay("signature-malformed", |sent| *sent.field("Signature") = b"sig=(:AA==:)".to_vec()),
    OnItsWay("signature-malformed", |sent| sent.field("Signature").extend(b";x")),
    Signed("signature-malformed", |draft| draft.covered.push("date".to_owned())),
    OnItsWay("signature-surplus", |sent| sent.field("Signature").extend(b", other=:AA==:")),
    OnItsWay("signature-surplus", |sent| sent.field("Signature").extend(b", sig=:AA==:")),
    OnItsWay("signature-surplus", |sent| sent.field("Signature-Input").extend(b", other=(\"@method\");tag=\"unibus\"")),
    OnItsWay("signature-surplus", |sent| sent.field("Signature-Input").extend(b", other=(\"@method\");tag=\"proxy\"")),
    OnItsWay("signature-label-mismatch", |sent| sent.field("Signature").insert(0, b'x')),
    Signed("signature-component-foreign", |draft| draft.covered.push("\"user-agent\"".to_owned())),
    Signed("signature-component-foreign", |draft| draft.covered.push("\"@target-uri\"".to_owned())),
    Signed("signature-component-foreign", |draft| draft.covered.push("\"@Method\"".to_owned())),
    Signed("signature-component-foreign", |draft| draft.covered.push("\"@signature-params\"".to_owned())),
    Signed("signature-component-qualified", |draft| draft.covered[0].push_str(";req")),
    Signed("signature-component-qualified", |draft| draft.covered[4].push_str(";key=\"sha-256\"")),
    Signed("signature-component-repeated", |draft| draft.covered.push("\"@method\"".to_owned())),
    Signed("signature-component-missing", |draft| draft.covered.clear()),
    Signed("signature-component-missing", |draft| draft.cover_no_more("@method")),
    Signed("signature-component-missing", |draft| draft.cover_no_more("@authority")),
    Signed("signature-component-missing", |draft| draft.cover_no_more("@path")),
    Signed("signature-component-missing", |draft| draft.cover_no_more("@query")),
    Signed("signature-component-missing", |draft| draft.cover_no_more("content-digest")),
    Signed("signature-component-missing", |draft| draft.cover_no_more("if-match")),
    Signed("signature-component-absent", |draft| draft.if_match = None),
    Signed("signature-value-unsignable", |draft| draft.method = "PUT\n\"@path\": /".to_owned()),
    Signed("signature-value-unsignable", |draft| draft.path = "/é".to_owned()),
    Signed("signature-value-unsignable", |draft| draft.path = "*".to_owned()),
    Signed("signature-value-unsignable", |draft| draft.path = "/a?b".to_owned()),
    Signed("signature-value-unsignable", |draft| draft.query = Some("a#b".to_owned())),
    Signed("signature-value-unsignable", |draft| draft.if_match = Some("\"é\"".to_owned())),
    OnItsWay("signature-value-unsignable", |sent| *sent.field("If-Match") = vec![0xff]),
    Signed("signature-parameter-foreign", |draft| draft.parameters.push(("alg".to_owned(), "\"ed25519\"".to_owned()))),
    Signed("signature-parameter-foreign", |draft| draft.parameters.push(("x".to_owned(), "1".to_owned()))),
    Signed("signature-parameter-repeated", |draft| draft.parameters.push(("tag".to_owned(), "\"unibus\"".to_owned()))),
    Signed("signature-parameter-repeated", |draft| draft.parameters.insert(0, ("expires".to_owned(), "9".to_owned()))),
    Signed("signature-created-missing", |draft| draft.drop_parameter("created")),
    Signed("signature-expires-missing", |draft| draft.drop_parameter("expires")),
    Signed("signature-nonce-missing", |draft| draft.drop_parameter("nonce")),
    Signed("signature-keyid-missing", |draft| draft.drop_parameter("keyid")),
    Signed("signature-tag-missing", |draft| draft.drop_parameter("tag")),
    Signed("signature-created-malformed", |draft| draft.set("created", &format!("{NOW}.5"))),
    Signed("signature-created-malformed", |draft| draft.set("created", &format!("@{NOW}"))),
    Signed("signature-expires-malformed", |draft| draft.set("expires", "\"never\"")),
    Signed("signature-nonce-malformed", |draft| draft.set("nonce", &format!("\"{}\"", BASE64.encode(&[7; 15])))),
    Signed("signature-nonce-malformed", |draft| draft.set("nonce", &format!("\"{}\"", BASE64.encode(&[7; 17])))),
    Signed("signature-nonce-malformed", |draft| draft.set("nonce", &format!("\"{}\"", BASE64URL.encode(&[0xff; 16])))),
    Signed("signature-nonce-malformed", |draft| draft.set("nonce", &format!(":{}:", BASE64.encode(&[7; 16])))),
    Signed("signature-keyid-malformed", |draft| draft.set("keyid", "\"alice\"")),
    Signed("signature-keyid-malformed", |draft| draft.set("keyid", "7")),
    Signed("signature-keyid-malformed", |draft| {
        draft.set("keyid", &format!("\"{}\"", public(ALICE).to_string().to_uppercase()));
    }),
    Signed("signature-keyid-malformed", |draft| draft.set("keyid", &format!("\"{}\"", public(ALICE).to_nkey()))),
    // A key of order one, with which a signature of zeros would be right for anything.
    Signed("signature-keyid-malformed", |draft| draft.set("keyid", &format!("\"01{}\"", "00".repeat(31)))),
    Signed("signature-tag-malformed", |draft| draft.set("tag", "unibus")),
    Signed("signature-tag-foreign", |draft| draft.set("tag", "\"Unibus\"")),
    Signed("signature-created-in-future", |draft| draft.set("created", &(NOW + 31).to_string())),
    Signed("signature-created-too-old", |draft| draft.set("created", &(NOW - 121).to_string())),
    Signed("signature-created-too-old", |draft| draft.set("created", "-999999999999999")),
    Signed("signature-expires-too-early", |draft| draft.set("expires", &NOW.to_string())),
    Signed("signature-expires-too-early", |draft| draft.set("expires", "-999999999999999")),
    Signed("signature-lifetime-too-long", |draft| draft.set("expires", &(NOW + 121).to_string())),
    Signed("signature-lifetime-too-long", |draft| draft.set("expires", "999999999999999")),
    Signed("signature-expired", |draft| {
        draft.set("created", &(NOW - 60).to_string());
        draft.set("expires", &NOW.to_string());
    }),
    Signed("authority-foreign", |draft| draft.authority = "homer.example:8470".to_owned()),
    Signed("authority-foreign", |draft| draft.authority = "magnus.example:8471".to_owned()),
    Signed("authority-foreign", |draft| draft.authority = "root@magnus.example:8470".to_owned()),
    OnItsWay("authority-ambiguous", |sent| *sent.field("Host") = b"localhost:8470".to_vec()),
    OnItsWay("authority-ambiguous", |sent| *sent.field("Host") = vec![0xff]),
    Signed("digest-malformed", |draft| draft.digest = "sha-256=:AA==:".to_owned()),
    Signed("digest-algorithm", |draft| draft.digest = "sha-512=:AA==:".to_owned()),
    OnItsWay("digest-mismatch", |sent| sent.body.push(b'\n')),
    Signed("digest-mismatch", |draft| draft.digest = sha_256(b"")),
    Signed("key-unknown", |draft| *draft = Draft::of(STRANGER)),
    // Who has no key learns nothing about the user, not even that it is disabled.
    Signed("signature-invalid", |draft| {
        *draft = Draft::of(DISABLED);
        draft.seed = STRANGER;
    }),
    Signed("signature-invalid", |draft| draft.seed = STRANGER),
    OnItsWay("signature-invalid", |sent| *sent.field("Signature") = b"sig=::".to_vec()),
    OnItsWay("signature-invalid", |sent| *sent.field("Signature") = sig(&[0; 64])),
    OnItsWay("signature-invalid", |sent| *sent.field("Signature") = sig(&[0; 65])),
    OnItsWay("signature-invalid", |sent| sent.method = "put".to_owned()),
    OnItsWay("signature-invalid", |sent| sent.path = "/v1/rooms/atelier".to_owned()),
    OnItsWay("signature-invalid", |sent| sent.query = Some("a=b+c&d".to_owned())),
    OnItsWay("signature-invalid", |sent| sent.query = None),
    OnItsWay("signature-invalid", |sent| *sent.field("If-Match") = b"\"8\"".to_vec()),
    OnItsWay("signature-invalid", |sent| {
        sent.authority = "localhost:8470".to_owned();
        *sent.field("Host") = b"localhost:8470".to_vec();
    }),
    OnItsWay("signature-invalid", |sent| {
        sent.body.clear();
        *sent.field("Content-Digest") = sha_256(b"").into_bytes();
    }),
    // The malleable twin of a signature, S + L, which a lenient verifier takes (RFC 8032 section 8.4).
    OnItsWay("signature-invalid", |sent| {
        let text = String::from_utf8(sent.field("Signature").clone()).unwrap();
        let mut bytes = BASE64.decode(text.trim_start_matches("sig=:").trim_end_matches(':').as_bytes()).unwrap();
        add_group_order(&mut bytes[32..]);
        *sent.field("Signature") = sig(&bytes);
    }),
    Signed("user-disabled", |draft| *draft = Draft::of(DISABLED)),
];

fn sig(bytes: &[u8]) -> Vec<u8> {
    format!("sig=:{}:", BASE64.encode(bytes)).into_bytes()
}

/// Adds the order of the group of edwards25519 (RFC 8032 section 5.1) to a little-endian number.
fn add_group_order(number: &mut [u8]) {
    let order =
        data_encoding::HEXLOWER.decode(b"edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut carry = 0;
    for (digit, add) in number.iter_mut().zip(order) {
        let sum = u16::from(*digit) + u16::from(add) + carry;
        *digit = u8::try_from(sum & 0xff).unwrap();
        carry = sum >> 8;
    }
}

/// The nonces of one test.
#[derive(Default)]
struct Memory(Mutex<BTreeSet<String>>);

impl Nonces for Memory {
    async fn insert(&self, used: &NonceUse) -> Result<(), NonceError> {
        if self.0.lock().unwrap().insert(used.entry_key()) { Ok(()) } else { Err(NonceError::Used) }
    }
}

/// A store that nobody reaches.
struct Gone;

impl Nonces for Gone {
    async fn insert(&self, _: &NonceUse) -> Result<(), NonceError> {
        Err(NonceError::Unknown("no quorum within 6 s".to_owned()))
    }
}

#[tokio::test]
async fn every_refusal_is_reached_by_one_change() {
    let mut reached = BTreeSet::new();
    for (number, spoilt) in SPOILT.iter().enumerate() {
        let (wanted, sent) = match spoilt {
            Signed(wanted, spoil) => {
                let mut draft = Draft::new();
                spoil(&mut draft);
                (wanted, draft.sign())
            }
            OnItsWay(wanted, spoil) => {
                let mut sent = Draft::new().sign();
                spoil(&mut sent);
                (wanted, sent)
            }
        };
        let refusal = sent.check().expect_err(&format!("number {number} should be refused as {wanted}"));
        assert_eq!(refusal.slug(), *wanted, "number {number}: {refusal}");
        reached.insert(refusal.slug());
    }
    let (sent, nonces) = (Draft::new().sign(), Memory::default());
    sent.verify().unwrap().spend(&nonces).await.map(drop).unwrap();
    let replay = sent.verify().unwrap().spend(&nonces).await.unwrap_err();
    let unknown = sent.verify().unwrap().spend(&Gone).await.unwrap_err();
    assert_eq!((&replay, unknown.slug()), (&Refusal::NonceUsed, "nonce-unknown"));
    assert!(!unknown.to_string().contains("quorum"), "what the store said is for the log: {unknown}");
    reached.extend([replay.slug(), unknown.slug()]);

    let all: BTreeSet<_> = Refusal::SLUGS.iter().copied().collect();
    assert_eq!(all.len(), Refusal::SLUGS.len(), "two refusals have the same slug");
    assert_eq!(reached, all);
}

#[tokio::test]
async fn what_is_right_is_accepted_once_for_each_key() {
    let sent = Draft::new().sign();
    let unspent = sent.verify().unwrap();
    let entry = format!("{}.{}", public(ALICE), "07".repeat(16));
    assert_eq!((unspent.nonce_use().entry_key(), unspent.nonce_use().expires_unix), (entry, NOW + 60));
    let nonces = Memory::default();
    let verified = unspent.spend(&nonces).await.unwrap();
    assert_eq!((verified.key(), *verified.user()), (public(ALICE), "alice"));
    // The same nonce of another key is another nonce.
    let other = NonceUse { key: public(STRANGER), ..sent.verify().unwrap().nonce_use().clone() };
    assert_eq!(nonces.insert(&other).await, Ok(()));
}

#[test]
fn what_means_the_same_is_accepted() {
    let accepted: &[fn(&mut Draft)] = &[
        |draft| draft.covered.reverse(),
        |draft| draft.parameters.rotate_left(2),
        |draft| {
            draft.if_match = None;
            draft.cover_no_more("if-match");
        },
        |draft| {
            draft.body.clear();
            draft.digest = sha_256(b"");
        },
        |draft| draft.query = None,
        |draft| draft.path = "/".to_owned(),
        |draft| draft.authority = "magnus.example".to_owned(),
        |draft| draft.set("created", &(NOW + 30).to_string()),
        |draft| {
            draft.set("created", &(NOW - 119).to_string());
            draft.set("expires", &(NOW + 1).to_string());
        },
    ];
    for (number, change) in accepted.iter().enumerate() {
        let mut draft = Draft::new();
        change(&mut draft);
        draft.sign().check().unwrap_or_else(|refusal| panic!("number {number}: {refusal}"));
    }
    let sent_alike: &[fn(&mut Sent)] = &[
        |sent| sent.authority = "MAGNUS.Example:8470".to_owned(),
        |sent| sent.drop_field("Host"),
        |sent| sent.field("Signature-Input").splice(..0, *b" \t").for_each(drop),
        |sent| sent.add_field("Signature-Other", b"x"),
        |sent| sent.field("User-Agent").push(b'!'),
        |sent| sent.fields.reverse(),
    ];
    for (number, change) in sent_alike.iter().enumerate() {
        let mut sent = Draft::new().sign();
        change(&mut sent);
        sent.check().unwrap_or_else(|refusal| panic!("number {number}: {refusal}"));
    }
    for (signed, sent) in [(Some(String::new()), None), (None, Some(String::new()))] {
        let mut request = Draft { query: signed, ..Draft::new() }.sign();
        request.query = sent;
        request.check().unwrap();
    }
    let mut default_port = Draft { authority: "magnus.example".to_owned(), ..Draft::new() }.sign();
    default_port.authority = "magnus.example:443".to_owned();
    default_port.check().unwrap();
}

#[test]
fn a_body_that_takes_too_long_is_not_accepted_any_more() {
    let sent = Draft::new().sign();
    let digest = BodyDigest::of(&sent.body);
    assert!(sent.claim(NOW).unwrap().prove(digest, NOW + 59, directory).is_ok());
    let late = sent.claim(NOW).unwrap().prove(digest, NOW + 60, directory).unwrap_err();
    assert_eq!(late, Refusal::Expired);
    assert_eq!(sent.claim(NOW).unwrap().key(), public(ALICE));
}

#[test]
fn a_head_is_proven_before_its_body_has_come_and_the_body_has_to_be_in_time_and_the_one_that_was_signed() {
    let sent = Draft::new().sign();
    let proven = || sent.claim(NOW).unwrap().prove_head(NOW, directory).unwrap();
    let digest = BodyDigest::of(&sent.body);
    assert!(proven().with_body(digest, NOW + 59).is_ok());
    assert_eq!(proven().with_body(digest, NOW + 60).unwrap_err(), Refusal::Expired);
    assert_eq!(proven().with_body(BodyDigest::of(b"other"), NOW).unwrap_err(), Refusal::DigestMismatch);
    assert_eq!(proven().before_body().1, digest);
    let mut forged = sent.claim(NOW).unwrap();
    forged.signature[0] ^= 1;
    let invalid = forged.prove_head(NOW, directory).unwrap_err();
    assert!(invalid.to_string().ends_with("came in for magnus.example:8470"), "{invalid}");
}

#[test]
fn refusal_of_another_server_says_what_was_asked_for_and_what_this_one_is_called() {
    let asked = |authority: &str| {
        let draft = Draft { authority: authority.to_owned(), ..Draft::new() };
        draft.sign().check().unwrap_err().to_string()
    };
    let said = asked("Proxy.example");
    assert!(said.starts_with("the request is for proxy.example, and this node is called "), "{said}");
    assert!(super::names().iter().all(|name| said.contains(name.as_str())), "{said}");
    // What is no authority at all is not repeated.
    let said = asked("<b>@x");
    assert!(said.starts_with("the request is for nothing that a server is called") && !said.contains("<b>"), "{said}");
}
