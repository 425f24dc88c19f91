//! The fuzz target of authorization requests: the claims in a token that the engine has signed, and the token itself.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use nkeys::{KeyPair, KeyPairType};
use serde_json::Value;

use super::request::Request;

/// Seed of the engine that asks; the seeds name its public key.
const ENGINE: [u8; 32] = [11; 32];
/// Seed of another one.
const OTHER: [u8; 32] = [12; 32];
const HEADER: &[u8] = br#"{"typ":"JWT","alg":"ed25519-nkey"}"#;

/// Reads `data` as the claims of a token that the engine signed: what clients write stands in there as they wrote it. Holds that
/// - no other engine's signature counts, no token for another engine, no token with another bit, and no token without a signature;
/// - what is read is what the claims say, and they are about this engine;
/// - a key counts only where another implementation finds its signature over the engine's nonce right.
pub fn callouts(data: &[u8]) {
    let pair = |seed| KeyPair::new_from_raw(KeyPairType::Server, seed);
    let (Ok(engine), Ok(other)) = (pair(ENGINE), pair(OTHER)) else { return };
    let own = engine.public_key();
    if let Ok(text) = str::from_utf8(data) {
        assert!(Request::parse(text, &own).is_err(), "nobody signed {text:?}");
    }
    let (Some(token), Some(foreign)) = (signed(&engine, data), signed(&other, data)) else { return };
    assert!(Request::parse(&foreign, &own).is_err(), "another engine signed it");
    let Ok(request) = Request::parse(&token, &own) else { return };
    assert!(Request::parse(&token, &other.public_key()).is_err(), "it is for another engine");
    assert!(Request::parse(&flipped(&token), &own).is_err(), "a bit of it does not count");

    let Ok(claims) = serde_json::from_slice::<Value>(data) else { return };
    let said = |path: &str| claims.pointer(path).and_then(Value::as_str).unwrap_or_default();
    assert_eq!((said("/iss"), said("/nats/server_id/id")), (own.as_str(), own.as_str()));
    assert_eq!(said("/nats/user_nkey"), request.user_nkey);
    let id = claims.pointer("/nats/client_info/id").and_then(Value::as_u64);
    assert_eq!(id, Some(request.connection), "{claims}");
    let Some(key) = request.key else { return };
    let (nkey, nonce) = (said("/nats/connect_opts/nkey"), said("/nats/client_info/nonce"));
    assert!(key.to_nkey() == nkey && !nonce.is_empty(), "{key} of {claims}");
    let signature = said("/nats/connect_opts/sig");
    let decoded =
        [BASE64URL_NOPAD.decode(signature.trim_end_matches('=').as_bytes()), BASE64.decode(signature.as_bytes())];
    let right = |bytes: &Vec<u8>| {
        KeyPair::from_public_key(nkey).is_ok_and(|client| client.verify(nonce.as_bytes(), bytes).is_ok())
    };
    assert!(decoded.iter().flatten().any(right), "no other finds the signature right: {claims}");
}

fn signed(engine: &KeyPair, claims: &[u8]) -> Option<String> {
    let body = format!("{}.{}", BASE64URL_NOPAD.encode(HEADER), BASE64URL_NOPAD.encode(claims));
    let signature = engine.sign(body.as_bytes()).ok()?;
    Some(format!("{body}.{}", BASE64URL_NOPAD.encode(&signature)))
}

/// The token with one bit of its signature changed, which one by its length.
fn flipped(token: &str) -> String {
    let (body, signature) = token.rsplit_once('.').unwrap_or_default();
    let mut bytes = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap_or_default();
    let at = token.len() % bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (token.len() % 8);
    }
    format!("{body}.{}", BASE64URL_NOPAD.encode(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_requests_of_this_engine() {
        let engine = KeyPair::new_from_raw(KeyPairType::Server, ENGINE).unwrap();
        let mut proven = 0;
        for seed in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/callouts")).unwrap() {
            let seed = seed.unwrap();
            let token = signed(&engine, &std::fs::read(seed.path()).unwrap()).unwrap();
            let request = Request::parse(&token, &engine.public_key());
            let name = seed.file_name();
            let named = |part| name.to_string_lossy().contains(part);
            assert_eq!(request.is_err(), named("refused"), "{name:?}: {request:?}");
            proven += usize::from(request.is_ok_and(|request| request.key.is_some()));
        }
        assert!(proven >= 2, "{proven}");
    }
}
