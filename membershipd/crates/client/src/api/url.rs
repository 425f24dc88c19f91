//! Where a node's API is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use http::Uri;

use unibus_api_types::limits::DEFAULT_API_PORT;
use unibus_core::domain::InvalidValue;
use unibus_http_signature::Authority;

/// Scheme, host and port of a node. Without TLS only on this machine: whoever listens in would read all that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUrl {
    https: bool,
    authority: Authority,
}

impl NodeUrl {
    /// The node on this machine, as it is without a flag.
    pub fn here() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_API_PORT));
        Self { https: false, authority: address.into() }
    }

    /// Host and port, as they are signed.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The host alone; an address of IPv6 in brackets.
    pub fn host(&self) -> &str {
        host(self.authority.as_str())
    }

    /// Whether it is over TLS.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The address of `target`, which begins with a slash.
    pub(super) fn uri(&self, target: &str) -> Result<Uri, http::uri::InvalidUri> {
        format!("{self}{target}").parse()
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }
}

impl FromStr for NodeUrl {
    type Err = InvalidValue;

    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let rule = "https://HOST:PORT, or http:// and a loopback address, without a path";
        let refused = || InvalidValue { what: "URL of a node", value: value.chars().take(255).collect(), rule };
        let (scheme, rest) = value.split_once("://").ok_or_else(refused)?;
        let https = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(refused()),
        };
        let authority: Authority = rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| refused())?;
        if https || is_loopback(authority.as_str()) { Ok(Self { https, authority }) } else { Err(refused()) }
    }
}

/// Without the port, where there is one.
fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, _)) if !authority.ends_with(']') => host,
        _ => authority,
    }
}

fn is_loopback(authority: &str) -> bool {
    let host = host(authority);
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_scheme_and_an_authority() {
        for (given, shown) in [
            ("https://Magnus.example:8470", "https://magnus.example:8470"),
            ("https://magnus.example:8470/", "https://magnus.example:8470"),
            ("https://[2001:db8::1]:8470", "https://[2001:db8::1]:8470"),
            ("http://127.0.0.1:8470", "http://127.0.0.1:8470"),
            ("http://localhost:8470", "http://localhost:8470"),
            ("http://[::1]:8470", "http://[::1]:8470"),
        ] {
            let node: NodeUrl = given.parse().unwrap();
            assert_eq!(node.to_string(), shown);
            assert_eq!(node.uri("/v1/me?a=1").unwrap().to_string(), format!("{shown}/v1/me?a=1"));
        }
    }

    #[test]
    fn the_node_here_is_one_that_could_be_named() {
        assert_eq!("http://127.0.0.1:8470".parse(), Ok(NodeUrl::here()));
    }

    #[test]
    fn what_is_no_node_is_refused() {
        for bad in [
            "",
            "magnus:8470",
            "ftp://a",
            "https://",
            "https://a/v1",
            "https://u@a",
            "http://magnus.example:8470",
            "http://10.0.0.1:8470",
            "http://127.0.0.1.example:8470",
        ] {
            assert!(bad.parse::<NodeUrl>().is_err(), "{bad:?}");
        }
    }
}
