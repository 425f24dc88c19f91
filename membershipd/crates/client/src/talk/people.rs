//! Who is who: by the directory, checked against their own signatures and against what was seen before.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::error::TalkError;
use super::pins::{Pinned, Pins};
use crate::api::{Client, ClientError, Request};
use crate::identity::Identity;
use unibus_api_types::problem::Kind;
use unibus_core::domain::{Handle, SignPub, Verifier};
use unibus_crypto::{HpkePub, Recipient, Signature, Untrue};

/// Somebody whose keys are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// His signing key.
    pub sign_pub: SignPub,
    /// The key to seal for; none: he has not set one.
    pub hpke_pub: Option<HpkePub>,
}

/// A user as the API lists him.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) handle: Handle,
    sign_pub: SignPub,
    hpke: Option<Hpke>,
}

#[derive(Debug, Deserialize)]
struct Hpke {
    hpke_pub: HpkePub,
    signature: Signature,
}

/// Everybody whom this user has met since the program began, and the pins.
#[derive(Debug)]
pub struct People {
    api: Arc<Client>,
    pins: Pins,
    met: HashMap<Handle, Person>,
    verifiers: HashMap<Handle, Arc<Verifier>>,
}

impl People {
    /// Asks `api`, and keeps to `pins`.
    pub fn new(api: Arc<Client>, pins: Pins) -> Self {
        Self { api, pins, met: HashMap::new(), verifiers: HashMap::new() }
    }

    /// The pins.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Lets the servers know the HPKE key of `identity`, who is the user himself.
    pub async fn introduce(&mut self, identity: &Identity) -> Result<Recipient, TalkError> {
        let own = identity.recipient().map_err(TalkError::Identity)?;
        match self.find(&own.handle).await? {
            Some(person) if person.hpke_pub == Some(own.hpke_pub) => return Ok(own),
            Some(Person { hpke_pub: Some(_), .. }) => return Err(TalkError::OtherIdentity(own.handle)),
            _ => {}
        }
        let pair = identity.key_pair().map_err(TalkError::Identity)?;
        let signature = own.vouch(&pair).map_err(TalkError::Seal)?;
        let body = json!({ "hpke_pub": own.hpke_pub, "signature": signature });
        let said = self.api.ask(&Request::put("/v1/me/hpke", Some(body))).await;
        said.map_err(TalkError::api("say which HPKE key is ours"))?;
        self.note(&own.handle, Person { sign_pub: own.sign_pub, hpke_pub: Some(own.hpke_pub) })?;
        Ok(own)
    }

    /// Who `handle` is; none: there never was such a user.
    pub async fn find(&mut self, handle: &Handle) -> Result<Option<Person>, TalkError> {
        if let Some(person) = self.met.get(handle) {
            return Ok(Some(person.clone()));
        }
        let listed = self.api.ask_for::<Listed>(&Request::get(format!("/v1/directory/{handle}"))).await;
        match listed {
            Ok(listed) if listed.handle == *handle => self.check(listed).map(Some),
            // Somebody else's keys under this name would be believed from then on.
            Ok(_) => Err(TalkError::NotVouched(handle.clone(), Untrue::Signature)),
            Err(ClientError::Refused(refused)) if refused.slug == Kind::NO_SUCH_USER.slug => Ok(None),
            Err(error) => Err(TalkError::api("look somebody up in the directory")(error)),
        }
    }

    /// What verifies the signatures of `handle`; none: there never was such a user.
    pub async fn verifier(&mut self, handle: &Handle) -> Result<Option<Arc<Verifier>>, TalkError> {
        if let Some(verifier) = self.verifiers.get(handle) {
            return Ok(Some(verifier.clone()));
        }
        let verifier = self.find(handle).await?.and_then(|person| person.sign_pub.verifier()).map(Arc::new);
        if let Some(verifier) = &verifier {
            self.verifiers.insert(handle.clone(), verifier.clone());
        }
        Ok(verifier)
    }

    /// Takes what a server says of somebody, if it is so.
    pub(super) fn check(&mut self, listed: Listed) -> Result<Person, TalkError> {
        let Listed { handle, sign_pub, hpke } = listed;
        if let Some(Hpke { hpke_pub, signature }) = &hpke {
            let recipient = Recipient { handle: handle.clone(), sign_pub, hpke_pub: *hpke_pub };
            recipient.check(*signature).map_err(|error| TalkError::NotVouched(handle.clone(), error))?;
        }
        let person = Person { sign_pub, hpke_pub: hpke.map(|hpke| hpke.hpke_pub) };
        self.note(&handle, person.clone())?;
        Ok(person)
    }

    fn note(&mut self, handle: &Handle, person: Person) -> Result<(), TalkError> {
        self.pins.meet(handle, Pinned { sign_pub: person.sign_pub, hpke_pub: person.hpke_pub })?;
        self.met.insert(handle.clone(), person);
        Ok(())
    }
}
