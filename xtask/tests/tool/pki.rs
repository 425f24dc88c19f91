//! Certificates, judged by openssl; authorities made by openssl; and what a second run does.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use crate::common::{self, Clone, Done, NODES, openssl, own_mounts, try_openssl};

/// What the whole process, from nothing, has of a processor; openssl in a shell script needs 450 ms.
const ALL_NODES_WITHIN: Duration = Duration::from_millis(60);
/// With all that it waits for, a processor that others use included.
const WAITING_INCLUDED: Duration = Duration::from_secs(2);

fn minted() -> Clone {
    let clone = Clone::new();
    clone.ok("client-ca");
    clone.ok("cluster-certs");
    clone
}

fn node_file(node: &str, file: &str) -> String {
    format!("deploy/out/test/{node}/{file}")
}

/// Chains of our own making must also please a strict reader.
const STRICT: &str = "-x509_strict";

fn verify(clone: &Clone, ca: &str, purpose: &str, more: &str, cert: &str) -> Done {
    try_openssl(&clone.root, &format!("verify -CAfile {ca} -purpose {purpose} {more} {cert}"))
}

const CLIENT_CA: &str = "deploy/tls/ca.crt";
const ROUTE_CA: &str = "deploy/out/test/cluster-ca.crt";

#[test]
fn openssl_agrees_with_every_chain_and_name() {
    let clone = minted();
    for (index, node) in NODES.iter().enumerate() {
        let (server, route) = (node_file(node, "tls/server.crt"), node_file(node, "tls/route.crt"));
        let n = index + 1;
        let names = [
            format!("-verify_ip 192.0.2.{n}"),
            format!("-verify_ip 198.51.100.{n}"),
            "-verify_ip 127.0.0.1".to_owned(),
            format!("-verify_hostname {node}"),
            "-verify_hostname localhost".to_owned(),
        ];
        for name in &names {
            assert_eq!(
                verify(&clone, CLIENT_CA, "sslserver", &format!("{STRICT} {name}"), &server).code,
                Some(0),
                "{node} {name}"
            );
            assert_eq!(
                verify(&clone, ROUTE_CA, "sslserver", &format!("{STRICT} {name}"), &route).code,
                Some(0),
                "{node} {name}"
            );
        }
        assert_eq!(verify(&clone, ROUTE_CA, "sslclient", STRICT, &route).code, Some(0));
        // What they must not be good for.
        assert_ne!(verify(&clone, CLIENT_CA, "sslclient", "", &server).code, Some(0));
        assert_ne!(verify(&clone, CLIENT_CA, "sslserver", "", &route).code, Some(0));
        assert_ne!(verify(&clone, ROUTE_CA, "sslserver", "", &server).code, Some(0));
        assert_ne!(verify(&clone, ROUTE_CA, "sslserver", "-verify_ip 203.0.113.9", &route).code, Some(0));
        for kind in ["server", "route"] {
            let crt = openssl(
                &clone.root,
                &format!("x509 -in {} -noout -pubkey", node_file(node, &format!("tls/{kind}.crt"))),
            );
            let key =
                openssl(&clone.root, &format!("pkey -in {} -pubout", node_file(node, &format!("tls/{kind}.key"))));
            assert_eq!(crt, key);
        }
        assert_eq!(clone.read(&node_file(node, "tls/client-ca.crt")), clone.read(CLIENT_CA));
        assert_eq!(clone.read(&node_file(node, "tls/cluster-ca.crt")), clone.read(ROUTE_CA));
    }
}

