//! Carries a plan out, or only asks how far it is: node by node in order, the nodes side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::explain::explained;
use super::locking::{At, Lock};
use super::operator::Operator;
use super::outcome::Outcome;
use super::peer::Peer;
use super::{Effect, Ended, Probe, Purpose, State, Step};
use crate::process::with_remedy;
use crate::transport::Transport;
use crate::ui::{Line, Progress, took};

/// A question is answered at once, or the node is ill.
pub(super) const ASK_WITHIN: Duration = Duration::from_secs(30);
/// Two programs of 30 MB over a slow line.
const DO_WITHIN: Duration = Duration::from_secs(600);
/// Between two questions to a machine that reboots.
const RETURNS: Duration = Duration::from_secs(1);
const NO_ANSWER: &str = "the node answered fewer questions than it was asked";

/// What is wanted of the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Carry the steps out that are not so yet.
    Do,
    /// Only ask.
    Look,
}

/// The steps of one wave, by node.
type Wave = Vec<Vec<Step>>;

/// Works through the steps, wave after wave. A step that fails stops its node there and then, the others after the step they
/// are at, and all later waves; only a lock is given back in any case.
pub fn execute(steps: Vec<Step>, transport: &dyn Transport, goal: Goal, progress: &Progress) -> Outcome {
    execute_as(&Operator::this(), steps, transport, goal, progress, &mut |_| {})
}

/// Carries the steps out; where one failed `rescue` does what it can about it before the lock is given back, so that nobody
/// comes in between.
pub fn execute_or(
    steps: Vec<Step>,
    transport: &dyn Transport,
    progress: &Progress,
    rescue: &mut dyn FnMut(&Outcome),
) -> Outcome {
    execute_as(&Operator::this(), steps, transport, Goal::Do, progress, rescue)
}

