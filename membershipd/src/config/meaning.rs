//! From what was typed to what was meant: parsing and the start guards.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;

use unibus_names::{CLUSTER_ID_DIGITS, LABEL_RULE, REPLICAS, SHA256_DIGITS, is_cluster_size, is_label, is_lower_hex};

use super::bounds::Bounds;
use super::engine_bounds::EngineBounds;
use super::errors::ConfigErrors;
use super::files::{Secrets, TlsFiles, TlsPurpose, read_route_password};
use super::local_files;
use super::typed::Typed;
use super::{
    BusAuth, ClearRooms, Cluster, Config, DEFAULT_API_PORT, DEFAULT_DB, KV, LogFormat, Ports, SQLITE, StoreKind,
};
use unibus_core::domain::{Keeping, LEAST_BYTES, MOST_BYTES, MOST_DAYS, Quota};
use unibus_core::faults::Fault;
use unibus_http_signature::Authority;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A person needs less, and a program that was written badly does no harm with it.
const API_RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);
const MOST_API_RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(999_999);

/// Parses and checks everything, then either returns the whole or all mistakes.
pub(super) fn of(typed: Typed, now_unix: i64) -> Result<Config, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let e = &mut errors;

    let store = store(e, typed.store.as_deref(), typed.db, typed.cluster_name.is_some());
    let bind = parsed(e, "--bind", typed.bind.as_deref(), "an IP address such as 127.0.0.1").unwrap_or(LOOPBACK);
    let advertise = parsed(e, "--advertise", typed.advertise.as_deref(), "an IP address that clients reach");
    if advertise.is_some_and(|ip: IpAddr| ip.is_unspecified()) {
        e.add("--advertise", "nobody can connect to an unspecified address", "name one, or leave it out");
    }
    let ports = Ports {
        client: port(e, "--client-port", typed.client_port.as_deref(), 4250),
        api: port(e, "--api-port", typed.api_port.as_deref(), DEFAULT_API_PORT),
        route: port(e, "--route-port", typed.route_port.as_deref(), 6250),
    };
    let api_rate = api_rate(e, typed.api_rate.as_deref());
    let bounds = Bounds::of(e, &typed.bounds);
    let engine_bounds = EngineBounds::of(e, &typed.engine_bounds);
    let trusted_proxies = trusted_proxies(e, typed.trusted_proxies.as_deref());
    let public_names = public_names(e, typed.public_names.as_deref());
    distinct_ports(e, &[("--client-port", ports.client), ("--api-port", ports.api), ("--route-port", ports.route)]);
    let bus_auth = word(
        e,
        "--bus-auth",
        typed.bus_auth.as_deref(),
        &[("enforce", BusAuth::Enforce), ("off", BusAuth::Off)],
        BusAuth::Enforce,
    );
    let clear_rooms = clear_rooms(e, typed.clear_rooms.as_deref(), bind);
    let rooms = (typed.rooms_by_user.as_deref(), typed.persisting_rooms_by_user.as_deref());
    let quota = quota(e, rooms, typed.removed_rooms_by_user.as_deref());
    let keeping = keeping(e, typed.history_bytes.as_deref(), typed.history_days.as_deref());
    let log_format = word(
        e,
        "--log-format",
        typed.log_format.as_deref(),
        &[("text", LogFormat::Text), ("json", LogFormat::Json)],
        LogFormat::Text,
    );
    let engine_sha256 = typed.engine_sha256.filter(|hex| hexadecimal(e, "--engine-sha256", hex, SHA256_DIGITS));

    let tls = TlsFiles::group(e, TlsPurpose::DataPlane, [typed.tls_cert, typed.tls_key, typed.tls_ca], now_unix);
    let node = node_name(e, typed.node_name, typed.cluster_name.is_some());
    let cluster = match typed.cluster_name {
        Some(name) => {
            if !is_label(&name) {
                e.add("--cluster-name", format!("'{name}' is not a name"), LABEL_RULE);
            }
            let route_tls =
                TlsFiles::group(e, TlsPurpose::Routes, [typed.route_cert, typed.route_key, typed.route_ca], now_unix);
            let pass = read_route_password(e, typed.cluster_pass_file);
            let id = typed.cluster_id.filter(|hex| hexadecimal(e, "--cluster-id", hex, CLUSTER_ID_DIGITS));
            if id.is_none() {
                e.add("--cluster-id", "a cluster needs its identity", "take it from the node's cluster.env");
            }
            let routes = routes(e, typed.routes.as_deref());
            let bind = parsed(e, "--route-bind", typed.route_bind.as_deref(), "an IP address").unwrap_or(bind);
            match (id, pass, route_tls) {
                (Some(id), Some(pass), Some(tls)) => Some(Cluster { name, id, routes, bind, pass, tls }),
                _ => None,
            }
        }
        None => {
            let alone = [
                ("--routes", typed.routes.is_some()),
                ("--cluster-id", typed.cluster_id.is_some()),
                ("--cluster-pass-file", typed.cluster_pass_file.is_some()),
                ("--route-cert", typed.route_cert.is_some()),
                ("--route-key", typed.route_key.is_some()),
                ("--route-ca", typed.route_ca.is_some()),
            ];
            for (flag, _) in alone.into_iter().filter(|(_, given)| *given) {
                e.add(flag, "given without --cluster-name", "name the cluster, or leave it out for a node on its own");
            }
            None
        }
    };
    let clustered = cluster.is_some();
    let kv_replicas = replicas(e, typed.kv_replicas.as_deref(), cluster.as_ref());
    let secrets = match typed.secrets_dir {
        Some(directory) => Secrets::load(e, &directory),
        None if clustered => {
            e.add("--secrets-dir", "a node of a cluster needs its nkeys", "run: cargo xtask secrets");
            None
        }
        // Nobody but this process and its child ever uses them, and both end together.
        None => Secrets::ephemeral(),
    };
    start_guards(e, bind, bus_auth, clustered, tls.is_some());

    match secrets {
        Some(secrets) if errors.0.is_empty() => Ok(Config {
            node,
            bind,
            advertise: advertise.unwrap_or(bind),
            ports,
            api_rate,
            bounds,
            engine_bounds,
            trusted_proxies,
            public_names,
            bus_auth,
            clear_rooms,
            quota,
            keeping,
            cluster,
            store,
            begin_at_lowest_level: typed.begin_at_lowest_level,
            nats_store: typed.nats_store.unwrap_or_else(|| PathBuf::from(local_files!("jetstream"))),
            tls,
            secrets,
            kv_replicas,
            engine: typed.engine,
            engine_sha256,
            bootstrap: typed.bootstrap.unwrap_or_else(|| PathBuf::from("bootstrap.json")),
            log_format,
        }),
        _ => {
            if errors.0.is_empty() {
                errors.add("--secrets-dir", "no keys for the engine", "run: cargo xtask secrets");
            }
            Err(errors)
        }
    }
}