#[test]
fn extensions_validity_and_serials_are_as_they_should_be() {
    let clone = minted();
    let mut serials = BTreeSet::new();
    let mut ends = BTreeSet::new();
    for (cert, days) in [(CLIENT_CA, 3650), (ROUTE_CA, 3650)] {
        let text = openssl(&clone.root, &format!("x509 -in {cert} -noout -text"));
        for part in ["CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "Subject Key Identifier", "256 bit"] {
            assert!(text.contains(part), "{cert}: {part}\n{text}");
        }
        let still =
            |days: i64| try_openssl(&clone.root, &format!("x509 -in {cert} -noout -checkend {}", days * 86_400)).code;
        assert_eq!((still(days - 1), still(days + 1)), (Some(0), Some(1)));
        serials.insert(openssl(&clone.root, &format!("x509 -in {cert} -noout -serial")));
    }
    for node in NODES {
        for kind in ["server", "route"] {
            let cert = node_file(node, &format!("tls/{kind}.crt"));
            let text = openssl(&clone.root, &format!("x509 -in {cert} -noout -text"));
            for part in
                ["Authority Key Identifier", "Subject Key Identifier", "CA:FALSE", "Digital Signature", "256 bit"]
            {
                assert!(text.contains(part), "{cert}: {part}\n{text}");
            }
            assert_eq!(text.contains("TLS Web Client"), kind == "route", "{text}");
            let ca = if kind == "route" { ROUTE_CA } else { CLIENT_CA };
            let of = |what: &str, cert: &str| {
                let text = openssl(&clone.root, &format!("x509 -in {cert} -noout -ext {what}"));
                text.lines().last().unwrap().trim().to_owned()
            };
            assert_eq!(of("authorityKeyIdentifier", &cert), of("subjectKeyIdentifier", ca));
            let serial = openssl(&clone.root, &format!("x509 -in {cert} -noout -serial"));
            assert_eq!(serial.trim().len(), "serial=".len() + 40, "{serial}");
            assert!(serials.insert(serial), "a serial twice");
            if kind == "route" {
                ends.insert(openssl(&clone.root, &format!("x509 -in {cert} -noout -enddate")));
            }
        }
    }
    assert_eq!(ends.len(), NODES.len(), "all expire on one day: {ends:?}");
}

#[test]
fn keys_are_private_and_certificates_public() {
    let clone = Clone::new();
    // Whatever the operator's umask is.
    let run = |verb: &str, umask: &str| {
        let done = clone.shell(&[], &format!("umask {umask}; exec \"$0\" {verb}"));
        assert_eq!(done.code, Some(0), "{verb}: {done:?}");
    };
    run("client-ca", "077");
    run("cluster-certs", "000");
    run("secrets", "077");
    let mut private = 0;
    for (path, (mode, _)) in clone.tree() {
        let name = path.to_string_lossy().into_owned();
        let below = ["deploy/tls", "deploy/out", "deploy/secrets"].iter().any(|dir| name.contains(dir));
        if !below || path.is_dir() {
            assert!(!below || mode & 0o077 == 0, "{name} {mode:o}");
            continue;
        }
        let secret = [".key", ".nk", ".pass"].iter().any(|end| name.ends_with(end));
        private += u32::from(secret);
        assert_eq!(mode & 0o7777, if secret { 0o600 } else { 0o644 }, "{name}");
    }
    // Two CA keys, two keys a node; three shared secrets and four a node, each also in its folders.
    assert_eq!(private, 2 + 6 + (3 + 12) + 3 * 7);
}

#[test]
fn a_second_run_changes_nothing() {
    let clone = minted();
    clone.ok("secrets");
    clone.ok("cluster-certs");
    let before = clone.tree();
    for verb in ["client-ca", "cluster-certs", "secrets"] {
        let done = clone.ok(verb);
        assert!(!done.stdout.contains("made ") && !done.stdout.contains("renewed "), "{}", done.stdout);
        assert!(before == clone.tree(), "{verb} changed something");
    }
}

