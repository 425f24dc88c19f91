//! The nodes of the cluster over the API.

use std::sync::Arc;

use super::call::{Call, Reply};
use super::problem::Problem;
use super::shared::Shared;
use super::target::Bus;
use crate::api::problem::Refuse as _;
use crate::peers::Answers;
use unibus_api_types::bodies;
use unibus_api_types::problem::Kind;
use unibus_core::bus;

/// What each node says of itself, and which ones say nothing.
pub(super) async fn show(shared: Arc<Shared>, call: Call<Bus>) -> Result<Reply, Problem> {
    let _place = shared.lists.take_within(&call.parties(), 1, bus::ASK).await?;
    let Answers { said, silent } = shared.peers.postures().await;
    let broken =
        |error: serde_json::Error| Problem { cause: Some(error.to_string().into()), ..Kind::INTERNAL.problem() };
    let nodes = said.values().map(serde_json::to_value).collect::<Result<_, _>>().map_err(broken)?;
    let (node, expected) = (shared.peers.own().to_owned(), shared.peers.expected());
    Reply::json(&bodies::Status { node, expected, nodes, silent })
}