/// Without a quorum behind it nothing proves what a cluster's nodes know: there each would believe its own file.
fn store(e: &mut ConfigErrors, kind: Option<&str>, db: Option<PathBuf>, clustered: bool) -> StoreKind {
    match kind {
        Some(KV) => {
            if db.is_some() {
                e.add("--db", "given with --store kv, which keeps nothing in a file", "leave it out");
            }
            return StoreKind::Kv;
        }
        Some(SQLITE) | None if clustered => {
            e.add("--store", "a cluster keeps its users in the replicated store", "set --store kv");
        }
        Some(SQLITE) | None => {}
        Some(other) => e.add("--store", format!("'{other}' is not kv or sqlite"), "give kv or sqlite"),
    }
    StoreKind::Sqlite(db.unwrap_or_else(|| PathBuf::from(DEFAULT_DB)))
}

/// Postures that leak are refused, not warned about.
fn start_guards(e: &mut ConfigErrors, bind: IpAddr, bus_auth: BusAuth, clustered: bool, tls: bool) {
    if Fault::NoStartGuards.active() {
        return;
    }
    let public = !bind.is_loopback();
    if bus_auth == BusAuth::Off && public {
        e.add("--bus-auth", format!("off on {bind}, which others can reach"), "use enforce, or --bind 127.0.0.1");
    }
    if bus_auth == BusAuth::Off && clustered {
        e.add("--bus-auth", "off in a cluster: its weakest node would leak for all", "use enforce");
    }
    if !tls && public {
        e.add(
            "--tls-cert",
            format!("no TLS on {bind}, which others can reach"),
            "give --tls-cert, --tls-key, --tls-ca",
        );
    }
    if !tls && clustered {
        e.add("--tls-cert", "no TLS for clients of a cluster", "give --tls-cert, --tls-key and --tls-ca");
    }
}

fn parsed<T: FromStr>(e: &mut ConfigErrors, flag: &'static str, value: Option<&str>, want: &str) -> Option<T> {
    let value = value?;
    let parsed = value.parse().ok();
    if parsed.is_none() {
        e.add(flag, format!("'{value}' is not {want}"), format!("give {want}"));
    }
    parsed
}

fn word<T: Copy>(e: &mut ConfigErrors, flag: &'static str, value: Option<&str>, words: &[(&str, T)], default: T) -> T {
    let Some(value) = value else { return default };
    words.iter().find(|(word, _)| *word == value).map_or_else(
        || {
            let known = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" or ");
            e.add(flag, format!("'{value}' is not {known}"), format!("give {known}"));
            default
        },
        |(_, meaning)| *meaning,
    )
}