#[test]
fn a_new_address_renews_that_node_alone() {
    let clone = minted();
    let before = clone.tree();
    clone.write("deploy/nodes.toml", common::TOPOLOGY.replacen("192.0.2.2", "203.0.113.2", 1));
    let done = clone.ok("cluster-certs");
    for (path, (_, content)) in clone.tree() {
        let own = ["server.crt", "server.key", "route.crt", "route.key"].iter().any(|file| path.ends_with(file));
        let renewed = own && path.starts_with(clone.path("deploy/out/test/b"));
        let changed = before.get(&path).is_none_or(|(_, old)| *old != content);
        assert_eq!(changed, renewed || path.ends_with("deploy/nodes.toml"), "{}", path.display());
    }
    assert!(done.stdout.contains("addresses changed"), "{}", done.stdout);
    let server = node_file("b", "tls/server.crt");
    assert_eq!(verify(&clone, CLIENT_CA, "sslserver", "-verify_ip 203.0.113.2", &server).code, Some(0));
}

#[test]
fn a_leaf_that_nears_its_end_or_lost_its_key_is_renewed() {
    let clone = minted();
    // A route certificate as it would be eleven months on, and a key that belongs to nothing.
    let (crt, key) = (node_file("a", "tls/route.crt"), node_file("a", "tls/route.key"));
    clone.write(
        "ext.cnf",
        "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n\
         subjectAltName=DNS:a,DNS:localhost,IP:192.0.2.1,IP:198.51.100.1,IP:127.0.0.1\n",
    );
    openssl(&clone.root, &format!("req -new -key {key} -subj /CN=a -out a.csr"));
    let sign = |days: u32| {
        let ca = "-CA deploy/out/test/cluster-ca.crt -CAkey deploy/secrets/test/cluster-ca.key -set_serial 7";
        openssl(&clone.root, &format!("x509 -req -in a.csr {ca} -days {days} -extfile ext.cnf -out {crt}"));
    };
    sign(31);
    assert!(
        clone
            .ok("cluster-certs")
            .stdout
            .lines()
            .any(|line| line.starts_with("kept") && line.contains("a/tls/route.crt"))
    );
    sign(29);
    let done = clone.ok("cluster-certs");
    assert!(done.stdout.lines().any(|line| line.starts_with("renewed") && line.contains("28 days")), "{}", done.stdout);
    assert_eq!(verify(&clone, ROUTE_CA, "sslclient", "", &crt).code, Some(0));
    fs::copy(clone.path(&node_file("b", "tls/route.key")), clone.path(&key)).unwrap();
    assert!(clone.ok("cluster-certs").stdout.contains("its key did not belong to it"));
    fs::remove_file(clone.path(&key)).unwrap();
    assert!(clone.ok("cluster-certs").stdout.contains("its key was missing"));
    clone.chmod(&key, 0o640);
    assert!(clone.refused("cluster-certs").contains("chmod 600 deploy/out/test/a/tls/route.key"));
}

/// Makes a client CA as people do with openssl.
fn openssl_ca(clone: &Clone, key: &str, days: u32) {
    fs::create_dir_all(clone.path("deploy/tls")).unwrap();
    for line in key.lines() {
        openssl(&clone.root, line);
    }
    openssl(
        &clone.root,
        &format!(
            "req -x509 -new -key deploy/tls/ca.key -sha256 -days {days} -subj /C=ES/O=Some.Org/CN=Bus.CA -out deploy/tls/ca.crt"
        ),
    );
    clone.chmod("deploy/tls/ca.key", 0o600);
}

/// Makes the client CA's certificate again, of years gone by.
fn expire(clone: &Clone) {
    clone.write(
        "ca.cnf",
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nrand_serial=yes\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
         [p]\ncommonName=supplied\n[v]\nbasicConstraints=critical,CA:TRUE\n",
    );
    clone.write("index.txt", "");
    openssl(&clone.root, &format!("req -new -key {K} -subj /CN=old -out old.csr"));
    let dates = "-startdate 20150101000000Z -enddate 20250101000000Z";
    openssl(
        &clone.root,
        &format!(
            "ca -batch -notext -config ca.cnf -selfsign -keyfile {K} -in old.csr {dates} -extensions v -out {CLIENT_CA}"
        ),
    );
}

