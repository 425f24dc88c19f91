//! What is looked at of a request's head: borrowed, in the form in which it was sent.

use http::HeaderMap;
use http::header::HOST;
use http::request::Parts;

use super::authority::Authority;
use super::base::Component;
use super::refusal::Refusal;
use super::{FIELD_BYTES, FIELD_SEPARATORS, HEAD_BYTES, HEAD_FIELDS};

/// A field of the head that has a part in a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// What was signed, and how.
    SignatureInput,
    /// The signature.
    Signature,
    /// The digest of the body.
    ContentDigest,
    /// The precondition of a change.
    IfMatch,
    /// The authority, where it is sent as a field.
    Host,
}

impl Field {
    /// Name of the field, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Field::SignatureInput => "signature-input",
            Field::Signature => "signature",
            Field::ContentDigest => "content-digest",
            Field::IfMatch => "if-match",
            Field::Host => "host",
        }
    }
}

/// The fields of a request, one entry for each line.
pub fn fields(headers: &HeaderMap) -> Vec<(&str, &[u8])> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect()
}

/// The head of a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// The authority, as sent: HTTP/2's `:authority`, else that of a target in absolute form, else the Host field. A Host
    /// field among `fields` must agree with it.
    pub authority: &'a str,
    /// The path, undecoded, without the query.
    pub path: &'a str,
    /// What follows the first `?` of the target, undecoded; none where there is no `?`.
    pub query: Option<&'a str>,
    /// All fields with their values as sent, one entry for each line.
    pub fields: &'a [(&'a str, &'a [u8])],
}

impl<'a> RequestHead<'a> {
    /// The head of a request that a server received; `fields` are its [`fields`].
    ///
    /// The target's authority counts before the Host field (RFC 9112 section 3.2.2); with neither the authority is empty, which
    /// is none of anybody's names.
    pub fn received(parts: &'a Parts, fields: &'a [(&'a str, &'a [u8])]) -> Self {
        let host = || parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        Self {
            method: parts.method.as_str(),
            authority: parts.uri.authority().map(|authority| authority.as_str()).or_else(host).unwrap_or_default(),
            path: parts.uri.path(),
            query: parts.uri.query(),
            fields,
        }
    }

    /// Refuses a head that is too large, before anything of it is parsed.
    pub(super) fn check_size(&self) -> Result<(), Refusal> {
        let target = [self.method, self.authority, self.path, self.query.unwrap_or_default()];
        let target: usize = target.iter().map(|part| part.len()).sum();
        let fields: usize = self.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.fields.len() > HEAD_FIELDS || target + fields > HEAD_BYTES {
            return Err(Refusal::HeadTooLarge);
        }
        Ok(())
    }

    /// The value of a field without the white space around it (RFC 9421 section 2.1); none where it is not there.
    ///
    /// A field that was sent twice is refused: programs in front of us may have looked at the other one.
    pub(super) fn field(&self, field: Field) -> Result<Option<&'a [u8]>, Refusal> {
        let mut found = self.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(field.name()));
        let Some((_, value)) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(Refusal::FieldRepeated(field));
        }
        if value.len() > FIELD_BYTES || value.iter().filter(|byte| b",; ".contains(byte)).count() > FIELD_SEPARATORS {
            return Err(Refusal::FieldTooLarge(field));
        }
        Ok(Some(trimmed(value)))
    }

    /// Host and port; refused where the Host field says something else.
    pub(super) fn authority(&self) -> Result<Authority, Refusal> {
        let nothing = |_| Refusal::AuthorityForeign { asked: None, names: Vec::new() };
        let authority: Authority = self.authority.parse().map_err(nothing)?;
        let Some(host) = self.field(Field::Host)? else { return Ok(authority) };
        let host = str::from_utf8(host).ok().and_then(|host| host.parse::<Authority>().ok());
        if host.as_ref() == Some(&authority) { Ok(authority) } else { Err(Refusal::AuthorityAmbiguous) }
    }

    /// The path as it is signed: an empty one is `/` (RFC 9421 section 2.2.6).
    pub(super) fn signed_path(&self) -> Result<&'a str, Refusal> {
        match self.path {
            "" => Ok("/"),
            path if path.starts_with('/') && !path.contains(['?', '#']) => Ok(path),
            _ => Err(Refusal::ValueUnsignable(Component::Path)),
        }
    }

    /// The query as it is signed: with its `?`, which stands alone where there is none (RFC 9421 section 2.2.7).
    pub(super) fn signed_query(&self) -> Result<String, Refusal> {
        let query = self.query.unwrap_or_default();
        if query.contains('#') { Err(Refusal::ValueUnsignable(Component::Query)) } else { Ok(format!("?{query}")) }
    }
}

fn trimmed(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}