fn port(e: &mut ConfigErrors, flag: &'static str, value: Option<&str>, default: u16) -> u16 {
    let port = parsed(e, flag, value, "a port from 1 to 65535").unwrap_or(default);
    if port == 0 {
        e.add(flag, "port 0 would be another one at every start", "give a port from 1 to 65535");
    }
    port
}

fn api_rate(e: &mut ConfigErrors, value: Option<&str>) -> NonZeroU32 {
    let want = "a number from 1 to 1000000";
    let rate = parsed(e, "--api-rate", value, want).unwrap_or(API_RATE);
    if rate > MOST_API_RATE {
        e.add("--api-rate", format!("{rate} is more than a node can serve"), format!("give {want}"));
    }
    rate
}

fn trusted_proxies(e: &mut ConfigErrors, value: Option<&str>) -> Vec<IpAddr> {
    let flag = "--trusted-proxies";
    let mut proxies = Vec::new();
    for text in value.unwrap_or_default().split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let Some(proxy) = parsed::<IpAddr>(e, flag, Some(text), "the address of a proxy") else { continue };
        let proxy = proxy.to_canonical();
        if proxy.is_unspecified() {
            e.add(flag, format!("{proxy} is nobody's address"), "name each proxy by the address that it connects from");
        } else if proxies.contains(&proxy) {
            e.add(flag, format!("{proxy} stands twice"), "name it once");
        } else {
            proxies.push(proxy);
        }
    }
    proxies
}

fn public_names(e: &mut ConfigErrors, value: Option<&str>) -> Vec<Authority> {
    let (flag, want) = ("--public-names", "a host, or a host and its port, as they stand in a URL: bus.example.org");
    let mut names = Vec::new();
    for text in value.unwrap_or_default().split(',').map(str::trim).filter(|text| !text.is_empty()) {
        match parsed::<Authority>(e, flag, Some(text), want) {
            Some(name) if names.contains(&name) => e.add(flag, format!("{name} stands twice"), "name it once"),
            Some(name) => names.push(name),
            None => {}
        }
    }
    names
}

/// What can be reached from outside is heard by whoever is on the way.
fn clear_rooms(e: &mut ConfigErrors, value: Option<&str>, bind: IpAddr) -> ClearRooms {
    let usual = if bind.is_loopback() { ClearRooms::Allow } else { ClearRooms::Refuse };
    let words = [ClearRooms::Allow, ClearRooms::Refuse].map(|choice| (choice.as_str(), choice));
    word(e, "--clear-rooms", value, &words, usual)
}

fn quota(e: &mut ConfigErrors, (rooms, persisting): (Option<&str>, Option<&str>), removed: Option<&str>) -> Quota {
    let mut number = |flag, value, usual| parsed(e, flag, value, "a number of rooms").unwrap_or(usual);
    Quota {
        rooms: number("--rooms-by-user", rooms, Quota::DEFAULT.rooms),
        persisting: number("--persisting-rooms-by-user", persisting, Quota::DEFAULT.persisting),
        removed: number("--removed-rooms-by-user", removed, Quota::DEFAULT.removed),
    }
}

fn keeping(e: &mut ConfigErrors, bytes: Option<&str>, days: Option<&str>) -> Keeping {
    let want = "a number of bytes";
    let bytes = parsed(e, "--history-bytes", bytes, want).unwrap_or(Keeping::DEFAULT.bytes);
    if !(LEAST_BYTES..=MOST_BYTES).contains(&bytes) {
        let problem = format!("{bytes} is not from {LEAST_BYTES} to {MOST_BYTES}");
        e.add(
            "--history-bytes",
            problem,
            "a room has to have place for a few of the largest messages, and not the whole disk",
        );
    }
    let days: u32 = parsed(e, "--history-days", days, "a number of days").unwrap_or_default();
    if days > MOST_DAYS {
        e.add("--history-days", format!("{days} is more than {MOST_DAYS}"), "say 0 to keep messages without end");
    }
    Keeping { bytes, days: (days > 0).then_some(days) }
}