const EC_SEC1: &str = "ecparam -name prime256v1 -genkey -noout -out deploy/tls/ca.key";
const K: &str = "deploy/tls/ca.key";

#[test]
fn authorities_made_by_openssl_are_reused() {
    let cases = [
        EC_SEC1.to_owned(),
        format!("ecparam -name prime256v1 -genkey -out {K}"), // an EC PARAMETERS block comes first
        format!("ecparam -name secp384r1 -genkey -out {K}"),
        format!("ecparam -name secp384r1 -genkey -noout -out s.key\npkcs8 -topk8 -nocrypt -in s.key -out {K}"),
        format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {K}"),
        format!("ecparam -name prime256v1 -genkey -noout -out s.key\nec -in s.key -no_public -out {K}"),
        format!("genrsa -traditional -out {K} 2048"),
        format!("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out {K}"),
        format!("genpkey -algorithm ED25519 -out {K}"),
    ];
    for key in cases {
        let clone = Clone::new();
        openssl_ca(&clone, &key, 3650);
        let before = (clone.read(CLIENT_CA), clone.read(K));
        let done = clone.ok("client-ca");
        assert!(done.stdout.contains("kept"), "{key}: {}", done.stdout);
        clone.ok("cluster-certs");
        assert_eq!(before, (clone.read(CLIENT_CA), clone.read(K)), "{key}");
        for node in NODES {
            let server = node_file(node, "tls/server.crt");
            assert_eq!(verify(&clone, CLIENT_CA, "sslserver", "-verify_ip 127.0.0.1", &server).code, Some(0), "{key}");
        }
        let again = clone.tree();
        clone.ok("cluster-certs");
        assert!(again == clone.tree(), "{key}: a second run changed something");
    }
}

#[test]
fn an_authority_that_cannot_be_used_is_refused_by_name() {
    let refused = |clone: &Clone, parts: &[&str]| {
        for verb in ["client-ca", "cluster-certs"] {
            let said = clone.refused(verb);
            for part in parts {
                assert!(said.contains(part), "{verb}: {part:?} is not in {said}");
            }
        }
    };
    let clone = Clone::new();
    assert!(clone.refused("cluster-certs").contains("cargo xtask client-ca"));

    openssl_ca(&clone, EC_SEC1, 10);
    expire(&clone);
    refused(&clone, &["deploy/tls/ca.crt: ", "expired on"]);

    openssl_ca(&clone, EC_SEC1, 10);
    clone.chmod(K, 0o644);
    refused(&clone, &["deploy/tls/ca.key", "0644", "chmod 600 deploy/tls/ca.key"]);

    openssl(&clone.root, EC_SEC1);
    clone.chmod(K, 0o600);
    refused(&clone, &["deploy/tls/ca.key is not the key of deploy/tls/ca.crt"]);
    openssl(&clone.root, &format!("genrsa -out {K} 2048"));
    clone.chmod(K, 0o600);
    refused(&clone, &["deploy/tls/ca.key is not the key of deploy/tls/ca.crt"]);

    openssl_ca(&clone, &format!("ecparam -name secp521r1 -genkey -noout -out {K}"), 10);
    refused(&clone, &["deploy/tls/ca.key: ", "another curve"]);
    openssl_ca(&clone, &format!("genrsa -out {K} 1024"), 10);
    refused(&clone, &["deploy/tls/ca.key: ", "RSA of 2048"]);

    openssl_ca(&clone, EC_SEC1, 10);
    openssl(&clone.root, &format!("ec -in {K} -aes128 -passout pass:secret -out {K}"));
    refused(&clone, &["deploy/tls/ca.key: ", "encrypted"]);

    openssl_ca(&clone, EC_SEC1, 10);
    let whole = clone.read(CLIENT_CA);
    clone.write(CLIENT_CA, &whole[..whole.len() / 2]);
    refused(&clone, &["deploy/tls/ca.crt: "]);
    clone.write(CLIENT_CA, whole.repeat(2));
    refused(&clone, &["deploy/tls/ca.crt: ", "2 certificates"]);
    clone.write(CLIENT_CA, "");
    refused(&clone, &["deploy/tls/ca.crt: ", "no certificate"]);
    fs::remove_file(clone.path(CLIENT_CA)).unwrap();
    refused(&clone, &["deploy/tls/ca.crt is missing"]);
    clone.write(CLIENT_CA, &whole);
    fs::remove_file(clone.path(K)).unwrap();
    refused(&clone, &["deploy/tls/ca.key is missing"]);

    // A server's certificate, and an authority that another one signed.
    openssl_ca(&clone, EC_SEC1, 10);
    let request = |more: &str| {
        openssl(&clone.root, &format!("req -x509 -new -key {K} -days 9 -subj /CN=x {more} -out {CLIENT_CA}"));
    };
    request("-addext basicConstraints=critical,CA:FALSE");
    refused(&clone, &["deploy/tls/ca.crt: ", "not a CA"]);
    for permitted in
        ["critical,permitted;DNS:example.org", "critical,excluded;IP:10.0.0.0/255.0.0.0", "permitted;DNS:a"]
    {
        request(&format!("-addext basicConstraints=critical,CA:TRUE -addext nameConstraints={permitted}"));
        refused(&clone, &["deploy/tls/ca.crt: ", "name constraints", "error 47"]);
    }
    request("-addext keyUsage=critical,digitalSignature");
    refused(&clone, &["deploy/tls/ca.crt: ", "keyCertSign"]);
    let other = minted();
    openssl(&clone.root, &format!("req -new -key {K} -subj /CN=mid -out mid.csr"));
    clone.write("mid.cnf", "basicConstraints=critical,CA:TRUE\n");
    let root = other.root.display();
    openssl(
        &clone.root,
        &format!(
            "x509 -req -in mid.csr -CA {root}/{CLIENT_CA} -CAkey {root}/{K} -set_serial 1 -days 5 -extfile mid.cnf -out {CLIENT_CA}"
        ),
    );
    refused(&clone, &["deploy/tls/ca.crt: ", "not self-signed"]);
}

