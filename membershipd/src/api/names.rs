//! The names under which the API may be reached, which a request must have signed one of.

use std::sync::{Arc, PoisonError, RwLock};

use crate::config::{Config, TlsFiles};
use unibus_http_signature::Authority;

/// Names of this node's API. They are those of its certificate, which is what a client verifies, the address that clients
/// are told and the one that is bound, the node's name, and `localhost`, each with the port of the API; and what it is called before a
/// proxy, as it was configured.
#[derive(Debug)]
pub(super) struct Names {
    hosts: Vec<String>,
    port: u16,
    public: Vec<Authority>,
    all: RwLock<Arc<[Authority]>>,
}

impl Names {
    /// The names that `config` has for this node.
    pub(super) fn of(config: &Config) -> Self {
        let addresses = [config.advertise, config.own_address()].into_iter().filter(|ip| !ip.is_unspecified());
        // As it stands in a URL: an IPv6 address in brackets.
        let mut hosts: Vec<String> =
            addresses.map(|ip| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }).collect();
        hosts.extend([config.node.clone(), "localhost".to_owned()]);
        let public = config.public_names.clone();
        let names = Self { hosts, port: config.ports.api, public, all: RwLock::new(Arc::new([])) };
        names.renew(config.tls.as_ref());
        names
    }

    /// Takes the names of a certificate in the place of those of the one before.
    pub(super) fn renew(&self, tls: Option<&TlsFiles>) {
        let hosts = self.hosts.iter().chain(tls.into_iter().flat_map(|tls| &tls.hosts));
        // What is no authority, a wildcard for one, is nothing that a request can be for.
        let mut all: Vec<Authority> = hosts.filter_map(|host| format!("{host}:{}", self.port).parse().ok()).collect();
        all.extend(self.public.iter().cloned());
        all.sort();
        all.dedup();
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = all.into();
    }

    /// The names now.
    pub(super) fn all(&self) -> Arc<[Authority]> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Typed;

    fn names(typed: Typed) -> Vec<String> {
        let names = Names::of(&Config::from_typed(typed, 0).unwrap());
        names.all().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_has_its_addresses_its_name_and_localhost() {
        assert_eq!(names(Typed::default()), ["127.0.0.1:8470", "localhost:8470", "standalone:8470"]);
        let typed = Typed {
            bind: Some("::1".to_owned()),
            advertise: Some("127.0.0.9".to_owned()),
            node_name: Some("magnus".to_owned()),
            api_port: Some("443".to_owned()),
            ..Typed::default()
        };
        assert_eq!(names(typed), ["127.0.0.9", "[::1]", "localhost", "magnus"]);
        let typed = Typed { public_names: Some("bus.example.org,localhost:8470".to_owned()), ..Typed::default() };
        assert_eq!(names(typed), ["127.0.0.1:8470", "bus.example.org", "localhost:8470", "standalone:8470"]);
    }

    #[test]
    fn a_new_certificate_brings_its_names_and_takes_the_old_ones() {
        let names = Names::of(&Config::from_typed(Typed::default(), 0).unwrap());
        let tls = |hosts: &[&str]| TlsFiles {
            cert: "".into(),
            key: "".into(),
            ca: "".into(),
            not_after_unix: 0,
            ca_not_after_unix: 0,
            sha256: String::new(),
            ca_sha256: Vec::new(),
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        };
        let has = |name: &str| names.all().contains(&name.parse().unwrap());
        names.renew(Some(&tls(&["Magnus.example", "[2001:db8::1]", "*.example"])));
        assert!(has("magnus.example:8470") && has("[2001:db8::1]:8470") && has("localhost:8470"));
        assert_eq!(names.all().len(), 5);
        names.renew(Some(&tls(&["homer.example"])));
        assert!(has("homer.example:8470") && !has("magnus.example:8470"));
    }
}
