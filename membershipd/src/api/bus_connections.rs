//! Connections to the bus over the API: who is connected to which node, and the end of a connection.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::call::{Call, NODE, Reply, WHO};
use super::paging::{InEngine, Paging, cursor};
use super::problem::{self, Problem};
use super::shared::Shared;
use super::target::{Bus, OneConnection};
use crate::api::problem::Refuse as _;
use crate::commands::audit::{About, Decided, Stage};
use crate::peers::{Answers, Connection};
use unibus_api_types::bodies;
use unibus_api_types::problem::Kind;
use unibus_core::bus;
use unibus_core::domain::{Action, Author, Handle, MemberState, Records as _};
use unibus_core::view::View;

/// Rooms that are named of each connection.
const ROOMS: usize = 20;

fn body_of(node: String, connection: Connection, view: &View) -> bodies::Connection {
    let Connection { id, user, address, since_ms, client } = connection;
    let joined = user.iter().flat_map(|user| view.memberships(user));
    let mut joined = joined.filter(|of| of.state == MemberState::Joined).map(|of| &of.room);
    let rooms = joined.by_ref().take(ROOMS).cloned().collect();
    let (address, more_rooms) = (address.map(|address| address.to_string()), joined.count());
    bodies::Connection { node, id, user, address, since_ms, client, rooms, more_rooms }
}

/// The members' connections to the engines of all nodes, or of one.
pub(super) async fn list(shared: Arc<Shared>, call: Call<Bus>) -> Result<Reply, Problem> {
    let Paging { after, size } = call.page::<InEngine>()?;
    let bad = |error| Kind::BAD_QUERY.because(format!("{error}"));
    let who = call.parameter(WHO).map(str::parse::<Handle>).transpose().map_err(bad)?;
    let user = match &who {
        None => None,
        Some(who) => {
            let key = shared.gate.view(|view| view.user(who).map(|user| user.sign_pub));
            Some(key.ok_or_else(|| Kind::NO_SUCH_USER.because(format!("there is no user '{who}'")))?)
        }
    };
    let nodes = match call.parameter(NODE) {
        None => shared.peers.nodes(),
        Some(node) => BTreeSet::from([known(&shared, node)?]),
    };
    let _place = shared.lists.take_within(&call.parties(), 1, bus::ASK).await?;
    let Answers { said, silent } = shared.peers.connections(nodes, user.as_ref()).await;
    let all =
        said.into_iter().flat_map(|(node, connections)| connections.into_iter().map(move |of| (node.clone(), of)));
    let mut rest = all.filter(|(node, of)| after.as_ref().is_none_or(|after| after.is_before(node, of.id)));
    let shown: Vec<(String, Connection)> = rest.by_ref().take(size.get()).collect();
    let last = shown.last().filter(|_| rest.next().is_some());
    let next = last.map(|(node, of)| cursor(&InEngine { node: node.clone(), id: of.id }));
    let body = |view: &View| shown.into_iter().map(|(node, of)| body_of(node, of, view)).collect();
    let connections = shared.gate.view(body);
    Reply::json(&bodies::Connections { connections, silent, next })
}

/// A node of this cluster with this name.
fn known(shared: &Shared, node: &str) -> Result<String, Problem> {
    let nodes = shared.peers.nodes();
    let names = || nodes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let missing = || Kind::NOT_FOUND.because(format!("there is no such node; there are {}", names()));
    nodes.get(node).cloned().ok_or_else(missing)
}

/// Ends a connection. Its client may make it again: to shut a user out there is another way. With its records in the audit, as whose
/// connection was ended by whom leaves no other trace.
pub(super) async fn close(shared: Arc<Shared>, call: Call<OneConnection>) -> Result<Reply, Problem> {
    let OneConnection { node, id } = &call.target;
    let node = known(&shared, node.as_str())?;
    let unheard = |error: anyhow::Error| {
        let detail = format!("the engine of {node} does not answer; nothing was closed");
        Problem { cause: Some(format!("{error:#}").into()), ..Kind::UNAVAILABLE.because(detail).soon() }
    };
    let Some((connection, server)) = shared.peers.find(&node, *id).await.map_err(unheard)? else {
        return Reply::json(&bodies::ClosedConnection { user: None, changed: false });
    };
    let journal = shared.commands.journal();
    let number = journal.number();
    let about = About::new(Author::User(call.caller.handle.clone()), Action::CloseConnection.name());
    let with = Some(format!("node={node} connection={id}"));
    let about = About { user: connection.user.clone(), with, ..about };
    journal.begin(number, &about, Decided { bus: Some(call.caller.role), room: None }).await?;
    let closed = shared.peers.close(&server, *id).await;
    let stage = match &closed {
        Ok(()) => Stage::Done(Vec::new()),
        Err(error) => Stage::Unknown(format!("{error:#}")),
    };
    // That it is missing is logged: the connection has ended all the same.
    let _ = journal.end(number, &about, stage).await;
    let unknown =
        |error: anyhow::Error| Problem { cause: Some(format!("{error:#}").into()), ..problem::unknown_outcome() };
    closed.map_err(unknown)?;
    Reply::json(&bodies::ClosedConnection { user: connection.user, changed: true })
}