#[test]
fn files_that_came_through_another_system_are_taken_and_sent_as_every_reader_understands_them() {
    let windows = |text: &str| format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let bag = |text: &str| format!("Bag Attributes\n    localKeyID: 01\nsubject=CN = x\n{text}");
    let clone = Clone::new();
    clone.ok("client-ca");
    clone.ok("secrets");
    let (cert, key) = (clone.read(CLIENT_CA), clone.read(K));
    let pass = clone.read("deploy/secrets/test/cluster.pass");
    let seed = clone.read("deploy/secrets/test/a/bus.nk");
    for change in [windows, bag] {
        clone.write(CLIENT_CA, change(&cert));
        clone.write(K, change(&key));
        clone.ok("client-ca");
        clone.ok("cluster-certs");
        assert_eq!(clone.read(CLIENT_CA), change(&cert), "what the operator brought stays as it is");
        for node in NODES {
            assert_eq!(clone.read(&node_file(node, "tls/client-ca.crt")), cert);
            let (ca, server) = (node_file(node, "tls/client-ca.crt"), node_file(node, "tls/server.crt"));
            assert_eq!(verify(&clone, &ca, "sslserver", "", &server).code, Some(0));
        }
    }
    clone.write("deploy/nodes.toml", windows(common::TOPOLOGY));
    clone.write("deploy/secrets/test/cluster.pass", windows(&pass));
    clone.write("deploy/secrets/test/cluster.id", windows(&clone.read("deploy/secrets/test/cluster.id")));
    clone.write("deploy/secrets/test/a/bus.nk", windows(&seed));
    clone.ok("secrets");
    assert_eq!(clone.read(&node_file("a", "secrets/cluster.pass")), pass);
    assert_eq!(clone.read(&node_file("a", "secrets/bus.nk")), seed);
    assert!(!clone.read(&node_file("a", "cluster.env")).contains(['\r', '\u{feff}']));
    let again = clone.tree();
    clone.ok("cluster-certs");
    clone.ok("secrets");
    assert!(again == clone.tree(), "a second run changed something");

    // What cannot be understood is named with its line.
    clone.write("deploy/nodes.toml", windows(&common::TOPOLOGY.replacen("192.0.2.2", "nowhere", 1)));
    assert!(clone.refused("secrets").contains("deploy/nodes.toml:22: "), "{}", clone.refused("secrets"));
    clone.write("deploy/nodes.toml", common::TOPOLOGY);
    clone.write(CLIENT_CA, bag(&cert.replacen("MII", "M!I", 1)));
    assert!(
        clone.refused("client-ca").contains("deploy/tls/ca.crt: line 4: not valid PEM"),
        "{}",
        clone.refused("client-ca")
    );
    openssl(&clone.root, &format!("x509 -in {} -outform DER -out {CLIENT_CA}", node_file("a", "tls/client-ca.crt")));
    assert!(clone.refused("client-ca").contains("-inform DER"));
}

