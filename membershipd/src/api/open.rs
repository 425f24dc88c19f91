//! What is answered without a signature.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;

use super::call::Reply;
use super::document;
use super::metrics::CONTENT_TYPE;
use super::problem::Problem;
use super::shared::Shared;

/// Whether the daemon answers.
pub(super) async fn livez() -> Result<Reply, Problem> {
    Ok(Reply::text("text/plain; charset=utf-8", "ok\n"))
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

/// The description of the API.
pub(super) async fn openapi() -> Result<Reply, Problem> {
    Ok(Reply::text("application/json", document::text()?))
}

/// The counters.
pub(super) async fn metrics(shared: Arc<Shared>) -> Result<Reply, Problem> {
    let (gate, now) = (&shared.gate, Instant::now());
    let text = shared.metrics.text(gate.lease_valid(now), gate.lease_age(now), gate.admitted().len());
    Ok(Reply::text(CONTENT_TYPE, text))
}
