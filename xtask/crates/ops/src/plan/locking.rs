//! Takes the cluster's lock on a majority of its nodes and gives it back: the I/O around the decisions of `lock`.

use std::thread;
use std::time::{Duration, Instant};

use super::lock::{Answer, Held, Record, Verdict, judge, printable};
use super::noting::{Ended, Note, note_call};
use super::operator::Operator;
use super::peer::Peer;
use super::{Effect, State, Step, words};
use crate::process::{Failure, Output, with_remedy};
use crate::random::{self, System};
use crate::topology::majority;
use crate::transport::{Call, Transport};
use crate::ui::{Progress, took};

/// A lock is one small file on a tmpfs; who takes longer is ill.
pub(super) const WITHIN: Duration = Duration::from_secs(30);

/// Times a machine that has rebooted is asked for the lock.
const TAKEN_AGAIN: u32 = 10;

/// Takes the path; reads the record, then the sha256 of what it may replace, or nothing. It prints the sha256 of what lies
/// there in the end, and that: whoever it belongs to has the lock, also when an earlier answer was lost. `ln` never replaces
/// a file and shows it whole or not at all. The directory is locked, so that nothing changes between a comparison and what
/// follows from it; the kernel gives that back whatever happens.
const TAKE: &str = "set -eu; umask 022; case $1 in */*) d=${1%/*};; *) d=.;; esac; \
    IFS= read -r new && IFS= read -r old || { echo 'the record arrived incomplete' >&2; exit 1; }; \
    exec 9< \"$d\"; flock -w 10 9 || { echo \"$d is locked by another command\" >&2; exit 1; }; \
    if [ -n \"$old\" ] && [ -e \"$1\" ] && [ \"$(sha256sum < \"$1\")\" = \"$old  -\" ]; then rm -f -- \"$1\"; fi; \
    t=$(mktemp \"$1.XXXXXXXX\"); trap 'rm -f -- \"$t\"' EXIT; printf '%s\\n' \"$new\" > \"$t\"; chmod 0644 \"$t\"; \
    ln -T -- \"$t\" \"$1\" 2>/dev/null || [ -e \"$1\" ]; sha256sum < \"$1\"; head -c 4096 -- \"$1\"";

/// Takes the path; reads the record. It removes no other, but prints it.
const GIVE: &str = "set -eu; case $1 in */*) d=${1%/*};; *) d=.;; esac; \
    IFS= read -r ours || { echo 'the record arrived incomplete' >&2; exit 1; }; \
    exec 9< \"$d\"; flock -w 10 9 || { echo \"$d is locked by another command\" >&2; exit 1; }; [ -e \"$1\" ] || exit 0; \
    if [ \"$(cat -- \"$1\")\" = \"$ours\" ]; then rm -f -- \"$1\"; else head -c 4096 -- \"$1\"; fi";

/// The command that takes the lock of a node. Its words are always the same; the record comes by standard input.
pub(super) fn take_call(path: &str, stdin: String) -> Call {
    Call::Feed { argv: words(&["sh", "-c", TAKE, "sh", path]), stdin }
}

/// The command that gives it back.
pub(super) fn give_call(path: &str, stdin: String) -> Call {
    Call::Feed { argv: words(&["sh", "-c", GIVE, "sh", path]), stdin }
}

/// One node's step of the lock, with the way there.
pub(super) struct At<'a, 'p> {
    pub(super) step: &'a mut Step,
    pub(super) peer: &'a mut Peer<'p>,
    /// Whether later steps go there too: those will say what is wrong with it.
    pub(super) comes_again: bool,
}

/// The lock of one run.
pub(super) struct Lock {
    record: Record,
    started: fn(u32) -> Option<String>,
    /// Nodes that have granted it, or may have.
    nodes: Vec<String>,
    /// Where the run is noted, and what is noted of its beginning.
    noted: Option<(String, Note)>,
}

