//! Connections to the API: how many there are, in all and from one address, and which of them makes room for a new one.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready as some};

use axum_server::accept::Accept;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::keyed_limiter::{Full, KeyedLimiter, Party, Place};
use super::limits;
use crate::config::Share;
use crate::rate::client_of;

/// The connections that there are. Clones are of the same ones.
#[derive(Debug, Clone)]
pub(super) struct Connections(Arc<Table>);

#[derive(Debug)]
struct Table {
    places: KeyedLimiter,
    /// Proxies that the operator has named speak for many: they have no share of their own, and make room for no other.
    proxies: Vec<IpAddr>,
    next: AtomicU64,
    open: Mutex<HashMap<SocketAddr, Arc<Connection>>>,
}

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Grows from one connection to the next.
    number: u64,
    /// None: of a proxy.
    client: Option<IpAddr>,
    place: Mutex<Option<Place>>,
    closed: CancellationToken,
    /// A request whose head is proven is under way: it is not closed for another.
    proven: AtomicBool,
    /// A request is under way, or its answer is.
    answering: AtomicBool,
    /// All answers so far are on the wire, to their last byte, so what is written next is none of them.
    clean: AtomicBool,
}

/// A request is under way, until this is dropped.
#[derive(Debug)]
pub(super) struct Answering(Arc<Connection>);

impl Connections {
    /// So many; `proxies` in canonical form.
    pub(super) fn new(share: Share, proxies: &[IpAddr]) -> Self {
        Self(Arc::new(Table {
            places: KeyedLimiter::new("connections", share),
            proxies: proxies.to_vec(),
            next: AtomicU64::new(0),
            open: Mutex::default(),
        }))
    }

    /// The connection of `peer`.
    pub(super) fn of(&self, peer: SocketAddr) -> Option<Arc<Connection>> {
        self.0.open().get(&peer).cloned()
    }

    /// Notes that a request of `peer` is under way.
    pub(super) fn answering(&self, peer: SocketAddr) -> Option<Answering> {
        self.of(peer).map(Answering::new)
    }

    /// Takes in a connection of `peer`, for which another one may have to go; none: there is no place for it.
    fn admit(&self, peer: SocketAddr) -> Option<Arc<Connection>> {
        let client = Some(client_of(peer.ip())).filter(|_| !self.0.proxies.contains(&peer.ip().to_canonical()));
        let parties: Vec<Party> = client.map(Party::Address).into_iter().collect();
        let mut open = self.0.open();
        loop {
            let full = match self.0.places.take(&parties, 1) {
                Err(full) => full,
                Ok(place) => {
                    let connection = Arc::new(Connection {
                        number: self.0.next.fetch_add(1, Ordering::Relaxed),
                        client,
                        place: Mutex::new(Some(place)),
                        closed: CancellationToken::new(),
                        proven: AtomicBool::new(false),
                        answering: AtomicBool::new(false),
                        clean: AtomicBool::new(true),
                    });
                    open.insert(peer, connection.clone());
                    return Some(connection);
                }
            };
            let (peer, gone) = yields(&open, client, &full)?;
            open.remove(&peer).filter(|found| found.number == gone)?.close();
        }
    }
}

/// Which connection makes room for a new one of `client`: the oldest one without a proven request, of the client that has the most
/// connections. The new one takes no place of a client that has no more than its own; none: it has to wait.
fn yields(
    open: &HashMap<SocketAddr, Arc<Connection>>,
    client: Option<IpAddr>,
    full: &Full,
) -> Option<(SocketAddr, u64)> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for client in open.values().filter_map(|connection| connection.client) {
        *counts.entry(client).or_default() += 1;
    }
    let count = |client: IpAddr| counts.get(&client).copied().unwrap_or_default();
    let own = client.map_or(0, count);
    let candidates = open.iter().filter_map(|(peer, connection)| {
        let of = connection.client.filter(|_| !connection.proven.load(Ordering::Acquire))?;
        let may = match full {
            Full::All(_) => Some(of) == client || count(of) > own,
            Full::Share(..) => Some(of) == client,
        };
        may.then(|| (count(of), std::cmp::Reverse(connection.number), *peer))
    });
    candidates.max().map(|(_, std::cmp::Reverse(number), peer)| (peer, number))
}

