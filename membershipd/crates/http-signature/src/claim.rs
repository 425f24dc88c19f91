//! From what a request says to what it proves: everything about a signature but its nonce.

use sfv::{BareItemFromInput, KeyRef};

use super::authority::Authority;
use super::base::{Component, Parameter, signature_base};
use super::dictionary::{self, Item, Member, Parameters, Value};
use super::digest::BodyDigest;
use super::head::{Field, RequestHead};
use super::nonce::{Nonce, NonceUse, Unspent};
use super::refusal::Refusal;
use super::{LIFETIME_S, SKEW_S, TAG};
use unibus_core::domain::SignPub;

/// What the directory of users says about a key that it knows.
#[derive(Debug)]
pub enum Standing<U> {
    /// Its user is switched off or was removed.
    Disabled,
    /// Its user may act.
    Active(U),
}

/// What the head of a request says about who sends it. Well-formed, in time and for this server, and nothing of it is proven.
#[derive(Debug)]
pub struct Claim {
    stated: Stated,
    /// What it came in for.
    authority: Authority,
    pub(super) digest: BodyDigest,
    /// The text that must have been signed.
    pub(super) base: String,
    pub(super) signature: Vec<u8>,
}

/// A request whose head was made by the owner of its key, in time. Its body is still to come, and the request may be a copy of one
/// that was already carried out.
#[derive(Debug)]
#[must_use = "a request counts only once its body has come and its nonce is spent"]
pub struct Proven<U> {
    authority: Authority,
    stated: Stated,
    digest: BodyDigest,
    user: U,
}

/// The parameters of a signature.
#[derive(Debug)]
struct Stated {
    created_unix: i64,
    expires_unix: i64,
    nonce: Nonce,
    key: SignPub,
}

impl Claim {
    /// Reads the head of a request that arrived at `now_unix` (seconds since 1970) at a server with these `names`.
    ///
    /// No byte of the body is needed for this, so that only a request that is worth it has its body read.
    pub fn read(head: &RequestHead<'_>, names: &[Authority], now_unix: i64) -> Result<Self, Refusal> {
        head.check_size()?;
        let missing = Refusal::SignatureMissing;
        let input = head.field(Field::SignatureInput)?.ok_or(missing(Field::SignatureInput))?;
        let signature = head.field(Field::Signature)?.ok_or(missing(Field::Signature))?;
        let content_digest = head.field(Field::ContentDigest)?.ok_or(Refusal::DigestMissing)?;
        let if_match = head.field(Field::IfMatch)?;
        let authority = head.authority()?;

        let (label, covered, parameters) = signature_input(input)?;
        let signature = signature_of(label, signature)?;
        let components = components(&covered, if_match.is_some())?;
        let stated = Stated::read(&parameters)?;
        stated.check_time(now_unix)?;
        if !names.contains(&authority) {
            return Err(Refusal::AuthorityForeign { asked: Some(authority), names: names.to_vec() });
        }
        let digest = BodyDigest::from_field(content_digest)?;

        let query = head.signed_query()?;
        let mut lines = Vec::with_capacity(components.len());
        for component in components {
            let value = match component {
                Component::Method => head.method,
                Component::Authority => authority.as_str(),
                Component::Path => head.signed_path()?,
                Component::Query => &query,
                Component::ContentDigest => as_text(Some(content_digest), component)?,
                Component::IfMatch => as_text(if_match, component)?,
            };
            lines.push((component, value));
        }
        let named: Vec<_> = lines.iter().map(|(component, value)| (component.identifier(), *value)).collect();
        let base = signature_base(&named, parameters.iter().map(|(name, value)| (*name, value.into())));
        // Every name in the base is one of the profile's; were it none, the refusal would still be one.
        let base = base
            .map_err(|name| Component::named(name).map_or(Refusal::ComponentForeign, Refusal::ValueUnsignable))?
            .text;
        Ok(Self { stated, authority, digest, base, signature })
    }

    /// Key that the request names. Whoever sent it need not have it.
    pub fn key(&self) -> SignPub {
        self.stated.key
    }

