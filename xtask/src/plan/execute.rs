//! Carries a plan out, or only asks how far it is: node by node in order, the nodes side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::locking::{At, Link, Lock};
use super::operator::Operator;
use super::{Effect, Probe, State, Step};
use crate::transport::{Call, Failure, Output, Transport};
use crate::ui::{Line, Progress, took};

/// A question is answered at once, or the node is ill.
const ASK_WITHIN: Duration = Duration::from_secs(30);
/// Two programs of 30 MB over a slow line.
const DO_WITHIN: Duration = Duration::from_secs(600);

/// What sudo's own complaints begin with; no program that a probe runs says that.
const SUDO_FAILED: &str = "sudo: ";

/// What is wanted of the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Carry the steps out that are not so yet.
    Do,
    /// Only ask.
    Look,
}

/// All steps, each with the state it was left in.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) steps: Vec<Step>,
    /// Why nothing was begun, if the cluster's lock was not granted.
    refused: Option<String>,
}

impl Outcome {
    /// How many steps ended in such a state; the lock's do not count.
    pub(crate) fn count(&self, state: &State) -> usize {
        self.steps.iter().filter(|step| !step.is_lock() && step.state == *state).count()
    }

    /// What failed, one sentence for all nodes on which it failed alike; empty when nothing did.
    pub(crate) fn failures(&self) -> Vec<String> {
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

/// The steps of one wave, by node.
type Wave = Vec<Vec<Step>>;

/// Works through the steps, wave after wave. A step that fails stops its node there and then, the others after the step they
/// are at, and all later waves; only a lock is given back in any case.
pub(crate) fn execute(steps: Vec<Step>, transport: &dyn Transport, goal: Goal, progress: &Progress) -> Outcome {
    execute_as(&Operator::this(), steps, transport, goal, progress)
}

/// The same for any operator.
pub(super) fn execute_as(
    me: &Operator,
    steps: Vec<Step>,
    transport: &dyn Transport,
    goal: Goal,
    progress: &Progress,
) -> Outcome {
    // Who only looks keeps nobody out.
    let steps = steps.into_iter().filter(|step| goal == Goal::Do || !step.is_lock());
    let mut waves: BTreeMap<u32, Wave> = BTreeMap::new();
    for step in steps {
        let nodes = waves.entry(step.wave).or_default();
        match nodes.iter_mut().find(|node| node.first().is_some_and(|first| first.node == step.node)) {
            Some(node) => node.push(step),
            None => nodes.push(vec![step]),
        }
    }
    let worked_on: BTreeSet<String> =
        waves.values().flatten().flatten().filter(|step| !step.is_lock()).map(|step| step.node.clone()).collect();
    let mut peers: BTreeMap<String, Peer<'_>> = BTreeMap::new();
    for step in waves.values().flatten().flatten() {
        peers.entry(step.node.clone()).or_insert_with(|| Peer { node: step.node.clone(), transport });
    }
    let stop = AtomicBool::new(false);
    let (mut lock, mut refused) = (None, None);
    for nodes in waves.values_mut() {
        let mut ways: BTreeMap<&str, &mut Peer<'_>> =
            peers.iter_mut().map(|(node, peer)| (node.as_str(), peer)).collect();
        match nodes.first().and_then(|node| node.first()).map(|step| &step.effect) {
            Some(Effect::TakeLock { .. }) => match Lock::take(me, &mut locks(nodes, &mut ways, &worked_on), progress) {
                Ok(taken) => lock = Some(taken),
                Err(why) => {
                    refused = Some(why);
                    stop.store(true, Ordering::Relaxed);
                }
            },
            Some(Effect::GiveLock { .. }) if lock.is_some() => {
                if let Some(lock) = lock.take() {
                    lock.give(&mut locks(nodes, &mut ways, &worked_on), progress);
                }
            }
            _ if stop.load(Ordering::Relaxed) => {
                nodes.iter_mut().flatten().for_each(|step| step.state = State::NotReached);
            }
            _ => thread::scope(|scope| {
                for node in nodes {
                    let Some(name) = node.first().map(|step| step.node.clone()) else { continue };
                    let (Some(peer), line, stop) = (ways.remove(name.as_str()), progress.line(&name), &stop) else {
                        continue;
                    };
                    scope.spawn(move || work(node, peer, goal, stop, &line));
                }
            }),
        }
    }
    Outcome { steps: waves.into_values().flatten().flatten().collect(), refused }
}

/// The steps of a lock, one a node, with the ways there.
fn locks<'a>(
    nodes: &'a mut Wave,
    ways: &mut BTreeMap<&str, &'a mut Peer<'_>>,
    worked_on: &BTreeSet<String>,
) -> Vec<At<'a>> {
    let steps = nodes.iter_mut().flatten();
    let at = steps.filter_map(|step| {
        let link = ways.remove(step.node.as_str())?;
        let comes_again = worked_on.contains(&step.node);
        Some(At { step, link, comes_again })
    });
    at.collect()
}

/// One node and the way there.
struct Peer<'a> {
    node: String,
    transport: &'a dyn Transport,
}

impl Link for Peer<'_> {
    fn call(&mut self, call: &Call, within: Duration) -> Result<Output, Failure> {
        self.transport.call(&self.node, call, within)
    }
}

