//! The link that an admin sends to somebody new: one piece of text with all that a newcomer needs, to be pasted into any chat.
//!
//! `unibus-invite:1:` and base64url (RFC 4648 section 5, no padding) of four bytes of check and a JSON object. The check is
//! the beginning of the JSON's SHA-256: it tells a link that was cut off or changed on its way from one that is good. It
//! proves nothing more: whoever can change a link can make one.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::url::NodeUrl;
use unibus_core::domain::{Handle, Token};

/// What every link begins with, of whatever version.
const SCHEME: &str = "unibus-invite:";
/// The version that is written, and the only one that is read.
const VERSION: &str = "1:";
/// Bytes of the check.
const CHECK: usize = 4;
/// Longest link that is read, in bytes: eight nodes, and two CAs of RSA.
pub const LINK_BYTES: usize = 16 << 10;
/// Most nodes and most certificates in a link.
const MOST: usize = 8;

/// What a link says.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteLink {
    /// The nodes, in the order in which they are asked.
    pub urls: Vec<NodeUrl>,
    /// The handle that is offered.
    pub handle: Handle,
    /// What proves that it is offered to whoever has the link.
    pub token: Token,
    /// The certificates (DER) of which those of the nodes have to be; none: the nodes are on this machine, without TLS.
    pub ca: Vec<Vec<u8>>,
}

// The token is a secret.
impl fmt::Debug for InviteLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InviteLink").field("handle", &self.handle).field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// Why a text is no link that can be used. Nothing of the text is repeated: it may be a secret but for one letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLink {
    /// Something else.
    #[error("that is no invitation to a unibus; a link begins with '{SCHEME}'")]
    Foreign,
    /// Made by a newer program.
    #[error("the link is of a version that this membershipd does not know; use the one that made it")]
    Version,
    /// Not as it was sent.
    #[error("the link is not whole: something was cut off or changed on the way; copy it again, all of it")]
    Broken,
    /// Whole, and yet no good.
    #[error("the link is not one of a unibus: {0}; ask for another one")]
    Wrong(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    urls: Vec<String>,
    handle: Handle,
    token: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ca: Vec<String>,
}

impl InviteLink {
    /// The link as text, which is a secret.
    pub fn reveal(&self) -> Result<String, serde_json::Error> {
        let content = Content {
            urls: self.urls.iter().map(ToString::to_string).collect(),
            handle: self.handle.clone(),
            token: self.token.reveal(),
            ca: self.ca.iter().map(|der| BASE64.encode(der)).collect(),
        };
        let json = serde_json::to_vec(&content)?;
        let bytes = [&check(&json)[..], &json].concat();
        Ok(format!("{SCHEME}{VERSION}{}", BASE64URL_NOPAD.encode(&bytes)))
    }

    /// The CA as PEM (RFC 7468), as other programs read it.
    pub fn ca_pem(&self) -> String {
        self.ca.iter().map(|der| pem(der)).collect()
    }

    fn checked(content: Content) -> Result<Self, BadLink> {
        let Content { urls, handle, token, ca } = content;
        if urls.is_empty() || urls.len() > MOST || ca.len() > MOST {
            return Err(BadLink::Wrong("it names no node, or more than there can be"));
        }
        // A URL without TLS that is not on this machine is none.
        let urls: Result<Vec<NodeUrl>, _> = urls.iter().map(|url| url.parse()).collect();
        let urls = urls.map_err(|_| BadLink::Wrong("one of its nodes is neither over https nor on this machine"))?;
        let token = token.parse().map_err(|_| BadLink::Wrong("its token is none"))?;
        let ca: Result<Vec<_>, _> = ca.iter().map(|text| BASE64.decode(text.as_bytes())).collect();
        let ca = ca.map_err(|_| BadLink::Wrong("its CA is none"))?;
        if ca.is_empty() && urls.iter().any(NodeUrl::is_https) {
            return Err(BadLink::Wrong("it has nodes over https, and no CA to know them by"));
        }
        Ok(Self { urls, handle, token, ca })
    }
}

impl FromStr for InviteLink {
    type Err = BadLink;

    fn from_str(text: &str) -> Result<Self, BadLink> {
        // Mail and chat break long lines, and files of other systems begin with a mark.
        let text: String =
            text.chars().filter(|c| !c.is_whitespace() && *c != '\u{feff}').take(LINK_BYTES + 1).collect();
        let rest = text.strip_prefix(SCHEME).ok_or(BadLink::Foreign)?;
        let payload = rest.strip_prefix(VERSION).ok_or(BadLink::Version)?;
        if text.len() > LINK_BYTES {
            return Err(BadLink::Broken);
        }
        let bytes = BASE64URL_NOPAD.decode(payload.as_bytes()).map_err(|_| BadLink::Broken)?;
        let (said, json) = bytes.split_first_chunk::<CHECK>().ok_or(BadLink::Broken)?;
        if *said != check(json) {
            return Err(BadLink::Broken);
        }
        let content = serde_json::from_slice(json).map_err(|_| BadLink::Wrong("it says something else"))?;
        Self::checked(content)
    }
}