/// Does `work` while the lock is held that `steps`, a plan's steps of its lock, take and give back; for a run whose other steps
/// come one after the other as it goes on; `judge` says what is noted of it. Where the lock is not granted nothing is done.
pub fn under_lock<T>(
    steps: Vec<Step>,
    transport: &dyn Transport,
    progress: &Progress,
    work: impl FnOnce() -> T,
    judge: impl FnOnce(&T) -> Ended,
) -> Result<T, String> {
    let (mut take, mut give): (Vec<Step>, Vec<Step>) =
        steps.into_iter().filter(Step::is_lock).partition(|step| matches!(step.effect, Effect::TakeLock { .. }));
    let with = |steps: &mut Vec<Step>, act: &mut dyn FnMut(&mut [At<'_, '_>]) -> Result<(), String>| {
        // A connection of its own each time: in between the node may have been off.
        let mut peers: Vec<Peer<'_>> = steps.iter().map(|step| Peer::new(&step.node, transport)).collect();
        let at = steps.iter_mut().zip(&mut peers).map(|(step, peer)| At { step, peer, comes_again: false });
        act(&mut at.collect::<Vec<_>>())
    };
    let mut lock = None;
    with(&mut take, &mut |at| Lock::take(&Operator::this(), at, progress).map(|taken| lock = Some(taken)))?;
    let done = work();
    let mut ended = Some(judge(&done));
    if let Some(lock) = lock {
        with(&mut give, &mut |at| {
            lock.give(at, progress, ended.take().unwrap_or_default());
            Ok(())
        })?;
    }
    Ok(done)
}

/// One node's answer, and whether the lock may be ours there.
struct Asked {
    held: Held,
    may_be_ours: bool,
}

impl Lock {
    /// Takes the lock, or says why not; then nothing of it is left behind.
    pub(super) fn take(me: &Operator, nodes: &mut [At<'_, '_>], progress: &Progress) -> Result<Self, String> {
        let Some(Effect::TakeLock { verb, wait_seconds, break_foreign, log, .. }) =
            nodes.first().map(|at| at.step.effect.clone())
        else {
            return Err("a plan takes its lock on no node".to_owned());
        };
        let record = me.record(&verb).map_err(|error| format!("{error:#}"))?;
        let noted = log.map(|log| (log, Note::begin(&record)));
        let mut lock = Self { record, started: me.started, nodes: Vec::new(), noted };
        let (begun, wait) = (Instant::now(), Duration::from_secs(wait_seconds.unwrap_or_default()));
        let line = progress.line("lock");
        loop {
            line.doing("asking the nodes");
            let (asked, verdict) = lock.attempt(nodes, break_foreign, progress);
            let may_be_ours = |(at, asked): (&At<'_, '_>, &Asked)| asked.may_be_ours.then(|| at.step.node.clone());
            lock.nodes = nodes.iter().zip(&asked).filter_map(may_be_ours).collect();
            let (held, why) = match verdict {
                Verdict::Granted => {
                    line.clear();
                    lock.granted(nodes, asked, progress);
                    lock.note(nodes, None, progress);
                    return Ok(lock);
                }
                Verdict::Refused { held, why } => (held, why),
                Verdict::Replace(_) => (true, "the cluster's lock changes hands all the time".to_owned()),
            };
            lock.give_up(nodes, progress);
            let left = wait.saturating_sub(begun.elapsed());
            if !held || left.is_zero() {
                line.clear();
                refused(nodes, asked);
                return Err(why);
            }
            let who = asked.iter().find_map(|asked| match &asked.held {
                Held::Foreign { who, .. } | Held::Over { who, .. } => Some(who.as_str()),
                _ => None,
            });
            line.set(format!("held by {}; waiting up to {}", who.unwrap_or("somebody"), took(wait)));
            thread::sleep(jittered(me.pause).min(left));
        }
    }

    /// Takes the lock again where a machine has forgotten it; says whether it is ours there. What another operator has tried meanwhile is
    /// given back at once, since a majority is ours all the time, so it is waited for.
    pub(super) fn take_again(&mut self, pause: Duration, nodes: &mut [At<'_, '_>]) -> bool {
        for node in nodes.iter_mut() {
            let mut held = Held::Silent("it was not asked".to_owned());
            for tried in 0..TAKEN_AGAIN {
                if tried > 0 {
                    thread::sleep(jittered(pause));
                }
                let which = [(0, String::new())];
                held = match self.ask(std::slice::from_mut(node), &which).pop() {
                    Some((_, asked)) => asked.held,
                    None => continue,
                };
                if held == Held::Ours {
                    break;
                }
            }
            node.step.state = match held {
                Held::Ours => {
                    if !self.nodes.contains(&node.step.node) {
                        self.nodes.push(node.step.node.clone());
                    }
                    State::Done
                }
                Held::Silent(why) => State::Failed(why),
                Held::Foreign { who, .. } | Held::Over { who, .. } => State::Failed(format!("held by {who}")),
            };
        }
        nodes.iter().all(|node| node.step.state == State::Done)
    }