#[test]
fn a_leaf_never_outlives_its_authority() {
    let clone = Clone::new();
    openssl_ca(&clone, EC_SEC1, 90);
    let done = clone.ok("cluster-certs");
    assert!(done.stdout.contains("note: deploy/tls/ca.crt expires on"), "{}", done.stdout);
    let end = |cert: &str| openssl(&clone.root, &format!("x509 -in {cert} -noout -enddate"));
    assert_eq!(end(&node_file("a", "tls/server.crt")), end(CLIENT_CA));
    let before = clone.tree();
    clone.ok("cluster-certs");
    assert!(before == clone.tree());
}

#[test]
fn the_route_authority_is_separate_and_found_again() {
    let clone = minted();
    let (crt, key) = ("deploy/out/test/cluster-ca.crt", "deploy/secrets/test/cluster-ca.key");
    // What can be made again may be removed: the key alone brings a CA back that its nodes still trust.
    fs::rename(clone.path("deploy/out"), clone.path("gone")).unwrap();
    clone.ok("cluster-certs");
    let old = "gone/test/a/tls/route.crt";
    assert_eq!(verify(&clone, crt, "sslclient", "", old).code, Some(0));
    assert_eq!(
        verify(&clone, "gone/test/cluster-ca.crt", "sslclient", "", &node_file("a", "tls/route.crt")).code,
        Some(0)
    );
    // The client CA in its place would let every client in.
    let kept = (clone.read(crt), clone.read(key));
    clone.write(crt, clone.read(CLIENT_CA));
    let said = clone.refused("cluster-certs");
    assert!(
        said.contains("deploy/secrets/test/cluster-ca.key is not the key of deploy/out/test/cluster-ca.crt"),
        "{said}"
    );
    clone.write(key, clone.read(K));
    assert!(clone.refused("cluster-certs").contains("hold the same CA"));
    clone.write(crt, &kept.0);
    clone.write(key, &kept.1);
    clone.ok("cluster-certs");
    fs::remove_file(clone.path(key)).unwrap();
    let said = clone.refused("cluster-certs");
    assert!(said.contains("cluster-ca.key is missing") && said.contains("--force"), "{said}");
}

#[test]
fn a_new_route_authority_must_be_meant() {
    let clone = minted();
    let old = clone.read(ROUTE_CA);
    let said = clone.refused("cluster-certs --force");
    assert!(said.contains("--force --force") && said.contains("--rotate") && said.contains("a, b, c"), "{said}");
    assert!(clone.ok("cluster-certs --help").stdout.contains("--force"));
    let servers = clone.read(&node_file("a", "tls/server.crt"));
    let done = clone.ok("cluster-certs --force --force");
    assert!(done.stdout.contains("a new route CA, as forced"), "{}", done.stdout);
    assert_ne!(old, clone.read(ROUTE_CA));
    assert_eq!(servers, clone.read(&node_file("a", "tls/server.crt")), "the data plane has nothing to do with it");
    for node in NODES {
        let route = node_file(node, "tls/route.crt");
        assert_eq!(verify(&clone, ROUTE_CA, "sslclient", "", &route).code, Some(0));
        assert_eq!(clone.read(&node_file(node, "tls/cluster-ca.crt")), clone.read(ROUTE_CA));
    }
    // Where no node has one yet, once is enough; and with nothing at all it is a usual first run.
    for node in NODES {
        fs::remove_file(clone.path(&node_file(node, "tls/route.crt"))).unwrap();
    }
    clone.ok("cluster-certs --force");
    Clone::new().refused("cluster-certs --force");
}

