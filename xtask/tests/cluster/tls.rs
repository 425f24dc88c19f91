//! Certificates in use, as openssl and curl see them.

use std::process::{Command, Stdio};

use super::harness::{Cluster, NODES, Shared, said};

/// Status code and body of a request to a node's API, by curl.
pub(crate) fn curl(cluster: &Cluster, node: &str, path: &str) -> String {
    let url = format!("https://{}:8470{path}", cluster.address(node));
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "15", "--write-out", "\n%{http_code}", "--cacert"])
        .arg(cluster.ca())
        .arg(url)
        .output()
        .expect("curl is missing; remedy: apt-get install curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = text.rsplit_once('\n').unwrap_or_else(|| panic!("{}", said(&output)));
    format!("{code} {body}")
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is missing; remedy: apt-get install openssl");
    said(&output)
}

#[test]
fn only_certificates_of_the_route_ca_open_the_route_port() {
    let cluster = Shared::cluster();
    let file = |path: &str| cluster.state.join(path).to_str().unwrap().to_owned();
    let (cert, key) = (file("self.crt"), file("self.key"));
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    openssl(
        &[&["req", "-x509", "-days", "2", "-subj", "/CN=intruder"], &curve[..], &["-keyout", &key, "-out", &cert]]
            .concat(),
    );
    // A port that takes a certificate waits 5 s for the password; so all are asked at once.
    std::thread::scope(|scope| {
        for node in NODES {
            let (cluster, intruder) = (&*cluster, [&cert, &key]);
            scope.spawn(move || only_its_own_open_the_route_port_of(cluster, node, intruder));
        }
    });
}

fn only_its_own_open_the_route_port_of(cluster: &Cluster, node: &str, intruder: [&String; 2]) {
    let file = |path: &str| cluster.state.join(path).to_str().unwrap().to_owned();
    let address = cluster.address(node);
    let (client_ca, route_ca) = (file("tls/ca.crt"), file(&format!("nodes/{node}/tls/cluster-ca.crt")));
    let server = file(&format!("nodes/{node}/tls/server.crt"));
    for ip in ["127.0.0.1", &address.to_string()] {
        let verified = openssl(&["verify", "-purpose", "sslserver", "-verify_ip", ip, "-CAfile", &client_ca, &server]);
        assert!(verified.starts_with("exit Some(0)"), "{verified}");
    }
    assert!(!openssl(&["verify", "-CAfile", &route_ca, &server]).starts_with("exit Some(0)"));

    assert!(curl(cluster, node, "/healthz").starts_with("200"), "{node}");

    let foreign = |name: &str, cert: &str, key: &str| {
        let refused = routed(cluster, node, cert, key);
        assert!(!refused, "the route port of {node} took {name}");
    };
    foreign("a certificate of the client CA", &server, &file(&format!("nodes/{node}/tls/server.key")));
    foreign("a self-signed certificate", intruder[0], intruder[1]);
    let route = (file(&format!("nodes/{node}/tls/route.crt")), file(&format!("nodes/{node}/tls/route.key")));
    assert!(routed(cluster, node, &route.0, &route.1), "the route port of {node} refused its own certificate");
}

/// Whether a route port completes a TLS handshake with this client certificate: then, and only then, it introduces itself.
pub(crate) fn routed(cluster: &Cluster, node: &str, cert: &str, key: &str) -> bool {
    let address = format!("{}:6250", cluster.address(node));
    let ca = cluster.node(node).join("tls/cluster-ca.crt");
    // It stays until the engine closes: at once for a bad certificate, else when no password came in time.
    let said = openssl(&[
        "s_client",
        "-connect",
        &address,
        "-cert",
        cert,
        "-key",
        key,
        "-CAfile",
        ca.to_str().unwrap(),
        "-verify_return_error",
        "-quiet",
        "-ign_eof",
    ]);
    said.contains("INFO {")
}
