//! The one way in: what happens to every request, in this order.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, RawPathParams, Request, State};
use axum::http::Method;
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http_body_util::BodyExt as _;

use super::audit;
use super::body::{self, Arriving, Memory, Received};
use super::call::{Query, Reply};
use super::ended;
use super::handler::{Allowed, Refused, Rest};
use super::invites;
use super::keyed_limiter::Party;
use super::limits;
use super::origin::Origin;
use super::precondition::IfMatch;
use super::problem::Problem;
use super::routes::{self, Access, Precondition, Signed};
use super::shared::{Note, Shared, Spending};
use crate::api::problem::Refuse as _;
use crate::rate::client_of;
use unibus_api_types::bodies;
use unibus_api_types::problem::Kind;
use unibus_core::clock;
use unibus_core::domain;
use unibus_http_signature::{BodyDigest, Claim, Refusal, RequestHead, Standing, fields};

/// How a request for nothing that there is stands in the log and the metrics.
const NOWHERE: &str = "none";
/// Conditions that are not signed, and that a change must not be made without.
const UNSIGNED_CONDITIONS: [&str; 3] = ["if-none-match", "if-modified-since", "if-unmodified-since"];

/// All paths of the table, each with one way in.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let mut router = Router::new();
    for template in routes::templates() {
        let way_in = move |State(shared): State<Arc<Shared>>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request| {
            enter(shared, Some(template), peer, request)
        };
        router = router.route(template, any(way_in));
    }
    let nowhere = |State(shared): State<Arc<Shared>>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request| {
        enter(shared, None, peer, request)
    };
    router.fallback(nowhere).with_state(shared)
}

/// Answers one request to the path `template`; none: there is none.
async fn enter(shared: Arc<Shared>, template: Option<&'static str>, peer: SocketAddr, request: Request) -> Response {
    let answering = shared.connections.answering(peer);
    let peer = peer.ip();
    let route = template.unwrap_or(NOWHERE);
    let method = known(request.method());
    let origin = Origin::of(peer, request.headers(), &shared.observer.config.trusted_proxies);
    let peer = origin.as_ref().map_or(peer, |origin| origin.address);
    let mut note = Note { id: shared.next_id(), peer, route, method, key: None, proven: false, answering };
    let answered = match (origin, template) {
        (Ok(origin), Some(template)) => answer(&shared, template, origin, request, &mut note).await,
        (Ok(_), None) => limit_address(&shared, peer).and_then(|()| Err(Kind::NOT_FOUND.problem())),
        (Err(nonsense), _) => limit_address(&shared, peer).and(Err(nonsense)),
    };
    let response = match answered {
        Ok(reply) => reply.into_response(),
        Err(problem) => {
            log(&note, &problem);
            shared.metrics.refused(problem.kind.slug, problem.store);
            problem.into_response(&note.id)
        }
    };
    shared.metrics.answered(route, method, response.status().as_u16());
    let Some(answering) = note.answering else { return response };
    // Until the last of it is handed to the connection.
    response.map(|body| {
        Body::new(body.map_err(move |error| {
            let _under_way = &answering;
            error
        }))
    })
}

/// The method as a label: those that somebody made up are one.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// One line for each refusal. Neither path nor query nor body is in it: they name rooms and people.
fn log(note: &Note, problem: &Problem) {
    let key = note.key.map(|key| key.to_string()).unwrap_or_default();
    let Note { id, peer, route, method, proven, .. } = note;
    let (slug, status) = (problem.kind.slug, problem.kind.status.as_u16());
    if problem.kind.status.is_server_error() {
        let cause = problem.cause.as_deref().unwrap_or_default();
        tracing::warn!(problem = slug, status, route, method, key, proven, %peer, id, cause, "request refused");
    } else {
        // What the store says names people, too.
        let cause = problem.cause.as_deref().filter(|_| !problem.store).unwrap_or_default();
        tracing::info!(problem = slug, status, route, method, key, proven, %peer, id, cause, "request refused");
    }
}

async fn answer(
    shared: &Arc<Shared>,
    template: &'static str,
    origin: Origin,
    request: Request,
    note: &mut Note,
) -> Result<Reply, Problem> {
    let found = routes::find(template, request.method());
    match found.as_ref().map(|route| &route.access) {
        // Cheap, and asked by whoever watches the node, also while it is busy.
        Ok(Access::Open(handler)) => handler(shared.clone(), origin.local).await,
        Ok(Access::Loopback(handler)) if origin.local => handler(shared.clone(), true).await,
        Ok(Access::Loopback(_)) => Err(Kind::NOT_FOUND.problem()),
        Ok(Access::Signed(signed) | Access::Download(signed)) => {
            signed_request(shared, signed, Brought::Held, request, note).await
        }
        Ok(Access::Upload(signed)) => signed_request(shared, signed, Brought::Streamed, request, note).await,
        Ok(Access::Newcomer(_)) => newcomer_request(shared, request, note).await,
        Err(_) => {
            limit_address(shared, note.peer)?;
            found.and(Err(Kind::NOT_FOUND.problem()))
        }
    }
}