/// Runs a verb where no file may grow beyond half a kilobyte.
fn cramped(clone: &Clone, verb: &str) -> Done {
    // With the signal ignored the write itself fails, as on a full disk.
    clone.shell(&[], &format!("trap '' XFSZ; ulimit -f 1; exec \"$0\" {verb}"))
}

#[test]
fn a_full_disk_leaves_no_half_file() {
    for verb in ["client-ca", "cluster-certs"] {
        let clone = Clone::new();
        if verb == "cluster-certs" {
            clone.ok("client-ca");
        }
        let before = clone.tree();
        let done = cramped(&clone, verb);
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains("writing deploy/") && done.stderr.contains("File too large"), "{done:?}");
        assert!(before == clone.tree(), "{verb} left something behind: {done:?}");
        clone.ok(verb);
    }
}

#[test]
fn a_disk_that_fills_up_half_way_changes_nothing() {
    // A file system of its own, with room for a few files.
    let clone = Clone::new();
    clone.ok("client-ca");
    fs::create_dir(clone.path("deploy/out")).unwrap();
    let script = "mount -t tmpfs -o size=40k tmpfs deploy/out && \"$0\" cluster-certs; code=$?; \
                  find deploy/out deploy/secrets -mindepth 1 2>/dev/null; exit $code";
    let done = clone.shell(own_mounts(), script);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("No space left on device") && done.stderr.contains("deploy/out/test/"), "{done:?}");
    assert_eq!(done.stdout, "", "left behind");
}

#[test]
fn two_at_once_do_not_mix() {
    let clone = Clone::new();
    clone.ok("client-ca");
    let running: Vec<_> = (0..4).map(|_| clone.command(["cluster-certs"]).spawn().unwrap()).collect();
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    let before = clone.tree();
    clone.ok("cluster-certs");
    assert!(before == clone.tree());
    for node in NODES {
        assert_eq!(verify(&clone, ROUTE_CA, "sslclient", "", &node_file(node, "tls/route.crt")).code, Some(0));
    }
}

#[test]
fn three_nodes_from_nothing_take_no_time() {
    // A busy machine makes a process slower in this, too, so one good run is the proof.
    let mut seen = Vec::new();
    for _ in 0..10 {
        let clone = Clone::new();
        clone.ok("client-ca");
        let begun = Instant::now();
        let done = clone.shell(&[], "\"$0\" cluster-certs > /dev/null && times");
        let (took, computed) = (begun.elapsed(), of_children(&done.stdout));
        assert!(done.code == Some(0) && clone.path(ROUTE_CA).is_file(), "{done:?}");
        if computed < ALL_NODES_WITHIN && took < WAITING_INCLUDED {
            return;
        }
        seen.push((computed, took));
    }
    panic!("{seen:?}");
}

/// The time that a shell's children have computed, out of what its `times` says of itself and of them.
fn of_children(times: &str) -> Duration {
    let seconds = |time: &str| {
        let (minutes, seconds) = time.strip_suffix('s').unwrap().split_once('m').unwrap();
        60.0 * minutes.parse::<f64>().unwrap() + seconds.parse::<f64>().unwrap()
    };
    Duration::from_secs_f64(times.lines().nth(1).unwrap().split_whitespace().map(seconds).sum())
}
