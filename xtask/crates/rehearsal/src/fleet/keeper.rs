//! The process outside: starts the holder, and sweeps when it is over, however it came to be over.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::process::setsid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::cgroup::Cgroup;
use super::enter;
use super::layout::{Claim, Layout};
use super::members;
use super::operator;
use super::preflight;
use super::proto::{News, STAY, Spec};
use super::sweep;
use unibus_ops::exit;
use unibus_ops::fsx;
use unibus_ops::machine_host::cgroup_mount;
use unibus_ops::topology::Topology;

/// Lines of the holder's log that tell why it ended.
const LAST_WORDS: usize = 20;

/// What ends a fleet.
enum Over {
    /// Whoever started it is gone, and it was not to stay.
    Alone,
    /// We were told to end.
    Signal,
    /// Somebody ended the holder.
    Holder,
}

/// Hidden: keeps the fleet in `dir` until it is over. What is to be kept is told on standard input.
pub(crate) fn keep(dir: &Path) -> Result<()> {
    // A Ctrl-C on the terminal is for whoever started us: that one's end is what we look at. One that leads a session
    // already is nobody's child on a terminal.
    let _ = setsid();
    let kept = Layout::new(dir).and_then(Layout::claim).and_then(|claim| {
        let done = run(&claim);
        let swept = sweep::sweep(claim).context("sweeping");
        done.and(swept)
    });
    if let Err(error) = &kept {
        News::Failed { why: format!("{error:#}"), refused: exit::is_refusal(error) }.tell();
    }
    kept
}

fn run(claim: &Claim) -> Result<()> {
    let layout = &claim.layout;
    if claim.left_over {
        sweep::clear(layout)?;
        claim.empty()?;
    }
    let (over, is_over) = mpsc::channel();
    // From here on a signal must not end us alone.
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("listening to signals")?;
    let on_signal = over.clone();
    thread::spawn(move || signals.forever().next().map(|_| on_signal.send(Over::Signal)));
    let spec = hear(over.clone())?;
    prepare(layout, &spec)?;
    let cgroup = Cgroup::make(cgroup_mount()?.join(layout.cgroup_name()))?;
    let mut holder = start(layout, &spec, &cgroup)?;
    let waiting = thread::spawn(move || {
        let ended = holder.wait();
        // Nobody listens any more when the end was our own doing.
        let _ = over.send(Over::Holder);
        ended
    });
    let why = is_over.recv().context("waiting for the end")?;
    sweep::end(layout)?;
    let ended = waiting.join().ok().and_then(Result::ok);
    match why {
        Over::Alone | Over::Signal => Ok(()),
        Over::Holder => {
            let how = ended.map_or_else(|| "it cannot be told how".to_owned(), |status| status.to_string());
            bail!("the fleet's holder ended ({how}){}", last_words(layout))
        }
    }
}

/// Reads what there is to keep; then says so when whoever told us is gone.
fn hear(over: Sender<Over>) -> Result<Spec> {
    let mut from = BufReader::new(std::io::stdin());
    let mut line = String::new();
    from.read_line(&mut line).context("reading what to keep")?;
    let spec = serde_json::from_str(&line).context("reading what to keep")?;
    thread::spawn(move || {
        let mut word = String::new();
        // An error is no word either.
        let _ = from.read_line(&mut word);
        if word.trim_end() != STAY {
            let _ = over.send(Over::Alone);
        }
    });
    Ok(spec)
}

fn prepare(layout: &Layout, spec: &Spec) -> Result<()> {
    fsx::write(&layout.topology(), fsx::PUBLIC, spec.topology.as_bytes())?;
    let members = members::members(&Topology::load(&layout.topology())?);
    operator::prepare(layout, &members)?;
    fs::copy("/proc/self/exe", layout.program()).context("copying this program")?;
    for member in &members {
        let dir = layout.machine(&member.name);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    }
    Ok(())
}

/// Starts the holder in its own cgroup and namespaces. It dies with the thread that calls this.
fn start(layout: &Layout, spec: &Spec, cgroup: &Cgroup) -> Result<Child> {
    let log = fs::File::create(layout.log()).with_context(|| format!("making {}", layout.log().display()))?;
    let program = layout.program();
    let mut command = Command::new(&program);
    command.args(enter::words(cgroup.dir())).args([
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--uts",
        "--ipc",
        "--cgroup",
        "--fork",
        "--kill-child=SIGKILL",
        "--propagation=private",
        "--mount-proc",
        "--",
    ]);
    command.arg(&program).args(["fleet", "init", "--"]);
    command.arg(&program).args(["fleet", "hold", "--dir"]).arg(layout.dir()).arg("--base").arg(&spec.base);
    command.env_clear().env("PATH", preflight::PATH).current_dir("/").stdin(Stdio::null()).stderr(log);
    command.spawn().context("starting the fleet's holder")
}

fn last_words(layout: &Layout) -> String {
    let text = fs::read_to_string(layout.log()).unwrap_or_default();
    let mut last: VecDeque<&str> = text.lines().rev().take(LAST_WORDS).collect();
    last.make_contiguous().reverse();
    last.iter().fold(String::new(), |said, line| format!("{said}\n  {line}"))
}
