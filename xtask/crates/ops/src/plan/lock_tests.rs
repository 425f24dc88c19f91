//! The lock with its real commands, on directories of this machine; only faults of the way there are made up.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::execute::execute_as;
use super::lock::tests::{record, text};
use super::operator::Operator;
use super::{Effect, Goal, LockFlags, Outcome, Purpose, State, Step, Unless, locked, words};
use crate::process::{Failure, Output};
use crate::transport::{Call, Local, Transport};
use crate::ui::Progress;

const NODES: [&str; 3] = ["a", "b", "c"];
const LOCK: &str = "run.lock";

/// What befalls a call on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It never gets there.
    Unreachable,
    /// It gets there, and its answer is lost, this many times.
    AnswerLost(u32),
}

/// Nodes that are directories, some of them hard to reach.
struct Nodes {
    dir: tempfile::TempDir,
    local: Local,
    faults: Mutex<Vec<(&'static str, Fault)>>,
    /// Lock commands so far, and what shall happen after so many.
    asked: AtomicU32,
    after: Option<(u32, Event)>,
}

/// Something that happens meanwhile.
type Event = fn(&Nodes);

impl Nodes {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for node in NODES {
            fs::create_dir(dir.path().join(node)).unwrap();
        }
        let local = Local::new(dir.path());
        Self { dir, local, faults: Mutex::default(), asked: AtomicU32::new(0), after: None }
    }