fn limit_address(shared: &Shared, peer: IpAddr) -> Result<(), Problem> {
    let limited = shared.addresses.take(&client_of(peer), Instant::now());
    limited.map_err(|wait| Kind::RATE_LIMITED.because("too many requests from this address").retry_after(wait))
}

/// How a body is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Brought {
    /// As a whole, before the nonce is spent.
    Held,
    /// By the handler, piece by piece: it is too large to be held. The handler makes nothing of it visible before all of it has the
    /// digest that was signed.
    Streamed,
}

/// A body of which nothing has been received.
enum Coming {
    /// And the length that the head names.
    Held(Option<usize>, Body),
    Streamed(Arriving),
}

/// A request that must be signed. What costs the least is looked at first, and nothing of it counts before the nonce is spent.
async fn signed_request(
    shared: &Arc<Shared>,
    signed: &'static Signed,
    brought: Brought,
    request: Request,
    note: &mut Note,
) -> Result<Reply, Problem> {
    limit_address(shared, note.peer)?;
    let (mut parts, body) = request.into_parts();
    let coming = match brought {
        Brought::Held => Coming::Held(body::declared(&body)?, body),
        Brought::Streamed => Coming::Streamed(Arriving::new(body)?),
    };

    let claim = claim(shared, &parts, note)?;
    let key = claim.key();
    shared.gate.require_lease(Instant::now())?;
    // Nothing is waited for, and nothing is taken that others need, before the head is known to be of the owner of its key.
    let proven = claim.prove_head(clock::unix(), |key| {
        shared.gate.view(|view| {
            let user = view.user_of_key(key)?;
            let active = user.state == domain::State::Active;
            Some(if active { Standing::Active(user.handle.clone()) } else { Standing::Disabled })
        })
    });
    note.proven = matches!(&proven, Ok(_) | Err(Refusal::UserDisabled));
    let proven = proven?;
    if let Some(answering) = &note.answering {
        answering.prove();
    }
    // Only now: a client that names the key of another must not use up their rate, nor any of their shares.
    let limited = shared.callers.take(&key, Instant::now());
    limited.map_err(|wait| Kind::RATE_LIMITED.because("too many requests of this key").retry_after(wait))?;
    let parties = [Party::User(proven.user().clone()), Party::at(note.peer)];
    let place = shared.requests.take(&parties, 1)?;
    let (unspent, digest, received, arriving) = match coming {
        Coming::Held(length, body) => {
            let received = body::receive(body, length, Memory::Shared(&shared.body_bytes, &parties)).await?;
            shared.gate.require_lease(Instant::now())?;
            let digest = BodyDigest::of(&received.bytes);
            (proven.with_body(digest, clock::unix())?, digest, received, None)
        }
        Coming::Streamed(arriving) => {
            let (unspent, digest) = proven.before_body();
            (unspent, digest, Received::default(), Some(arriving))
        }
    };
    unspent.spend(&Spending(shared)).await?;

    let variable = RawPathParams::from_request_parts(&mut parts, &()).await;
    let part = |name: &str| {
        let mut parts = variable.as_ref().ok()?.iter();
        parts.find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
    };
    // What is asked for may stand in the body.
    match (signed.body, brought) {
        (_, Brought::Streamed) => body::is_octets(&parts.headers)?,
        (Some(_), Brought::Held) if signed.body_is_optional() && received.bytes.is_empty() => {}
        (Some(_), Brought::Held) => body::is_json(&parts.headers)?,
        (None, Brought::Held) => body::none(&received.bytes)?,
    }
    let allowed = routes::authorize(shared, &key, signed, &part, &received.bytes, Instant::now());
    let Allowed { sha256, run, .. } = match allowed {
        Ok(allowed) => allowed,
        Err(Refused::Problem(problem)) => return Err(problem),
        Err(Refused::Denied(denied)) => {
            let problem = ended::explained(shared, &denied).await;
            // A client that tries to change what it may not is worth a record; one that looks for it is not.
            if !parts.method.is_safe() {
                audit::denied(shared, *denied, note.peer).await;
            }
            return Err(problem);
        }
    };
    // Known before any of it is read: what is signed is not what the path names.
    if brought == Brought::Streamed && sha256.is_some_and(|named| named != digest.sha256()) {
        return Err(Kind::OTHER_DIGEST.because("content-digest is not the sha256 in the path"));
    }
    let rest = Rest {
        address: note.peer,
        query: Query::parse(parts.uri.query(), signed.query)?,
        if_match: precondition(&parts, signed.if_match)?,
        body: received.bytes.clone(),
        arriving,
    };
    carry_out(run(shared.clone(), rest), (place, received)).await
}

