//! A model of lease, store, callout, kick and fence, in which anything may be late, lost, frozen, restarted or replaced.
//!
//! One node removes a right, another one serves whoever has it. What the processes decide they decide by the daemon's own code:
//! `Lease` and `Delivered`, `Progress`, `Roster` and `Waiting`. What is around them is the model's: the log as the store keeps it, the
//! engine, and time, which goes on in steps of a third of the bound. The checker looks at every order of events within bounds
//! that are wide enough to miss each rule: without it, it finds a history in which a right outlives its removal.

mod rules;
mod steps;
mod world;

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::fence::model::rules::{Rule, Rules, Scope};
use crate::fence::model::steps::Step;
use crate::fence::model::world::{Connection, Removal, World, at};

const HONOURED: &str = "no right is honoured after its revocation was acknowledged";
const STAYS: &str = "an acknowledged removal stays";
const BY_ALL: &str = "a removal is acknowledged by all";
const WAITED_OUT: &str = "a removal waits for the end of the silent";

impl Model for Rules {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        // The right is there, or gone already: then it was, and who removed it may not have heard that he did.
        let removed: &[bool] = if self.scope == Scope::Connections { &[true, false] } else { &[true] };
        removed.iter().map(|allowed| World::new(*self, *allowed)).collect()
    }

    fn actions(&self, state: &World, actions: &mut Vec<Step>) {
        actions.extend(state.steps(self.scope));
    }

    fn next_state(&self, last: &World, step: Step) -> Option<World> {
        let mut next = last.clone();
        next.take(*self, step).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        // That there was something to find out.
        let told = match self.scope {
            Scope::Connections => Property::sometimes("somebody is connected", |_, world: &World| world.connected()),
            Scope::Successors => Property::sometimes("two processes acknowledge", |_, world: &World| {
                world.runs.len() == 2 && world.removal == Removal::Answered { by_all: true }
            }),
        };
        vec![
            Property::always(HONOURED, |_, world: &World| !world.answered() || world.granted() || !world.honours()),
            Property::always(STAYS, |_, world: &World| !world.answered() || !world.granted()),
            Property::sometimes(BY_ALL, |_, world: &World| world.removal == Removal::Answered { by_all: true }),
            Property::sometimes(WAITED_OUT, |_, world: &World| world.removal == Removal::Answered { by_all: false }),
            told,
        ]
    }
}

impl World {
    fn answered(&self) -> bool {
        matches!(self.removal, Removal::Answered { .. })
    }

    /// Whether the record as it is now gives the right.
    fn granted(&self) -> bool {
        self.record(self.log.len()).1
    }

    fn connected(&self) -> bool {
        self.runs.iter().any(|run| run.connection == Connection::Open)
    }

    /// Whether anybody serves whom the right is taken from, or would answer a request of his.
    fn honours(&self) -> bool {
        self.runs.iter().filter(|run| run.alive).any(|run| {
            let decides = run.frozen.is_none() && run.lease.open(run.mute_until, at(self.now)).is_ok();
            run.connection == Connection::Open || (decides && run.allowed)
        })
    }
}

/// Looks at everything, or until what must always hold does not.
fn check(rules: Rules) -> impl Checker<Rules> {
    let checker = rules.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{rules:?}: {} states", checker.unique_state_count());
    checker
}

/// That `rule` is missed: without it there is a history that breaks the property.
fn missed(rule: Rule, scope: Scope, property: &'static str) {
    let checker = check(Rules { without: Some(rule), scope });
    let found = checker.discovery(property);
    assert!(found.is_some(), "without {rule:?} the model finds nothing against '{property}'");
    println!("{:?}", found.unwrap().into_actions());
}

#[test]
fn no_order_of_events_makes_a_right_outlive_its_removal() {
    check(Rules { without: None, scope: Scope::Connections }).assert_properties();
}

#[test]
fn no_order_of_processes_makes_a_right_outlive_its_removal() {
    // Not even if who has just started decides at once, which is more than with all rules: the engine of the process before died
    // with it, and that process is waited for by its own name. Being mute is a margin for an engine that dies more slowly.
    check(Rules { without: Some(Rule::Mute), scope: Scope::Successors }).assert_properties();
}

#[test]
fn without_a_lease_a_node_that_nobody_reaches_goes_on_deciding() {
    missed(Rule::Lease, Scope::Connections, HONOURED);
}

#[test]
fn connections_that_outlive_the_lease_outlive_the_removal() {
    missed(Rule::CutAtItsEnd, Scope::Connections, HONOURED);
}

#[test]
fn who_froze_before_the_end_of_its_lease_is_not_saved_by_the_watchdog_in_time() {
    missed(Rule::DeadMan, Scope::Connections, HONOURED);
}

#[test]
fn a_lease_from_when_its_proof_arrived_lasts_too_long() {
    missed(Rule::SentTime, Scope::Connections, HONOURED);
}

#[test]
fn a_quorum_alone_does_not_prove_that_the_view_is_current() {
    missed(Rule::OwnWatch, Scope::Connections, HONOURED);
}

#[test]
fn what_the_next_process_acknowledges_does_not_bind_the_one_before() {
    missed(Rule::BootId, Scope::Successors, HONOURED);
}

#[test]
fn a_restarted_node_does_not_know_who_ran_before() {
    missed(Rule::Formers, Scope::Successors, HONOURED);
}

#[test]
fn what_is_admitted_before_it_is_recorded_escapes() {
    missed(Rule::RecordFirst, Scope::Connections, HONOURED);
}

#[test]
fn an_acknowledgement_before_the_cut_is_too_early() {
    missed(Rule::CutFirst, Scope::Connections, HONOURED);
}

#[test]
fn a_connection_that_nobody_recorded_is_found_by_looking() {
    missed(Rule::SecondLook, Scope::Connections, HONOURED);
}

#[test]
fn a_grant_that_names_no_revision_undoes_a_removal() {
    missed(Rule::CompareAndSet, Scope::Connections, STAYS);
}

#[test]
fn a_removal_that_writes_nothing_keeps_no_late_grant_out() {
    missed(Rule::AlwaysWrite, Scope::Connections, STAYS);
}

#[test]
fn who_asks_too_soon_asks_too_few() {
    missed(Rule::WholeView, Scope::Successors, HONOURED);
}

#[test]
fn who_does_not_answer_may_still_serve() {
    missed(Rule::Wait, Scope::Connections, HONOURED);
}

#[test]
fn a_proof_does_not_put_off_the_end_of_who_has_still_to_cut() {
    missed(Rule::CutBeforeProof, Scope::Connections, HONOURED);
}
