//! Tests of the whole way from a head to a verified request, against a signer that shares no code with the verifier.

mod properties;
mod refusals;
mod vectors;

use data_encoding::BASE64;
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest, Sha256};

use super::{Authority, BodyDigest, Claim, Refusal, RequestHead, Standing, Unspent};
use unibus_core::domain::SignPub;

const NOW: i64 = 1_800_000_000;
const ALICE: [u8; 32] = [1; 32];
const DISABLED: [u8; 32] = [2; 32];
const STRANGER: [u8; 32] = [3; 32];

fn public(seed: [u8; 32]) -> SignPub {
    data_encoding::HEXLOWER.encode(SigningKey::from_bytes(&seed).verifying_key().as_bytes()).parse().unwrap()
}

fn names() -> Vec<Authority> {
    ["magnus.example:8470", "localhost:8470", "magnus.example"].map(|name| name.parse().unwrap()).to_vec()
}

fn directory(key: &SignPub) -> Option<Standing<&'static str>> {
    match *key {
        key if key == public(ALICE) => Some(Standing::Active("alice")),
        key if key == public(DISABLED) => Some(Standing::Disabled),
        _ => None,
    }
}

/// A request that is yet to be signed: whatever is changed here is signed for.
#[derive(Debug, Clone)]
struct Draft {
    seed: [u8; 32],
    method: String,
    authority: String,
    path: String,
    query: Option<String>,
    if_match: Option<String>,
    body: Vec<u8>,
    digest: String,
    /// Components as they stand in Signature-Input.
    covered: Vec<String>,
    /// Parameters as they stand in Signature-Input.
    parameters: Vec<(String, String)>,
}

impl Draft {
    /// A request that is right in every way.
    fn new() -> Self {
        let body = b"{\"name\":\"atelier\"}".to_vec();
        let covered = ["@method", "@authority", "@path", "@query", "content-digest", "if-match"];
        let parameters = [
            ("created", NOW.to_string()),
            ("expires", (NOW + 60).to_string()),
            ("nonce", format!("\"{}\"", BASE64.encode(&[7; 16]))),
            ("keyid", format!("\"{}\"", public(ALICE))),
            ("tag", "\"unibus\"".to_owned()),
        ];
        Self {
            seed: ALICE,
            method: "PUT".to_owned(),
            authority: "magnus.example:8470".to_owned(),
            path: "/v1/rooms/at%65lier".to_owned(),
            query: Some("a=b%20c&d".to_owned()),
            if_match: Some("\"7\"".to_owned()),
            digest: sha_256(&body),
            body,
            covered: covered.map(|name| format!("\"{name}\"")).to_vec(),
            parameters: parameters.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        }
    }

    fn of(seed: [u8; 32]) -> Self {
        let mut draft = Self::new();
        draft.seed = seed;
        draft.set("keyid", &format!("\"{}\"", public(seed)));
        draft
    }

    fn set(&mut self, parameter: &str, value: &str) {
        self.parameters.iter_mut().find(|(name, _)| name == parameter).unwrap().1 = value.to_owned();
    }

    fn drop_parameter(&mut self, parameter: &str) {
        self.parameters.retain(|(name, _)| name != parameter);
    }

    fn cover_no_more(&mut self, component: &str) {
        self.covered.retain(|name| name != &format!("\"{component}\""));
    }

    /// Signs and sends.
    fn sign(&self) -> Sent {
        let mut base = String::new();
        for name in &self.covered {
            let value = match name.trim_matches('"') {
                "@method" => self.method.clone(),
                "@authority" => self.authority.clone(),
                "@path" => self.path.clone(),
                "@query" => format!("?{}", self.query.as_deref().unwrap_or_default()),
                "content-digest" => self.digest.clone(),
                "if-match" => self.if_match.clone().unwrap_or_default(),
                _ => String::new(),
            };
            base.push_str(&format!("{name}: {value}\n"));
        }
        let mut params = format!("({})", self.covered.join(" "));
        for (name, value) in &self.parameters {
            params.push_str(&format!(";{name}={value}"));
        }
        base.push_str(&format!("\"@signature-params\": {params}"));
        let signature = BASE64.encode(&SigningKey::from_bytes(&self.seed).sign(base.as_bytes()).to_bytes());
        let mut fields = vec![
            ("Host".to_owned(), self.authority.clone().into_bytes()),
            ("User-Agent".to_owned(), b"test".to_vec()),
            ("Content-Digest".to_owned(), self.digest.clone().into_bytes()),
            ("Signature-Input".to_owned(), format!("sig={params}").into_bytes()),
            ("Signature".to_owned(), format!("sig=:{signature}:").into_bytes()),
        ];
        fields.extend(self.if_match.clone().map(|value| ("If-Match".to_owned(), value.into_bytes())));
        Sent {
            method: self.method.clone(),
            authority: self.authority.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            fields,
            body: self.body.clone(),
        }
    }
}

/// A request on its way: whatever is changed here was not signed.
#[derive(Debug, Clone)]
struct Sent {
    method: String,
    authority: String,
    path: String,
    query: Option<String>,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Sent {
    fn field(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.fields.iter_mut().find(|(known, _)| known == name).unwrap().1
    }

    fn drop_field(&mut self, name: &str) {
        self.fields.retain(|(known, _)| known != name);
    }

    fn add_field(&mut self, name: &str, value: &[u8]) {
        self.fields.push((name.to_owned(), value.to_vec()));
    }

    fn with_head<T>(&self, look: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        let fields: Vec<_> = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        look(&RequestHead {
            method: &self.method,
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            fields: &fields,
        })
    }

    fn claim(&self, now: i64) -> Result<Claim, Refusal> {
        self.with_head(|head| Claim::read(head, &names(), now))
    }

    fn verify(&self) -> Result<Unspent<&'static str>, Refusal> {
        self.claim(NOW)?.prove(BodyDigest::of(&self.body), NOW, directory)
    }

    fn check(&self) -> Result<(), Refusal> {
        self.verify().map(drop)
    }
}

fn sha_256(body: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64.encode(&Sha256::digest(body)))
}
