//! The fuzz target of signed heads: a request as it is sent, body included, in lines.

use data_encoding::BASE64;
use nkeys::{KeyPair, KeyPairType};

use super::claim::{Claim, Standing};
use super::head::{Field, RequestHead};
use super::{Authority, BodyDigest, Nonce, Refusal, Signer};
use unibus_core::domain::SignPub;

/// When all requests arrive, in seconds since 1970: the seeds were signed a moment before.
const NOW: i64 = 1_800_000_000;
/// Who signed the seeds.
const ALICE: [u8; 32] = [1; 32];
/// The names of the server.
const NAMES: [&str; 3] = ["magnus.example:8470", "localhost:8470", "[::1]:8470"];

type Lines<'a> = Vec<(&'a str, &'a [u8])>;

/// Reads a request and, where its head is accepted, holds that
/// - the text under its signature is made of what the head says, a line for each component, and made into a head again it comes
///   to the same text: nothing is signed that is not read, and the other way round;
/// - a signature over that text, and none that differs by a bit, proves the request with the very body;
/// - a signature that is accepted as it was sent is one for another implementation, too.
///
/// Whether or not it is accepted: once our own signer has signed it, it is.
pub fn headers(data: &[u8]) {
    let Some((head, body)) = split(data) else { return };
    let Some((method, target, lines)) = request(head) else { return };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let host = lines.iter().find(|(name, _)| name.eq_ignore_ascii_case(Field::Host.name()));
    let authority = host.and_then(|(_, value)| str::from_utf8(value).ok()).unwrap_or_default();
    let names: Vec<Authority> = NAMES.iter().filter_map(|name| name.parse().ok()).collect();
    let head = RequestHead { method, authority, path, query, fields: &lines };
    if let Ok(claim) = Claim::read(&head, &names, NOW) {
        of_one_text(&head, &claim, &names);
        proven(&head, body, &claim, &names);
    }
    signed_by_us(&head, body, &names);
}

/// The head and the body of a request, which an empty line separates.
fn split(data: &[u8]) -> Option<(&str, &[u8])> {
    let end = data.windows(2).position(|two| two == b"\n\n")?;
    Some((str::from_utf8(data.get(..end)?).ok()?, data.get(end + 2..)?))
}

fn request(head: &str) -> Option<(&str, &str, Lines<'_>)> {
    let mut lines = head.split('\n');
    let (method, target) = lines.next()?.split_once(' ')?;
    let field = |line| {
        let (name, value) = str::split_once(line, ':')?;
        Some((name, value.trim_matches([' ', '\t']).as_bytes()))
    };
    Some((method, target, lines.map(field).collect::<Option<_>>()?))
}

/// The value of the line about `name` in a signature base.
fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split('\n').find_map(|line| line.strip_prefix(&format!("\"{name}\": ")))
}

fn of_one_text(head: &RequestHead<'_>, claim: &Claim, names: &[Authority]) {
    let text = claim.base.as_str();
    let [method, authority, path, query, digest, params] =
        ["@method", "@authority", "@path", "@query", "content-digest", "@signature-params"]
            .map(|name| line(text, name).unwrap_or_default());
    let if_match = line(text, "if-match");
    assert_eq!(text.split('\n').count(), 6 + usize::from(if_match.is_some()), "a line is nobody's: {text:?}");
    assert!(text.ends_with(params) && !params.is_empty(), "the parameters are the end: {text:?}");
    assert_eq!(method, head.method);
    assert!(authority.eq_ignore_ascii_case(head.authority), "{authority:?} is signed for {:?}", head.authority);
    assert_eq!(path, if head.path.is_empty() { "/" } else { head.path });
    assert_eq!(query, format!("?{}", head.query.unwrap_or_default()));

    let (input, signature) = (format!("again={params}"), format!("again=:{}:", BASE64.encode(&claim.signature)));
    let mut fields = vec![
        (Field::SignatureInput.name(), input.as_bytes()),
        (Field::Signature.name(), signature.as_bytes()),
        (Field::ContentDigest.name(), digest.as_bytes()),
    ];
    fields.extend(if_match.map(|value| (Field::IfMatch.name(), value.as_bytes())));
    let again = RequestHead { method, authority, path, query: query.strip_prefix('?'), fields: &fields };
    match Claim::read(&again, names, NOW) {
        Ok(again) => assert_eq!(again.base, claim.base),
        Err(refusal) => assert!(too_large(&refusal), "{refusal:?} of what is signed by {text:?}"),
    }
}

