//! The logs of several nodes as one, in the order of time: files where the nodes are processes of this machine, journals over ssh.

mod line;
mod merge;
mod since;
mod source;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::line::Line;
use self::merge::Merger;
pub use self::since::{NoMoment, Since};
use self::source::Source;
use crate::local_state::State;
use crate::local_time::precise;
use crate::stdio::is_stdout_closed;
use crate::target::Target;
use crate::ui::{Style, Tone, width};

/// Lines of each node where nothing else is asked for.
const LINES: usize = 50;
/// How long a line waits for an earlier one of another node, while what is new is followed.
const FOLLOWING: Duration = Duration::from_millis(500);
/// The same while logs are read that are there already.
const READING: Duration = Duration::from_secs(15);
/// So long nodes may take to begin until what others said is shown.
const BEGINNING: Duration = Duration::from_secs(5);
/// A node that has not begun by then is named.
const SILENT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// What is to be read.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Of which nodes.
    pub nodes: Vec<String>,
    /// What comes, too.
    pub follow: bool,
    /// From when on.
    pub since: Option<Since>,
    /// So many lines of each at the end.
    pub lines: Option<usize>,
}

impl Wanted {
    /// None: all of them.
    fn last(&self) -> Option<usize> {
        self.lines.or(self.since.is_none().then_some(LINES))
    }
}

/// What the readers share with the one who shows it.
struct Shared {
    state: Mutex<Heard>,
    changed: Condvar,
}

struct Heard {
    merger: Merger,
    /// Nodes that cannot be read, and why.
    failed: Vec<(usize, String)>,
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the reader of one node puts what it reads.
struct Reader {
    shared: Arc<Shared>,
    node: usize,
}

impl Reader {
    /// The node answers.
    fn begin(&self) {
        self.shared.lock().merger.begin(self.node);
    }

    /// Hands a line over, once there is room for it. Says whether more is wanted.
    fn line(&self, line: Line) -> bool {
        let mut heard = self.shared.lock();
        while !heard.over && !heard.merger.has_room(self.node) {
            heard = self.shared.changed.wait(heard).unwrap_or_else(PoisonError::into_inner);
        }
        heard.merger.push(self.node, line, Instant::now());
        self.shared.changed.notify_all();
        !heard.over
    }

    fn is_over(&self) -> bool {
        self.shared.lock().over
    }

    /// Nothing more comes, for a reason or because all was read.
    fn end(&self, failure: Option<String>) {
        let mut heard = self.shared.lock();
        heard.merger.end(self.node);
        let failure = failure.filter(|_| !heard.over).map(|why| (self.node, why));
        heard.failed.extend(failure);
        self.shared.changed.notify_all();
    }
}

/// Shows the logs, until they end or Ctrl-C. `state` is the directory of a cluster on this machine. Fails where a node gave none.
pub fn show(target: &Target, state: Option<&State>, wanted: &Wanted) -> Result<()> {
    let interrupted = on_signals()?;
    let merger = Merger::new(wanted.nodes.len());
    let state_of = Mutex::new(Heard { merger, failed: Vec::new(), over: false });
    let shared = Arc::new(Shared { state: state_of, changed: Condvar::new() });
    let mut sources: Vec<Source> = Vec::new();
    for (node, name) in wanted.nodes.iter().enumerate() {
        let reader = Reader { shared: Arc::clone(&shared), node };
        match state {
            Some(state) => source::read_file(state.log(name), wanted, reader),
            None => sources.extend(source::read_journal(target.transport.as_ref(), name, wanted, reader)),
        }
    }
    let failed = pass_on(&shared, wanted, &interrupted);
    shared.lock().over = true;
    shared.changed.notify_all();
    sources.iter().for_each(Source::end);
    if failed.is_empty() || interrupted.load(Ordering::Relaxed) {
        return Ok(());
    }
    bail!("no log of {}", failed.into_iter().collect::<Vec<_>>().join(", "))
}

/// Prints lines as their turn comes. Says of which nodes there is no log.
fn pass_on(shared: &Shared, wanted: &Wanted, interrupted: &AtomicBool) -> BTreeSet<String> {
    let (style, begun) = (Style::stdout(), Instant::now());
    let name = |node: usize| wanted.nodes.get(node).map_or("", String::as_str);
    let wide = wanted.nodes.iter().map(|node| width(node)).max().unwrap_or(0);
    let (mut failed, mut named) = (BTreeSet::new(), BTreeSet::new());
    let mut heard = shared.lock();
    while !interrupted.load(Ordering::Relaxed) && !is_stdout_closed() {
        let (now, mut complaints) = (Instant::now(), Vec::new());
        for (node, why) in std::mem::take(&mut heard.failed) {
            failed.insert(name(node).to_owned());
            complaints.push(format!("{}: no log: {why}", name(node)));
        }
        let silent: Vec<usize> = heard.merger.silent().collect();
        for node in silent.iter().copied().filter(|_| begun.elapsed() >= SILENT) {
            if named.insert(node) {
                complaints.push(format!("{}: no answer for {} s; the others go on", name(node), SILENT.as_secs()));
            }
            if !wanted.follow {
                failed.insert(name(node).to_owned());
                heard.merger.end(node);
            }
        }
        let patience = match (wanted.follow, silent.is_empty()) {
            (true, false) if begun.elapsed() < BEGINNING => BEGINNING,
            (true, _) => FOLLOWING,
            (false, _) => READING,
        };
        let next = heard.merger.next(now, patience);
        if next.is_none() && complaints.is_empty() {
            if heard.merger.is_over() {
                break;
            }
            heard = shared.changed.wait_timeout(heard, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        // Readers go on while this is printed.
        drop(heard);
        for complaint in complaints {
            errln!("{complaint}");
        }
        if let Some((node, line)) = next {
            let gap = " ".repeat(wide.saturating_sub(width(name(node))));
            outln!("{}{gap}  {} {}", style.paint(Tone::Bold, name(node)), precise(line.at / 1_000), line.text);
            shared.changed.notify_all();
        }
        heard = shared.lock();
    }
    failed
}

/// Becomes true at the first signal that ends a program: what was started here is ended then, and nothing is left half written.
fn on_signals() -> Result<Arc<AtomicBool>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("listening to signals")?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&interrupted);
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            heard.store(true, Ordering::Relaxed);
        }
    });
    Ok(interrupted)
}
