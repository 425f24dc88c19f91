//! Very many rooms that persist: how fast they are made, what they cost while nothing is said and with much that was said, how soon a
//! cluster that has all of it is ready, how long a page takes while others write, and whether one removal disturbs others.
//!
//! Nothing else may keep the machine busy. `UNIBUS_PROVE_ROOMS` and `UNIBUS_PROVE_MESSAGES` are for a look with fewer.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::figures::{Figure, Target, judge};
use super::site::{Crowd, Site, float, on_fresh_cluster};
use unibus_local::cluster::control;
use unibus_local::supervisor::Request;
use unibus_ops::install_dir::RUNTIME_DIR;
use unibus_ops::paths::Paths;
use unibus_ops::ui::Progress;

/// Beside the cluster that a user of this machine may have, which stays as it is.
const BASE_ADDRESS: &str = "127.0.93.11";
const USERS: usize = 100;
const ROOMS: usize = 10_000;
const MESSAGES: usize = 400_000;
/// Time for what was done to come to rest, before idleness is measured, and for measuring it. Go gives memory back in cycles of two
/// minutes, and what a pool held goes with the second one.
const REST: Duration = Duration::from_secs(300);
const IDLE: Duration = Duration::from_secs(60);
const READ_S: u64 = 30;
/// Time within which a node has to be ready at all, for the figure to be told.
const READY_S: &str = "120";

/// Brings a cluster up, measures, and takes it down, also after a failure.
pub(super) fn run(paths: &Paths, progress: &Progress) -> Result<()> {
    judge(&on_fresh_cluster(paths, progress, ("prove-rooms", BASE_ADDRESS), measure)?)
}

fn number(variable: &str, usual: usize) -> Result<usize> {
    match env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text} is no number")),
        Err(_) => Ok(usual),
    }
}

fn measure(site: &Site) -> Result<Vec<Figure>> {
    let (rooms, messages) = (number("UNIBUS_PROVE_ROOMS", ROOMS)?, number("UNIBUS_PROVE_MESSAGES", MESSAGES)?);
    let mut crowd = Crowd::start(site)?;
    let mut figures = Vec::new();
    errln!("making {rooms} rooms by {USERS} users");
    let made = crowd.ask(&json!({ "do": "make", "users": USERS, "rooms": rooms }))?;
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let rate = rooms as f64 / float(&made, "seconds")?;
    figures.push(Figure::new("rooms made", rate, "a second", Target::AtLeast(100.0)));
    figures.push(Figure::new("tries again while making them", float(&made, "again")?, "", Target::None));
    idle(site, "without messages", 150.0, &mut figures)?;
    errln!("saying {messages} messages");
    let said = crowd.ask(&json!({ "do": "say", "messages": messages }))?;
    let rate = float(&said, "messages")? / float(&said, "seconds")?;
    figures.push(Figure::new("messages said and acknowledged", rate, "a second", Target::None));
    let text = format!("with {messages} messages");
    idle(site, &text, 300.0, &mut figures)?;
    errln!("reading while others write");
    let read = crowd.ask(&json!({ "do": "read", "seconds": READ_S }))?;
    figures.push(Figure::new("a page while others write, p50", float(&read, "p50_ms")?, "ms", Target::None));
    figures.push(Figure::new("a page while others write, p99", float(&read, "p99_ms")?, "ms", Target::AtMost(60.0)));
    errln!("removing a room");
    let removed = crowd.ask(&json!({ "do": "remove" }))?;
    figures.push(Figure::new("removing a room", float(&removed, "seconds")?, "s", Target::None));
    figures.push(Figure::new("connections of others that were cut", float(&removed, "cut")?, "", Target::AtMost(0.0)));
    figures.push(Figure::new("other histories that changed", float(&removed, "changed")?, "", Target::AtMost(0.0)));
    crowd.end()?;
    let one = restart(site, site.nodes.get(..1).context("a cluster without nodes")?)?;
    figures.push(Figure::new("a node is ready after its start", one.as_secs_f64(), "s", Target::AtMost(12.0)));
    let all = restart(site, &site.nodes)?;
    figures.push(Figure::new("all nodes are ready after their start", all.as_secs_f64(), "s", Target::AtMost(12.0)));
    idle(site, "after that start", 300.0, &mut figures)?;
    Ok(figures)
}

/// What all nodes cost at rest: the worst of them.
fn idle(site: &Site, when: &str, memory_mb: f64, figures: &mut Vec<Figure>) -> Result<()> {
    errln!("measuring at rest {when}: {} s", (REST + IDLE).as_secs());
    thread::sleep(REST);
    let before = site.usage()?;
    let began = Instant::now();
    thread::sleep(IDLE);
    let (after, elapsed) = (site.usage()?, began.elapsed().as_secs_f64());
    for (which, name, most) in [(1, "engine", memory_mb), (0, "daemon", f64::INFINITY)] {
        let cores = before.iter().zip(&after).filter_map(|(before, after)| {
            let used = after.get(which)?.processor.saturating_sub(before.get(which)?.processor);
            Some(used.as_secs_f64() / elapsed)
        });
        let cores: Vec<f64> = cores.collect();
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let memory = after.iter().filter_map(|node| node.get(which)).map(|usage| usage.memory as f64 / 1e6);
        let (memory, targets) = (
            memory.fold(0.0, f64::max),
            if name == "engine" { (Target::AtMost(0.05), Target::AtMost(most)) } else { (Target::None, Target::None) },
        );
        let worst = cores.iter().copied().fold(0.0, f64::max);
        figures.push(Figure::new(&format!("{name} at rest {when}, the busiest"), worst, "cores", targets.0));
        let sum: f64 = cores.iter().sum();
        figures.push(Figure::new(&format!("the three together, {name}"), sum, "cores", Target::None));
        figures.push(Figure::new(&format!("{name} {when}, the largest"), memory, "MB", targets.1));
    }
    Ok(())
}

/// Stops these nodes, starts them together, and says how long it takes until all of them decide again.
fn restart(site: &Site, nodes: &[String]) -> Result<Duration> {
    errln!("restarting {}", nodes.join(", "));
    for node in nodes {
        control(&site.state)?.carry_out(&Request::Stop { node: node.clone() })?;
    }
    let began = Instant::now();
    thread::scope(|scope| {
        let start = |node: &String| -> Result<()> {
            control(&site.state)?.carry_out(&Request::Start { node: node.clone() })?;
            let words = ["wait", "--for", "healthy", "--within", READY_S, "--runtime-dir", RUNTIME_DIR];
            let status = site.program(node, &words).status().context("starting membershipd")?;
            ensure!(status.success(), "{node} is not healthy {READY_S} s after its start");
            Ok(())
        };
        let started: Vec<_> = nodes.iter().map(|node| scope.spawn(move || start(node))).collect();
        started.into_iter().try_for_each(|one| match one.join() {
            Ok(result) => result,
            Err(_) => bail!("starting a node panicked"),
        })
    })?;
    Ok(began.elapsed())
}
