//! The lines of several nodes in the order of their times, as far as that can be known while they come.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::line::Line;

/// Lines of a node that wait for those of others: its log is read on only when some of them were shown.
pub(super) const MOST_WAITING: usize = 4_096;

/// What has come of one node.
#[derive(Default)]
struct Queue {
    /// Each with when it came.
    lines: VecDeque<(Instant, Line)>,
    begun: bool,
    ended: bool,
}

/// Lines that wait for their turn.
pub(super) struct Merger {
    queues: Vec<Queue>,
}

impl Merger {
    pub(super) fn new(nodes: usize) -> Self {
        Self { queues: std::iter::repeat_with(Queue::default).take(nodes).collect() }
    }

    /// The node answers; what it says comes next.
    pub(super) fn begin(&mut self, node: usize) {
        self.queue(node, |queue| queue.begun = true);
    }

    pub(super) fn push(&mut self, node: usize, line: Line, now: Instant) {
        self.queue(node, |queue| queue.lines.push_back((now, line)));
    }

    /// The node says nothing more.
    pub(super) fn end(&mut self, node: usize) {
        self.queue(node, |queue| queue.ended = true);
    }

    fn queue(&mut self, node: usize, change: impl FnOnce(&mut Queue)) {
        if let Some(queue) = self.queues.get_mut(node) {
            change(queue);
        }
    }

    /// Whether there is room for a line of the node.
    pub(super) fn has_room(&self, node: usize) -> bool {
        self.queues.get(node).is_some_and(|queue| queue.lines.len() < MOST_WAITING)
    }

    /// Nodes that have neither begun nor ended.
    pub(super) fn silent(&self) -> impl Iterator<Item = usize> {
        self.queues.iter().enumerate().filter(|(_, queue)| !queue.begun && !queue.ended).map(|(node, _)| node)
    }

    /// Whether all have ended and everything was taken.
    pub(super) fn is_over(&self) -> bool {
        self.queues.iter().all(|queue| queue.ended && queue.lines.is_empty())
    }

    /// The next line and its node, once no earlier one can come, or none came while it waited for `patience`.
    pub(super) fn next(&mut self, now: Instant, patience: Duration) -> Option<(usize, Line)> {
        let fronts = self.queues.iter().enumerate().filter_map(|(node, queue)| {
            let (came, line) = queue.lines.front()?;
            Some((line.at, node, *came))
        });
        let (_, node, came) = fronts.min()?;
        let known = self.queues.iter().all(|queue| queue.ended || !queue.lines.is_empty());
        if !known && now.saturating_duration_since(came) < patience {
            return None;
        }
        let (_, line) = self.queues.get_mut(node)?.lines.pop_front()?;
        Some((node, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn line(at: i64) -> Line {
        Line { at, text: at.to_string() }
    }

    fn drain(merger: &mut Merger, now: Instant) -> Vec<(usize, i64)> {
        std::iter::from_fn(|| merger.next(now, PATIENCE)).map(|(node, line)| (node, line.at)).collect()
    }

    #[test]
    fn lines_come_in_the_order_of_their_times() {
        let (mut merger, now) = (Merger::new(3), Instant::now());
        for at in [1, 4, 6] {
            merger.push(0, line(at), now);
        }
        for at in [2, 5] {
            merger.push(1, line(at), now);
        }
        assert_eq!(drain(&mut merger, now), [], "the third may have an earlier one");
        merger.push(2, line(3), now);
        assert_eq!(drain(&mut merger, now), [(0, 1), (1, 2), (2, 3)], "and then one that comes next");
        merger.end(2);
        merger.end(1);
        assert_eq!(drain(&mut merger, now), [(0, 4), (1, 5), (0, 6)]);
        assert!(!merger.is_over());
        merger.end(0);
        assert!(merger.is_over());
    }

    #[test]
    fn a_silent_node_keeps_the_others_waiting_no_longer_than_it_may() {
        let (mut merger, now) = (Merger::new(2), Instant::now());
        merger.begin(0);
        merger.push(0, line(1), now);
        merger.push(0, line(2), now + PATIENCE / 2);
        assert_eq!(drain(&mut merger, now + PATIENCE / 2), []);
        assert_eq!(drain(&mut merger, now + PATIENCE), [(0, 1)]);
        assert_eq!(drain(&mut merger, now + PATIENCE * 2), [(0, 2)]);
        assert_eq!(merger.silent().collect::<Vec<_>>(), [1]);
        // Late, and shown all the same.
        merger.push(1, line(0), now + PATIENCE * 2);
        assert_eq!(drain(&mut merger, now + PATIENCE * 4), [(1, 0)]);
    }

    #[test]
    fn lines_of_one_moment_stay_in_the_order_of_their_node() {
        let (mut merger, now) = (Merger::new(1), Instant::now());
        for text in ["a", "b"] {
            merger.push(0, Line { at: 5, text: text.to_owned() }, now);
        }
        assert_eq!(
            std::iter::from_fn(|| merger.next(now, PATIENCE)).map(|(_, line)| line.text).collect::<Vec<_>>(),
            ["a", "b"]
        );
    }

    #[test]
    fn a_node_that_has_much_to_say_waits() {
        let (mut merger, now) = (Merger::new(2), Instant::now());
        for at in 0..i64::try_from(MOST_WAITING).unwrap() {
            assert!(merger.has_room(0));
            merger.push(0, line(at), now);
        }
        assert!(!merger.has_room(0) && merger.has_room(1));
    }
}
