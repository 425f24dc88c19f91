//! What a message is: a text, an attachment that is announced, or something that this program does not know.
//!
//! In a frame of version 2 the payload is a list of messages, each written in one way only:
//!
//! ```text
//! type      1 byte   0: text, 1: attachment; others may come
//! length    4 bytes  of the body
//! body
//! ```
//!
//! It is sealed with everything else, so a server does not learn which message is an attachment. A text is UTF-8. The body of
//! an attachment:
//!
//! ```text
//! sha256   32 bytes  what the attachment is called in its room
//! size      8 bytes  bytes that it has when it is opened
//! name               UTF-8, 1 to 255 bytes
//! ```

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Map, Value, json};

use super::Untrue;
use super::refusal::FrameRefusal;
use unibus_core::domain::InvalidValue;

/// Bytes of a type and a length.
const AROUND: usize = 5;
const TEXT: u8 = 0;
const ATTACHMENT: u8 = 1;
/// Most bytes of a name.
const NAME: usize = 255;
/// Every language has the numbers up to here.
const SIZE_MOST: u64 = (1 << 53) - 1;
const RULE: &str =
    "1 to 255 bytes, no '.' or '..', without slashes, control characters and marks that turn the direction of text";

/// What one message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A text. Its sender writes UTF-8, and is not trusted with it.
    Text(Vec<u8>),
    /// An attachment was added to the room.
    Attachment(Attachment),
    /// Something that this program cannot show: of a type that it does not know, or not as its type has to be.
    Unknown {
        /// The type.
        kind: u8,
        /// What there is of it.
        body: Vec<u8>,
    },
}

/// An attachment, as the member who added it announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// SHA-256 of it as it is kept, which is what it is called.
    pub sha256: [u8; 32],
    /// Bytes that it has when it is opened. Nothing proves it before.
    pub size: u64,
    /// What its file was called.
    pub name: AttachmentName,
}

/// The name of a file: no path, and nothing in it that would show it as something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentName(String);

impl Content {
    /// A text.
    pub fn text(text: impl AsRef<[u8]>) -> Self {
        Self::Text(text.as_ref().to_vec())
    }

    /// Bytes that it has in a frame, in the version in which it takes more of them.
    pub fn bytes(&self) -> usize {
        let body = match self {
            Self::Text(body) | Self::Unknown { body, .. } => body.len(),
            Self::Attachment(attachment) => attachment.body().len(),
        };
        AROUND + body
    }

    /// As programs are shown it: `text`, or `base64` where that is not UTF-8; `attachment`; or `type` and `base64`.
    pub fn json(&self) -> Map<String, Value> {
        let fields = match self {
            Self::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => vec![("text", text.into())],
                Err(_) => vec![("base64", BASE64.encode(text).into())],
            },
            Self::Attachment(Attachment { sha256, size, name }) => {
                let attachment = json!({ "sha256": HEXLOWER.encode(sha256), "size": size, "name": name.as_str() });
                vec![("attachment", attachment)]
            }
            Self::Unknown { kind, body } => vec![("type", (*kind).into()), ("base64", BASE64.encode(body).into())],
        };
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// What a message of this type with this body says. There is none that cannot be read.
    fn read(kind: u8, body: &[u8]) -> Self {
        let attachment = if kind == ATTACHMENT { Attachment::read(body) } else { None };
        match (kind, attachment) {
            (TEXT, _) => Self::text(body),
            (_, Some(attachment)) => Self::Attachment(attachment),
            (kind, None) => Self::Unknown { kind, body: body.to_vec() },
        }
    }

    fn write(&self, into: &mut Vec<u8>) -> Result<(), Untrue> {
        let announced;
        let (kind, body) = match self {
            Self::Text(text) => (TEXT, text),
            Self::Attachment(attachment) => {
                announced = attachment.body();
                (ATTACHMENT, &announced)
            }
            Self::Unknown { kind, body } => (*kind, body),
        };
        let length = u32::try_from(body.len()).map_err(|_| Untrue::Seal)?;
        into.push(kind);
        into.extend_from_slice(&length.to_be_bytes());
        into.extend_from_slice(body);
        Ok(())
    }
}

/// The payload with these messages.
pub(super) fn list(contents: &[Content]) -> Result<Vec<u8>, Untrue> {
    let mut payload = Vec::new();
    contents.iter().try_for_each(|content| content.write(&mut payload))?;
    Ok(payload)
}

/// The messages in a payload.
pub(super) fn listed(mut payload: &[u8]) -> Result<Vec<Content>, FrameRefusal> {
    let mut contents = Vec::new();
    while let Some((kind, rest)) = payload.split_first() {
        let (body, rest) = measured(rest)?;
        contents.push(Content::read(*kind, body));
        payload = rest;
    }
    Ok(contents)
}

/// Takes a length of four bytes, and so many bytes; and what follows.
pub(super) fn measured(payload: &[u8]) -> Result<(&[u8], &[u8]), FrameRefusal> {
    let short = || FrameRefusal::Malformed("one of its messages is cut off");
    let (length, rest) = payload.split_first_chunk::<4>().ok_or_else(short)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| short())?;
    rest.split_at_checked(length).ok_or_else(short)
}

