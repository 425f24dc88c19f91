//! A socket as anyone can open one, for what no library sends.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use data_encoding::BASE64URL_NOPAD;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::{Value, json};

/// Time for a connection, and for each answer.
const WAIT: Duration = Duration::from_secs(3);
/// Longest greeting of an engine that is read.
const GREETING_BYTES: usize = 64 << 10;

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A connection, encrypted where the cluster is.
pub(super) struct Socket(Box<dyn Stream>);

impl Socket {
    /// To the API of a node.
    pub(super) fn to_api(at: SocketAddr, tls: Option<&ClientConfig>) -> Result<Self> {
        secured(open(at)?, at, tls)
    }

    /// To the engine of a node, as the user with this seed; it subscribes to `subject` and reads nothing of what comes.
    pub(super) fn to_engine(at: SocketAddr, tls: Option<&ClientConfig>, seed: &str, subject: &str) -> Result<Self> {
        let mut tcp = open(at)?;
        let (mut line, mut byte) = (Vec::new(), [0]);
        while byte != *b"\n" && line.len() < GREETING_BYTES {
            tcp.read_exact(&mut byte)?;
            line.extend(byte);
        }
        let info: Value = serde_json::from_slice(line.strip_prefix(b"INFO ").context("no greeting")?)?;
        let nonce = info.get("nonce").and_then(Value::as_str).context("a greeting without a nonce")?;
        let pair = nkeys::KeyPair::from_seed(seed)?;
        let sig = BASE64URL_NOPAD.encode(&pair.sign(nonce.as_bytes())?);
        let hello = json!({
            "verbose": false, "headers": true, "nkey": pair.public_key(), "sig": sig, "lang": "x", "version": "0",
        });
        let mut socket = secured(tcp, at, tls)?;
        socket.send(format!("CONNECT {hello}\r\nSUB {subject} 1\r\n").as_bytes())?;
        Ok(socket)
    }

    /// Sends these bytes, as they are.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }
}

fn open(at: SocketAddr) -> Result<TcpStream> {
    let tcp = TcpStream::connect_timeout(&at, WAIT)?;
    tcp.set_read_timeout(Some(WAIT))?;
    tcp.set_write_timeout(Some(WAIT))?;
    Ok(tcp)
}

fn secured(tcp: TcpStream, at: SocketAddr, tls: Option<&ClientConfig>) -> Result<Socket> {
    let Some(config) = tls else { return Ok(Socket(Box::new(tcp))) };
    let client = ClientConnection::new(Arc::new(config.clone()), ServerName::from(at.ip()))?;
    Ok(Socket(Box::new(StreamOwned::new(client, tcp))))
}