    /// Asks every node once, and again where something may be replaced.
    fn attempt(&self, nodes: &mut [At<'_, '_>], break_foreign: bool, progress: &Progress) -> (Vec<Asked>, Verdict) {
        let everywhere: Vec<(usize, String)> = (0..nodes.len()).map(|at| (at, String::new())).collect();
        let mut asked: Vec<Asked> = self.ask(nodes, &everywhere).into_iter().map(|(_, asked)| asked).collect();
        // What is broken on purpose is what lay there when the operator said so; not what turned up since.
        let foreign = asked.iter().filter_map(|asked| match &asked.held {
            Held::Foreign { sha256, .. } if break_foreign => Some(sha256.clone()),
            _ => None,
        });
        let may_replace: Vec<String> = foreign.collect();
        let mut tried = Vec::new();
        loop {
            let held: Vec<Held> = asked.iter().map(|asked| asked.held.clone()).collect();
            let Verdict::Replace(which) = judge(&held, &may_replace, &tried) else {
                return (asked, judge(&held, &may_replace, &tried));
            };
            for (at, now) in self.ask(nodes, &which) {
                if let (Some(node), Some(before)) = (nodes.get(at), asked.get_mut(at)) {
                    if now.held == Held::Ours {
                        progress.say(&replaced(&node.step.node, &before.held));
                    }
                    *before = now;
                }
            }
            tried.extend(which);
        }
    }

    /// Asks some nodes side by side; each is told the hash of what it may replace.
    fn ask(&self, nodes: &mut [At<'_, '_>], which: &[(usize, String)]) -> Vec<(usize, Asked)> {
        let Ok(record) = serde_json::to_string(&self.record) else { return Vec::new() };
        let chosen = nodes.iter_mut().enumerate().filter_map(|(at, node)| {
            let (_, replaces) = which.iter().find(|(wanted, _)| *wanted == at)?;
            Some((at, node, format!("{record}\n{replaces}\n")))
        });
        thread::scope(|scope| {
            let asking: Vec<_> =
                chosen.map(|(at, node, stdin)| scope.spawn(move || (at, self.ask_one(node, stdin)))).collect();
            asking.into_iter().filter_map(|one| one.join().ok()).collect()
        })
    }

    fn ask_one(&self, node: &mut At<'_, '_>, stdin: String) -> Asked {
        let call = take_call(node.step.subject(), stdin);
        let (answer, lost) = match again(node.peer, &call) {
            Ok(output) if output.ok() => (Answer::read(&String::from_utf8_lossy(&output.stdout)), false),
            // It may have failed after the lock was there.
            Ok(output) => (Answer::Silent(with_remedy(&output.reason())), true),
            Err(failure) => {
                let unknown = matches!(failure, Failure::Unknown(_));
                (Answer::Silent(with_remedy(&failure.to_string())), unknown)
            }
        };
        let held = Held::of(&answer, &self.record, &self.started);
        let may_be_ours = lost || held == Held::Ours;
        Asked { held, may_be_ours }
    }

    /// Marks the steps, and says what is not as it should be although it does not matter.
    fn granted(&self, nodes: &mut [At<'_, '_>], asked: Vec<Asked>, progress: &Progress) {
        for (node, asked) in nodes.iter_mut().zip(asked) {
            let (why, said) = match asked.held {
                Held::Ours => {
                    node.step.state = State::Done;
                    continue;
                }
                Held::Silent(why) => (why, node.comes_again),
                Held::Foreign { who, .. } | Held::Over { who, .. } => (format!("held by {who}"), false),
            };
            if !said {
                progress.say(&format!("{}: no lock there, a majority has granted it: {why}", node.step.node));
            }
            node.step.state = State::Without(why);
        }
    }

    /// Gives back whatever was granted, so that somebody else may have it.
    fn give_up(&self, nodes: &mut [At<'_, '_>], progress: &Progress) {
        let ours = nodes.iter_mut().filter(|node| self.nodes.contains(&node.step.node));
        thread::scope(|scope| {
            for node in ours {
                scope.spawn(move || {
                    if let Err(why) = self.give_one(node) {
                        progress.say(&format!("{}: {}", node.step.node, left_behind(&why)));
                    }
                });
            }
        });
    }