impl Attachment {
    fn read(body: &[u8]) -> Option<Self> {
        let (sha256, rest) = body.split_first_chunk::<32>()?;
        let (size, name) = rest.split_first_chunk::<8>()?;
        let size = Some(u64::from_be_bytes(*size)).filter(|size| *size <= SIZE_MOST)?;
        let name = std::str::from_utf8(name).ok()?.parse().ok()?;
        Some(Self { sha256: *sha256, size, name })
    }

    fn body(&self) -> Vec<u8> {
        [&self.sha256[..], &self.size.to_be_bytes(), self.name.as_str().as_bytes()].concat()
    }
}

impl AttachmentName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name for a file that is called `name`, with something else for what may not stand in it.
    pub fn like(name: &str) -> Self {
        let mut like = String::new();
        for c in name.chars().map(|c| if may_stand(c) { c } else { '_' }) {
            if like.len() + c.len_utf8() > NAME {
                break;
            }
            like.push(c);
        }
        like.parse().unwrap_or_else(|_| Self("attachment".to_owned()))
    }
}

// A list that any language can have: no table of Unicode, which has a version.
fn may_stand(c: char) -> bool {
    let control = matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}');
    // Marks that turn the direction show 'gpj.exe' as 'exe.jpg'; those between them separate lines.
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !control && !turns && !matches!(c, '/' | '\\')
}

impl FromStr for AttachmentName {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let good = (1..=NAME).contains(&value.len()) && value.chars().all(may_stand) && !matches!(value, "." | "..");
        let refused =
            || InvalidValue { what: "name of an attachment", value: value.chars().take(80).collect(), rule: RULE };
        if good { Ok(Self(value.to_owned())) } else { Err(refused()) }
    }
}

impl fmt::Display for AttachmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picture(name: &str) -> Content {
        Content::Attachment(Attachment { sha256: [7; 32], size: 12, name: name.parse().unwrap() })
    }

    proptest! {
        // One way to write each message, also those that this program cannot show.
        #[test]
        fn whatever_is_read_is_written_as_it_was(
            parts in prop::collection::vec((0..4u8, prop::collection::vec(any::<u8>(), 0..60)), 0..4),
        ) {
            let contents: Vec<_> = parts.iter().map(|(kind, body)| Content::read(*kind, body)).collect();
            let payload = list(&contents).unwrap();
            prop_assert_eq!(payload.len(), contents.iter().map(Content::bytes).sum::<usize>());
            prop_assert_eq!(&listed(&payload).unwrap(), &contents);
            for (content, (kind, body)) in contents.iter().zip(&parts) {
                let alone = list(std::slice::from_ref(content)).unwrap();
                prop_assert_eq!((alone[0], &alone[5..]), (*kind, &body[..]));
            }
        }

        #[test]
        fn bytes_that_are_a_list_are_that_list(payload in prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..40)) {
            if let Ok(contents) = listed(&payload) {
                prop_assert_eq!(list(&contents).unwrap(), payload);
            }
        }

        #[test]
        fn a_name_like_any_other_is_a_name(name in ".*") {
            let like = AttachmentName::like(&name);
            prop_assert_eq!(like.as_str().parse::<AttachmentName>().unwrap(), like.clone());
            prop_assert!(name.parse().map_or(true, |same: AttachmentName| same == like), "{}", name);
        }
    }

    #[test]
    fn what_is_not_as_its_type_has_to_be_is_there_and_unknown() {
        let body = match picture("cat.png") {
            Content::Attachment(attachment) => attachment.body(),
            _ => unreachable!(),
        };
        assert_eq!(Content::read(1, &body), picture("cat.png"));
        let large = [&body[..32], &(SIZE_MOST + 1).to_be_bytes(), b"x"].concat();
        for bad in [&body[..40], &body[..39], &[&body[..], b"\0"].concat(), &[&body[..], b"\xff"].concat(), &large] {
            assert_eq!(Content::read(1, bad), Content::Unknown { kind: 1, body: bad.to_vec() });
        }
        assert_eq!(Content::read(7, b"x"), Content::Unknown { kind: 7, body: b"x".to_vec() });
    }

    #[test]
    fn names_lead_nowhere_and_show_nothing_else() {
        let longest = "ü".repeat(127) + "x";
        for good in ["cat.png", "..x", "a b", "Übung – 1.pdf", "猫", &longest] {
            assert_eq!(good.parse::<AttachmentName>().unwrap().as_str(), good);
        }
        let bad = ["", ".", "..", "a/b", "a\\b", "a\nb", "\u{1b}[2J", "\u{85}", "a\u{202e}gpj.exe", "a\u{2028}b"];
        let too_long = "x".repeat(256);
        for bad in bad.into_iter().chain([too_long.as_str()]) {
            assert!(bad.parse::<AttachmentName>().is_err(), "{bad:?}");
        }
        let like = |name| AttachmentName::like(name).0;
        assert_eq!([like("a/b\n"), like(".."), like("")], ["a_b_", "attachment", "attachment"]);
        assert_eq!(like(&"ü".repeat(200)).len(), 254);
    }

    #[test]
    fn a_list_that_lies_about_its_lengths_is_refused() {
        for bad in [&[0][..], &[0, 0, 0, 0], &[0, 0, 0, 0, 2, 1], &[0, 0xff, 0xff, 0xff, 0xff], &[0, 0, 0, 0, 0, 1]] {
            assert!(listed(bad).is_err(), "{bad:?}");
        }
        assert_eq!(listed(&[0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 5]).unwrap().len(), 2);
    }
}