/// The same for any operator.
pub(super) fn execute_as(
    me: &Operator,
    steps: Vec<Step>,
    transport: &dyn Transport,
    goal: Goal,
    progress: &Progress,
    rescue: &mut dyn FnMut(&Outcome),
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
        peers.entry(step.node.clone()).or_insert_with(|| Peer::new(&step.node, transport));
    }
    let stop = AtomicBool::new(false);
    let (mut lock, mut refused): (Option<Lock>, _) = (None, None);
    let order: Vec<u32> = waves.keys().copied().collect();
    for number in order {
        if lock.is_some() && stop.load(Ordering::Relaxed) && gives_the_lock(waves.get(&number)) {
            rescue(&Outcome { steps: waves.values().flatten().flatten().cloned().collect(), refused: None });
        }
        let mut ended = gives_the_lock(waves.get(&number)).then(|| Ended::of(waves.values().flatten().flatten()));
        let Some(nodes) = waves.get_mut(&number) else { continue };
        let mut ways: BTreeMap<&str, &mut Peer<'_>> =
            peers.iter_mut().map(|(node, peer)| (node.as_str(), peer)).collect();
        match nodes.first().and_then(|node| node.first()).map(|step| &step.effect) {
            _ if lock.is_some() && stop.load(Ordering::Relaxed) && takes_the_lock(nodes) => {
                nodes.iter_mut().flatten().for_each(|step| step.state = State::NotReached);
            }
            Some(Effect::TakeLock { .. }) if lock.is_some() => {
                let mut forgetful = locks(nodes, &mut ways, &worked_on);
                if !lock.as_mut().is_some_and(|lock| lock.take_again(me.pause, &mut forgetful)) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            Some(Effect::TakeLock { .. }) => match Lock::take(me, &mut locks(nodes, &mut ways, &worked_on), progress) {
                Ok(taken) => lock = Some(taken),
                Err(why) => {
                    refused = Some(why);
                    stop.store(true, Ordering::Relaxed);
                }
            },
            Some(Effect::GiveLock { .. }) if lock.is_some() => {
                if let Some(lock) = lock.take() {
                    lock.give(&mut locks(nodes, &mut ways, &worked_on), progress, ended.take().unwrap_or_default());
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

fn takes_the_lock(nodes: &Wave) -> bool {
    let first = nodes.first().and_then(|node| node.first());
    first.is_some_and(|step| matches!(step.effect, Effect::TakeLock { .. }))
}

fn gives_the_lock(nodes: Option<&Wave>) -> bool {
    let first = nodes.and_then(|nodes| nodes.first()?.first());
    first.is_some_and(|step| matches!(step.effect, Effect::GiveLock { .. }))
}

/// The steps of a lock, one a node, with the ways there.
fn locks<'a, 'p>(
    nodes: &'a mut Wave,
    ways: &mut BTreeMap<&str, &'a mut Peer<'p>>,
    worked_on: &BTreeSet<String>,
) -> Vec<At<'a, 'p>> {
    let steps = nodes.iter_mut().flatten();
    let at = steps.filter_map(|step| {
        let peer = ways.remove(step.node.as_str())?;
        let comes_again = worked_on.contains(&step.node);
        Some(At { step, peer, comes_again })
    });
    at.collect()
}

/// One node's steps, in order. All are asked about in one go; once something was changed, each later one is asked about again
/// right before its turn.
fn work(steps: &mut [Step], peer: &mut Peer<'_>, goal: Goal, stop: &AtomicBool, line: &Line) {
    let begun = Instant::now();
    let total = steps.len();
    line.doing("asking");
    let returns = steps.iter().any(|step| step.purpose == Purpose::Return);
    let mut answers = (!returns).then(|| ask(steps, peer));
    let (mut failed, mut different) = (None, 0_usize);
    for (at, step) in steps.iter_mut().enumerate() {
        if failed.is_some() || stop.load(Ordering::Relaxed) {
            step.state = State::NotReached;
            continue;
        }
        let number = at + 1;
        let known = answers.as_ref().map(|answers| answers.get(at).cloned());
        if goal == Goal::Do && known != Some(Some(Ok(true))) {
            say(line, &format!("{number}/{total} {}", step.id), step);
        }
        step.state = match (known, goal) {
            (None, Goal::Do) if step.purpose == Purpose::Return => until_back(step, peer),
            (None, Goal::Look) if returns => State::Planned,
            (Some(Some(Ok(true))), _) => State::AlreadySo,
            (Some(Some(Ok(false))), Goal::Look) if step.purpose != Purpose::Require => State::WouldChange,
            (Some(Some(Ok(false))), _) => carry_out(step, peer),
            (Some(Some(Err(why))), _) => State::Failed(with_remedy(&why)),
            (Some(None), _) => State::Failed(NO_ANSWER.to_owned()),
            (None, _) => ask_and_carry_out(step, peer),
        };
        match &step.state {
            State::Failed(why) => {
                failed = Some(format!("at step {number} of {total}, {}: {why}", step.id));
                stop.store(true, Ordering::Relaxed);
            }
            State::Changed => {
                answers = None;
                different += 1;
            }
            State::WouldChange => different += 1,
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

/// What is happening; also in a log where it may take minutes.
fn say(line: &Line, step_of: &str, step: &Step) {
    match (step.within, &step.effect) {
        (Some(limit), Effect::Run { argv, .. }) => {
            line.set(format!("{step_of}: {}, up to {}", argv.join(" "), took(limit)));
        }
        (Some(limit), _) => line.set(format!("{step_of}: {}, up to {}", step.subject(), took(limit))),
        (None, _) => line.doing(&format!("{step_of} {}", step.subject())),
    }
}

/// Whether the node is as each of the steps would leave it. Where the node could not be asked there is one answer, for the
/// first: the others are not reached.
fn ask(steps: &[Step], peer: &mut Peer<'_>) -> Vec<Result<bool, String>> {
    let questions = steps.iter().filter_map(|step| match step.probe() {
        Probe::Asks(unless) => Some(unless.argv),
        Probe::Compares(argv) => Some(argv),
        Probe::InTheEffect => None,
    });
    let mut outputs = match peer.ask(&questions.collect::<Vec<_>>(), ASK_WITHIN) {
        Ok(outputs) => outputs.into_iter(),
        Err(failure) => return vec![Err(failure.why())],
    };
    let answers = steps.iter().map(|step| {
        let wanted = match step.probe() {
            Probe::InTheEffect => return Ok(false),
            Probe::Asks(unless) => unless.prints,
            Probe::Compares(_) => Some(step.same().map_err(|error| format!("{error:#}"))?),
        };
        let output = outputs.next().ok_or_else(|| NO_ANSWER.to_owned())?;
        let said = String::from_utf8_lossy(&output.stdout);
        Ok(output.ok() && wanted.is_none_or(|wanted| said.trim_end() == wanted))
    });
    answers.collect()
}

fn ask_and_carry_out(step: &Step, peer: &mut Peer<'_>) -> State {
    // What is sent is compared on the way, so it is not asked about first.
    if is_sync(step) {
        return carry_out(step, peer);
    }
    match ask(std::slice::from_ref(step), peer).pop() {
        Some(Ok(true)) => State::AlreadySo,
        Some(Ok(false)) => carry_out(step, peer),
        Some(Err(why)) => State::Failed(with_remedy(&why)),
        None => State::Failed(NO_ANSWER.to_owned()),
    }
}

fn carry_out(step: &Step, peer: &mut Peer<'_>) -> State {
    match peer.call(&step.call(), step.within.unwrap_or(DO_WITHIN)) {
        Err(failure) => State::Failed(with_remedy(&failure.to_string())),
        Ok(output) if !output.ok() => State::Failed(explained(step, peer, &output.reason())),
        Ok(output) if is_sync(step) && output.stdout.is_empty() => State::AlreadySo,
        Ok(_) => State::Changed,
    }
}

/// Asks a machine that reboots until it is back.
fn until_back(step: &Step, peer: &mut Peer<'_>) -> State {
    let (begun, within) = (Instant::now(), step.within.unwrap_or(DO_WITHIN));
    loop {
        let why = match ask(std::slice::from_ref(step), peer).pop() {
            Some(Ok(true)) => return State::Done,
            Some(Ok(false)) => "it answers, and has not rebooted".to_owned(),
            Some(Err(why)) => why,
            None => NO_ANSWER.to_owned(),
        };
        if begun.elapsed() >= within {
            return State::Failed(format!("it is not back after {}: {why}", took(within)));
        }
        thread::sleep(RETURNS);
    }
}

fn is_sync(step: &Step) -> bool {
    matches!(step.effect, Effect::SyncFiles { .. })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::plan::{Unless, words};
    use crate::process::{Failure, Output};
    use crate::transport::{Call, Session};

    /// A node on which sudo asks for a password.
    struct NoSudo;

    impl Transport for NoSudo {
        fn run(&self, _: &str, _: &[&str], _: &[u8], _: Duration) -> Result<Output, Failure> {
            Err(Failure::Unreachable("not used".to_owned()))
        }

        fn call(&self, _: &str, _: &Call, _: Duration) -> Result<Output, Failure> {
            Err(Failure::Unreachable("not used".to_owned()))
        }

        fn open<'a>(&'a self, _: &str) -> Result<Option<Box<dyn Session + 'a>>, Failure> {
            Err(Failure::Unreachable("ssh a: sudo: a password is required".to_owned()))
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
            let why = &outcome.failures()[0];
            assert!(why.contains("a password is required") && why.contains("NOPASSWD"), "{why}");
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

    /// A node whose connection is lost after so many things, and which notes what it is told, with the time it has for that.
    struct Lossy {
        lasts: Mutex<Vec<u32>>,
        told: Mutex<Vec<(String, Duration)>>,
    }

    struct Lost<'a>(&'a Lossy, u32);

    impl Lost<'_> {
        fn hear(&mut self, what: &str, within: Duration) -> Result<Output, Failure> {
            self.0.told.lock().unwrap().push((what.to_owned(), within));
            self.1 = self.1.checked_sub(1).ok_or_else(|| Failure::Unknown("ssh a: Broken pipe".to_owned()))?;
            Ok(Output { code: Some(i32::from(what.starts_with("ask"))), stdout: Vec::new(), stderr: String::new() })
        }
    }

    impl Session for Lost<'_> {
        fn ask(&mut self, questions: &[Vec<String>], within: Duration) -> Result<Vec<Output>, Failure> {
            questions.iter().map(|argv| self.hear(&format!("ask {}", argv.join(" ")), within)).collect()
        }

        fn call(&mut self, call: &Call, within: Duration) -> Result<Output, Failure> {
            let Call::Run(argv) = call else { panic!("{call:?}") };
            self.hear(&format!("run {}", argv.join(" ")), within)
        }
    }

    impl Transport for Lossy {
        fn run(&self, _: &str, _: &[&str], _: &[u8], _: Duration) -> Result<Output, Failure> {
            Err(Failure::Unreachable("not used".to_owned()))
        }

        fn call(&self, _: &str, _: &Call, _: Duration) -> Result<Output, Failure> {
            Err(Failure::Unreachable("not used".to_owned()))
        }

        fn open<'a>(&'a self, _: &str) -> Result<Option<Box<dyn Session + 'a>>, Failure> {
            let lasts = self.lasts.lock().unwrap().pop();
            let lasts = lasts.ok_or_else(|| Failure::Unreachable("ssh a: Connection refused".to_owned()))?;
            Ok(Some(Box::new(Lost(self, lasts))))
        }

        fn command(&self, _: &str, _: &Call) -> Result<Option<Vec<String>>, Failure> {
            Ok(None)
        }

        fn place(&self, node: &str) -> String {
            node.to_owned()
        }
    }

    /// Two steps on a node whose connections last that long, the last one first.
    fn two_steps(lasts: &[u32]) -> (Lossy, Outcome) {
        let node = Lossy { lasts: Mutex::new(lasts.to_vec()), told: Mutex::default() };
        let step = |id, argv: &str, seen: &str| {
            let unless = Unless { argv: words(&[seen]), prints: None };
            Step::new(id, "a", Effect::Run { argv: words(&[argv]), unless })
        };
        let steps = vec![step("one", "do-1", "is-1").within(Duration::from_secs(90)), step("two", "do-2", "is-2")];
        let outcome = execute(steps, &node, Goal::Do, &Progress::silent());
        (node, outcome)
    }

    fn told(node: &Lossy) -> Vec<String> {
        node.told.lock().unwrap().iter().map(|(what, _)| what.clone()).collect()
    }

    #[test]
    fn a_step_that_waits_has_the_time_it_asked_for() {
        let (node, outcome) = two_steps(&[9]);
        assert_eq!(outcome.count(&State::Changed), 2);
        assert_eq!(told(&node), ["ask is-1", "ask is-2", "run do-1", "ask is-2", "run do-2"]);
        let times: Vec<Duration> = node.told.lock().unwrap().iter().map(|(_, within)| *within).collect();
        assert_eq!(times, [ASK_WITHIN, ASK_WITHIN, Duration::from_secs(90), ASK_WITHIN, DO_WITHIN]);
    }

    #[test]
    fn a_question_is_put_again_over_another_connection_and_nothing_is_done_twice() {
        // Lost at the second question about the second step: it is asked again.
        let (node, outcome) = two_steps(&[9, 3]);
        assert_eq!(outcome.count(&State::Changed), 2);
        assert_eq!(told(&node), ["ask is-1", "ask is-2", "run do-1", "ask is-2", "ask is-2", "run do-2"]);
        // Lost while something was done: nobody knows, so it is not done again.
        let (node, outcome) = two_steps(&[9, 2]);
        assert_eq!(told(&node), ["ask is-1", "ask is-2", "run do-1"]);
        assert_eq!(
            outcome.failures(),
            [
                "a: step 'one' (do-1): ssh a: Broken pipe; whether it had an effect is unknown; the connection broke on the way: \
              see the network, and that server's log"
            ]
        );
        assert_eq!(outcome.count(&State::NotReached), 1);
        // A node that is gone for good is not asked for ever.
        let (_, outcome) = two_steps(&[3]);
        assert_eq!(outcome.failures(), ["a: step 'two' (do-2): ssh a: Connection refused"]);
    }
}