fn check(json: &[u8]) -> [u8; CHECK] {
    let digest: [u8; 32] = Sha256::digest(json).into();
    let [a, b, c, d, ..] = digest;
    [a, b, c, d]
}

fn pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let mut lines = String::new();
    let mut rest = text.as_str();
    while let Some((line, more)) = rest.split_at_checked(64) {
        lines.push_str(line);
        lines.push('\n');
        rest = more;
    }
    if !rest.is_empty() {
        lines.push_str(rest);
        lines.push('\n');
    }
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> InviteLink {
        InviteLink {
            urls: vec!["https://magnus.example:8470".parse().unwrap(), "https://192.0.2.2:8470".parse().unwrap()],
            handle: "alice".parse().unwrap(),
            token: Token::from_entropy([7; 32]),
            ca: vec![vec![0x30; 500]],
        }
    }

    fn text_of(json: &str) -> String {
        let bytes = [&check(json.as_bytes())[..], json.as_bytes()].concat();
        format!("{SCHEME}{VERSION}{}", BASE64URL_NOPAD.encode(&bytes))
    }

    #[test]
    fn a_link_comes_back_through_chat_and_mail() {
        let text = link().reveal().unwrap();
        assert_eq!(text.parse::<InviteLink>().unwrap(), link());
        assert!(text.len() < 1900, "Discord takes 2,000: {}", text.len());
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_:".contains(&b)), "{text}");
        let broken: Vec<&str> = text.as_bytes().chunks(76).map(|line| str::from_utf8(line).unwrap()).collect();
        assert_eq!(format!("  {}\r\n", broken.join("\r\n ")).parse::<InviteLink>().unwrap(), link());
        assert!(!format!("{:?}", link()).contains(&link().token.reveal()));
    }

    #[test]
    fn a_link_that_was_hurt_is_told_from_one_that_never_was() {
        let text = link().reveal().unwrap();
        for (bad, why) in [
            ("", BadLink::Foreign),
            ("https://example.org", BadLink::Foreign),
            ("unibus-invite:2:AAAA", BadLink::Version),
            ("unibus-invite:1:", BadLink::Broken),
            (&text[..text.len() - 1], BadLink::Broken),
            (&text[..60], BadLink::Broken),
            (&format!("{text}A"), BadLink::Broken),
            (&text.replacen("unibus-invite:1:A", "unibus-invite:1:B", 1).replacen('e', "f", 3), BadLink::Foreign),
            (&format!("{text}{}", "A".repeat(LINK_BYTES)), BadLink::Broken),
        ] {
            assert_eq!(bad.parse::<InviteLink>(), Err(why), "{bad}");
        }
        for at in [20, 100, text.len() - 2] {
            let other = if &text[at..=at] == "A" { "B" } else { "A" };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert_eq!(changed.parse::<InviteLink>(), Err(BadLink::Broken), "changed at {at}");
        }
    }

    #[test]
    fn a_whole_link_that_is_no_good_is_refused() {
        let token = link().token.reveal();
        let json =
            |urls: &str, ca: &str| format!(r#"{{"urls":[{urls}],"handle":"alice","token":"{token}","ca":[{ca}]}}"#);
        let read = |json: &str| text_of(json).parse::<InviteLink>();
        assert!(read(&json(r#""http://127.0.0.1:8470""#, "")).is_ok());
        assert!(read(&json(r#""https://a.example:8470""#, r#""AAAA""#)).is_ok());
        let nine = [r#""https://a.example""#; 9].join(",");
        for bad in [
            json("", r#""AAAA""#),
            json(&nine, r#""AAAA""#),
            json(r#""http://192.0.2.1:8470""#, r#""AAAA""#),
            json(r#""http://magnus.example:8470""#, ""),
            json(r#""https://a.example:8470""#, ""),
            json(r#""https://a.example:8470""#, r#""A""#),
            json(r#""https://a.example:8470""#, r#""AAAA""#).replace(&token, "x"),
            json(r#""https://a.example:8470""#, r#""AAAA""#).replace("alice", "A"),
            json(r#""https://a.example:8470""#, r#""AAAA""#).replace("handle", "name"),
            "[]".to_owned(),
        ] {
            assert!(matches!(read(&bad), Err(BadLink::Wrong(_))), "{bad}");
        }
    }

    #[test]
    fn the_ca_is_pem_that_others_read() {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        for length in [1, 47, 48, 49, 96, 500] {
            let ca = vec![vec![0x30; length], vec![1; 3]];
            let text = InviteLink { ca: ca.clone(), ..link() }.ca_pem();
            let read: Vec<_> =
                CertificateDer::pem_slice_iter(text.as_bytes()).map(|der| der.unwrap().to_vec()).collect();
            assert_eq!(read, ca);
            assert!(text.lines().all(|line| line.len() <= 64));
        }
    }
}