/// Written anew a field may be longer than what is read at all.
fn too_large(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::FieldTooLarge(_) | Refusal::HeadTooLarge)
}

fn pair() -> Option<KeyPair> {
    KeyPair::new_from_raw(KeyPairType::User, ALICE).ok()
}

fn proven(head: &RequestHead<'_>, body: &[u8], claim: &Claim, names: &[Authority]) {
    let Some(pair) = pair() else { return };
    let Ok(alice) = SignPub::from_nkey(&pair.public_key()) else { return };
    let active = |key: &SignPub| (*key == alice).then_some(Standing::Active(()));
    let digest = BodyDigest::of(body);
    let prove = |signature: &[u8], digest: BodyDigest| {
        let mut claim = Claim::read(head, names, NOW)?;
        claim.signature = signature.to_vec();
        claim.prove(digest, NOW, active).map(|unspent| unspent.nonce_use().clone())
    };
    if claim.digest != digest {
        assert_eq!(prove(&claim.signature, digest), Err(Refusal::DigestMismatch));
        return;
    }
    if claim.key() != alice {
        assert_eq!(prove(&claim.signature, digest), Err(Refusal::KeyUnknown));
        return;
    }
    if prove(&claim.signature, digest).is_ok() {
        assert!(pair.verify(claim.base.as_bytes(), &claim.signature).is_ok(), "a signature that no other knows");
    }
    let Ok(mut signature) = pair.sign(claim.base.as_bytes()) else { return };
    let used = prove(&signature, digest);
    assert!(used.is_ok_and(|used| used.key == alice && used.expires_unix > NOW), "{:?}", claim.base);
    let at = claim.base.len() % signature.len();
    if let Some(byte) = signature.get_mut(at) {
        *byte ^= 1 << (claim.base.len() % 8);
    }
    assert!(matches!(prove(&signature, digest), Err(Refusal::SignatureInvalid(_))), "byte {at} does not count");
    assert_eq!(prove(&claim.signature, BodyDigest::of(b"other")), Err(Refusal::DigestMismatch));
}

fn signed_by_us(head: &RequestHead<'_>, body: &[u8], names: &[Authority]) {
    let ours = [Field::SignatureInput, Field::Signature, Field::ContentDigest];
    let kept = |(name, _): &&(&str, &[u8])| !ours.iter().any(|field| field.name().eq_ignore_ascii_case(name));
    let mut fields: Lines<'_> = head.fields.iter().filter(kept).copied().collect();
    let Some(signer) = pair().and_then(|pair| Signer::new(pair).ok()) else { return };
    let (digest, nonce) = (BodyDigest::of(body), Nonce::from_entropy([7; 16]));
    // Whoever asks for what no server would take is told so.
    let Ok(added) = signer.sign(&RequestHead { fields: &fields, ..*head }, digest, NOW, nonce) else { return };
    fields.extend(added.fields().map(|(name, value)| (name, value.as_bytes())));
    let proven = Claim::read(&RequestHead { fields: &fields, ..*head }, names, NOW)
        .and_then(|claim| claim.prove(digest, NOW, |_| Some(Standing::Active(()))));
    match proven {
        Ok(unspent) => assert_eq!(unspent.nonce_use().nonce, nonce),
        Err(refusal) => assert!(
            matches!(refusal, Refusal::AuthorityForeign { .. }) || too_large(&refusal),
            "{refusal:?} of what we signed: {:?}",
            fields
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_accepted_as_they_were_sent() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/headers");
        let mut accepted = 0;
        for seed in std::fs::read_dir(seeds).unwrap() {
            let seed = seed.unwrap();
            let data = std::fs::read(seed.path()).unwrap();
            let (head, body) = split(&data).unwrap();
            let (method, target, lines) = request(head).unwrap();
            let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
            let names: Vec<Authority> = NAMES.iter().map(|name| name.parse().unwrap()).collect();
            let authority = lines.iter().find(|(name, _)| name.eq_ignore_ascii_case("host")).unwrap().1;
            let authority = str::from_utf8(authority).unwrap();
            let head = RequestHead { method, authority, path, query, fields: &lines };
            let known = |_: &SignPub| Some(Standing::Active(()));
            let proven =
                Claim::read(&head, &names, NOW).and_then(|claim| claim.prove(BodyDigest::of(body), NOW, known));
            let refused = seed.file_name().to_string_lossy().starts_with("refused");
            assert_eq!(proven.is_err(), refused, "{:?}: {proven:?}", seed.file_name());
            accepted += usize::from(!refused);
        }
        assert!(accepted >= 4, "{accepted}");
    }
}
