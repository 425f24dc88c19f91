//! Bad configuration: everything that is wrong is said at once, with exit code 64, and nothing is started or made.

use crate::common::{self, Dir, membershipd, said};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// A CA and a leaf of it, as PEM files `<name>-ca.crt`, `<name>.crt`, `<name>.key`.
fn mint(dir: &Dir, name: &str, ended: bool) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    if ended {
        leaf.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let cert = leaf.signed_by(&key, &issuer).unwrap();
    dir.write(&format!("{name}-ca.crt"), &ca_cert.pem(), 0o644);
    dir.write(&format!("{name}.crt"), &cert.pem(), 0o644);
    dir.write(&format!("{name}.key"), &key.serialize_pem(), 0o600);
}

fn seeds(dir: &Dir) {
    use nkeys::KeyPair as Nkey;
    dir.write("secrets/issuer.nk", &Nkey::new_account().seed().unwrap(), 0o600);
    dir.write("secrets/xkey.nk", &nkeys::XKey::new().seed().unwrap(), 0o600);
    for name in ["callout", "control", "system", "bus"] {
        dir.write(&format!("secrets/{name}.nk"), &Nkey::new_user().seed().unwrap(), 0o600);
    }
    dir.write("cluster.pass", &"ab".repeat(32), 0o600);
}

/// The settings of a sound node of a cluster.
fn sound() -> Vec<(&'static str, &'static str)> {
    vec![
        ("--store", "kv"),
        ("--bind", "127.0.0.1"),
        ("--cluster-name", "unibus"),
        ("--cluster-id", "0123456789abcdef0123456789abcdef"),
        ("--node-name", "magnus"),
        ("--routes", "nats-route://127.0.0.2:6250,nats-route://127.0.0.3:6250"),
        ("--cluster-pass-file", "cluster.pass"),
        ("--secrets-dir", "secrets"),
        ("--tls-cert", "data.crt"),
        ("--tls-key", "data.key"),
        ("--tls-ca", "data-ca.crt"),
        ("--route-cert", "route.crt"),
        ("--route-key", "route.key"),
        ("--route-ca", "route-ca.crt"),
    ]
}

fn material() -> Dir {
    let dir = Dir::new();
    mint(&dir, "data", false);
    mint(&dir, "route", false);
    seeds(&dir);
    dir
}

/// What the daemon says of the sound settings with some replaced (an empty value: left out). It must refuse with 64.
fn refusal(dir: &Dir, changes: &[(&'static str, &'static str)]) -> String {
    let mut settings = sound();
    for (flag, value) in changes {
        settings.retain(|(known, _)| known != flag);
        if !value.is_empty() {
            settings.push((flag, value));
        }
    }
    let arguments = settings.iter().flat_map(|(flag, value)| [*flag, *value]);
    let output = membershipd(dir.path()).arg("serve").args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", said(&output));
    assert!(!dir.path().join("local_files").exists(), "nothing is made on bad configuration");
    said(&output)
}

