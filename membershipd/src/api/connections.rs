//! How many connections there are at once, in all and from one address; what is more is closed at once.

use std::future::{Ready, ready};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready as some};

use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::keyed_limiter::{KeyedLimiter, Place};
use super::limits;
use super::rate::client_of;

/// Lets connections in while there are not too many, in all and from one address.
#[derive(Debug, Clone)]
pub(super) struct ConnectionLimit(KeyedLimiter<IpAddr>);

impl Default for ConnectionLimit {
    fn default() -> Self {
        Self(KeyedLimiter::new(limits::CONNECTIONS, limits::CONNECTIONS_PER_ADDRESS))
    }
}

impl<S> Accept<TcpStream, S> for ConnectionLimit {
    type Stream = Held;
    type Service = S;
    type Future = Ready<io::Result<(Held, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(stream.set_nodelay(true).and_then(|()| {
            let place = self.0.take(&client_of(stream.peer_addr()?.ip()));
            let place = place.map_err(|_| io::Error::other("too many connections"))?;
            Ok((Held { stream, stalled: None, _place: place }, service))
        }))
    }
}

/// A connection with its place. It breaks when the client takes nothing of an answer for [`limits::ANSWER_TIME`].
#[derive(Debug)]
pub(super) struct Held {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
    _place: Place<IpAddr>,
}

impl Held {
    fn written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limits::ANSWER_TIME)));
        some!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_gets_half_of_the_connections() {
        let ConnectionLimit(limiter) = ConnectionLimit::default();
        let [one, two, three] = [1, 2, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        let held: Vec<_> = std::iter::from_fn(|| limiter.take(&one).ok()).collect();
        assert_eq!(held.len(), limits::CONNECTIONS_PER_ADDRESS);
        let others: Vec<_> = std::iter::from_fn(|| limiter.take(&two).ok()).collect();
        assert_eq!(held.len() + others.len(), limits::CONNECTIONS);
        assert!(limiter.take(&three).is_err());
        drop(held);
        assert!(limiter.take(&three).is_ok());
    }
}
