//! One run: a load, the faults one after the other, each healed and proved healed, and the verdict.

use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::faults::{Fault, Leaders, Planned};
use super::inject::{Half, Injector};
use super::judge::{Rules, judge, proves_enough, proves_revocations, recovered};
use super::load::Load;
use super::verdict::{Verdict, Window};
use unibus_ops::target::Target;
use unibus_ops::ui::{Line, Progress};
use unibus_ops::verify::{Check, summary};

/// How long everything is used before it is broken, and after all is healed, at least.
const CALM: Duration = Duration::from_secs(5);
const CALM_AFTER: Duration = Duration::from_secs(2);
/// A fault lasts at least so long, and at most so much longer until enough has succeeded in spite of it.
const LEAST: Duration = Duration::from_secs(4);
const MOST: Duration = Duration::from_secs(20);
/// A node that stands still is let go before its watchdog ends it: that is what distinguishes it from one that was killed.
const FREEZE_MOST: Duration = Duration::from_secs(8);
/// So long a cluster may take until it is well again: an election, a start with data, a lease.
const HEALING: Duration = Duration::from_secs(90);
/// How much longer than the bound a quorum may stay lost until enough was denied.
const DENYING: Duration = Duration::from_secs(20);
/// A window is ended only when enough was done in it, but not later than this: a busy machine needs its time.
const PROVING: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);
/// So many operations of each kind prove something.
const PROOF: usize = 10;

/// A cluster that is to be broken, or only watched.
pub(crate) struct Run<'a> {
    target: &'a Target,
    load: Load,
    windows: Vec<Window>,
    rules: Rules,
    /// Checks of verify that did not hold before anything was broken.
    tolerated: Vec<(String, String)>,
    interrupted: Arc<AtomicBool>,
    begun_us: u64,
    line: Line,
}

/// What does not hold before anything is broken, where that may be: a test build names its faults.
pub(crate) fn known_ills(target: &Target) -> Result<Vec<(String, String)>> {
    let (checks, _) = target.verify();
    let ill: Vec<&Check> = checks.iter().filter(|check| !check.ok).collect();
    let excused = |check: &&Check| target.expected.test_build && check.id == "posture";
    if checks.is_empty() || !ill.iter().all(excused) {
        bail!(
            "the cluster is not well before anything was broken: {}; next: {}",
            summary(&checks),
            target.verb("verify")
        );
    }
    Ok(ill.into_iter().map(|check| (check.id.clone(), check.node.clone())).collect())
}

/// The time after which nobody may be served, as the nodes themselves say; the longest of them.
pub(crate) fn bound(target: &Target) -> Result<Duration> {
    let answers = target.ask();
    let bounds = answers.iter().filter_map(|answer| answer.posture.as_ref().ok()).map(|p| p.lease.bound_ms);
    bounds.max().map(Duration::from_millis).context("no node says for how long a revocation may be honoured")
}