#[test]
fn each_mistake_is_named_with_its_flag() {
    let dir = material();
    mint(&dir, "ended", true);
    mint(&dir, "other", false);
    dir.write("short.pass", "abcd", 0o600);
    dir.write("open.pass", &"ab".repeat(32), 0o640);
    let cases: &[(&[(&'static str, &'static str)], &str)] = &[
        (&[("--bind", "nonsense")], "--bind (UNIBUS_BIND): 'nonsense' is not an IP address"),
        (&[("--advertise", "0.0.0.0")], "--advertise (UNIBUS_ADVERTISE): nobody can connect to an unspecified address"),
        (&[("--client-port", "70000")], "'70000' is not a port"),
        (&[("--rooms-by-user", "many")], "'many' is not a number of rooms"),
        (&[("--persisting-rooms-by-user", "1.5")], "'1.5' is not a number of rooms"),
        (&[("--history-bytes", "much")], "'much' is not a number of bytes"),
        (&[("--history-bytes", "1000")], "1000 is not from 4194304 to 1073741824"),
        (&[("--history-days", "36526")], "36526 is more than 36525"),
        (&[("--api-rate", "0")], "'0' is not a number from 1 to 1000000"),
        (&[("--api-rate", "1000001")], "1000001 is more than a node can serve"),
        (&[("--trusted-proxies", "proxy.example")], "'proxy.example' is not the address of a proxy"),
        (&[("--public-names", "https://bus.example")], "'https://bus.example' is not a host, or a host and its port"),
        (&[("--clear-rooms", "maybe")], "'maybe' is not allow or refuse"),
        (&[("--client-port", "8470")], "8470 is the port of --client-port too"),
        (&[("--store", "etcd")], "'etcd' is not kv or sqlite"),
        (&[("--store", "sqlite")], "set --store kv"),
        (&[("--store", "")], "set --store kv"),
        (&[("--db", "unibus.db")], "given with --store kv, which keeps nothing in a file"),
        (&[("--bus-auth", "maybe")], "'maybe' is not enforce or off"),
        (&[("--bus-auth", "off")], "off in a cluster"),
        (&[("--bus-auth", "off"), ("--bind", "0.0.0.0")], "off on 0.0.0.0, which others can reach"),
        (&[("--cluster-name", "")], "given without --cluster-name"),
        (&[("--cluster-id", "123")], "'123' is not 32 lower-case hexadecimal digits"),
        (&[("--node-name", "Magnus")], "'Magnus' is not a node name"),
        (&[("--node-name", "")], "needs a name"),
        (&[("--routes", "nats-route://127.0.0.2:6250")], "2 nodes cannot survive a loss"),
        (&[("--routes", "127.0.0.2:6250")], "'127.0.0.2:6250' is not a route"),
        (&[("--cluster-pass-file", "")], "open to its network"),
        (&[("--cluster-pass-file", "short.pass")], "short.pass does not hold 64 hexadecimal digits"),
        (&[("--cluster-pass-file", "open.pass")], "open.pass has mode 0640"),
        (&[("--cluster-pass-file", "none.pass")], "cannot read none.pass"),
        (&[("--secrets-dir", "nowhere")], "cannot read nowhere/issuer.nk"),
        (&[("--secrets-dir", "")], "needs its nkeys"),
        (&[("--route-key", "")], "half a TLS configuration"),
        (&[("--tls-cert", ""), ("--tls-key", ""), ("--tls-ca", "")], "no TLS for clients of a cluster"),
        (&[("--tls-cert", ""), ("--tls-key", "")], "half a TLS configuration"),
        (&[("--tls-key", "route.key")], "route.key is not the key of data.crt"),
        (&[("--tls-ca", "route-ca.crt")], "data.crt was not signed by the CA in route-ca.crt"),
        (&[("--tls-cert", "other.crt"), ("--tls-key", "other.key")], "other.crt was not signed by the CA"),
        (&[("--tls-cert", "ended.crt"), ("--tls-key", "ended.key")], "ended.crt expired on 2020-01-01"),
        (&[("--route-cert", "cluster.pass")], "cluster.pass holds no certificate"),
        (&[("--kv-replicas", "5")], "5 copies on 3 node(s)"),
        (&[("--kv-replicas", "2")], "have no majority"),
        (&[("--engine-sha256", "xyz")], "--engine-sha256"),
        (&[("--log-format", "xml")], "'xml' is not text or json"),
    ];
    for (changes, expected) in cases {
        let text = refusal(&dir, changes);
        assert!(text.contains(expected), "{changes:?} should say '{expected}':\n{text}");
        assert!(text.contains("remedy:"), "{text}");
    }
}

