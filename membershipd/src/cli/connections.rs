//! `membershipd connections`: who is connected to the bus, through the API, as an admin.

use clap::{ArgGroup, Subcommand};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::api::Api;
use super::table::Table;
use super::{DONE, FAILED, Problem};
use unibus_client::api::{Client, ClientError, ClosedConnection, Connection, Request};
use unibus_core::domain::{Handle, NodeName};
use unibus_names::printable::one_line;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List who is connected to which node, since when and from where
    List {
        /// Only this user's connections
        #[arg(long, value_name = "HANDLE")]
        who: Option<Handle>,
        /// Only those to the engine of this node
        #[arg(long, value_name = "NODE")]
        node: Option<NodeName>,
        #[command(flatten)]
        api: Api,
    },
    /// End a connection, or all of a user. A client connects again unless its user is disabled
    #[command(group = ArgGroup::new("which").required(true).args(["node", "who"]))]
    Close {
        /// The node, as the list has it
        #[arg(requires = "id")]
        node: Option<NodeName>,
        /// The number of the connection there
        #[arg(requires = "node")]
        id: Option<u64>,
        /// All connections of this user
        #[arg(long, value_name = "HANDLE", conflicts_with = "node")]
        who: Option<Handle>,
        #[command(flatten)]
        api: Api,
    },
}

/// Connections, and which nodes did not list theirs.
#[derive(Default)]
struct Listed {
    connections: Vec<Value>,
    silent: Vec<String>,
}

impl Listed {
    fn read(&self) -> Result<Vec<Connection>, Problem> {
        let all = Value::Array(self.connections.clone());
        Ok(serde_json::from_value(all).map_err(anyhow::Error::from)?)
    }

    /// Says of which nodes nothing is known, and how the verb ends.
    fn outcome(&self) -> u8 {
        if self.silent.is_empty() {
            return DONE;
        }
        let silent = one_line(&self.silent.join(", ")).into_owned();
        eprintln!(
            "membershipd: no answer from {silent}: its connections are not known\n  remedy: see 'membershipd status'"
        );
        FAILED
    }
}

/// Runs the verb. What some nodes do not say is no reason to keep back what the others do.
pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    match &args.what {
        What::List { who, node, api } => {
            let listed = api.run(async |client| list(client, who.as_ref(), node.as_ref()).await)?;
            if api.json() {
                println!("{}", json!({ "connections": listed.connections, "silent": listed.silent }));
                return Ok(if listed.silent.is_empty() { DONE } else { FAILED });
            }
            let connections = listed.read()?;
            if connections.is_empty() {
                println!("no member is connected");
            } else {
                print!("{}", table(&connections)?);
            }
            Ok(listed.outcome())
        }
        What::Close { node: Some(node), id: Some(id), api, .. } => {
            let closed = api.run(async |client| close(client, node.as_str(), *id).await)?;
            report(api, &[(node.as_str().to_owned(), *id, closed)]);
            Ok(DONE)
        }
        What::Close { who, api, .. } => {
            let listed = api.run(async |client| list(client, who.as_ref(), None).await)?;
            let mut closed = Vec::new();
            for Connection { node, id, .. } in listed.read()? {
                let one = api.run(async |client| close(client, &node, id).await)?;
                closed.push((node, id, one));
            }
            report(api, &closed);
            Ok(listed.outcome())
        }
    }
}

async fn list(client: &Client, who: Option<&Handle>, node: Option<&NodeName>) -> Result<Listed, ClientError> {
    let (mut listed, mut after) = (Listed::default(), None::<String>);
    loop {
        let named =
            [("who", who.map(Handle::as_str)), ("node", node.map(NodeName::as_str)), ("after", after.as_deref())];
        let named = named.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
        let mut query = form_urlencoded::Serializer::new(String::from("limit=500"));
        query.extend_pairs(named);
        let target = format!("/v1/connections?{}", query.finish());
        let mut page = client.ask(&Request::get(target)).await?;
        if let Some(Value::Array(found)) = page.get_mut("connections").map(Value::take) {
            listed.connections.extend(found);
        }
        for node in page.get("silent").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !listed.silent.iter().any(|silent| silent == node) {
                listed.silent.push(node.to_owned());
            }
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(listed),
        }
    }
}

async fn close(client: &Client, node: &str, id: u64) -> Result<ClosedConnection, ClientError> {
    client.ask_for(&Request::delete(format!("/v1/connections/{node}/{id}"))).await
}

fn report(api: &Api, closed: &[(String, u64, ClosedConnection)]) {
    if api.json() {
        let one = |(node, id, of): &(String, u64, ClosedConnection)| json!({ "node": node, "id": id, "user": of.user, "changed": of.changed });
        println!("{}", json!({ "closed": closed.iter().map(one).collect::<Vec<_>>() }));
        return;
    }
    if closed.is_empty() {
        println!("nothing to do: there is no such connection");
    }
    for (node, id, of) in closed {
        let whose = of.user.as_ref().map(|user| format!(" of {user}")).unwrap_or_default();
        match of.changed {
            true => println!("closed connection {id}{whose} to {node}"),
            false => println!("nothing to do: {node} has no connection {id}"),
        }
    }
    if let Some((_, _, ClosedConnection { user: Some(user), .. })) = closed.iter().find(|(_, _, of)| of.changed) {
        println!("the client may connect again; to shut the user out: membershipd user disable {user}");
    }
}

fn table(connections: &[Connection]) -> anyhow::Result<Table> {
    let mut table = Table::new(&["node", "id", "who", "since", "from", "client", "rooms"]);
    for of in connections {
        let since = of.since_ms.map(|ms| OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000)));
        let since = since.transpose()?.map(|at| at.format(&Rfc3339)).transpose()?;
        let mut rooms: Vec<String> = of.rooms.iter().map(ToString::to_string).collect();
        if of.more_rooms > 0 {
            rooms.push(format!("and {} more", of.more_rooms));
        }
        table.row(vec![
            of.node.clone(),
            of.id.to_string(),
            of.user.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            since.unwrap_or_else(|| "-".to_owned()),
            of.address.clone().unwrap_or_else(|| "-".to_owned()),
            of.client.clone().unwrap_or_else(|| "-".to_owned()),
            rooms.join(" "),
        ]);
    }
    Ok(table)
}
