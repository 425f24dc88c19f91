//! Names under which the API is reached, as they are signed and compared.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use unibus_core::domain::InvalidValue;

/// Port that an https authority does not show.
const DEFAULT_PORT: u16 = 443;

/// A host and its port in the one spelling that is signed: lower case, without the default port of https (RFC 9421 section
/// 2.2.3). Nothing else is made equal, so an address is written as the configuration writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Authority(String);

impl Authority {
    /// The authority as it is signed.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<SocketAddr> for Authority {
    fn from(address: SocketAddr) -> Self {
        let host = match address.ip() {
            IpAddr::V4(host) => host.to_string(),
            IpAddr::V6(host) => format!("[{host}]"),
        };
        Self(if address.port() == DEFAULT_PORT { host } else { format!("{host}:{}", address.port()) })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Authority {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let refused = || InvalidValue {
            what: "authority",
            value: value.chars().take(255).collect(),
            rule: "a host name or address, an IPv6 one in brackets, with an optional port: 'magnus.example:8470'",
        };
        let (host, port) = split(value).ok_or_else(refused)?;
        let host = host.to_ascii_lowercase();
        match port {
            None | Some(DEFAULT_PORT) => Ok(Self(host)),
            Some(port) => Ok(Self(format!("{host}:{port}"))),
        }
    }
}

fn split(value: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = value.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        address.parse::<Ipv6Addr>().ok()?;
        let host = value.get(..address.len() + 2)?;
        return match after.strip_prefix(':') {
            Some(digits) => Some((host, Some(port(digits)?))),
            None => after.is_empty().then_some((host, None)),
        };
    }
    let (host, port) = match value.split_once(':') {
        Some((host, digits)) => (host, Some(port(digits)?)),
        None => (value, None),
    };
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (!host.is_empty() && host.len() <= 255 && host.bytes().all(known)).then_some((host, port))
}

// One spelling only: what other implementations sign for ':08470' or ':' is not agreed on.
fn port(digits: &str) -> Option<u16> {
    let canonical = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_has_one_spelling() {
        for (given, signed) in [
            ("example.com", "example.com"),
            ("EXAMPLE.com:443", "example.com"),
            ("Magnus:8470", "magnus:8470"),
            ("127.0.0.11:8470", "127.0.0.11:8470"),
            ("[2001:DB8::1]:443", "[2001:db8::1]"),
            ("[::1]:8470", "[::1]:8470"),
            ("example.com:80", "example.com:80"),
        ] {
            assert_eq!(given.parse::<Authority>().unwrap().as_str(), signed);
        }
    }

    #[test]
    fn an_address_is_spelled_as_one_that_is_read() {
        for address in ["127.0.0.1:8470", "192.0.2.1:443", "[2001:db8::1]:8470", "[::1]:443"] {
            let spelled = Authority::from(address.parse::<SocketAddr>().unwrap());
            assert_eq!(address.parse(), Ok(spelled));
        }
    }

    #[test]
    fn what_is_no_authority_is_refused() {
        let long = "a".repeat(256);
        for bad in [
            "",
            ":",
            ":8470",
            "a:",
            "a:0",
            "a:08470",
            "a:65536",
            "a:+1",
            "a:1:2",
            "a b",
            "a\n",
            "user@a",
            "a/b",
            "ä",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[]",
            "[fe80::1%25eth0]",
            "[127.0.0.1]",
            "::1",
            &long,
        ] {
            assert!(bad.parse::<Authority>().is_err(), "{bad:?}");
        }
    }
}