#[test]
fn a_ca_file_may_hold_the_old_and_the_new_one() {
    let dir = material();
    mint(&dir, "other", false);
    mint(&dir, "third", false);
    let text = |file: &str| std::fs::read_to_string(dir.path().join(file)).unwrap();
    let (own, other) = (text("route-ca.crt"), text("other-ca.crt"));
    let env: String = sound()
        .iter()
        .map(|(flag, value)| {
            format!("UNIBUS_{}={value}\n", flag.trim_start_matches("--").replace('-', "_").to_uppercase())
        })
        .collect();
    dir.write("cluster.env", &format!("{env}UNIBUS_ENGINE={}\n", common::engine().display()), 0o644);
    let check = || membershipd(dir.path()).args(["check-config", "--env-file", "cluster.env"]).output().unwrap();
    for bundle in [format!("{own}{other}"), format!("{other}{own}")] {
        dir.write("route-ca.crt", &bundle, 0o644);
        assert!(check().status.success(), "{}", said(&check()));
    }
    dir.write("route-ca.crt", &format!("{other}{}", text("third-ca.crt")), 0o644);
    assert!(said(&check()).contains("route.crt was not signed by the CA in route-ca.crt"), "{}", said(&check()));
    // Half a bundle is not taken for a whole one.
    let damaged = other.lines().enumerate().filter(|(line, _)| *line != 2).map(|(_, line)| format!("{line}\n"));
    dir.write("route-ca.crt", &format!("{own}{}", damaged.collect::<String>()), 0o644);
    assert_eq!(check().status.code(), Some(64), "{}", said(&check()));
}

