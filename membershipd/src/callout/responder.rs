//! Answers the engine's authorization requests, each in a task of its own.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use futures::StreamExt;
use nkeys::{KeyPair, XKey};
use serde_json::{Value, json};

use super::jwt;
use super::request::{Request, RequestError};
use crate::gate::{Admission, Gate, Refusal};
use unibus_core::bus;
use unibus_core::clock;
use unibus_core::random;

/// The answering side of the callout for one engine.
pub struct Responder {
    client: async_nats::Client,
    /// Id of the engine that may ask.
    server: String,
    issuer: KeyPair,
    xkey: XKey,
    gate: Arc<Gate>,
}

impl Responder {
    /// A responder on `client`, a connection in the callout account of this node's engine `server`.
    pub fn new(client: async_nats::Client, server: String, issuer: KeyPair, xkey: XKey, gate: Arc<Gate>) -> Self {
        Self { client, server, issuer, xkey, gate }
    }

    /// Answers until the connection ends.
    pub async fn run(self) -> Result<()> {
        let mut requests =
            self.client.subscribe(bus::CALLOUT_SUBJECT).await.context("cannot subscribe to the callout")?;
        self.client.flush().await.context("cannot reach the engine")?;
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
        let request = match Request::parse(&token, &self.server) {
            Ok(request) => request,
            // Another node's engine has its own daemon, which may know better than we.
            Err(RequestError::Server) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let verdict = self.gate.admit(request.key, request.connection, Instant::now());
        if let Err(refusal) = &verdict {
            tracing::info!(connection = request.connection, "connection refused: {refusal}");
        }
        let token = self.response(&request, verdict)?;
        let sealed = self.xkey.seal(token.as_bytes(), &engine_key).context("cannot encrypt the answer")?;
        self.client.publish(reply, sealed.into()).await.context("cannot send the answer")?;
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
        let claims = json!({ "sub": request.user_nkey, "aud": self.server, "nats": nats });
        Ok(jwt::sign(&self.issuer, claims, now, random()?)?)
    }

    // No name in it: it would replace the key in the engine's connection lists.
    fn user_token(&self, request: &Request, admission: &Admission, now: i64) -> Result<String> {
        let life = i64::try_from(bus::ADMISSION.as_secs())?;
        // Admissions of a moment must not all end in the same second.
        let early = i64::try_from(random()? % (bus::ADMISSION.as_secs() / 10) as u128)?;
        let mut nats = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
        if let (Value::Object(map), Value::Object(rights)) = (&mut nats, serde_json::to_value(&admission.permissions)?)
        {
            map.extend(rights);
        }
        let claims =
            json!({ "sub": request.user_nkey, "aud": bus::ACCOUNT_BUS, "exp": now + life - early, "nats": nats });
        Ok(jwt::sign(&self.issuer, claims, now, random()?)?)
    }
}

fn random() -> Result<u128> {
    Ok(u128::from_le_bytes(random::bytes()?))
}
