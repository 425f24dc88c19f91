//! Commands that requests come to: given, and what is said of how they ended.

use super::call::Call;
use super::precondition::IfMatch;
use super::problem::Problem;
use super::shared::Shared;
use super::target::InRoom;
use crate::commands::{Demand, Order, Outcome, Unfinished};
use unibus_api_types::bodies;
use unibus_core::domain::Command;
use unibus_store::Revision;

pub(super) fn passed(outcome: &Outcome) -> bodies::Passed {
    let word = |what: &Unfinished| match what {
        Unfinished::Index => "index".to_owned(),
        Unfinished::Claim => "claim".to_owned(),
        Unfinished::Record => "record".to_owned(),
    };
    bodies::Passed {
        changed: outcome.changed,
        audit: outcome.id.to_string(),
        fence: outcome.fenced,
        waited_ms: u64::try_from(outcome.waited.as_millis()).unwrap_or(u64::MAX),
        unfinished: outcome.unfinished.iter().map(word).collect(),
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