#[test]
fn files_that_came_through_another_system_are_understood_or_named_with_their_line() {
    let dir = material();
    let text = |file: &str| std::fs::read_to_string(dir.path().join(file)).unwrap();
    let windows = |text: &str| format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let env: String = sound()
        .iter()
        .map(|(flag, value)| {
            format!("UNIBUS_{}={value}\n", flag.trim_start_matches("--").replace('-', "_").to_uppercase())
        })
        .collect();
    let env = format!("# Settings\n{env}UNIBUS_ENGINE={}\n", common::engine().display());
    dir.write("cluster.env", &windows(&env), 0o644);
    dir.write("data-ca.crt", &windows(&text("data-ca.crt")), 0o644);
    dir.write("data.crt", &format!("Bag Attributes\r\n{}", text("data.crt").replace('\n', "\r\n")), 0o644);
    for file in ["secrets/bus.nk", "secrets/xkey.nk", "cluster.pass"] {
        dir.write(file, &windows(&format!("{}\n", text(file))), 0o600);
    }
    let output = membershipd(dir.path()).args(["check-config", "--env-file", "cluster.env"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    // The engine reads these, too, and would find nothing in them.
    for (file, mode) in [("data.crt", 0o644), ("data.key", 0o600), ("route-ca.crt", 0o644)] {
        let kept = text(file);
        dir.write(file, &windows(&kept), mode);
        let refused = refusal(&dir, &[]);
        assert!(refused.contains(&format!("{file}:1: begins with a byte order mark")), "{refused}");
        dir.write(file, &kept, mode);
    }
}

#[test]
fn all_mistakes_are_told_together_and_no_password_with_them() {
    let dir = material();
    let text = refusal(
        &dir,
        &[
            ("--bind", "x"),
            ("--node-name", "A"),
            ("--routes", "nats-route://u:hunter2@127.0.0.2:6250"),
            ("--kv-replicas", "z"),
        ],
    );
    for flag in ["--bind", "--node-name", "--routes", "--kv-replicas"] {
        assert!(text.contains(flag), "{text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn seeds_of_the_wrong_kind_are_named_by_file_and_never_printed() {
    let dir = material();
    let user = nkeys::KeyPair::new_user().seed().unwrap();
    dir.write("secrets/issuer.nk", &user, 0o600);
    dir.write("secrets/xkey.nk", &user, 0o600);
    dir.write("secrets/bus.nk", &user[..20], 0o600);
    let text = refusal(&dir, &[]);
    for file in ["issuer.nk", "xkey.nk", "bus.nk"] {
        assert!(text.contains(file), "{text}");
    }
    assert!(!text.contains(&user[..20]), "{text}");
}

#[test]
fn a_public_node_needs_tls() {
    let dir = Dir::new();
    let output = membershipd(dir.path()).args(["--bind", "0.0.0.0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(said(&output).contains("no TLS on 0.0.0.0"), "{}", said(&output));
}

#[test]
fn check_config_reads_a_cluster_env_and_starts_nothing() {
    let dir = material();
    let env: String = sound()
        .iter()
        .map(|(flag, value)| {
            format!("UNIBUS_{}={value}\n", flag.trim_start_matches("--").replace('-', "_").to_uppercase())
        })
        .collect();
    dir.write("cluster.env", &format!("# a node\n{env}"), 0o644);
    let engine = common::engine();
    dir.write("with-engine.env", &format!("{env}UNIBUS_ENGINE={}\n", engine.display()), 0o644);
    let check = |file: &str| membershipd(dir.path()).args(["check-config", "--env-file", file]).output().unwrap();
    let sound = check("with-engine.env");
    assert!(sound.status.success(), "{}", said(&sound));
    // A release says which engine it has, in a file of its own that wins.
    dir.write("wrong-engine.env", &format!("{env}UNIBUS_ENGINE=/nonexistent\n"), 0o644);
    dir.write("release.env", &format!("UNIBUS_ENGINE={}\n", engine.display()), 0o644);
    let both = |first: &str, second: &str| {
        let files = ["check-config", "--env-file", first, "--env-file", second];
        membershipd(dir.path()).args(files).output().unwrap()
    };
    assert!(both("wrong-engine.env", "release.env").status.success());
    assert!(said(&both("release.env", "wrong-engine.env")).contains("/nonexistent"));
    dir.write("bad.env", &format!("{env}UNIBUS_COLOUR=red\n"), 0o644);
    assert!(said(&check("bad.env")).contains("--colour"), "{}", said(&check("bad.env")));
    dir.write("odd.env", "what is this\n", 0o644);
    assert!(said(&check("odd.env")).contains("odd.env:1: not NAME=VALUE"));
    dir.write("off.env", &env.replace("127.0.0.1", "everywhere"), 0o644);
    let bad = check("off.env");
    assert_eq!(bad.status.code(), Some(64), "{}", said(&bad));
    assert!(!dir.path().join("local_files").exists());
}

/// The drop-in of the runbook takes all that is about a cluster out of a node's settings.
#[test]
fn the_shipped_drop_in_makes_a_node_of_a_cluster_one_on_its_own() {
    let dir = material();
    let unit = include_str!("../../../deploy/standalone.conf");
    let values = |name: &str| -> Vec<String> {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
    };
    let (unset, start) = (values("UnsetEnvironment"), values("ExecStart"));
    assert_eq!(start[..2], ["/opt/unibus/membershipd", "serve"]);
    let engine = common::engine();
    let variable = |flag: &str| format!("UNIBUS_{}", flag.trim_start_matches("--").replace('-', "_").to_uppercase());
    let mut settings = sound();
    settings.extend([
        ("--route-bind", "127.0.0.1"),
        ("--kv-replicas", "3"),
        ("--nats-store", "./local_files/jetstream"),
    ]);
    settings.push(("--engine", engine.to_str().unwrap()));
    let check = |unset: &[String]| {
        let mut command = membershipd(dir.path());
        let kept =
            settings.iter().map(|(flag, value)| (variable(flag), value)).filter(|(name, _)| !unset.contains(name));
        command.arg("check-config").args(start[2..].iter().map(|word| word.replace("%d", "secrets"))).envs(kept);
        command.output().unwrap()
    };
    let sound = check(&unset);
    assert!(sound.status.success(), "{}", said(&sound));
    for name in &unset {
        let left: Vec<String> = unset.iter().filter(|other| *other != name).cloned().collect();
        // What the command line says goes over the environment, and where routes would arrive says nothing by itself.
        let harmless = ["UNIBUS_STORE", "UNIBUS_NATS_STORE", "UNIBUS_ROUTE_BIND"].contains(&name.as_str());
        assert_eq!(check(&left).status.success(), harmless, "{name}");
    }
}

#[test]
fn a_store_made_standalone_is_never_started_clustered() {
    let dir = material();
    let engine = common::engine();
    let address = common::own_address();
    let daemon = common::Daemon::launch(dir, address, &["--bus-auth", "off", "--node-name", "magnus"]);
    daemon.wait_for_lease();
    let dir = daemon.stop();
    let mut settings = sound();
    settings.retain(|(flag, _)| *flag != "--bind");
    let bind = address.to_string();
    let output = membershipd(dir.path())
        .args(settings.iter().flat_map(|(flag, value)| [*flag, *value]))
        .args(["--bind", &bind, "--runtime-dir", "run", "--engine", engine.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("was made standalone as magnus"), "{}", said(&output));
}
