//! JWTs as the engine speaks them: EdDSA with nkeys (nats-io/jwt, version 2 claims).

use data_encoding::BASE64URL_NOPAD;
use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};

const HEADER: &[u8] = br#"{"typ":"JWT","alg":"ed25519-nkey"}"#;

/// Why a token is not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum TokenError {
    #[error("not a token of three parts in base64url")]
    Malformed,
    #[error("not issued by this node's engine")]
    Issuer,
    #[error("the signature does not match")]
    Signature,
}

/// Signs `claims`, to which issuer, issue time and id are added.
pub(super) fn sign(
    issuer: &KeyPair,
    mut claims: Value,
    issued_unix: i64,
    id: u128,
) -> Result<String, nkeys::error::Error> {
    if let Value::Object(map) = &mut claims {
        map.insert("iss".to_owned(), json!(issuer.public_key()));
        map.insert("iat".to_owned(), json!(issued_unix));
        map.insert("jti".to_owned(), json!(format!("{id:032x}")));
    }
    let body = format!("{}.{}", BASE64URL_NOPAD.encode(HEADER), BASE64URL_NOPAD.encode(claims.to_string().as_bytes()));
    let signature = issuer.sign(body.as_bytes())?;
    Ok(format!("{body}.{}", BASE64URL_NOPAD.encode(&signature)))
}

/// Claims of a token that `server` (an `N…` key) signed.
pub(super) fn verified_claims(token: &str, server: &str) -> Result<Value, TokenError> {
    let (body, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (_, payload) = body.split_once('.').ok_or(TokenError::Malformed)?;
    let decode = |part: &str| BASE64URL_NOPAD.decode(part.as_bytes()).map_err(|_| TokenError::Malformed);
    let claims: Value = serde_json::from_slice(&decode(payload)?).map_err(|_| TokenError::Malformed)?;
    if claims.get("iss").and_then(Value::as_str) != Some(server) {
        return Err(TokenError::Issuer);
    }
    let key = KeyPair::from_public_key(server).ok().filter(|key| key.key_pair_type() == KeyPairType::Server);
    let key = key.ok_or(TokenError::Issuer)?;
    key.verify(body.as_bytes(), &decode(signature)?).map_err(|_| TokenError::Signature)?;
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_server_is_believed() {
        let (server, other) = (KeyPair::new_server(), KeyPair::new_server());
        let token = sign(&server, json!({"aud": "x"}), 1, 2).unwrap();
        assert_eq!(verified_claims(&token, &server.public_key()).unwrap()["aud"], "x");
        assert_eq!(verified_claims(&token, &other.public_key()), Err(TokenError::Issuer));
        let forged = sign(&other, json!({}), 1, 2).unwrap();
        let (_, signature) = forged.rsplit_once('.').unwrap();
        let (body, _) = token.rsplit_once('.').unwrap();
        assert_eq!(verified_claims(&format!("{body}.{signature}"), &server.public_key()), Err(TokenError::Signature));
        assert_eq!(verified_claims("nonsense", &server.public_key()), Err(TokenError::Malformed));
    }
}
