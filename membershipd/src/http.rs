//! HTTPS on every node: liveness and health.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;

use crate::clock;
use crate::config::TlsFiles;
use crate::posture::Observer;

/// Time for a client to complete its TLS handshake and send its request's head.
const PATIENCE: Duration = Duration::from_secs(10);

/// The listener of the control plane, bound but not yet served.
pub struct Api {
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    files: Option<TlsFiles>,
    router: Router,
}

impl Api {
    /// Binds the API's address.
    pub fn bind(observer: Observer) -> Result<Self> {
        let config = observer.config.clone();
        let address = SocketAddr::new(config.bind, config.ports.api);
        let listener = TcpListener::bind(address)
            .with_context(|| format!("cannot listen on {address} for the API (--bind, --api-port)"))?;
        listener.set_nonblocking(true)?;
        let tls = match &config.tls {
            Some(files) => Some(RustlsConfig::from_config(
                files.server_config().with_context(|| format!("cannot serve the API with {}", files.cert.display()))?,
            )),
            None => None,
        };
        let router = Router::new().route("/livez", get(livez)).route("/healthz", get(healthz)).with_state(observer);
        Ok(Self { listener, tls, files: config.tls.clone(), router })
    }

    /// The means to renew the certificate; none without TLS.
    pub fn renewal(&self) -> Option<Renewal> {
        let files = self.files.clone()?;
        Some(Renewal { files, tls: self.tls.clone()? })
    }

    /// Serves until `handle` shuts it down.
    pub async fn serve(self, handle: Handle<SocketAddr>) -> Result<()> {
        let service = self.router.into_make_service_with_connect_info::<SocketAddr>();
        let served = match self.tls {
            Some(tls) => {
                let mut server = axum_server::from_tcp_rustls(self.listener, tls)?.handle(handle);
                server = server.map(|acceptor| acceptor.handshake_timeout(PATIENCE));
                server.first_request_timeout(PATIENCE).serve(service).await
            }
            None => {
                axum_server::from_tcp(self.listener)?
                    .handle(handle)
                    .first_request_timeout(PATIENCE)
                    .serve(service)
                    .await
            }
        };
        served.context("the API stopped")
    }
}

/// Renews the API's certificate. Connections that stand are not touched: the new certificate is for new ones. The engine's
/// changes only when it is started anew: told to reload, it would drop every client that the callout admitted.
#[derive(Debug)]
pub struct Renewal {
    files: TlsFiles,
    tls: RustlsConfig,
}

impl Renewal {
    /// Takes the files as they are now. Where they do not fit together the certificate in use stays.
    pub fn renew(&self, now_unix: i64) -> Result<()> {
        let files = self.files.again(now_unix)?;
        self.tls.reload_from_config(files.server_config()?);
        let ends = clock::rfc3339(files.not_after_unix);
        tracing::info!(file = %files.cert.display(), ends, "the API uses its certificate files as they are now");
        Ok(())
    }
}

async fn livez() -> &'static str {
    "ok\n"
}

async fn healthz(State(observer): State<Observer>, ConnectInfo(peer): ConnectInfo<SocketAddr>) -> Response {
    let (healthy, words) = observer.health();
    let code = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // Whoever is on the machine may see the whole posture; the network sees four words.
    if peer.ip().to_canonical().is_loopback() {
        let mut body = words;
        if let (Some(map), Ok(posture)) = (body.as_object_mut(), serde_json::to_value(observer.posture().await)) {
            map.insert("posture".to_owned(), posture);
        }
        return (code, Json(body)).into_response();
    }
    (code, Json(words)).into_response()
}
