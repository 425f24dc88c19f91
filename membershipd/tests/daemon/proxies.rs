//! A proxy before the API, under another name and port: real requests through one that hands on what it gets, and one that does not.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::thread;

use crate::common::requests::{API_PORT, seed_admin};
use crate::common::{Daemon, Dir, membershipd, own_address, said};

/// A proxy that hands connections on to `to`; one that `rewrites` puts the name of that in the place of its own.
fn proxy(to: SocketAddr, rewrites: bool) -> SocketAddr {
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(to) else { continue };
            let (mut from, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                // The test that asked is the one that fails.
                let _ = std::io::copy(&mut from, &mut back);
                let _ = back.shutdown(Shutdown::Both);
            });
            let rewritten = rewrites.then(|| (format!("host: {address}"), format!("host: {to}")));
            thread::spawn(move || hand_on(client, server, rewritten));
        }
    });
    address
}

/// Hands on one request's head, changed where it is to be, and then whatever comes.
fn hand_on(mut client: TcpStream, mut server: TcpStream, rewritten: Option<(String, String)>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if client.read_exact(&mut byte).is_err() {
            return;
        }
        head.extend(byte);
    }
    let mut head = String::from_utf8(head).unwrap();
    if let Some((from, to)) = rewritten {
        assert!(head.contains(&from), "{head}");
        head = head.replace(&from, &to);
    }
    let _ = server.write_all(head.as_bytes()).and_then(|()| std::io::copy(&mut client, &mut server).map(drop));
    let _ = server.shutdown(Shutdown::Write);
}

fn asks(daemon: &Daemon, at: SocketAddr) -> Output {
    let url = format!("http://{at}");
    let line = ["room", "list", "--identity", "root.toml", "--url", &url];
    membershipd(daemon.dir.path()).args(line).output().unwrap()
}

#[test]
fn refusal_behind_a_proxy_names_what_was_signed_for_and_what_the_node_is_called() {
    let daemon = Daemon::start(&[]);
    seed_admin(&daemon);
    let api = SocketAddr::new(daemon.address, API_PORT);
    let at = proxy(api, false);
    let refused = asks(&daemon, at);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    for words in
        [format!("the request is for {at}").as_str(), "this node is called", api.to_string().as_str(), "--public-names"]
    {
        assert!(said(&refused).contains(words), "{words}: {}", said(&refused));
    }
    let at = proxy(api, true);
    let refused = asks(&daemon, at);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    for words in [format!("came in for {api}").as_str(), format!("signed it for {at}").as_str(), "Host as they came"] {
        assert!(said(&refused).contains(words), "{words}: {}", said(&refused));
    }
}

#[test]
fn node_with_a_public_name_takes_what_was_signed_for_it() {
    let address = own_address();
    let api = SocketAddr::new(address, API_PORT);
    let at = proxy(api, false);
    let names = format!("bus.example.org,{at}");
    let daemon = Daemon::launch(Dir::new(), address, &["--public-names", &names]);
    daemon.wait_for_lease();
    seed_admin(&daemon);
    for at in [at, api] {
        let answered = asks(&daemon, at);
        assert!(answered.status.success(), "{at}: {}", said(&answered));
    }
}
