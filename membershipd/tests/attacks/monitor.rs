//! The engine's monitor, which would tell every user of the machine who is connected, and more.

use std::net::TcpStream;

use serde_json::json;

use crate::common::nats::ask_engine;
use crate::common::{Daemon, own_address};

#[test]
fn no_port_tells_users_of_the_machine_who_is_connected() {
    let address = own_address();
    let dir = crate::common::Dir::new();
    dir.write_secrets();
    // As settings of release 0.1.0 have it.
    let monitor = format!("{address}:8250");
    let daemon = Daemon::launch(dir, address, &["--secrets-dir", "secrets", "--monitor", &monitor]);
    daemon.wait_for_lease();
    assert!(TcpStream::connect((address, 4250)).is_ok(), "the engine listens");
    assert!(TcpStream::connect((address, 8250)).is_err(), "the engine has a monitor");
    // What it would tell, by its own word: no port for it, over HTTP or HTTPS.
    let options = ask_engine(&daemon, "VARZ", &json!({}));
    assert_eq!((options["port"].as_u64(), options["http_port"].as_u64()), (Some(4250), Some(0)), "{options}");
    assert_eq!(options["https_port"].as_u64(), Some(0), "{options}");
}