impl<'a> Run<'a> {
    /// A run over a load that works already.
    pub(crate) fn new(target: &'a Target, load: Load, rules: Rules, tolerated: Vec<(String, String)>) -> Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("listening to signals")?;
        }
        let line = Progress::new().line("chaos");
        Ok(Self { target, load, windows: Vec::new(), rules, tolerated, interrupted, begun_us: now_us(), line })
    }

    /// What is demanded of a run that breaks things.
    pub(crate) fn rules_of_breaking(bound: Duration) -> Rules {
        Rules { revokes: true, flawless: false, ..Self::rules(bound) }
    }

    /// What is demanded of a run that only watches.
    pub(crate) fn rules_of_watching(bound: Duration) -> Rules {
        Rules { revokes: false, flawless: true, ..Self::rules(bound) }
    }

    fn rules(bound: Duration) -> Rules {
        let bound_us = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        Rules { bound_us, least: PROOF, revokes: true, converses: true, flawless: true }
    }

    /// Breaks the cluster in every planned way, and judges.
    pub(crate) fn break_it(mut self, injector: &dyn Injector, planned: &[Planned]) -> Result<Verdict> {
        self.calm("before", CALM)?;
        for plan in planned {
            if self.is_interrupted() {
                break;
            }
            if !self.one(injector, plan)? {
                // What comes after this would be judged for what this has left.
                return self.finish();
            }
        }
        self.calm("afterwards", CALM_AFTER)?;
        self.finish()
    }

    /// Watches while `work` changes the cluster in a way that nobody should notice, and judges.
    pub(crate) fn watch(
        mut self,
        name: &str,
        work: impl FnOnce() -> Result<ExitStatus>,
    ) -> Result<(Verdict, ExitStatus)> {
        self.calm("before", CALM)?;
        let begin_us = now_us();
        self.line.set(format!("using the cluster during {name}"));
        let status = work()?;
        let mut window = Window { heal_us: now_us(), ..self.window(&format!("during {name}"), &[], true, begin_us) };
        self.until_enough(&mut window)?;
        self.windows.push(window);
        self.calm("afterwards", CALM_AFTER)?;
        Ok((self.finish()?, status))
    }

    fn finish(self) -> Result<Verdict> {
        let interrupted = self.is_interrupted();
        self.line.set("reading everything back");
        let history = self.load.finish()?;
        if interrupted {
            self.line.failed("interrupted; everything was healed");
            bail!("interrupted before there was a verdict; every fault was healed");
        }
        let verdict = judge(&history, &self.windows, &self.rules);
        self.line.done(&format!("{} operations judged", history.ops.len()));
        Ok(verdict)
    }

    /// A window in which nothing is done.
    fn calm(&mut self, name: &str, least: Duration) -> Result<()> {
        self.line.set(format!("{name}: using the cluster as it is"));
        let mut window = self.window(name, &[], true, now_us());
        self.sleep(least);
        self.until_enough(&mut window)?;
        window.heal_us = window.end_us;
        self.windows.push(window);
        Ok(())
    }

    /// One fault; false where the cluster was not well again.
    fn one(&mut self, injector: &dyn Injector, plan: &Planned) -> Result<bool> {
        let fault = plan.fault;
        let nodes = plan.victims.resolve(&self.leaders());
        let name = format!("{fault} of {}", nodes.join(" and "));
        self.line.set(format!("{name}: being brought about"));
        let mut window = self.window(&fault.to_string(), &nodes, fault.keeps_quorum(), now_us());
        let injected = injector.carry_out(injector.deeds(fault, Half::Inject, &nodes));
        window.injected_us = now_us();
        if injected.is_ok() {
            self.line.set(format!("{name}: lasts"));
            self.hold(injector, fault, &mut window)?;
        }
        window.heal_us = now_us();
        self.line.set(format!("{name}: being healed"));
        // Healed also where only half of it came about.
        let healed = injector.carry_out(injector.deeds(fault, Half::Heal, &nodes));
        injected.with_context(|| format!("{name} could not be brought about"))?;
        healed.with_context(|| format!("{name} could not be healed; next: {}", self.target.verb("verify")))?;
        self.line.set(format!("{name}: waiting until the cluster is well"));
        window.ill = self.await_health()?;
        let well = window.ill.is_none();
        if well {
            self.until_enough(&mut window)?;
        } else {
            window.end_us = now_us();
        }
        self.windows.push(window);
        if well && !self.is_interrupted() {
            // Before the next fault, so that it is known which of them has cost a message.
            self.line.set(format!("{name}: reading what was said so far"));
            self.load.look_so_far()?;
        }
        Ok(well)
    }

    /// Waits until the fault has shown what it has to show.
    fn hold(&mut self, injector: &dyn Injector, fault: Fault, window: &mut Window) -> Result<()> {
        let begun = Instant::now();
        let bound = Duration::from_micros(self.rules.bound_us);
        let (least, most) = match fault {
            Fault::Quorum => (bound, bound + DENYING),
            Fault::Freeze if injector.has_watchdog() => (FREEZE_MOST, FREEZE_MOST),
            // Longer than its lease lasted: when it goes on it must notice that by itself.
            Fault::Freeze | Fault::CutOff | Fault::Deaf => (bound, bound.max(MOST)),
            Fault::Stop | Fault::Kill | Fault::PowerCut => (LEAST, MOST),
        };
        while begun.elapsed() < most && !self.is_interrupted() {
            (window.heal_us, window.end_us) = (now_us(), now_us());
            let shown = self.load.look(|history| {
                proves_enough(history, window, &self.rules) && (!window.quorum || recovered(history, window))
            });
            if shown && begun.elapsed() >= least {
                break;
            }
            self.load.check()?;
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Ends a window, as soon as enough was done in it to prove something, and everybody is served again. Before the first fault
    /// rights have been taken away, too: while a node is gone that takes its time.
    fn until_enough(&mut self, window: &mut Window) -> Result<()> {
        let begun = Instant::now();
        let is_first = self.windows.is_empty();
        loop {
            window.end_us = now_us();
            let enough = self.load.look(|history| {
                proves_enough(history, window, &self.rules)
                    && (window.nodes.is_empty() || recovered(history, window))
                    && (!is_first || proves_revocations(history, &self.rules))
            });
            if enough || begun.elapsed() >= PROVING || self.is_interrupted() {
                return Ok(());
            }
            self.load.check()?;
            thread::sleep(LOOK);
        }
    }

    /// None as soon as the cluster is as well as it was before; else what ails it.
    fn await_health(&mut self) -> Result<Option<String>> {
        let deadline = Instant::now() + HEALING;
        loop {
            let (checks, _) = self.target.verify();
            let known = |check: &Check| self.tolerated.iter().any(|(id, node)| *id == check.id && *node == check.node);
            if !checks.is_empty() && checks.iter().all(|check| check.ok || known(check)) {
                return Ok(None);
            }
            if Instant::now() >= deadline {
                return Ok(Some(summary(&checks)));
            }
            if self.is_interrupted() {
                return Ok(None);
            }
            self.load.check()?;
            thread::sleep(LOOK);
        }
    }

    fn leaders(&self) -> Leaders {
        let answers = self.target.ask();
        let mut leaders = Leaders::default();
        for posture in answers.iter().filter_map(|answer| answer.posture.as_ref().ok()) {
            let cluster = posture.cluster.as_ref().and_then(|cluster| cluster.leader.clone());
            leaders.cluster = leaders.cluster.or(cluster);
            let users = posture.replicas.iter().find(|replica| replica.bucket == USERS);
            leaders.users = leaders.users.or(users.and_then(|replica| replica.leader.clone()));
        }
        leaders
    }

    /// A window that begins where the last one ended, so that none of the run is left out.
    fn window(&self, fault: &str, nodes: &[String], quorum: bool, now_us: u64) -> Window {
        let begin_us = self.windows.last().map_or(self.begun_us, |window| window.end_us);
        Window {
            fault: fault.to_owned(),
            nodes: nodes.to_vec(),
            quorum,
            begin_us,
            injected_us: now_us,
            heal_us: now_us,
            end_us: now_us,
            ill: None,
        }
    }

    fn sleep(&self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time && !self.is_interrupted() {
            thread::sleep(LOOK);
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// The bucket whose leader decides about every write that the load makes.
const USERS: &str = "UNIBUS_users";

/// The load notes the same clock, of the same machine.
fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
