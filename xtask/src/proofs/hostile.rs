//! One hostile member, beside members at their usual work on three nodes: once with a tenth of a core for its attacks, once with as much
//! as it gets. What the others keep of the rates that they have alone, at the pace of people and as fast as they can, what the engines
//! need, and how soon the hostile member is out.
//!
//! Nothing else may keep the machine busy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::figures::{Figure, Target, judge, usage};
use super::site::{Crowd, Site, float, on_fresh_cluster};
use unibus_ops::install_dir::RUNTIME_DIR;
use unibus_ops::paths::Paths;
use unibus_ops::ui::Progress;

/// Beside the cluster that a user of this machine may have, which stays as it is.
const BASE_ADDRESS: &str = "127.0.97.11";
/// Members at work: those who read, those who change something and those who speak.
const MEMBERS: usize = 18;
const WORK_S: u64 = 60;
/// How the members work: how that is called, and how often each of them begins something.
const PACES: [(&str, u64); 2] = [("at the pace of people", 250), ("as fast as they can", 0)];
/// The attacks begin before the work and go on while the hostile member is taken out.
const HARM_S: u64 = 2 * WORK_S + 30;
const BEGIN: Duration = Duration::from_secs(5);
/// A tenth of a core.
const SHARE: u32 = 10;
/// How often it is looked at what the hostile program has used.
const LOOK: Duration = Duration::from_millis(20);

/// Brings a cluster up, measures, and takes it down, also after a failure.
pub(super) fn run(paths: &Paths, progress: &Progress) -> Result<()> {
    judge(&on_fresh_cluster(paths, progress, ("prove-hostile", BASE_ADDRESS), measure)?)
}

fn measure(site: &Site) -> Result<Vec<Figure>> {
    let mut members = Crowd::start(site)?;
    let made = members.ask(&json!({ "do": "make", "users": MEMBERS, "rooms": MEMBERS }))?;
    let first = made.get("first").cloned().context("no room was made")?;
    errln!("the members alone");
    let alone = work(&mut members)?;
    let (memory_mb, removal_s) = promised(site)?;
    let mut figures = Vec::new();
    for (how, share, kept) in [("with a tenth of a core", Some(SHARE), 0.9), ("with all it gets", None, 0.5)] {
        errln!("beside a hostile member {how}");
        let mut hostile = Crowd::start(site)?;
        let handle = hostile.ask(&json!({ "do": "make", "users": 1, "rooms": 1 }))?;
        let handle = handle.get("handle").cloned().context("a crowd without a user")?;
        members.ask(&json!({ "do": "invite", "handle": handle }))?;
        let harm =
            json!({ "do": "harm", "seconds": HARM_S, "room": first.get("room"), "subject": first.get("subject") });
        let pid = hostile.pid();
        hostile.order(&harm)?;
        let over = &AtomicBool::new(false);
        let (beside, removed, most) = thread::scope(|scope| {
            let held = share.map(|share| scope.spawn(move || hold(pid, share, over)));
            let memory = scope.spawn(|| memory(site, over));
            let done = (|| {
                thread::sleep(BEGIN);
                let beside = work(&mut members)?;
                let removed = members.ask(&json!({ "do": "expel", "handle": handle }))?;
                anyhow::Ok((beside, removed))
            })();
            over.store(true, Ordering::Relaxed);
            if let Some(held) = held {
                held.join().map_err(|_| anyhow::anyhow!("holding the hostile program back panicked"))??;
            }
            let most = memory.join().map_err(|_| anyhow::anyhow!("looking at the engines panicked"))??;
            let (beside, removed) = done?;
            anyhow::Ok((beside, removed, most))
        })?;
        let tried = hostile.answer()?;
        for (kind, count) in tried.as_object().into_iter().flatten() {
            let count = count.as_f64().unwrap_or_default();
            figures.push(Figure::new(&format!("{kind} tried, {how}"), count, "", Target::AtLeast(1.0)));
        }
        hostile.end()?;
        for ((pace, _), (alone, beside)) in PACES.iter().zip(alone.iter().zip(&beside)) {
            for kind in ["reads", "writes", "said"] {
                let (before, now) = (rate(alone, kind)?, rate(beside, kind)?);
                figures.push(Figure::new(&format!("{kind} beside it {pace}, {how}"), now, "a second", Target::None));
                let kept_now = now / before;
                let what = format!("of the {kind} alone {pace}, {how}");
                figures.push(Figure::new(&what, kept_now, "", Target::AtLeast(kept)));
                let longest = float(beside.get(kind).context("work without a kind")?, "longest_ms")?;
                figures.push(Figure::new(
                    &format!("the longest of the {kind} {pace}, {how}"),
                    longest,
                    "ms",
                    Target::None,
                ));
            }
            let cut = float(beside, "cut")?;
            let what = format!("connections of members cut {pace}, {how}");
            figures.push(Figure::new(&what, cut, "", Target::AtMost(0.0)));
        }
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let most = most as f64 / 1e6;
        figures.push(Figure::new(&format!("the largest engine, {how}"), most, "MB", Target::AtMost(memory_mb)));
        let removal = float(&removed, "seconds")?;
        figures.push(Figure::new(&format!("its removal, {how}"), removal, "s", Target::AtMost(removal_s)));
    }
    members.end()?;
    Ok(figures)
}

/// What the members do, at each pace.
fn work(members: &mut Crowd) -> Result<Vec<Value>> {
    PACES.iter().map(|(_, ms)| members.ask(&json!({ "do": "work", "seconds": WORK_S, "pace_ms": ms }))).collect()
}

/// What a node says of itself: up to which memory its engine lets garbage lie, and within which time a removal is honoured nowhere.
fn promised(site: &Site) -> Result<(f64, f64)> {
    let seed = site.nodes.first().context("a cluster without nodes")?;
    let told = site.program(seed, &["status", "--json", "--runtime-dir", RUNTIME_DIR]).output();
    let posture: Value = serde_json::from_slice(&told.context("starting membershipd")?.stdout)
        .with_context(|| format!("{seed} does not tell its posture"))?;
    let number =
        |at: &str| posture.pointer(at).and_then(Value::as_f64).with_context(|| format!("a posture without {at}"));
    Ok((number("/engine_bounds/engine_memory")? / 1e6, number("/lease/bound_ms")? / 1e3))
}

fn rate(worked: &Value, kind: &str) -> Result<f64> {
    float(worked.get(kind).with_context(|| format!("{worked} has no {kind}"))?, "rate")
}

/// Lets the process `pid` have one part in `share` of a core, until it is over; then it goes on freely.
fn hold(pid: u32, share: u32, over: &AtomicBool) -> Result<()> {
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw).context("no process")?;
    let (began, before) = (Instant::now(), usage(pid)?.processor);
    while !over.load(Ordering::Relaxed) {
        let used = usage(pid)?.processor.saturating_sub(before);
        let signal = if used * share > began.elapsed() { Signal::STOP } else { Signal::CONT };
        kill_process(process, signal).context("holding the hostile program back")?;
        thread::sleep(LOOK);
    }
    kill_process(process, Signal::CONT).context("letting the hostile program go on")
}

/// The most memory that an engine had, until it is over.
fn memory(site: &Site, over: &AtomicBool) -> Result<u64> {
    let mut most = 0;
    while !over.load(Ordering::Relaxed) {
        let now = site.usage()?.into_iter().map(|[_, engine]| engine.memory).max();
        most = most.max(now.unwrap_or_default());
        thread::sleep(Duration::from_secs(1));
    }
    Ok(most)
}
