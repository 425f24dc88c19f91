//! Connections to the bus.

use serde::{Deserialize, Serialize};
use unibus_core::domain::{Handle, RoomId};

/// A member's connection to the engine of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Connection {
    /// The node to whose engine it is.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::schema::NodeName))]
    pub node: String,
    /// Its number there, until that engine is started again.
    pub id: u64,
    /// Whose connection it is; none where nothing is authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Handle>))]
    pub user: Option<Handle>,
    /// Where its client is: an address and a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Since when there is this connection: milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
    /// Language and version of the client, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The first rooms that its user is in, by id.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<crate::schema::RoomId>))]
    pub rooms: Vec<RoomId>,
    /// How many more rooms its user is in.
    pub more_rooms: usize,
}

/// A page of connections, by node and number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Connections {
    pub connections: Vec<Connection>,
    /// Nodes whose engines did not list their connections in time.
    pub silent: Vec<String>,
    /// `after` of the next page; none: this is the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Cursor>))]
    pub next: Option<String>,
}

/// What closing a connection came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClosedConnection {
    /// Whose it was; none: there was none, or nothing is authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::schema::Handle>))]
    pub user: Option<Handle>,
    /// False where there was no such connection.
    pub changed: bool,
}