impl Table {
    fn open(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Gives its place back, and ends it.
    fn close(&self) {
        drop(self.place.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.closed.cancel();
    }

    /// Whether what is written next is no answer of ours.
    pub(super) fn is_clean(&self) -> bool {
        self.clean.load(Ordering::Acquire)
    }

    /// All that was to be written is on the wire.
    pub(super) fn flushed(&self) {
        if !self.answering.load(Ordering::Acquire) {
            self.proven.store(false, Ordering::Release);
            self.clean.store(true, Ordering::Release);
        }
    }
}

impl Answering {
    fn new(connection: Arc<Connection>) -> Self {
        connection.answering.store(true, Ordering::Release);
        connection.clean.store(false, Ordering::Release);
        Self(connection)
    }

    /// Its head is proven: the connection is kept until the answer is on the wire.
    pub(super) fn prove(&self) {
        self.0.proven.store(true, Ordering::Release);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.store(false, Ordering::Release);
    }
}

impl<S> Accept<TcpStream, S> for Connections {
    type Stream = Held;
    type Service = S;
    type Future = Ready<io::Result<(Held, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        ready(stream.set_nodelay(true).and_then(|()| {
            set_socket_send_buffer_size(&stream, limits::SEND_BYTES)?;
            let peer = stream.peer_addr()?;
            let connection = self.admit(peer).ok_or_else(|| io::Error::other("too many connections"))?;
            let ending = Box::pin(connection.closed.clone().cancelled_owned());
            Ok((Held { stream, stalled: None, ending, connection, table: self.0.clone(), peer }, service))
        }))
    }
}

/// A connection with its place. It breaks when the client takes nothing of an answer for [`limits::ANSWER_TIME`], and when it makes
/// room for another one.
#[derive(Debug)]
pub(super) struct Held {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
    ending: Pin<Box<WaitForCancellationFutureOwned>>,
    connection: Arc<Connection>,
    table: Arc<Table>,
    peer: SocketAddr,
}

impl Held {
    /// Ready where it has made room, and woken when it does.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.connection.closed.is_cancelled() || self.ending.as_mut().poll(cx).is_ready()
    }

    fn written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limits::ANSWER_TIME)));
        some!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut open = self.table.open();
        if open.get(&self.peer).is_some_and(|found| found.number == self.connection.number) {
            open.remove(&self.peer);
        }
        drop(open);
        self.connection.close();
    }
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
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

    const SHARE: Share = Share { all: 6, user: 3, address: 3 };

    fn peer(last: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], port))
    }

    #[test]
    fn the_oldest_idle_connection_of_an_address_makes_room_for_a_new_one_of_it() {
        let connections = Connections::new(SHARE, &[]);
        let held = [1, 2, 3].map(|port| connections.admit(peer(1, port)).unwrap());
        Answering::new(held[0].clone()).prove();
        assert!(connections.admit(peer(1, 4)).is_some());
        assert!(!held[0].closed.is_cancelled(), "a proven request is under way");
        assert!(held[1].closed.is_cancelled() && !held[2].closed.is_cancelled());
        assert_eq!(connections.0.places.had_by(&Party::at(peer(1, 0).ip())), 3);
        for connection in connections.0.open().values() {
            connection.proven.store(true, Ordering::Release);
        }
        assert!(connections.admit(peer(1, 5)).is_none(), "all of its share does something");
        assert!(connections.admit(peer(2, 1)).is_some(), "another address has its own");
    }

    #[test]
    fn when_all_are_taken_the_address_with_the_most_makes_room_and_never_one_with_fewer() {
        let connections = Connections::new(SHARE, &[]);
        let one = [1, 2, 3].map(|port| connections.admit(peer(1, port)).unwrap());
        let two = [1, 2].map(|port| connections.admit(peer(2, port)).unwrap());
        let three = connections.admit(peer(3, 1)).unwrap();
        let four = connections.admit(peer(4, 1)).unwrap();
        assert!(one[0].closed.is_cancelled(), "the oldest of the three");
        assert!(connections.admit(peer(5, 1)).is_some());
        assert!(!three.closed.is_cancelled() && !four.closed.is_cancelled());
        let gone = one.iter().chain(&two).filter(|connection| connection.closed.is_cancelled()).count();
        assert_eq!(gone, 2);
        for connection in connections.0.open().values().filter(|found| found.client == Some(peer(2, 0).ip())) {
            connection.proven.store(true, Ordering::Release);
        }
        assert!(connections.admit(peer(1, 4)).is_some());
        assert_eq!(connections.0.places.had_by(&Party::at(peer(1, 0).ip())), 1, "its own made room");
        assert!(!three.closed.is_cancelled() && !four.closed.is_cancelled(), "they have no more than who wants more");
    }

    #[test]
    fn a_proxy_that_was_named_has_no_share_and_makes_no_room() {
        let connections = Connections::new(SHARE, &[peer(1, 0).ip()]);
        let held = [1, 2, 3, 4, 5, 6].map(|port| connections.admit(peer(1, port)).unwrap());
        assert!(connections.admit(peer(2, 1)).is_none());
        assert!(held.iter().all(|connection| !connection.closed.is_cancelled()));
    }

    #[test]
    fn what_is_written_next_is_no_answer_only_once_the_last_one_is_on_the_wire() {
        let connection = Connections::new(SHARE, &[]).admit(peer(1, 1)).unwrap();
        assert!(connection.is_clean());
        let answering = Answering::new(connection.clone());
        answering.prove();
        connection.flushed();
        assert!(!connection.is_clean(), "a part of the answer");
        drop(answering);
        assert!(!connection.is_clean() && connection.proven.load(Ordering::Acquire));
        connection.flushed();
        assert!(connection.is_clean() && !connection.proven.load(Ordering::Acquire));
    }
}
