//! A cluster while it is looked at: each node is asked on its own, so one that hangs keeps no other from being shown.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::overview::overview;
use crate::screen::Screen;
use crate::target::Target;
use crate::ui::Style;
use crate::verify::{Answer, NoPosture, Silence, State, ask, unix_ms};

/// Between two questions to a node that answers, and between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// A daemon answers within 5 s whatever is broken: one that takes longer hangs.
const MUTE: Duration = Duration::from_secs(6);
/// How soon the end is noticed.
const LOOK: Duration = Duration::from_millis(50);

/// The last that a node has said.
struct Seen {
    answer: Option<Answer>,
    /// When it was said; when the watch began, where nothing was.
    at: Instant,
}

/// The nodes of a cluster, asked again and again until this is dropped.
pub struct Watch {
    nodes: Vec<String>,
    seen: Arc<Mutex<Vec<Seen>>>,
    over: Arc<AtomicBool>,
}

impl Watch {
    /// Begins to ask.
    pub fn start(target: &Target) -> Self {
        let nodes = target.nodes().to_vec();
        let begun = || Seen { answer: None, at: Instant::now() };
        let seen = Arc::new(Mutex::new(nodes.iter().map(|_| begun()).collect()));
        let over = Arc::new(AtomicBool::new(false));
        for (index, node) in nodes.iter().cloned().enumerate() {
            let (seen, over) = (Arc::clone(&seen), Arc::clone(&over));
            let (transport, runtime_dir) = (Arc::clone(&target.transport), target.runtime_dir.clone());
            // Not waited for: at the end it may still hang on its question.
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let answer = ask(transport.as_ref(), &node, &runtime_dir);
                    // Where the question ended without an answer, the node has been mute since the last one.
                    if !is_mute(&answer)
                        && let Some(one) = locked(&seen).get_mut(index)
                    {
                        *one = Seen { answer: Some(answer), at: Instant::now() };
                    }
                    while begun.elapsed() < EVERY && !over.load(Ordering::Relaxed) {
                        thread::sleep(LOOK);
                    }
                }
            });
        }
        Self { nodes, seen, over }
    }

    /// What every node said last. One that has said nothing for too long is mute; none while a node may still give its first answer.
    pub fn answers(&self) -> Option<Vec<Answer>> {
        let seen = locked(&self.seen);
        self.nodes.iter().zip(seen.iter()).map(|(node, seen)| last(node, seen, seen.at.elapsed())).collect()
    }
}

fn is_mute(answer: &Answer) -> bool {
    answer.posture.as_ref().is_err_and(|why| why.kind == Silence::Mute)
}

fn last(node: &str, seen: &Seen, ago: Duration) -> Option<Answer> {
    if ago < MUTE {
        return seen.answer.clone();
    }
    let now = unix_ms();
    Some(Answer { node: node.to_owned(), posture: Err(NoPosture::mute_for(ago)), sent_ms: now, received_ms: now })
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn locked(seen: &Mutex<Vec<Seen>>) -> MutexGuard<'_, Vec<Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows the cluster, once a second, until `ended`. Says what it was like then.
pub fn show(target: &Target, mut ended: impl FnMut() -> Result<bool>) -> Result<State> {
    let (mut screen, watch) = (Screen::new(), Watch::start(target));
    let (mut state, mut shown) = (State::Denied, false);
    let names = target.nodes().join(", ");
    loop {
        let begun = Instant::now();
        let drawn = match watch.answers() {
            Some(answers) => {
                let view = overview(&target.expected, &answers, unix_ms(), Style::stdout());
                (state, shown) = (view.state, true);
                screen.draw(&view.text, &view.gist)
            }
            None if screen.is_terminal() => screen.draw(&format!("asking {names}\n"), ""),
            None => Ok(()),
        };
        drawn.context("writing to the terminal")?;
        while begun.elapsed() < EVERY {
            if ended()? {
                return Ok(state);
            }
            // The first answers are shown at once.
            if !shown && watch.answers().is_some() {
                break;
            }
            thread::sleep(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::fixture::healthy;

    fn seen(answer: Option<Answer>) -> Seen {
        Seen { answer, at: Instant::now() }
    }

    #[test]
    fn a_node_that_says_nothing_for_too_long_is_mute_for_so_long() {
        let answer =
            Answer { node: "homer".to_owned(), posture: Ok(healthy("homer", &["homer"])), sent_ms: 0, received_ms: 1 };
        let just = last("homer", &seen(Some(answer.clone())), Duration::from_millis(5_900)).unwrap();
        assert!(just.posture.is_ok());
        let later = last("homer", &seen(Some(answer)), Duration::from_millis(7_100)).unwrap();
        assert_eq!(later.posture.unwrap_err(), NoPosture::mute_for(Duration::from_secs(7)));
        assert!(last("homer", &seen(None), Duration::from_secs(2)).is_none(), "it may still answer");
        let never = last("homer", &seen(None), Duration::from_secs(7)).unwrap();
        assert!(is_mute(&never) && never.posture.unwrap_err().why() == "no answer for 7 s");
    }
}