    /// Proves the claim by the head alone, at `now_unix`, before any of the body was received. Whether the body is the one that was
    /// signed is for [`Proven`] to say.
    ///
    /// A key that `directory` does not know (none) costs no signature check; that a user is disabled is told to the owner of
    /// its key alone.
    pub fn prove_head<U>(
        self,
        now_unix: i64,
        directory: impl FnOnce(&SignPub) -> Option<Standing<U>>,
    ) -> Result<Proven<U>, Refusal> {
        self.stated.check_time(now_unix)?;
        let standing = directory(&self.stated.key).ok_or(Refusal::KeyUnknown)?;
        if !self.stated.key.verifies(self.base.as_bytes(), &self.signature) {
            return Err(Refusal::SignatureInvalid(self.authority));
        }
        match standing {
            Standing::Active(user) => {
                Ok(Proven { authority: self.authority, stated: self.stated, digest: self.digest, user })
            }
            Standing::Disabled => Err(Refusal::UserDisabled),
        }
    }

    /// Proves the claim of a request of which head and `body` are at hand, at `now_unix`.
    pub fn prove<U>(
        self,
        body: BodyDigest,
        now_unix: i64,
        directory: impl FnOnce(&SignPub) -> Option<Standing<U>>,
    ) -> Result<Unspent<U>, Refusal> {
        self.stated.check_time(now_unix)?;
        if body != self.digest {
            return Err(Refusal::DigestMismatch);
        }
        self.prove_head(now_unix, directory)?.with_body(body, now_unix)
    }
}

impl<U> Proven<U> {
    /// What the directory said about the signer, who may have something set aside for the body from now on.
    pub fn user(&self) -> &U {
        &self.user
    }

    /// Takes the whole `body` that was received, at `now_unix`: a slow one may have outlived the signature.
    pub fn with_body(self, body: BodyDigest, now_unix: i64) -> Result<Unspent<U>, Refusal> {
        self.stated.check_time(now_unix)?;
        if body == self.digest { Ok(self.before_body().0) } else { Err(Refusal::DigestMismatch) }
    }

    /// For a body that is too large to be held. Says which digest it has to have: what arrives counts only once it is known to
    /// have that.
    pub fn before_body(self) -> (Unspent<U>, BodyDigest) {
        let Stated { key, nonce, expires_unix, .. } = self.stated;
        (Unspent::new(NonceUse { authority: self.authority, key, nonce, expires_unix }, self.user), self.digest)
    }
}

type Input<'de> = (&'de KeyRef, Vec<Item<'de>>, Parameters<'de>);

/// The one signature that Signature-Input describes.
fn signature_input(field: &[u8]) -> Result<Input<'_>, Refusal> {
    let Member { label, value, parameters } = only_member(field, Field::SignatureInput)?;
    match value {
        Value::List(covered) => Ok((label, covered, parameters)),
        Value::Item(_) => Err(Refusal::FieldMalformed(Field::SignatureInput)),
    }
}

/// The bytes of the one signature, which must have the label of its description.
fn signature_of(label: &KeyRef, field: &[u8]) -> Result<Vec<u8>, Refusal> {
    let member = only_member(field, Field::Signature)?;
    match member.value {
        _ if member.label != label => Err(Refusal::LabelMismatch),
        Value::Item(BareItemFromInput::ByteSequence(bytes)) if member.parameters.is_empty() => Ok(bytes),
        Value::Item(_) | Value::List(_) => Err(Refusal::FieldMalformed(Field::Signature)),
    }
}

fn only_member(field: &[u8], name: Field) -> Result<Member<'_>, Refusal> {
    let mut members = dictionary::parse(field).ok_or(Refusal::FieldMalformed(name))?;
    let only = members.pop().ok_or(Refusal::FieldMalformed(name))?;
    if members.is_empty() { Ok(only) } else { Err(Refusal::SignatureSurplus) }
}