fn distinct_ports(e: &mut ConfigErrors, ports: &[(&'static str, u16)]) {
    for (i, (flag, port)) in ports.iter().enumerate() {
        if let Some((other, _)) = ports.iter().take(i).find(|(_, p)| p == port) {
            e.add(flag, format!("{port} is the port of {other} too"), "give each its own port");
        }
    }
}

fn hexadecimal(e: &mut ConfigErrors, flag: &'static str, value: &str, digits: usize) -> bool {
    let ok = is_lower_hex(value, digits);
    if !ok {
        let problem = format!("'{value}' is not {digits} lower-case hexadecimal digits");
        e.add(flag, problem, "take it from the node's cluster.env");
    }
    ok
}

fn node_name(e: &mut ConfigErrors, name: Option<String>, clustered: bool) -> String {
    match name {
        Some(name) if is_label(&name) => name,
        Some(name) => {
            e.add("--node-name", format!("'{name}' is not a node name"), LABEL_RULE);
            name
        }
        None => {
            if clustered {
                e.add("--node-name", "a node of a cluster needs a name", "take it from deploy/nodes.toml");
            }
            "standalone".to_owned()
        }
    }
}

fn routes(e: &mut ConfigErrors, value: Option<&str>) -> Vec<SocketAddr> {
    let remedy = "give nats-route://IP:PORT of each other node, separated by commas";
    let mut routes = Vec::new();
    for url in value.unwrap_or_default().split(',').map(str::trim).filter(|url| !url.is_empty()) {
        if url.contains('@') {
            // Not printed: what stands before the @ may be a password.
            e.add("--routes", "a route holds a user or password", "routes have none: use --cluster-pass-file");
            continue;
        }
        match url.strip_prefix("nats-route://").and_then(|rest| rest.parse::<SocketAddr>().ok()) {
            Some(address) if routes.contains(&address) => e.add("--routes", format!("{url} stands twice"), remedy),
            Some(address) => routes.push(address),
            None => e.add("--routes", format!("'{url}' is not a route"), remedy),
        }
    }
    let nodes = routes.len() + 1;
    if !is_cluster_size(nodes) {
        e.add(
            "--routes",
            format!("{nodes} node{} cannot survive a loss", if nodes == 1 { "" } else { "s" }),
            "list the routes to all other nodes: two, for a cluster of three",
        );
    }
    routes
}

fn replicas(e: &mut ConfigErrors, value: Option<&str>, cluster: Option<&Cluster>) -> usize {
    let nodes = cluster.map_or(1, |c| c.routes.len() + 1);
    let replicas = parsed(e, "--kv-replicas", value, "1, 3 or 5").unwrap_or_else(|| nodes.min(3));
    if !REPLICAS.contains(&replicas) {
        e.add("--kv-replicas", format!("{replicas} copies have no majority of their own"), "give 1, 3 or 5");
    } else if cluster.is_some() && replicas > nodes || cluster.is_none() && replicas > 1 {
        e.add("--kv-replicas", format!("{replicas} copies on {nodes} node(s)"), "at most one copy a node");
    }
    replicas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_in_clear_are_for_loopback_unless_somebody_says_otherwise() {
        let mut e = ConfigErrors::default();
        for (bind, usual) in
            [("127.0.0.1", ClearRooms::Allow), ("::1", ClearRooms::Allow), ("0.0.0.0", ClearRooms::Refuse)]
        {
            let bind = bind.parse().unwrap();
            assert_eq!(clear_rooms(&mut e, None, bind), usual, "{bind}");
            assert_eq!(clear_rooms(&mut e, Some("allow"), bind), ClearRooms::Allow);
            assert_eq!(clear_rooms(&mut e, Some("refuse"), bind), ClearRooms::Refuse);
        }
        assert!(e.0.is_empty());
        clear_rooms(&mut e, Some("yes"), LOOPBACK);
        assert_eq!(e.0.len(), 1);
    }

    #[test]
    fn public_names_are_authorities_in_one_spelling() {
        let mut e = ConfigErrors::default();
        assert!(public_names(&mut e, None).is_empty() && public_names(&mut e, Some("")).is_empty());
        let names = public_names(&mut e, Some("Bus.Example.org:443, bus.example.org:8443 ,[2001:DB8::1]:9"));
        let names: Vec<&str> = names.iter().map(Authority::as_str).collect();
        assert_eq!(
            (names.as_slice(), e.0.len()),
            (["bus.example.org", "bus.example.org:8443", "[2001:db8::1]:9"].as_slice(), 0)
        );
        for bad in ["https://bus.example.org", "*.example.org", "bus.example.org/", "2001:db8::1", "a,A:443"] {
            let before = e.0.len();
            public_names(&mut e, Some(bad));
            assert_eq!(e.0.len(), before + 1, "{bad}");
        }
    }

    #[test]
    fn proxies_are_addresses_in_one_spelling() {
        let mut e = ConfigErrors::default();
        assert!(trusted_proxies(&mut e, None).is_empty() && trusted_proxies(&mut e, Some("")).is_empty());
        let proxies = trusted_proxies(&mut e, Some("192.0.2.1, ::ffff:192.0.2.2 ,2001:db8::1"));
        assert_eq!(proxies, ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|proxy| proxy.parse::<IpAddr>().unwrap()));
        assert!(e.0.is_empty());
        for bad in ["proxy.example", "10.0.0.0/8", "192.0.2.1:80", "0.0.0.0", "::", "192.0.2.1,::ffff:192.0.2.1"] {
            let before = e.0.len();
            trusted_proxies(&mut e, Some(bad));
            assert_eq!(e.0.len(), before + 1, "{bad}");
        }
    }
}
