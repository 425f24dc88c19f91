//! What is answered without a signature.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::http::StatusCode;
use bytes::Bytes;

use super::call::Reply;
use super::document;
use super::metrics::CONTENT_TYPE;
use super::problem::Problem;
use super::shared::Shared;

/// Type of a text for people.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// Whether the daemon answers.
pub(super) async fn livez() -> Result<Reply, Problem> {
    Ok(Reply::text(TEXT, "ok\n"))
}

/// Whether the node can prove that its view is current.
pub(super) async fn healthz(shared: Arc<Shared>, local: bool) -> Result<Reply, Problem> {
    let (healthy, mut words) = shared.observer.health();
    // Whoever is on the machine may see the whole posture; the network sees four words.
    if local
        && let (Some(map), Ok(posture)) = (words.as_object_mut(), serde_json::to_value(shared.observer.posture().await))
    {
        map.insert("posture".to_owned(), posture);
    }
    // No refusal: whoever asks is told what he asked for.
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(Reply::json(&words)?.status(status))
}

/// The description of the API; made once, because everybody may ask.
pub(super) async fn openapi() -> Result<Reply, Problem> {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    if TEXT.get().is_none() {
        // Whoever comes at the same moment makes the same.
        let _ = TEXT.set(document::text()?.into());
    }
    Ok(Reply::text("application/json", TEXT.get().cloned().unwrap_or_default()))
}

/// The counters.
pub(super) async fn metrics(shared: Arc<Shared>) -> Result<Reply, Problem> {
    let (gate, now) = (&shared.gate, Instant::now());
    // What is begun and never ends would show here: for each client, watch or request there is one.
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let text = shared.metrics.text(gate.lease_valid(now), gate.lease_age(now), gate.admitted().len(), tasks);
    Ok(Reply::text(CONTENT_TYPE, text))
}
