//! The signature base: the one text that is signed and verified (RFC 9421 section 2.5).

use sfv::{ItemSerializer, KeyRef, ListSerializer, RefBareItem, StringRef, key_ref, string_ref};

/// A component of a request that a signature covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The method, as sent.
    Method,
    /// Host and port, normalised.
    Authority,
    /// The path, its percent-encoding as sent.
    Path,
    /// The query with its `?`, as sent; `?` alone where there is none.
    Query,
    /// The digest of the body.
    ContentDigest,
    /// The precondition of a change.
    IfMatch,
}

impl Component {
    /// Those that every signature covers, in the order in which ours list them.
    pub const ALWAYS: [Component; 5] =
        [Component::Method, Component::Authority, Component::Path, Component::Query, Component::ContentDigest];

    /// Name of the component.
    pub fn name(self) -> &'static str {
        self.identifier().as_str()
    }

    pub(super) const fn identifier(self) -> &'static StringRef {
        match self {
            Component::Method => string_ref("@method"),
            Component::Authority => string_ref("@authority"),
            Component::Path => string_ref("@path"),
            Component::Query => string_ref("@query"),
            Component::ContentDigest => string_ref("content-digest"),
            Component::IfMatch => string_ref("if-match"),
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALWAYS.into_iter().chain([Component::IfMatch]).find(|component| component.name() == name)
    }
}

/// A parameter of a signature; each must be there, once, and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// When it was made, in seconds since 1970.
    Created,
    /// When it ends, in seconds since 1970.
    Expires,
    /// 128 random bits in base64.
    Nonce,
    /// The signer's public key, 64 hexadecimal digits in lower case.
    KeyId,
    /// What the signature is for: [`TAG`](super::TAG).
    Tag,
}

impl Parameter {
    /// All of them, in the order in which ours are written.
    pub const ALL: [Parameter; 5] =
        [Parameter::Created, Parameter::Expires, Parameter::Nonce, Parameter::KeyId, Parameter::Tag];

    /// Name of the parameter.
    pub fn name(self) -> &'static str {
        self.key().as_str()
    }

    pub(super) const fn key(self) -> &'static KeyRef {
        match self {
            Parameter::Created => key_ref("created"),
            Parameter::Expires => key_ref("expires"),
            Parameter::Nonce => key_ref("nonce"),
            Parameter::KeyId => key_ref("keyid"),
            Parameter::Tag => key_ref("tag"),
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|parameter| parameter.name() == name)
    }
}

/// What is signed, and the part of it that travels in Signature-Input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SignatureBase {
    /// The text under the signature.
    pub(super) text: String,
    /// The covered components and the parameters, serialised (RFC 9421 section 2.3).
    pub(super) params: String,
}

/// Builds the base from the covered components with their values, and the parameters, both in the signer's order.
///
/// Fails, with the name of the component, on a value that has anything but visible ASCII and spaces in it: a line break would
/// be a component that nobody covered (RFC 9421 section 7.5.6).
pub(super) fn signature_base<'a>(
    components: &[(&'a StringRef, &str)],
    parameters: impl IntoIterator<Item = (&'a KeyRef, RefBareItem<'a>)>,
) -> Result<SignatureBase, &'a str> {
    let mut text = String::new();
    for (name, value) in components {
        if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(name.as_str());
        }
        line(&mut text, name, value);
        text.push('\n');
    }
    let mut params = String::new();
    let mut list = ListSerializer::with_buffer(&mut params);
    let mut covered = list.inner_list();
    for (name, _) in components {
        covered.bare_item(*name);
    }
    covered.finish().parameters(parameters);
    line(&mut text, string_ref("@signature-params"), &params);
    Ok(SignatureBase { text, params })
}

fn line(text: &mut String, name: &StringRef, value: &str) {
    ItemSerializer::with_buffer(&mut *text).bare_item(name);
    text.push_str(": ");
    text.push_str(value);
}
