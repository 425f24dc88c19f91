//! HTTPS on every node: the listener, its limits, its certificate.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use axum::Router;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Handle, Server};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::entrance;
use super::limits;
use super::malformed::Refusals;
use super::shared::Shared;
use crate::blobs::Blobs;
use crate::commands::Commands;
use crate::config::TlsFiles;
use crate::history::Histories;
use crate::peers::Peers;
use unibus_core::clock;

/// Connections that may wait to be accepted; the system may have a lower bound.
const BACKLOG: i32 = 4096;

/// The API of a node, bound but not yet served.
#[derive(Debug)]
pub struct Api {
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    shared: Arc<Shared>,
    router: Router,
}

impl Api {
    /// Binds the API's address.
    pub fn bind(peers: Peers, commands: Arc<Commands>, histories: Histories, blobs: Blobs) -> Result<Self> {
        let config = peers.observer().config.clone();
        let address = SocketAddr::new(config.bind, config.ports.api);
        let listener =
            listen(address).with_context(|| format!("cannot listen on {address} for the API (--bind, --api-port)"))?;
        listener.set_nonblocking(true)?;
        let tls = match &config.tls {
            Some(files) => Some(RustlsConfig::from_config(
                files.server_config().with_context(|| format!("cannot serve the API with {}", files.cert.display()))?,
            )),
            None => None,
        };
        let shared = Arc::new(Shared::new(peers, commands, histories, blobs, Instant::now()));
        Ok(Self { listener, tls, router: entrance::router(shared.clone()), shared })
    }

    /// The means to renew the certificate; none without TLS.
    pub fn renewal(&self) -> Option<Renewal> {
        let files = self.shared.observer.config.tls.clone()?;
        Some(Renewal { files, tls: self.tls.clone()?, shared: self.shared.clone() })
    }

    /// Serves until `handle` shuts it down, and what is under way is done, also for clients that have gone away.
    pub async fn serve(self, handle: Handle<SocketAddr>) -> Result<()> {
        let shared = self.shared;
        let service = self.router.into_make_service_with_connect_info::<SocketAddr>();
        let server = limited(axum_server::from_tcp(self.listener)?.handle(handle));
        let connections = shared.connections.clone();
        let served = match self.tls {
            Some(tls) => {
                let tls = RustlsAcceptor::new(tls).handshake_timeout(limits::HEAD_TIME).acceptor(connections);
                server.acceptor(Refusals::new(tls, shared.clone())).serve(service).await
            }
            None => server.acceptor(Refusals::new(connections, shared.clone())).serve(service).await,
        };
        served.context("the API stopped")?;
        futures::join!(shared.requests.all_free(), shared.newcomer_requests.all_free());
        shared.commands.journal().sum_up(true).await;
        Ok(())
    }
}

/// Listens at `address`. Any address of IPv6 takes IPv4 as well, whatever this machine's usual is (`net.ipv6.bindv6only`), as the engine
/// does: the daemon itself comes by 127.0.0.1.
fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    if !(address.is_ipv6() && address.ip().is_unspecified()) {
        return TcpListener::bind(address);
    }
    let socket = net::socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// With bounds on what is read of a head, and on the time for it. HTTP/1.1 alone: its connection carries one request at a time.
fn limited(server: Server<SocketAddr>) -> Server<SocketAddr> {
    let mut server =
        server.http1_only().first_request_timeout(limits::HEAD_TIME).accept_error_handler(|peer, error| {
            match peer {
                // Handshakes that fail, and connections beyond the limits: whoever wants to fill the log could.
                Some(peer) => tracing::debug!(%peer, "connection to the API refused: {error}"),
                None => tracing::warn!("the API cannot accept connections: {error}"),
            }
        });
    server
        .http_builder()
        .http1()
        .max_buf_size(limits::HEAD_BYTES)
        .max_headers(limits::HEAD_FIELDS)
        .header_read_timeout(limits::NEXT_HEAD_TIME);
    server
}

/// Renews the API's certificate. Connections that stand are not touched: the new certificate is for new ones. The engine's
/// changes only when it is started anew: told to reload, it would drop every client that the callout admitted.
#[derive(Debug)]
pub struct Renewal {
    files: TlsFiles,
    tls: RustlsConfig,
    shared: Arc<Shared>,
}

impl Renewal {
    /// Takes the files as they are now. Where they do not fit together the certificate in use stays.
    pub fn renew(&self, now_unix: i64) -> Result<()> {
        let files = self.files.again(now_unix)?;
        self.tls.reload_from_config(files.server_config()?);
        self.shared.names.renew(Some(&files));
        let ends = clock::rfc3339(files.not_after_unix);
        tracing::info!(file = %files.cert.display(), ends, "the API uses its certificate files as they are now");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};

    use super::*;

    #[test]
    fn any_address_of_ipv6_takes_connections_of_both_kinds() {
        let (four, six) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
        for (bind, reached) in [
            (IpAddr::from(Ipv6Addr::UNSPECIFIED), [true, true]),
            (IpAddr::from(Ipv4Addr::UNSPECIFIED), [true, false]),
            (six, [false, true]),
        ] {
            let listener = listen(SocketAddr::new(bind, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let reaches = |ip| TcpStream::connect(SocketAddr::new(ip, port)).is_ok();
            assert_eq!([reaches(four), reaches(six)], reached, "{bind}");
        }
    }
}
