//! One request at the nodes: which is asked when, and which answer counts.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use http::Response;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy;

use super::error::{ClientError, Refused, Tried};
use super::explain::explain;
use super::race::Race;
use super::url::NodeUrl;
use super::{Answered, Client, Wire};
use unibus_api_types::limits::LIVEZ;
use unibus_core::clock;

/// Time for a node to say that it is there.
const PROBE: Duration = Duration::from_secs(10);
/// How long a node that has answered counts as one that answers.
const FRESH: Duration = Duration::from_secs(5);

/// An answer of which the body is still to come.
type Head = Response<BoxBody<Bytes, String>>;

/// Why there is no answer.
struct Failed {
    /// Whether the node may have got the request.
    sent: bool,
    /// Whether another attempt, later, may go better.
    passes: bool,
    why: String,
}

impl Client {
    /// Asks `nodes`, until `read` understands an answer.
    pub(super) async fn ask_once<T>(
        &self,
        nodes: Vec<&NodeUrl>,
        request: &Wire<'_>,
        read: &impl Fn(Bytes) -> Result<T, String>,
    ) -> Result<T, ClientError> {
        if request.changes() { self.write(nodes, request, read).await } else { self.read(nodes, request, read).await }
    }

    /// Asks one of `nodes`, and where it is silent the next one beside it. The first good answer counts.
    async fn read<T>(
        &self,
        nodes: Vec<&NodeUrl>,
        request: &Wire<'_>,
        read: &impl Fn(Bytes) -> Result<T, String>,
    ) -> Result<T, ClientError> {
        let attempts = nodes.into_iter().map(|node| async move { (node, self.begin(node, request).await) }.boxed());
        let (mut race, mut tried) = (Race::of(attempts), Tried::default());
        while let Some((node, begun)) = race.next().await {
            let outcome = match begun {
                Ok(head) => self.finish(node, head, request, read).await,
                Err(failed) => Err(failed),
            };
            match outcome {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(refused)) if refused.elsewhere() => {
                    tried.note(node, false, refused.passes(), refused.to_string())
                }
                Ok(Err(refused)) => return Err(ClientError::Refused(Box::new(refused))),
                Err(failed) => tried.note(node, false, failed.passes, failed.why),
            }
        }
        Err(ClientError::Nobody(tried))
    }

    /// Sends a change to one of `nodes` that answers, and to the next one only when it is known what the first one says.
    async fn write<T>(
        &self,
        mut nodes: Vec<&NodeUrl>,
        request: &Wire<'_>,
        read: &impl Fn(Bytes) -> Result<T, String>,
    ) -> Result<T, ClientError> {
        let mut tried = Tried::default();
        while let Some(node) = self.one_that_answers(&mut nodes, &mut tried).await {
            let outcome = match self.begin(node, request).await {
                Ok(head) => self.finish(node, head, request, read).await,
                Err(failed) => Err(failed),
            };
            match outcome {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(refused)) if refused.elsewhere() => {
                    tried.note(node, refused.leaves_open(), refused.passes(), refused.to_string());
                }
                // It may be our own change that is in the way.
                Ok(Err(refused)) if tried.open && refused.is_stale() => {
                    tried.note(node, true, false, refused.to_string());
                }
                Ok(Err(refused)) => return Err(ClientError::Refused(Box::new(refused))),
                Err(failed) => tried.note(node, failed.sent, failed.passes, failed.why),
            }
        }
        Err(if tried.open { ClientError::Unknown(tried) } else { ClientError::Nobody(tried) })
    }

    /// Takes one of `nodes` out that answers now; none: none does. Those that do not are noted, and taken out as well.
    async fn one_that_answers<'a>(&self, nodes: &mut Vec<&'a NodeUrl>, tried: &mut Tried) -> Option<&'a NodeUrl> {
        let answered = match self.answered().as_ref() {
            Some(Answered { node, at }) if at.elapsed() < FRESH => nodes.iter().position(|other| *other == node),
            _ => None,
        };
        if let Some(at) = answered {
            return Some(nodes.remove(at));
        }
        let attempts = nodes.iter().copied().map(|node| async move { (node, self.probe(node).await) }.boxed());
        let mut race = Race::of(attempts);
        while let Some((node, outcome)) = race.next().await {
            nodes.retain(|other| *other != node);
            match outcome {
                Ok(()) => return Some(node),
                Err(failed) => tried.note(node, false, failed.passes, failed.why),
            }
        }
        None
    }

    /// Asks a node for any answer at all. That costs it nothing, and nothing is changed by it.
    async fn probe(&self, node: &NodeUrl) -> Result<(), Failed> {
        let unsent = |why: String| Failed { sent: false, passes: false, why };
        let uri = node.uri(LIVEZ).map_err(|error| unsent(error.to_string()))?;
        let message = http::Request::builder().uri(uri).body(Full::default());
        let head = self.send(node, message.map_err(|error| unsent(error.to_string()))?, PROBE).await?;
        // Taken as a whole, so that the connection is there for what comes next.
        let _ = tokio::time::timeout(PROBE, Limited::new(head.into_body(), 4 << 10).collect()).await;
        Ok(())
    }

    /// Sends a request, and waits until its answer begins.
    async fn begin(&self, node: &NodeUrl, request: &Wire<'_>) -> Result<Head, Failed> {
        let unsent = |why: String| Failed { sent: false, passes: false, why };
        let message = self.message(node, request).map_err(|error| unsent(format!("{error:#}")))?;
        self.send(node, message, request.patience).await
    }

    async fn send(
        &self,
        node: &NodeUrl,
        message: http::Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<Head, Failed> {
        let head = tokio::time::timeout(patience, self.http.request(message)).await;
        let head = head.map_err(|_| Failed::late(patience))?.map_err(|error| Failed::of(&error))?;
        *self.answered() = Some(Answered { node: node.clone(), at: Instant::now() });
        Ok(head.map(|body| body.map_err(|error| chain(&error)).boxed()))
    }

    /// Takes the rest of an answer, and reads it.
    async fn finish<T>(
        &self,
        node: &NodeUrl,
        head: Head,
        request: &Wire<'_>,
        read: &impl Fn(Bytes) -> Result<T, String>,
    ) -> Result<Result<T, Refused>, Failed> {
        let (status, fields) = (head.status(), head.headers().clone());
        let body = tokio::time::timeout(request.patience, Limited::new(head.into_body(), request.most).collect());
        let body = body.await.map_err(|_| Failed::late(request.patience))?;
        let broken = |error| Failed { sent: true, passes: true, why: format!("the answer broke off: {error}") };
        let body = body.map_err(broken)?.to_bytes();
        if status.is_success() {
            return read(body).map(Ok).map_err(|why| Failed { sent: true, passes: false, why });
        }
        let document = serde_json::from_slice(&body).unwrap_or_default();
        let refused = Refused::read(node, request.target, status, document);
        let explanation = explain(&refused.slug, node, &fields, clock::unix());
        Ok(Err(refused.explained(explanation)))
    }
}

impl Failed {
    fn late(patience: Duration) -> Self {
        Self { sent: true, passes: true, why: format!("no answer within {} s", patience.as_secs()) }
    }

    fn of(error: &legacy::Error) -> Self {
        Self { sent: !error.is_connect(), passes: !is_of_tls(error), why: chain(error) }
    }
}

/// An error with its causes; the first alone only says that there was one.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |error| (**error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Whether it is about certificates: no patience mends that.
fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>()
        || within.is_some_and(|within| is_of_tls(within))
        || error.source().is_some_and(is_of_tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_for_what_may_pass() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let tls = || rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls()));
        assert!(!is_of_tls(&refused) && is_of_tls(&tls()) && is_of_tls(&wrapped));
    }
}
