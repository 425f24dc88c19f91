//! Answers the engine's authorization requests, each in a task of its own.
//!
//! A refusal is a verdict on a user, and clients that hear two of them give up. Where this node can decide nothing, be it for want of a
//! lease, it gives none: it ends the connection, and the client tries the next node, or this one again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use futures::StreamExt;
use nkeys::{KeyPair, XKey};
use serde_json::{Value, json};

use super::jwt;
use super::request::{Request, RequestError};
use crate::gate::{Admission, Gate, Refusal};
use crate::tell::Teller;
use unibus_core::bus;
use unibus_core::clock;
use unibus_core::domain::Permissions;
use unibus_core::lease::Closed;
use unibus_core::random;
use unibus_store::link::Link;

/// The answering side of the callout for one engine.
pub struct Responder {
    /// To the engine that may ask.
    link: Arc<Link>,
    issuer: KeyPair,
    xkey: XKey,
    gate: Arc<Gate>,
    /// Whether clients may come in at all.
    open: Arc<AtomicBool>,
    teller: Arc<Teller>,
}

impl Responder {
    /// A responder on `link`, which admits no client before `open` says so. Users who are refused for a bound are told by `teller`.
    pub fn new(
        link: Arc<Link>,
        (issuer, xkey): (KeyPair, XKey),
        gate: Arc<Gate>,
        teller: Arc<Teller>,
        open: Arc<AtomicBool>,
    ) -> Self {
        Self { link, issuer, xkey, gate, open, teller }
    }

    /// Answers until the connection ends.
    pub async fn run(self) -> Result<()> {
        let mut requests = self.link.authorizations().context("another task answers the callout of this link")?;
        let responder = Arc::new(self);
        while let Some(message) = requests.next().await {
            let responder = responder.clone();
            tokio::spawn(async move {
                // No answer is a denial too, after the engine's time-out: nobody gets in by a request that we cannot read.
                if let Err(error) = responder.answer(&message).await {
                    tracing::warn!("authorization request not answered: {error:#}");
                }
            });
        }
        anyhow::bail!("the connection of the callout ended")
    }

    async fn answer(&self, message: &async_nats::Message) -> Result<()> {
        let reply = message.reply.clone().context("it has no reply subject")?;
        let engine_key = message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(bus::CALLOUT_XKEY_HEADER))
            .context("it is not encrypted")?;
        let engine_key = XKey::from_public_key(engine_key.as_str()).context("its curve key is no key")?;
        let token = self.xkey.open(&message.payload, &engine_key).context("it cannot be decrypted")?;
        let token = String::from_utf8(token).context("it is not text")?;
        let request = match Request::parse(&token, &self.link.server) {
            Ok(request) => request,
            // Another node's engine has its own daemon, which may know better than we.
            Err(RequestError::Server) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let now = Instant::now();
        let verdict = if self.open.load(Ordering::Acquire) {
            self.gate.admit(request.key, request.connection, now)
        } else {
            Err(Closed::Mute.into())
        };
        match &verdict {
            Err(Refusal::Closed(closed)) => {
                tracing::info!(connection = request.connection, "connection sent away undecided: {closed}");
                return self.link.kick(request.connection).await.context("cannot send the connection away");
            }
            Err(Refusal::Bound { handle, bound }) => self.teller.met(&self.gate, handle, *bound, now),
            Err(refusal) => tracing::info!(connection = request.connection, "connection refused: {refusal}"),
            Ok(_) => {}
        }
        let token = self.response(&request, verdict)?;
        let sealed = self.xkey.seal(token.as_bytes(), &engine_key).context("cannot encrypt the answer")?;
        self.link.callout.publish(reply, sealed.into()).await.context("cannot send the answer")?;
        Ok(())
    }

    fn response(&self, request: &Request, verdict: Result<Admission, Refusal>) -> Result<String> {
        let now = clock::unix();
        let mut nats = json!({ "type": "authorization_response", "version": 2 });
        let (field, value) = match verdict {
            Ok(admission) => ("jwt", self.user_token(request, &admission, now)?),
            Err(refusal) => ("error", refusal.to_string()),
        };
        if let Value::Object(map) = &mut nats {
            map.insert(field.to_owned(), json!(value));
        }
        let claims = json!({ "sub": request.user_nkey, "aud": self.link.server, "nats": nats });
        Ok(jwt::sign(&self.issuer, claims, now, random()?)?)
    }

    fn user_token(&self, request: &Request, admission: &Admission, now: i64) -> Result<String> {
        Ok(jwt::sign(&self.issuer, user_claims(&request.user_nkey, &admission.permissions)?, now, random()?)?)
    }
}

/// What the engine is told of an admitted user, whom it knows as `user_nkey`.
// No name in it: it would replace the key in the engine's connection lists. No end either: clients take that for a verdict and close for
// good. What this daemon no longer stands behind it ends itself, and its engine ends with it.
fn user_claims(user_nkey: &str, permissions: &Permissions) -> Result<Value> {
    let mut nats = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    if let (Value::Object(map), Value::Object(rights)) = (&mut nats, serde_json::to_value(permissions)?) {
        map.extend(rights);
    }
    Ok(json!({ "sub": user_nkey, "aud": bus::ACCOUNT_BUS, "nats": nats }))
}

fn random() -> Result<u128> {
    Ok(u128::from_le_bytes(random::bytes()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admission_has_no_end_and_no_name() {
        let claims = user_claims("U", &Permissions::unauthenticated()).unwrap();
        let names: Vec<_> = claims.as_object().unwrap().keys().collect();
        assert_eq!(names, ["aud", "nats", "sub"], "{claims}");
        assert!(claims["nats"]["pub"]["allow"][0] == ">" && claims["nats"].get("times").is_none());
    }
}