    /// Notes the beginning of the run, or its end, wherever the lock was granted. A node that does not note it is no reason not to go on.
    fn note(&self, nodes: &mut [At<'_, '_>], ended: Option<Ended>, progress: &Progress) {
        let Some((log, begun)) = &self.noted else { return };
        let line = ended.map_or_else(|| begun.clone(), |ended| begun.ended(ended)).line();
        thread::scope(|scope| {
            for node in nodes.iter_mut().filter(|node| self.nodes.contains(&node.step.node)) {
                let call = note_call(log, line.clone());
                scope.spawn(move || {
                    let why = match node.peer.call(&call, WITHIN) {
                        Ok(output) if output.ok() => return,
                        Ok(output) => output.reason(),
                        Err(failure) => failure.to_string(),
                    };
                    progress.say(&format!("{}: this run is not noted there: {why}", node.step.node));
                });
            }
        });
    }

    /// Gives the lock back wherever it was granted, and notes there how the run ended. A node that cannot be reached is no failure of what
    /// was done.
    pub(super) fn give(&self, nodes: &mut [At<'_, '_>], progress: &Progress, ended: Ended) {
        self.note(nodes, Some(ended), progress);
        thread::scope(|scope| {
            for node in nodes {
                scope.spawn(move || {
                    if !self.nodes.contains(&node.step.node) {
                        node.step.state = State::Without("it was not granted there".to_owned());
                        return;
                    }
                    node.step.state = match self.give_one(node) {
                        Ok(None) => State::Done,
                        Ok(Some(other)) => {
                            let why = format!("it was broken meanwhile, and now holds '{other}'");
                            progress.say(&format!("{}: {why}: two runs may have worked at once", node.step.node));
                            State::Without(why)
                        }
                        Err(why) => {
                            progress.say(&format!("{}: {}", node.step.node, left_behind(&why)));
                            State::Without(why)
                        }
                    };
                });
            }
        });
    }

    /// Whose lock lies there instead, if it is not ours any more.
    fn give_one(&self, node: &mut At<'_, '_>) -> Result<Option<String>, String> {
        let record = serde_json::to_string(&self.record).map_err(|error| error.to_string())?;
        let call = give_call(node.step.subject(), format!("{record}\n"));
        match again(node.peer, &call) {
            Ok(output) if output.ok() => {
                let other = String::from_utf8_lossy(&output.stdout);
                Ok((!other.trim().is_empty()).then(|| printable(&other)))
            }
            Ok(output) => Err(output.reason().to_owned()),
            Err(failure) => Err(failure.to_string()),
        }
    }
}

/// Repeats once what may be repeated: taking and giving find out by the token what an earlier try has done.
fn again(peer: &mut Peer<'_>, call: &Call) -> Result<Output, Failure> {
    match peer.call(call, WITHIN) {
        Err(Failure::Unknown(_)) => peer.call(call, WITHIN),
        other => other,
    }
}

fn refused(nodes: &mut [At<'_, '_>], asked: Vec<Asked>) {
    for (node, asked) in nodes.iter_mut().zip(asked) {
        node.step.state = match asked.held {
            Held::Ours => State::Without("granted, and given back".to_owned()),
            Held::Silent(why) => State::Failed(why),
            Held::Foreign { who, .. } | Held::Over { who, .. } => State::Failed(format!("held by {who}")),
        };
    }
}

fn replaced(node: &str, before: &Held) -> String {
    match before {
        Held::Over { who, .. } => format!("{node}: took over the lock of {who}: that process is gone"),
        Held::Foreign { who, .. } => format!("{node}: broke the lock of {who}"),
        Held::Ours | Held::Silent(_) => format!("{node}: took the lock"),
    }
}

fn left_behind(why: &str) -> String {
    format!("its lock could not be given back: {why}; your next run takes it over, anybody else must break it")
}

fn jittered(pause: Duration) -> Duration {
    let [more] = random::bytes::<1>(&System::new()).unwrap_or_default();
    pause + pause.mul_f32(f32::from(more) / 255.0)
}

/// How many nodes a plan's lock needs, for people.
pub(super) fn needs(steps: &[Step]) -> (usize, usize) {
    let first = steps.iter().map(|step| step.wave).min();
    let takes = |step: &&Step| Some(step.wave) == first && matches!(step.effect, Effect::TakeLock { .. });
    let nodes = steps.iter().filter(takes).count();
    (majority(nodes), nodes)
}
