//! Where a request comes from: the peer, or, where that is a proxy which the operator has named, whoever it speaks for.

use std::net::IpAddr;

use axum::http::HeaderMap;

use super::problem::Problem;
use super::problem::Refuse as _;
use unibus_api_types::problem::Kind;

/// What proxies write: the address of their own peer, after what stood there already. RFC 7239 has a better field, which not all
/// of them know; two fields that may contradict each other would be a way around the rates.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    /// Whose rate counts.
    pub(super) address: IpAddr,
    /// Whether it was made on this machine. What a proxy hands on was not, wherever the proxy runs and whatever it says.
    pub(super) local: bool,
}

impl Origin {
    /// Of a request of `peer` with these `fields`; `proxies` are believed, in canonical form.
    ///
    /// Read from the end, as each proxy adds what it has seen itself: the first address that is no proxy is the client's, and
    /// what stands before it anybody may have written. Where a proxy says nothing it speaks for itself.
    pub(super) fn of(peer: IpAddr, fields: &HeaderMap, proxies: &[IpAddr]) -> Result<Self, Problem> {
        let peer = peer.to_canonical();
        if !proxies.contains(&peer) {
            return Ok(Self { address: peer, local: peer.is_loopback() });
        }
        let nonsense = || Kind::FORWARDED.because("the proxy's X-Forwarded-For is no list of addresses");
        let mut address = peer;
        'found: for line in fields.get_all(FORWARDED_FOR).iter().rev() {
            for text in line.to_str().map_err(|_| nonsense())?.rsplit(',') {
                address = text.trim_matches([' ', '\t']).parse::<IpAddr>().map_err(|_| nonsense())?.to_canonical();
                if !proxies.contains(&address) {
                    break 'found;
                }
            }
        }
        Ok(Self { address, local: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXIES: [&str; 2] = ["192.0.2.1", "::1"];

    fn of(peer: &str, lines: &[&[u8]]) -> Result<(String, bool), &'static str> {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(FORWARDED_FOR, axum::http::HeaderValue::from_bytes(line).unwrap());
        }
        let origin = Origin::of(peer.parse().unwrap(), &fields, &PROXIES.map(|proxy| proxy.parse().unwrap()));
        origin.map(|origin| (origin.address.to_string(), origin.local)).map_err(|problem| problem.kind.slug)
    }

    #[test]
    fn only_who_was_named_is_believed() {
        for (peer, local) in [("198.51.100.7", false), ("127.0.0.1", true), ("::ffff:127.0.0.1", true)] {
            let canonical = peer.trim_start_matches("::ffff:");
            for line in ["203.0.113.5", "nonsense", "\u{ff}", "192.0.2.1", ""] {
                assert_eq!(of(peer, &[line.as_bytes()]), Ok((canonical.to_owned(), local)), "{line}");
            }
            assert_eq!(of(peer, &[]), Ok((canonical.to_owned(), local)));
        }
    }

    #[test]
    fn a_proxy_is_believed_about_its_own_peer_and_no_further() {
        for peer in ["192.0.2.1", "::ffff:192.0.2.1", "::1"] {
            for (lines, client) in [
                (&[&b"203.0.113.5"[..]][..], "203.0.113.5"),
                (&[b"10.0.0.1, 203.0.113.5"], "203.0.113.5"),
                (&[b"garbage, 127.0.0.1, 203.0.113.5 "], "203.0.113.5"),
                (&[b"10.0.0.1", b"203.0.113.5"], "203.0.113.5"),
                (&[b"203.0.113.5, 192.0.2.1,\t::1"], "203.0.113.5"),
                (&[b"\xff", b"2001:db8::7"], "2001:db8::7"),
                (&[b"::ffff:203.0.113.5"], "203.0.113.5"),
                // That a machine names itself makes nothing local.
                (&[b"127.0.0.1"], "127.0.0.1"),
                (&[b"192.0.2.1, 192.0.2.1"], "192.0.2.1"),
            ] {
                assert_eq!(of(peer, lines), Ok((client.to_owned(), false)), "{lines:?}");
            }
        }
        assert_eq!(
            of("::1", &[]),
            Ok(("::1".to_owned(), false)),
            "a proxy that says nothing is no program of this machine"
        );
    }

    #[test]
    fn nonsense_of_a_proxy_is_refused() {
        let bad: [&[u8]; 9] = [
            b"",
            b"unknown",
            b"203.0.113.5:80",
            b"203.0.113",
            b"[::2]",
            b"a\xff",
            b"203.0.113.5,",
            b"x, 192.0.2.1",
            b"-",
        ];
        for line in bad {
            assert_eq!(of("192.0.2.1", &[line]), Err("forwarded-malformed"), "{}", String::from_utf8_lossy(line));
        }
    }
}
