//! An authorization request of the engine, understood and its client's signature verified.

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde::Deserialize;

use super::jwt::{self, TokenError};
use crate::gate::ConnectionId;
use unibus_core::domain::SignPub;
use unibus_core::faults::Fault;

/// Audience of the engine's requests (`AuthRequestSubject` in nats-server `server/auth_callout.go`).
const AUDIENCE: &str = "nats-authorization-request";

/// Why a request gets no verdict: it is not from our engine, or not understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("the request is not understood: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("the request is for something else")]
    Audience,
    #[error("the request comes from the engine of another node")]
    Server,
}

/// A connection that asks to be admitted.
#[derive(Debug)]
pub(super) struct Request {
    /// Key that the engine made for this one authorization; the answer is about it.
    pub(super) user_nkey: String,
    /// The connection in the engine.
    pub(super) connection: ConnectionId,
    /// Key whose possession the client has proven, or none.
    pub(super) key: Option<SignPub>,
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    nats: Body,
}

#[derive(Deserialize)]
struct Body {
    user_nkey: String,
    server_id: ServerId,
    client_info: ClientInfo,
    connect_opts: ConnectOpts,
}

#[derive(Deserialize)]
struct ServerId {
    id: String,
}

#[derive(Deserialize)]
struct ClientInfo {
    id: ConnectionId,
    #[serde(default)]
    nonce: String,
}

#[derive(Deserialize)]
struct ConnectOpts {
    #[serde(default)]
    nkey: String,
    #[serde(default)]
    sig: String,
}

impl Request {
    /// Reads a request that the engine `server` signed.
    pub(super) fn parse(token: &str, server: &str) -> Result<Self, RequestError> {
        let claims: Claims = serde_json::from_value(jwt::verified_claims(token, server)?)?;
        if claims.aud != AUDIENCE {
            return Err(RequestError::Audience);
        }
        let body = claims.nats;
        if body.server_id.id != server {
            return Err(RequestError::Server);
        }
        let key = proven_key(&body.connect_opts.nkey, &body.client_info.nonce, &body.connect_opts.sig);
        Ok(Self { user_nkey: body.user_nkey, connection: body.client_info.id, key })
    }
}

// The engine passes keys that it does not know on without verifying anything: the signature over its nonce is for us to
// check. Clients encode it in either alphabet, with or without padding.
fn proven_key(nkey: &str, nonce: &str, signature: &str) -> Option<SignPub> {
    let key = SignPub::from_nkey(nkey).ok()?;
    if Fault::NoSignatureCheck.active() {
        return Some(key);
    }
    if nonce.is_empty() {
        return None;
    }
    let bytes = BASE64URL_NOPAD
        .decode(signature.trim_end_matches('=').as_bytes())
        .or_else(|_| BASE64.decode(signature.as_bytes()))
        .ok()?;
    key.verifies(nonce.as_bytes(), &bytes).then_some(key)
}

#[cfg(test)]
mod tests {
    use nkeys::KeyPair;

    use super::*;

    #[test]
    fn a_key_counts_only_with_its_signature_over_the_nonce() {
        let (pair, other) = (KeyPair::new_user(), KeyPair::new_user());
        let sign = |pair: &KeyPair, nonce: &[u8]| BASE64URL_NOPAD.encode(&pair.sign(nonce).unwrap());
        let nkey = pair.public_key();
        assert!(proven_key(&nkey, "nonce", &sign(&pair, b"nonce")).is_some());
        assert!(proven_key(&nkey, "nonce", &BASE64.encode(&pair.sign(b"nonce").unwrap())).is_some());
        assert!(proven_key(&nkey, "nonce", &sign(&other, b"nonce")).is_none());
        assert!(proven_key(&nkey, "nonce", &sign(&pair, b"earlier")).is_none());
        assert!(proven_key(&nkey, "", &sign(&pair, b"")).is_none(), "no nonce proves nothing");
        assert!(proven_key("", "nonce", "").is_none());
    }
}
