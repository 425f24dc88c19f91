//! What is no HTTP request: the HTTP library refuses it by itself, and what it says is put into the form of all other refusals.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::http::StatusCode;
use axum_server::accept::Accept;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connections::Connection;
use super::problem::{Problem, Refuse as _};
use super::shared::Shared;
use unibus_api_types::problem::Kind;
use unibus_http_signature::Refusal;

/// Head of an answer of the HTTP library; ours are longer, and all of them have a body.
const HEAD_BYTES: usize = 512;

/// Puts the refusals of the HTTP library into form, above TLS, if there is any.
#[derive(Debug, Clone)]
pub(super) struct Refusals<A> {
    inner: A,
    shared: Arc<Shared>,
}

impl<A> Refusals<A> {
    /// On what `inner` accepts.
    pub(super) fn new(inner: A, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl<A, S> Accept<TcpStream, S> for Refusals<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
{
    type Stream = Speaking<A::Stream>;
    type Service = A::Service;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let (shared, peer) = (self.shared.clone(), stream.peer_addr());
        let accepting = self.inner.accept(stream, service);
        async move {
            let (stream, service) = accepting.await?;
            let connection = shared.connections.of(peer?).ok_or(io::ErrorKind::ConnectionAborted)?;
            Ok((Speaking { stream, connection, shared, instead: None }, service))
        }
        .boxed()
    }
}

/// A stream to a client.
#[derive(Debug)]
pub(super) struct Speaking<S> {
    stream: S,
    connection: Arc<Connection>,
    shared: Arc<Shared>,
    /// What is sent in place of so many bytes of the HTTP library, as far as it is not sent yet.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S: AsyncWrite + Unpin> Speaking<S> {
    /// Writes `bytes`, or what is to be sent in their place. Only what comes while no answer of ours is under way can be a refusal
    /// of the HTTP library: nothing that a client has stored is ever taken for one.
    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.instead.is_none()
            && self.connection.is_clean()
            && let Some((status, rest)) = refusal_of_library(bytes)
        {
            self.instead = Some((self.shared.refuse_malformed(status, rest), bytes.len()));
        }
        let Some((left, of)) = &mut self.instead else { return Pin::new(&mut self.stream).poll_write(cx, bytes) };
        while !left.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, left))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            left.drain(..written);
        }
        let of = *of;
        self.instead = None;
        Poll::Ready(Ok(of))
    }
}

/// Status, and fields but for the length, of an answer without a body that refuses something; none: it is something else.
fn refusal_of_library(bytes: &[u8]) -> Option<(StatusCode, Vec<&str>)> {
    let text = str::from_utf8(bytes).ok().filter(|text| text.len() <= HEAD_BYTES)?;
    let mut lines = text.strip_prefix("HTTP/1.1 ")?.strip_suffix("\r\n\r\n")?.split("\r\n");
    let status = StatusCode::from_bytes(lines.next()?.get(..3)?.as_bytes()).ok()?;
    let is_length = |line: &&str| line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case("content-length:"));
    let (length, rest): (Vec<&str>, Vec<&str>) = lines.partition(is_length);
    let is_empty = length.iter().all(|line| line.ends_with(": 0"));
    (status.is_client_error() && is_empty).then_some((status, rest))
}

impl Shared {
    /// The whole answer to what is no request, with these `fields` of the HTTP library.
    fn refuse_malformed(&self, status: StatusCode, fields: Vec<&str>) -> Vec<u8> {
        let problem = match status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => {
                Problem::from(Refusal::HeadTooLarge)
            }
            _ => Kind::NO_REQUEST.because("what came is no HTTP/1.1 request; the connection ends"),
        };
        let id = self.next_id();
        // A client that wants to fill the log could.
        tracing::debug!(problem = problem.kind.slug, id, "request refused by the HTTP library");
        self.metrics.refused(problem.kind.slug, false);
        let status = problem.kind.status;
        let body = problem.document(&id);
        let mut head = format!("HTTP/1.1 {status}\r\n");
        for field in fields {
            head.push_str(field);
            head.push_str("\r\n");
        }
        let length = body.len();
        head.push_str(&format!(
            "content-type: application/problem+json\r\ncache-control: no-store\r\ncontent-length: {length}\r\n\r\n"
        ));
        let mut answer = head.into_bytes();
        answer.extend_from_slice(&body);
        answer
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Speaking<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Speaking<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // The HTTP library flushes when it has written all that it has.
        self.connection.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.instead.is_none() && !self.connection.is_clean() {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.write(cx, first.map_or(&[], |buf| buf))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_without_a_body_is_put_into_form() {
        let of =
            |text: &str| refusal_of_library(text.as_bytes()).map(|(status, rest)| (status.as_u16(), rest.join("|")));
        let bad = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
        assert_eq!(of(bad), Some((400, "date: now".to_owned())));
        assert_eq!(
            of("HTTP/1.1 431 Too Large\r\nconnection: close\r\n\r\n"),
            Some((431, "connection: close".to_owned()))
        );
        for other in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 10\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\nmore",
            "HTTP/1.1 400",
            "",
        ] {
            assert_eq!(of(other), None, "{other:?}");
        }
        assert_eq!(of(&bad.replace("now", &"x".repeat(HEAD_BYTES))), None);
    }
}