/// One node's steps, in order.
fn work(steps: &mut [Step], peer: &mut Peer<'_>, goal: Goal, stop: &AtomicBool, line: &Line) {
    let begun = Instant::now();
    let total = steps.len();
    let (mut failed, mut different) = (None, 0_usize);
    for (number, step) in (1..).zip(steps.iter_mut()) {
        if failed.is_some() || stop.load(Ordering::Relaxed) {
            step.state = State::NotReached;
            continue;
        }
        line.doing(&format!("{number}/{total} {} {}", step.id, step.subject()));
        step.state = match goal {
            Goal::Do => carry_out(step, peer),
            Goal::Look => look(step, peer, different > 0),
        };
        match &step.state {
            State::Failed(why) => {
                failed = Some(format!("at step {number} of {total}, {}: {why}", step.id));
                stop.store(true, Ordering::Relaxed);
            }
            State::Changed | State::WouldChange => different += 1,
            _ => {}
        }
    }
    let reached = steps.iter().filter(|step| step.state != State::NotReached).count();
    let time = took(begun.elapsed());
    match failed {
        Some(why) => line.failed(&why),
        None if reached < total => {
            line.failed(&format!("stopped after {reached} of {total} steps: another node failed"))
        }
        None if goal == Goal::Look => line.done(&format!("{different} of {total} steps would change it, {time}")),
        None => line.done(&format!("{different} of {total} steps changed it, {time}")),
    }
}

fn carry_out(step: &Step, peer: &mut Peer<'_>) -> State {
    // What compares by itself sends only what differs, so it is not asked first.
    if let Probe::Asks(_) = step.probe() {
        match holds(step, peer) {
            Ok(true) => return State::AlreadySo,
            Ok(false) => {}
            Err(why) => return State::Failed(why),
        }
    }
    match peer.call(&step.call(), step.within.unwrap_or(DO_WITHIN)) {
        Err(failure) => State::Failed(failure.to_string()),
        Ok(output) if !output.ok() => State::Failed(output.reason().to_owned()),
        Ok(output) if is_sync(step) && output.stdout.is_empty() => State::AlreadySo,
        Ok(_) => State::Changed,
    }
}

fn look(step: &Step, peer: &mut Peer<'_>, after_a_change: bool) -> State {
    match holds(step, peer) {
        Ok(true) => State::AlreadySo,
        Ok(false) => State::WouldChange,
        // A comparison with what an earlier step has yet to make cannot succeed.
        Err(_) if after_a_change && is_sync(step) => State::WouldChange,
        Err(why) => State::Failed(why),
    }
}

fn is_sync(step: &Step) -> bool {
    matches!(step.effect, Effect::SyncFiles { .. })
}

/// Whether the node is as the step would leave it.
fn holds(step: &Step, peer: &mut Peer<'_>) -> Result<bool, String> {
    match step.probe() {
        Probe::Asks(unless) => {
            let output = peer.call(&Call::Run(unless.argv), ASK_WITHIN).map_err(|failure| failure.to_string())?;
            // The question was never put to the node: that is no answer.
            if !output.ok() && output.stderr.starts_with(SUDO_FAILED) {
                return Err(output.reason().to_owned());
            }
            let said = String::from_utf8_lossy(&output.stdout);
            Ok(output.ok() && unless.prints.is_none_or(|wanted| said.trim_end() == wanted))
        }
        Probe::Compares(call) => {
            let output = peer.call(&call, ASK_WITHIN).map_err(|failure| failure.to_string())?;
            if output.ok() { Ok(output.stdout.is_empty()) } else { Err(output.reason().to_owned()) }
        }
        Probe::InTheEffect => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Unless, words};

    /// A node on which sudo asks for a password.
    struct NoSudo;

    impl Transport for NoSudo {
        fn run(&self, _: &str, _: &[&str], _: &[u8], _: Duration) -> Result<Output, Failure> {
            Err(Failure::Unreachable("not used".to_owned()))
        }

        fn call(&self, _: &str, _: &Call, _: Duration) -> Result<Output, Failure> {
            let stderr = "sudo: a password is required".to_owned();
            Ok(Output { code: Some(1), stdout: Vec::new(), stderr })
        }

        fn command(&self, _: &str, _: &Call) -> Result<Option<Vec<String>>, Failure> {
            Ok(None)
        }

        fn place(&self, node: &str) -> String {
            node.to_owned()
        }
    }

    #[test]
    fn a_node_that_could_not_be_asked_is_not_called_different() {
        let unless = Unless { argv: words(&["true"]), prints: None };
        let step = Step::new("settings", "a", Effect::Run { argv: words(&["true"]), unless });
        for goal in [Goal::Look, Goal::Do] {
            let outcome = execute(vec![step.clone()], &NoSudo, goal, &Progress::new());
            assert!(outcome.failures()[0].contains("a password is required"), "{:?}", outcome.steps);
        }
    }

    #[test]
    fn nothing_of_a_wave_begins_after_the_one_before_it_failed() {
        let unless = Unless { argv: words(&["true"]), prints: None };
        let step = |node, wave| {
            Step::new("start", node, Effect::Run { argv: words(&["true"]), unless: unless.clone() }).in_wave(wave)
        };
        let outcome = execute(vec![step("b", 2), step("a", 1)], &NoSudo, Goal::Do, &Progress::new());
        let states: Vec<_> = outcome.steps.iter().map(|step| (step.node.as_str(), &step.state)).collect();
        assert!(matches!(states[..], [("a", State::Failed(_)), ("b", State::NotReached)]), "{states:?}");
    }
}
