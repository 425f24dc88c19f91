//! A user that speaks the engine's protocol itself, so that it can send what no library does.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use unibus_client::identity::Identity;

use super::Daemon;

/// Port of an engine for clients.
const PORT: u16 = 4250;

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// What a client does over TLS that trusts this CA alone.
pub fn trusting(ca: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// A connection of a user to an engine.
pub struct Wire(Box<dyn Stream>);

impl Wire {
    /// To the engine of `daemon`; over TLS where a CA is trusted for it.
    pub fn connect(daemon: &Daemon, who: &Identity, ca: Option<&Path>) -> Self {
        Self::try_connect(daemon, who, ca).unwrap()
    }

    /// The same; what the engine says where it does not let the user in.
    pub fn try_connect(daemon: &Daemon, who: &Identity, ca: Option<&Path>) -> Result<Self, String> {
        let mut wire = Self::begin(daemon, who, ca);
        wire.settled().map(|_| wire)
    }

    /// Says who it is, and does not wait for the answer.
    pub fn begin(daemon: &Daemon, who: &Identity, ca: Option<&Path>) -> Self {
        let mut tcp = TcpStream::connect((daemon.address, PORT)).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (mut line, mut byte) = (Vec::new(), [0]);
        while byte != *b"\n" {
            tcp.read_exact(&mut byte).unwrap();
            line.extend(byte);
        }
        let info: Value = serde_json::from_slice(&line[5..]).unwrap();
        let stream: Box<dyn Stream> = match ca {
            None => Box::new(tcp),
            Some(ca) => {
                let config = trusting(ca);
                Box::new(StreamOwned::new(ClientConnection::new(config, daemon.address.into()).unwrap(), tcp))
            }
        };
        let pair = KeyPair::from_seed(who.nkey_seed()).unwrap();
        let sig = BASE64URL_NOPAD.encode(&pair.sign(info["nonce"].as_str().unwrap().as_bytes()).unwrap());
        let hello = json!({
            "verbose": false, "headers": true, "nkey": pair.public_key(), "sig": sig, "lang": "x", "version": "0",
        });
        let mut wire = Self(stream);
        write!(wire.0, "CONNECT {hello}\r\n").unwrap();
        wire.0.flush().unwrap();
        wire
    }

    /// What the engine says until it closes the connection, which it must within the patience of a read.
    pub fn until_closed(&mut self) -> String {
        let (mut said, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            match self.0.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => said.extend_from_slice(&piece[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("still open: {}", String::from_utf8_lossy(&said));
                }
                // tokio handles SIGCHLD in this process, and a read with a time-out is not restarted after a signal (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A connection that is cut within TLS ends without a word of TLS.
                Err(_) => break,
            }
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Sends these bytes as they are. Whether the engine takes them `settled` says.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// The same; whether the connection is there still, as far as can be known without reading anything.
    pub fn takes(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Publishes these bytes, the first part of which the engine takes for headers.
    pub fn publish(&mut self, subject: &str, headers: &[u8], payload: &[u8]) {
        let (head, all) = (headers.len(), headers.len() + payload.len());
        write!(self.0, "HPUB {subject} {head} {all}\r\n").unwrap();
        let parts = [headers, payload, b"\r\n"];
        self.0.write_all(&parts.concat()).unwrap();
    }

    /// Waits until the engine has taken all that was sent. Fails where it closed the connection.
    pub fn settle(&mut self) {
        self.settled().unwrap();
    }

    /// The same; what the engine said until then, also where it closed the connection.
    pub fn settled(&mut self) -> Result<String, String> {
        let (mut said, mut piece) = (Vec::new(), [0; 4096]);
        let text = |said: &[u8]| String::from_utf8_lossy(said).into_owned();
        if let Err(error) = self.0.write_all(b"PING\r\n").and_then(|()| self.0.flush()) {
            return Err(error.to_string());
        }
        while !said.windows(6).any(|part| part == b"PONG\r\n") {
            match self.0.read(&mut piece) {
                Ok(0) => return Err(text(&said)),
                Ok(count) => said.extend_from_slice(&piece[..count]),
                Err(error) => return Err(format!("{error}: {}", text(&said))),
            }
        }
        // Who leaves the engine's own questions open is taken for gone after a minute.
        for _ in said.windows(6).filter(|part| part == b"PING\r\n") {
            self.send(b"PONG\r\n");
        }
        Ok(text(&said))
    }
}