/// The covered components in the signer's order; refused unless they are exactly those of the profile, each once and plain.
fn components(covered: &[Item<'_>], if_match_sent: bool) -> Result<Vec<Component>, Refusal> {
    let mut found: Vec<Component> = Vec::with_capacity(covered.len());
    for item in covered {
        let name = item.value.as_string().ok_or(Refusal::FieldMalformed(Field::SignatureInput))?;
        let component = Component::named(name.as_str()).ok_or(Refusal::ComponentForeign)?;
        if !item.parameters.is_empty() {
            return Err(Refusal::ComponentQualified(component));
        }
        if found.contains(&component) {
            return Err(Refusal::ComponentRepeated(component));
        }
        found.push(component);
    }
    let wanted = Component::ALWAYS.into_iter().chain(if_match_sent.then_some(Component::IfMatch));
    if let Some(missing) = wanted.into_iter().find(|component| !found.contains(component)) {
        return Err(Refusal::ComponentMissing(missing));
    }
    if !if_match_sent && found.contains(&Component::IfMatch) {
        return Err(Refusal::ComponentAbsent(Component::IfMatch));
    }
    Ok(found)
}

impl Stated {
    /// Reads the parameters; refused unless they are exactly those of the profile, each once and of its type.
    fn read(parameters: &Parameters<'_>) -> Result<Self, Refusal> {
        let mut seen: Vec<Parameter> = Vec::with_capacity(parameters.len());
        for (name, _) in parameters {
            let parameter = Parameter::named(name.as_str()).ok_or(Refusal::ParameterForeign)?;
            if seen.contains(&parameter) {
                return Err(Refusal::ParameterRepeated(parameter));
            }
            seen.push(parameter);
        }
        let value = |wanted: Parameter| {
            let found = parameters.iter().find(|(name, _)| *name == wanted.key());
            found.map(|(_, value)| value).ok_or(Refusal::ParameterMissing(wanted))
        };
        let text = |wanted| {
            let text = value(wanted)?.as_string().ok_or(Refusal::ParameterMalformed(wanted))?;
            Ok::<&str, Refusal>(text.as_str())
        };
        let seconds = |wanted| {
            let integer = value(wanted)?.as_integer().ok_or(Refusal::ParameterMalformed(wanted))?;
            Ok::<i64, Refusal>(integer.into())
        };
        if text(Parameter::Tag)? != TAG {
            return Err(Refusal::TagForeign);
        }
        let keyid = text(Parameter::KeyId)?;
        let key = keyid.parse::<SignPub>().ok().filter(|key| key.to_string() == keyid);
        Ok(Self {
            created_unix: seconds(Parameter::Created)?,
            expires_unix: seconds(Parameter::Expires)?,
            nonce: Nonce::from_base64(text(Parameter::Nonce)?).ok_or(Refusal::ParameterMalformed(Parameter::Nonce))?,
            key: key.ok_or(Refusal::ParameterMalformed(Parameter::KeyId))?,
        })
    }

    /// Refuses what is not valid at `now_unix`.
    ///
    /// A clock that is behind or ahead is allowed for where it does no harm, on the side of `created`. `expires` is exact: the
    /// time for which nonces are kept is counted up to it.
    fn check_time(&self, now_unix: i64) -> Result<(), Refusal> {
        let Self { created_unix: created, expires_unix: expires, .. } = *self;
        if created > now_unix.saturating_add(SKEW_S) {
            return Err(Refusal::CreatedInFuture);
        }
        if created < now_unix.saturating_sub(LIFETIME_S) {
            return Err(Refusal::CreatedTooOld);
        }
        if expires <= created {
            return Err(Refusal::ExpiresTooEarly);
        }
        if expires.saturating_sub(created) > LIFETIME_S {
            return Err(Refusal::LifetimeTooLong);
        }
        if now_unix >= expires {
            return Err(Refusal::Expired);
        }
        Ok(())
    }
}

fn as_text(value: Option<&[u8]>, component: Component) -> Result<&str, Refusal> {
    let value = value.ok_or(Refusal::ComponentAbsent(component))?;
    str::from_utf8(value).map_err(|_| Refusal::ValueUnsignable(component))
}
