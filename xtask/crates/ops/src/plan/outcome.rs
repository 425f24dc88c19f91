//! What became of a plan: all steps as they were left, and what failed.

use super::{Purpose, State, Step};

/// All steps, each with the state it was left in.
#[derive(Debug)]
pub struct Outcome {
    /// In the order of their waves.
    pub steps: Vec<Step>,
    /// Why nothing was begun, if the cluster's lock was not granted.
    pub(super) refused: Option<String>,
}

impl Outcome {
    /// How many steps ended in such a state; the lock's do not count.
    pub fn count(&self, state: &State) -> usize {
        self.steps.iter().filter(|step| !step.is_lock() && step.state == *state).count()
    }

    /// Whether somebody else's lock kept it from beginning.
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Whether something did not hold that had to hold before anything is changed, and so nothing was.
    pub fn is_prevented(&self) -> bool {
        let failed = |step: &Step| step.purpose == Purpose::Require && matches!(step.state, State::Failed(_));
        self.count(&State::Changed) == 0 && self.steps.iter().any(failed)
    }

    /// What failed, one sentence for all nodes on which it failed alike; empty when nothing did.
    pub fn failures(&self) -> Vec<String> {
        let mut said: Vec<(String, Vec<&str>)> = Vec::new();
        for step in &self.steps {
            let State::Failed(why) = &step.state else { continue };
            let text = format!("step '{}' ({}): {why}", step.id, step.subject());
            match said.iter_mut().find(|(other, _)| *other == text) {
                Some((_, nodes)) => nodes.push(&step.node),
                None => said.push((text, vec![&step.node])),
            }
        }
        let said = said.into_iter().map(|(text, nodes)| format!("{}: {text}", nodes.join(", ")));
        said.chain(self.refused.clone()).collect()
    }
}