/// A request of somebody who is nobody yet. It is signed like any other, with the key that it names itself, which proves that he has
/// it. His right is the token in it, which is looked for before the nonce is spent: who has none has nothing written for him.
async fn newcomer_request(shared: &Arc<Shared>, request: Request, note: &mut Note) -> Result<Reply, Problem> {
    limit_address(shared, note.peer)?;
    let limited = shared.newcomers.take(&client_of(note.peer), Instant::now());
    limited.map_err(|wait| Kind::RATE_LIMITED.because("too many newcomers at this address").retry_after(wait))?;
    let (parts, body) = request.into_parts();
    let length = body::declared(&body)?.filter(|length| *length <= limits::NEWCOMER_BYTES);
    let most = || Kind::TOO_LARGE.because(format!("say Content-Length, at most {}", limits::NEWCOMER_BYTES));
    let length = length.ok_or_else(most)?;

    let claim = claim(shared, &parts, note)?;
    let key = claim.key();
    shared.gate.require_lease(Instant::now())?;
    let proven = claim.prove_head(clock::unix(), |key| {
        // The key of nobody may register, and one that has registered may say so again.
        let state = shared.gate.view(|view| view.user_of_key(key).map(|user| user.state));
        let may = state.is_none_or(|state| state == domain::State::Active);
        Some(if may { Standing::Active(()) } else { Standing::Disabled })
    });
    note.proven = matches!(&proven, Ok(_) | Err(Refusal::UserDisabled));
    let proven = proven?;
    // A place of their own: such a signature costs nothing, and must not take anything that users need.
    let place = shared.newcomer_requests.take(&[Party::at(note.peer)], 1)?;
    let received = body::receive(body, Some(length), Memory::OfItsPlace).await?;
    shared.gate.require_lease(Instant::now())?;
    let unspent = proven.with_body(BodyDigest::of(&received.bytes), clock::unix())?;
    body::is_json(&parts.headers)?;
    Query::parse(parts.uri.query(), &[])?;
    precondition(&parts, Precondition::Unsupported)?;
    let bodies::Registration { token } = body::json(&received.bytes)?;
    let offer = shared.invites.look(&token, key, clock::unix()).await?;
    unspent.spend(&Spending(shared)).await?;
    carry_out(invites::register(shared.clone(), offer), (place, received)).await
}

/// What the head of a request says about who sends it.
fn claim(shared: &Shared, parts: &Parts, note: &mut Note) -> Result<Claim, Problem> {
    let lines = fields(&parts.headers);
    let claim = Claim::read(&RequestHead::received(parts, &lines), &shared.names.all(), clock::unix())?;
    note.key = Some(claim.key());
    Ok(claim)
}

/// Does what was asked for in a task of its own, which has what is `held` for it: a client that goes away does not stop a
/// change halfway, and a panic ends nothing else.
async fn carry_out(
    doing: impl Future<Output = Result<Reply, Problem>> + Send + 'static,
    held: impl Send + 'static,
) -> Result<Reply, Problem> {
    let task = tokio::spawn(async move {
        let _held = held;
        doing.await
    });
    task.await.unwrap_or_else(|broken| {
        let cause = if broken.is_panic() { "the handler panicked" } else { "the handler was stopped" };
        Err(Problem { cause: Some(cause.into()), ..Kind::INTERNAL.problem() })
    })
}

fn precondition(parts: &Parts, wanted: Precondition) -> Result<Option<IfMatch>, Problem> {
    if !parts.method.is_safe() && UNSIGNED_CONDITIONS.iter().any(|name| parts.headers.contains_key(*name)) {
        return Err(Kind::PRECONDITION_UNSUPPORTED.because("of the preconditions only If-Match is signed and heeded"));
    }
    let if_match = parts.headers.get(IF_MATCH);
    let if_match = if_match.map(|value| IfMatch::parse(value.as_bytes())).transpose()?;
    match (wanted, if_match) {
        (Precondition::Unsupported, Some(_)) => {
            Err(Kind::PRECONDITION_UNSUPPORTED.because("this takes no If-Match; leave it out"))
        }
        (Precondition::Required, None) => {
            Err(Kind::PRECONDITION_REQUIRED.because("send If-Match with the ETag of what was read, or '*'"))
        }
        (_, if_match) => Ok(if_match),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_500_without_detail_and_what_was_held_is_free() {
        let held = Arc::new(());
        let problem = carry_out(async { panic!("a secret") }, held.clone()).await.unwrap_err();
        assert_eq!((problem.kind, problem.detail), (Kind::INTERNAL, None));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn a_client_that_goes_away_stops_nothing() {
        let (go, told) = oneshot::channel::<()>();
        let (done, finished) = oneshot::channel();
        let doing = async move {
            told.await.unwrap();
            done.send(()).unwrap();
            Ok(Reply::text("text/plain", ""))
        };
        let mut waiting = Box::pin(carry_out(doing, ()));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(waiting);
        go.send(()).unwrap();
        finished.await.unwrap();
    }
}