    fn with(self, faults: &[(&'static str, Fault)]) -> Self {
        faults.clone_into(&mut self.faults.lock().unwrap());
        self
    }

    /// Leaves a lock on some nodes.
    fn hold(&self, nodes: &[&str], text: &str) {
        nodes.iter().for_each(|node| fs::write(self.dir.path().join(node).join(LOCK), format!("{text}\n")).unwrap());
    }

    /// All that lies on the nodes.
    fn files(&self) -> Vec<String> {
        let files = NODES.iter().flat_map(|node| {
            let entries = fs::read_dir(self.dir.path().join(node)).unwrap();
            entries.map(move |entry| format!("{node}/{}", entry.unwrap().file_name().to_str().unwrap()))
        });
        let mut files: Vec<String> = files.collect();
        files.sort();
        files
    }
}

impl Transport for Nodes {
    fn run(&self, node: &str, argv: &[&str], stdin: &[u8], within: Duration) -> Result<Output, Failure> {
        self.local.run(node, argv, stdin, within)
    }

    fn call(&self, node: &str, call: &Call, within: Duration) -> Result<Output, Failure> {
        if matches!(call, Call::Feed { .. }) {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            if let Some((_, then)) = self.after.filter(|(after, _)| *after == asked) {
                then(self);
            }
        }
        let mut faults = self.faults.lock().unwrap();
        let fault = faults.iter_mut().find(|(on, _)| *on == node).map(|(_, fault)| fault);
        let lost = match fault {
            Some(Fault::Unreachable) => return Err(Failure::Unreachable("Connection refused".to_owned())),
            Some(Fault::AnswerLost(left)) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        };
        drop(faults);
        let output = self.local.call(node, call, within);
        if lost { Err(Failure::Unknown("the connection was lost".to_owned())) } else { output }
    }

    fn command(&self, node: &str, call: &Call) -> Result<Option<Vec<String>>, Failure> {
        self.local.command(node, call)
    }

    fn place(&self, node: &str) -> String {
        self.local.place(node)
    }
}

fn me() -> Operator {
    let process = record("anna@laptop", 1, "").process;
    // Only process 1 runs here.
    Operator {
        holder: "anna@laptop".to_owned(),
        process,
        started: |pid| (pid == 1).then(|| "77".to_owned()),
        pause: Duration::from_millis(5),
    }
}

fn run(argv: &[&str], node: &str) -> Step {
    let unless = Unless { argv: words(&["test", "-e", "done"]), prints: None };
    Step::new("work", node, Effect::Run { argv: words(argv), unless })
}

fn nodes() -> Vec<String> {
    words(&NODES)
}

fn flags(wait_lock: Option<u64>, break_lock: bool) -> LockFlags {
    LockFlags { wait_lock, break_lock }
}

/// Makes a file on `a` under the lock.
fn work(on: &Nodes, flags: &LockFlags) -> Outcome {
    let steps = locked(vec![run(&["touch", "done"], "a")], &nodes(), LOCK, "stage", flags);
    execute_as(&me(), steps, on, Goal::Do, &Progress::silent(), &mut |_| {})
}

fn states(outcome: &Outcome, id: &str) -> Vec<State> {
    outcome.steps.iter().filter(|step| step.id == id).map(|step| step.state.clone()).collect()
}

#[test]
fn the_lock_is_there_while_the_steps_run_and_gone_afterwards() {
    let on = Nodes::new();
    let seen = ["sh", "-c", "cp run.lock ../seen; cp ../b/run.lock ../seen-b; cp ../c/run.lock ../seen-c"];
    let steps = locked(vec![run(&seen, "a")], &nodes(), LOCK, "roll", &LockFlags::default());
    let outcome = execute_as(&me(), steps, &on, Goal::Do, &Progress::silent(), &mut |_| panic!("nothing failed"));
    assert_eq!(outcome.failures(), Vec::<String>::new());
    let said = fs::read_to_string(on.dir.path().join("seen")).unwrap();
    assert!(said.contains("anna@laptop") && said.contains("roll"), "{said}");
    assert_eq!(said, fs::read_to_string(on.dir.path().join("seen-c")).unwrap());
    assert_eq!(on.files(), Vec::<String>::new(), "neither locks nor temporary files");
    assert_eq!(states(&outcome, "lock"), [State::Done, State::Done, State::Done]);
    assert_eq!(states(&outcome, "unlock"), [State::Done, State::Done, State::Done]);
    assert_eq!((outcome.count(&State::Changed), outcome.count(&State::Done)), (1, 0), "a lock is no change");
}

#[test]
fn it_is_given_back_after_a_failure_too() {
    let on = Nodes::new();
    let steps = locked(vec![run(&["false"], "b")], &nodes(), LOCK, "stage", &LockFlags::default());
    // Until then whoever mends what failed is alone with the nodes.
    let mut mended = Vec::new();
    let outcome = execute_as(&me(), steps, &on, Goal::Do, &Progress::silent(), &mut |so_far| {
        mended.push((so_far.failures(), on.files().len()));
    });
    assert_eq!(outcome.failures().len(), 1);
    assert_eq!(mended, [(outcome.failures(), NODES.len())]);
    assert_eq!(on.files(), Vec::<String>::new());
}

#[test]
fn machine_that_reboots_is_waited_for_and_gets_the_lock_again_before_anything_else() {
    let reboot = |on: &Nodes, comes_back: bool| {
        // What lies in its memory is gone; it is back a moment later.
        let back = if comes_back { "touch back" } else { ":" };
        let reboot = format!("rm run.lock; (sleep 0.3; {back}) > /dev/null 2>&1 < /dev/null &");
        let is_back = Unless { argv: words(&["test", "-e", "back"]), prints: None };
        let back = Effect::Run { argv: is_back.argv.clone(), unless: is_back };
        let steps = vec![
            run(&["sh", "-c", &reboot], "a"),
            Step::new("until rebooted", "a", back).with(Purpose::Return).within(Duration::from_secs(2)).in_wave(1),
            run(&["sh", "-c", "cp run.lock ../seen; cp ../b/run.lock ../seen-b"], "a").in_wave(2),
        ];
        let steps = locked(steps, &nodes(), LOCK, "roll --reboot", &LockFlags::default());
        execute_as(&me(), steps, on, Goal::Do, &Progress::silent(), &mut |_| {})
    };
    let on = Nodes::new();
    let outcome = reboot(&on, true);
    assert_eq!(outcome.failures(), Vec::<String>::new());
    assert_eq!(states(&outcome, "lock again"), [State::Done]);
    let seen = |name: &str| fs::read_to_string(on.dir.path().join(name)).unwrap();
    assert_eq!(seen("seen"), seen("seen-b"), "the same lock as on the others");
    assert_eq!(on.files(), ["a/back"]);

    // One that does not come back stops everything, and what was locked is given back.
    let on = Nodes::new();
    let outcome = reboot(&on, false);
    let failures = outcome.failures();
    assert!(failures.len() == 1 && failures[0].contains("it is not back after 2"), "{failures:?}");
    assert_eq!(states(&outcome, "lock again"), [State::NotReached]);
    assert!(!on.dir.path().join("seen").exists() && on.files().is_empty(), "{:?}", on.files());
}

#[test]
fn who_only_looks_takes_no_lock() {
    let on = Nodes::new();
    on.hold(&NODES, &text(&record("bert@desk", 1, "b")));
    let steps = locked(vec![run(&["touch", "done"], "a")], &nodes(), LOCK, "stage", &LockFlags::default());
    let outcome = execute_as(&me(), steps, &on, Goal::Look, &Progress::silent(), &mut |_| {});
    assert_eq!((outcome.failures().len(), outcome.count(&State::WouldChange), outcome.steps.len()), (0, 1, 1));
    assert_eq!(on.asked.load(Ordering::Relaxed), 0);
}

#[test]
fn a_node_that_cannot_be_reached_is_done_without() {
    let on = Nodes::new().with(&[("c", Fault::Unreachable)]);
    let outcome = work(&on, &LockFlags::default());
    assert_eq!(outcome.failures(), Vec::<String>::new());
    assert_eq!(on.files(), ["a/done"]);
    assert!(
        matches!(&states(&outcome, "lock")[..], [State::Done, State::Done, State::Without(why)] if why.contains("refused"))
    );

    let on = Nodes::new().with(&[("a", Fault::Unreachable), ("c", Fault::Unreachable)]);
    let failures = work(&on, &LockFlags::default()).failures();
    assert_eq!(failures[0], "a, c: step 'lock' (run.lock): Connection refused");
    assert!(failures[1].contains("granted by 1 of 3 nodes, 2 are needed"), "{failures:?}");
    assert!(!failures[1].contains("--break-lock"), "nobody holds it: {failures:?}");
    assert_eq!(on.files(), Vec::<String>::new());
}

#[test]
fn a_foreign_lock_is_respected_and_ours_is_given_back() {
    let on = Nodes::new();
    on.hold(&["a", "b"], &text(&record("bert@desk", 4711, "b")));
    let outcome = work(&on, &LockFlags::default());
    let failures = outcome.failures().join("\n");
    for part in ["a, b: step 'lock'", "bert@desk (pid 4711) since 2026-11-23T00:05:41Z for 'roll'", "--wait-lock"] {
        assert!(failures.contains(part), "{part}: {failures}");
    }
    assert_eq!(states(&outcome, "work"), [State::NotReached]);
    assert_eq!(on.files(), ["a/run.lock", "b/run.lock"]);

    // One that only a minority holds keeps nobody out, and is left alone.
    fs::remove_file(on.dir.path().join("a/run.lock")).unwrap();
    assert_eq!(work(&on, &LockFlags::default()).failures(), Vec::<String>::new());
    assert_eq!(on.files(), ["a/done", "b/run.lock"]);
}

#[test]
fn an_answer_that_was_lost_is_found_again_by_the_token() {
    let lost = |times| [("a", Fault::AnswerLost(times)), ("b", Fault::AnswerLost(times))];
    let on = Nodes::new().with(&lost(1));
    assert_eq!(work(&on, &LockFlags::default()).failures(), Vec::<String>::new());
    assert_eq!(on.files(), ["a/done"]);

    // Lost twice: nobody knows whether it was granted, so it does not count; but it is given back.
    let on = Nodes::new().with(&lost(2));
    let outcome = work(&on, &LockFlags::default());
    assert!(outcome.failures().join("\n").contains("whether it had an effect is unknown"), "{outcome:?}");
    assert_eq!(states(&outcome, "work"), [State::NotReached]);
    assert_eq!(on.files(), Vec::<String>::new());
}

#[test]
fn what_a_dead_run_of_ours_left_is_taken_over() {
    let on = Nodes::new();
    on.hold(&NODES, &text(&record("anna@laptop", 2, "dead")));
    assert_eq!(work(&on, &LockFlags::default()).failures(), Vec::<String>::new());
    assert_eq!(on.files(), ["a/done"]);

    let on = Nodes::new();
    on.hold(&NODES, &text(&record("anna@laptop", 1, "alive")));
    assert!(work(&on, &LockFlags::default()).failures().join("\n").contains("anna@laptop (pid 1)"));
    assert_eq!(on.files().len(), 3);
}

#[test]
fn a_lock_is_broken_on_purpose_only() {
    for there in [text(&record("bert@desk", 2, "b")), "what is this?\nno lock".to_owned()] {
        let on = Nodes::new();
        on.hold(&NODES, &there);
        assert_eq!(work(&on, &LockFlags::default()).failures().len(), 2);
        assert_eq!(work(&on, &flags(None, true)).failures(), Vec::<String>::new());
        assert_eq!(on.files(), ["a/done"]);
    }
}

#[test]
fn whose_lock_was_broken_leaves_the_new_one_alone() {
    let on = Nodes::new();
    let other = text(&record("bert@desk", 1, "b"));
    let steal = format!("printf '%s\\n' '{other}' > run.lock");
    let steps = locked(vec![run(&["sh", "-c", &steal], "a")], &nodes(), LOCK, "stage", &LockFlags::default());
    let outcome = execute_as(&me(), steps, &on, Goal::Do, &Progress::silent(), &mut |_| {});
    assert!(matches!(&states(&outcome, "unlock")[0], State::Without(why) if why.contains("bert@desk")), "{outcome:?}");
    assert_eq!(on.files(), ["a/run.lock"]);
}

#[test]
fn who_waits_gets_it_when_it_is_given_back_and_not_before() {
    let mut on = Nodes::new();
    on.hold(&NODES, &text(&record("bert@desk", 1, "b")));
    let begun = Instant::now();
    assert!(!work(&on, &flags(Some(1), false)).failures().is_empty());
    assert!(begun.elapsed() >= Duration::from_secs(1));
    on.asked = AtomicU32::new(0);
    on.after =
        Some((9, |on| NODES.iter().for_each(|node| fs::remove_file(on.dir.path().join(node).join(LOCK)).unwrap())));
    assert_eq!(work(&on, &flags(Some(60), false)).failures(), Vec::<String>::new());
    assert_eq!(on.files(), ["a/done"]);
}

#[test]
fn waiting_for_nobody_is_refused_at_once() {
    let on = Nodes::new().with(&[("a", Fault::Unreachable), ("b", Fault::Unreachable)]);
    let begun = Instant::now();
    assert!(!work(&on, &flags(Some(600), false)).failures().is_empty());
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn two_operators_at_once_work_one_after_the_other() {
    let on = Nodes::new();
    // Whoever works is alone, or the directory is there already.
    let alone = ["sh", "-c", "mkdir ../busy && echo x >> ../worked && rmdir ../busy"];
    thread::scope(|scope| {
        for holder in ["anna@laptop", "bert@desk", "cleo@sofa"] {
            let (on, alone) = (&on, &alone);
            scope.spawn(move || {
                let me = Operator { holder: holder.to_owned(), ..me() };
                for _ in 0..5 {
                    let steps = locked(vec![run(alone, "a")], &nodes(), LOCK, "stage", &flags(Some(120), false));
                    let outcome = execute_as(&me, steps, on, Goal::Do, &Progress::silent(), &mut |_| {});
                    assert_eq!(outcome.failures(), Vec::<String>::new());
                }
            });
        }
    });
    assert_eq!(fs::read_to_string(on.dir.path().join("worked")).unwrap(), "x\n".repeat(15));
    assert_eq!(on.files(), Vec::<String>::new());
}

#[test]
fn a_record_that_arrives_incomplete_locks_nothing() {
    let on = Nodes::new();
    for stdin in ["", "half a record", "a record\nhalf a hash"] {
        let call = super::locking::take_call(LOCK, stdin.to_owned());
        let output = on.call("a", &call, Duration::from_secs(10)).unwrap();
        assert!(!output.ok() && output.reason().contains("incomplete"), "{output:?}");
    }
    assert_eq!(on.files(), Vec::<String>::new());
}
