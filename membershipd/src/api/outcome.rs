//! Commands that requests come to: given, and what is said of how they ended.

use serde::Serialize;
use utoipa::ToSchema;

use super::call::Call;
use super::precondition::IfMatch;
use super::problem::Problem;
use super::shared::Shared;
use super::target::InRoom;
use crate::commands::{Demand, Order, Outcome, Unfinished};
use crate::domain::{Command, RevocationOutcome};
use crate::store::Revision;

/// What a change came to, beside the record.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Passed)]
pub(super) struct Passed {
    /// False where it was so already.
    changed: bool,
    /// Number of the change in the audit log.
    audit: String,
    /// How it is known that no node honours what was taken away: `acknowledged`, every node said so; `waited_out`, so much
    /// time has passed that none can. Left out where nothing was taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    fence: Option<RevocationOutcome>,
    /// Milliseconds waited for that; 0 where nothing was taken away.
    waited_ms: u64,
    /// What is left for a repair, and decides nothing: `index`, `claim` or `record`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unfinished: Vec<&'static str>,
}

impl Passed {
    pub(super) fn of(outcome: &Outcome) -> Self {
        let word = |what: &Unfinished| match what {
            Unfinished::Index => "index",
            Unfinished::Claim => "claim",
            Unfinished::Record => "record",
        };
        Self {
            changed: outcome.changed,
            audit: outcome.id.to_string(),
            fence: outcome.fenced,
            waited_ms: u64::try_from(outcome.waited.as_millis()).unwrap_or(u64::MAX),
            unfinished: outcome.unfinished.iter().map(word).collect(),
        }
    }
}

/// Gives the command of a request.
pub(super) async fn of(shared: &Shared, call: &Call<impl InRoom>, command: Command) -> Result<Outcome, Problem> {
    let order = Order {
        by: call.caller.handle.clone(),
        room: call.target.room().clone(),
        command,
        terms: shared.terms,
        if_match: call.if_match.as_ref().map(demand),
    };
    let outcome = shared.commands.run(&order).await?;
    if outcome.changed {
        let (action, _) = order.command.asks(&call.caller, &order.room);
        tracing::info!(by = %call.caller.handle, action = action.name(), audit = %outcome.id, "room changed");
    }
    Ok(outcome)
}

fn demand(if_match: &IfMatch) -> Demand {
    match if_match.revisions() {
        None => Demand::Any,
        Some(revisions) => Demand::OneOf(revisions.iter().copied().filter_map(Revision::new).collect()),
    }
}
