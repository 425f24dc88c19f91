//! A connection on which a daemon hears what members say: it takes no headers, and does nothing but hear.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use futures::StreamExt;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::codec::FramedRead;

use super::wire::{Said, Wire};
use unibus_core::bus;
use unibus_store::link::Engine;

/// Silence after which the engine counts as gone: it asks for a sign of life more often than that.
const SILENCE: Duration = Duration::from_secs(60);
/// Longest description that an engine may send of itself before TLS.
const DESCRIPTION: usize = 64 << 10;
/// What is read at once, at least: a burst is taken in few pieces.
const BUFFER: usize = 256 << 10;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Something that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where.
    pub subject: String,
    /// What.
    pub payload: Bytes,
}

/// The connection.
pub struct Listener {
    said: FramedRead<ReadHalf<Box<dyn Stream>>, Wire>,
    write: WriteHalf<Box<dyn Stream>>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

/// What an engine says about itself, as far as it matters.
#[derive(Deserialize)]
struct Description {
    nonce: Option<String>,
}

impl Listener {
    /// Connects to `engine` among the members, and hears all that is said on `subjects` from the moment this returns.
    ///
    /// # Errors
    /// The engine cannot be reached, does not admit the daemon, or does not answer within [`bus::ASK`].
    pub async fn connect(engine: &Engine<'_>, subjects: &[String]) -> Result<Self> {
        let connected = timeout(bus::ASK, Self::connect_once(engine, subjects)).await;
        let at = || format!("cannot listen to what members say at the engine at {}", engine.address);
        connected.context("it did not answer in time").flatten().with_context(at)
    }

    async fn connect_once(engine: &Engine<'_>, subjects: &[String]) -> Result<Self> {
        let mut tcp = TcpStream::connect(engine.address).await?;
        tcp.set_nodelay(true)?;
        let description = first_line(&mut tcp).await?;
        let description = description.strip_prefix("INFO ").context("it is no engine")?;
        let Description { nonce } = serde_json::from_str(description).context("its description is not understood")?;
        let nonce = nonce.context("it asks for no signature")?;
        let stream: Box<dyn Stream> = match engine.ca {
            Some(ca) => Box::new(secured(tcp, engine.address, ca).await?),
            None => Box::new(tcp),
        };
        let hello = json!({
            "verbose": false,
            "pedantic": false,
            // What this connection is for: members' headers stay away from it.
            "headers": false,
            "no_responders": false,
            "echo": false,
            "tls_required": engine.ca.is_some(),
            "nkey": engine.bus.public_key(),
            "sig": BASE64URL_NOPAD.encode(&engine.bus.sign(nonce.as_bytes())?),
            "name": "membershipd keeper",
            "lang": "rust",
            "version": env!("CARGO_PKG_VERSION"),
            "protocol": 1,
        });
        let mut order = format!("CONNECT {hello}\r\n");
        for (subject, number) in subjects.iter().zip(1..) {
            order.push_str(&format!("SUB {subject} {number}\r\n"));
        }
        order.push_str("PING\r\n");
        let (read, write) = tokio::io::split(stream);
        let mut listener = Self { said: FramedRead::with_capacity(read, Wire::default(), BUFFER), write };
        listener.write.write_all(order.as_bytes()).await?;
        listener.write.flush().await?;
        // It has taken the subscriptions once it answers what came after them.
        loop {
            match listener.next_said().await? {
                Said::Pong => return Ok(listener),
                Said::Error(why) => bail!("it said: {why}"),
                _ => {}
            }
        }
    }

    async fn next_said(&mut self) -> Result<Said> {
        let said = timeout(SILENCE, self.said.next()).await.context("the engine is silent")?;
        let said = said.context("the engine closed the connection")??;
        if said == Said::Ping {
            self.write.write_all(b"PONG\r\n").await?;
            self.write.flush().await?;
        }
        Ok(said)
    }

    /// The next message.
    ///
    /// # Errors
    /// The connection ended. What is said from then on is not heard by it.
    pub async fn next(&mut self) -> Result<Message> {
        loop {
            match self.next_said().await? {
                Said::Message { subject, payload } => return Ok(Message { subject, payload }),
                // Also that it could not keep up; the engine closes the connection then.
                Said::Error(why) => bail!("the engine said: {why}"),
                Said::Info(_) | Said::Ping | Said::Pong | Said::Ok => {}
            }
        }
    }
}

/// The line that an engine sends before anything else, in clear. Nothing after it is read: TLS may come next.
async fn first_line(tcp: &mut TcpStream) -> Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        anyhow::ensure!(line.len() < DESCRIPTION, "its description does not end");
        line.push(tcp.read_u8().await?);
    }
    Ok(String::from_utf8(line)?.trim_end().to_owned())
}

async fn secured(tcp: TcpStream, address: SocketAddr, ca: &Path) -> Result<impl Stream + use<>> {
    let connector = TlsConnector::from(Arc::new(unibus_tls::trusting(ca)?));
    Ok(connector.connect(ServerName::IpAddress(address.ip().into()), tcp).await?)
}
