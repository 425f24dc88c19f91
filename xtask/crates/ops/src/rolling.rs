//! In which order nodes are started, restarted and taken back, and what must hold in between: topologies turned into steps.

use std::path::PathBuf;
use std::time::Duration;

use crate::build;
use crate::engine;
use crate::install_dir::CLUSTER_ENV;
use crate::level;
use crate::node_files::SECRETS;
use crate::plan::{Effect, Explain, Purpose, Step, Unless, words};
use crate::staging::{self, CURRENT, PREVIOUS, STAGED, UNIT};
use crate::topology::Topology;

mod boot;

/// A started daemon has its engine at once, but the engine first reads its store.
const ALIVE: u32 = 60;
/// An election takes up to 9 s, the second may be needed, and routes are dialled every second or two.
const QUORUM: u32 = 60;
/// What a cold cluster is asked is asked again for up to two minutes: the buckets are made in that time.
const HEALTHY: u32 = 120;
/// A copy that missed a restart is current within seconds; a machine under load takes its time.
const CURRENT_WITHIN: u32 = 120;
/// A copy that begins with nothing fetches everything; whoever runs the verb again goes on waiting.
const CAUGHT_UP: u32 = 900;
/// TimeoutStopSec= and TimeoutStartSec= of the unit.
const RESTARTED: u32 = 60 + 120;
/// A server checks its memory and disks before it boots.
const REBOOTED: u32 = 900;
/// What `membershipd level raise` takes at most: a revocation that is waited out.
const LEVEL_RAISED: u32 = 60;
/// What `membershipd scale` takes at most.
const SCALED: u32 = 300;
/// What ssh and the machine need beside what is waited for.
const MARGIN: u32 = 30;

/// What is waited for on a node: each more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// The daemon answers and its engine runs.
    Alive,
    /// The engines have a leader.
    Quorum,
    /// The node can prove its view: it admits.
    Healthy,
    /// Every copy of every bucket is current and every node is connected: any one of them may go.
    Current,
    /// The same, where a copy begins with nothing.
    CaughtUp,
}

impl Until {
    const fn id(self) -> &'static str {
        match self {
            Self::Alive => "until alive",
            Self::Quorum => "until quorum",
            Self::Healthy => "until healthy",
            Self::Current | Self::CaughtUp => "until current",
        }
    }

    const fn word_and_seconds(self) -> (&'static str, u32) {
        match self {
            Self::Alive => ("alive", ALIVE),
            Self::Quorum => ("quorum", QUORUM),
            Self::Healthy => ("healthy", HEALTHY),
            Self::Current => ("current", CURRENT_WITHIN),
            Self::CaughtUp => ("current", CAUGHT_UP),
        }
    }
}

/// Who starts and stops the daemons.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each variant says what its fields are for")]
pub enum Service {
    /// systemd, on a server.
    Systemd,
    /// The supervisor of a local cluster, through the verb that an operator would type.
    Local { xtask: PathBuf, root: PathBuf, state: PathBuf },
}

/// A cluster whose nodes are to be worked on one after the other.
pub struct Site<'a> {
    /// In whose order the nodes are worked on.
    pub topology: &'a Topology,
    /// Who starts and stops their daemons.
    pub service: Service,
    /// Where each node's control socket lies.
    pub runtime_dir: &'a str,
}

/// Which restarts are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Where something changed that only counts from the next start.
    WhereChanged,
    /// Everywhere.
    Always,
    /// Everywhere, with the machine, as a new kernel needs it.
    Machine,
}

/// Steps, wave after wave.
#[derive(Default)]
struct Waves {
    wave: u32,
    steps: Vec<Step>,
}

impl Waves {
    /// What follows begins when everything so far has ended well.
    fn then(&mut self, steps: impl IntoIterator<Item = Step>) {
        self.wave += 1;
        self.steps.extend(steps.into_iter().map(|step| step.in_wave(self.wave)));
    }
}

/// A step that by itself ends within so many seconds.
fn limited(id: &'static str, node: &str, effect: Effect, seconds: u32) -> Step {
    Step::new(id, node, effect).within(Duration::from_secs(u64::from(seconds + MARGIN)))
}

/// Why the daemon ended that systemd could not start.
fn last_words() -> Explain {
    let argv =
        ["journalctl", "--unit", UNIT, "--identifier", build::FILE, "--lines", "20", "--output", "cat", "--quiet"];
    Explain { argv: words(&[argv.as_slice(), &["--no-pager"]].concat()), begins: format!("{}: ", build::FILE) }
}

impl Site<'_> {
    /// Starts what does not run: the seed, then as many as make a quorum, then the rest. No node can be healthy before there
    /// is a quorum, and no bucket can be made before as many engines run as it has copies: so that is asked at the end.
    pub fn up(&self) -> Vec<Step> {
        let mut waves = Waves::default();
        waves.then(self.nodes().map(|node| self.fits(node, CURRENT)));
        // A server that is not reached or not staged is found before anything is started.
        waves.then(self.nodes().map(|node| self.enable(node)));
        let (seeds, others): (Vec<_>, Vec<_>) = self.topology.nodes.iter().partition(|node| node.seed);
        let quorum = self.topology.majority();
        for (running, node) in (1..).zip(seeds.into_iter().chain(others)) {
            let mut steps = vec![self.start(&node.name), self.until(&node.name, Until::Alive)];
            if running == quorum {
                steps.push(self.until(&node.name, Until::Quorum));
            }
            waves.then(steps);
        }
        waves.then(self.nodes().flat_map(|node| self.well(node, Until::Current)));
        waves.steps
    }

    /// Takes every node to its staged release and settings, one after the other in the order of the topology. Who leads is
    /// not known beforehand and need not be: a leader that is stopped hands over first.
    /// Where machines reboot none may be down before: one that does not come back would be the second.
    pub fn roll(&self, only: &[String], restart: Restart) -> Vec<Step> {
        let mut waves = Waves::default();
        let chosen: Vec<&str> =
            self.nodes().filter(|node| only.is_empty() || only.iter().any(|name| name == node)).collect();
        waves.then(chosen.iter().map(|node| self.fits(node, STAGED)));
        if restart == Restart::Machine {
            // One that is ill is named to be mended.
            let needed = self.nodes().filter(|node| !only.iter().any(|name| name == node));
            waves.then(needed.map(|node| self.is_healthy(node)));
            waves.then(chosen.iter().map(|node| Self::starts_at_boot(node)));
        }
        for node in chosen {
            if only.is_empty() {
                waves.then([self.until(node, Until::Current)]);
            } else {
                // The way to mend a node that is ill: it cannot be asked to be well first.
                waves.then(self.others_are_healthy(node));
            }
            if self.has_releases() {
                waves.then(self.switch(node, "remember release", STAGED));
            }
            match restart {
                Restart::Machine => self.boot(&mut waves, node),
                _ => waves.then([self.restart(node, restart)]),
            }
            waves.then(self.well(node, Until::Current));
        }
        if self.has_releases() && only.is_empty() {
            waves.then(self.nodes().map(|node| staging::prune(self.topology, node)));
        }
        waves.steps
    }

    /// Takes nodes back to their previous release. Where the whole cluster is down there is nothing to wait for first.
    pub fn rollback(&self, only: &[String], outage: bool) -> Vec<Step> {
        let mut waves = Waves::default();
        let chosen: Vec<&str> =
            self.nodes().filter(|node| only.is_empty() || only.iter().any(|name| name == node)).collect();
        waves.then(chosen.iter().map(|node| self.has_previous(node)));
        waves.then(chosen.iter().map(|node| self.fits(node, PREVIOUS)));
        for node in &chosen {
            if !outage {
                waves.then(self.others_are_healthy(node));
            }
            self.go_back(&mut waves, node);
            if outage {
                waves.then([self.until(node, Until::Alive)]);
            } else {
                waves.then(self.well(node, Until::Current));
            }
        }
        if outage {
            waves.then(chosen.iter().flat_map(|node| self.well(node, Until::Current)));
        }
        waves.steps
    }

    /// Takes one node back that did not get well: the cluster runs without it already.
    pub fn back(&self, node: &str) -> Vec<Step> {
        let mut waves = Waves::default();
        self.go_back(&mut waves, node);
        waves.then(self.well(node, Until::Current));
        waves.steps
    }

    /// A machine in the place of another one: `put` makes it what it should be, `refreshed` tells the other nodes.
    pub fn replace(&self, node: &str, put: Vec<Step>, refreshed: Vec<Step>) -> Vec<Step> {
        let mut waves = Waves::default();
        // One node is lost already: a second one must not be, not even for a moment.
        waves.then(self.others_are_healthy(node));
        waves.then(put.into_iter().chain(refreshed));
        waves.then([self.enable(node)]);
        waves.then([self.restart(node, Restart::WhereChanged)]);
        waves.then(self.well(node, Until::CaughtUp));
        for other in self.nodes().filter(|other| *other != node) {
            waves.then([self.until(other, Until::Current)]);
            waves.then([self.restart(other, Restart::WhereChanged)]);
            waves.then(self.well(other, Until::Current));
        }
        waves.steps
    }

    /// Raises every bucket to `copies`; `settings` then says so to the nodes, whose daemons need no restart for it.
    pub fn scale(&self, copies: u32, settings: Vec<Step>) -> Vec<Step> {
        let mut waves = Waves::default();
        waves.then(self.nodes().map(|node| self.until(node, Until::Current)));
        let copies = copies.to_string();
        let argv = self.membershipd(&["scale", &copies, "--within", &SCALED.to_string(), "--json"]);
        let unless = Unless { argv: self.membershipd(&["scale", &copies, "--check"]), prints: None };
        let first = self.nodes().next().unwrap_or_default();
        waves.then([limited("raise the copies", first, Effect::Run { argv, unless }, SCALED)]);
        waves.then(self.nodes().map(|node| self.until(node, Until::CaughtUp)));
        waves.then(settings);
        waves.steps
    }

    /// Ends an upgrade: raises the feature level, where every node runs what is staged and is well. Older releases stay out then.
    pub fn finish(&self) -> Vec<Step> {
        let mut waves = Waves::default();
        waves.then(self.nodes().map(|node| self.until(node, Until::Current)));
        waves.then(self.nodes().flat_map(|node| self.runs_what_is_staged(node)));
        let argv = self.membershipd(&["level", "raise", "--json"]);
        let unless = Unless { argv: self.membershipd(&["level", "raise", "--check"]), prints: None };
        let first = self.nodes().next().unwrap_or_default();
        waves.then([limited("raise the level", first, Effect::Run { argv, unless }, LEVEL_RAISED)]);
        waves.then(self.nodes().flat_map(|node| self.well(node, Until::Current)));
        waves.steps
    }

    /// Fails where the node runs another release than the staged one, or its daemon is older than its program.
    fn runs_what_is_staged(&self, node: &str) -> Vec<Step> {
        let refuse = |why: &str| words(&["sh", "-c", "echo \"$1\" >&2; exit 1", "sh", why]);
        let mut steps = Vec::new();
        if self.has_releases() {
            let argv = refuse("it does not run the staged release: 'cargo xtask roll --yes' first");
            let step = Step::new("runs the release", node, Effect::Run { argv, unless: self.runs(STAGED) });
            steps.push(step.with(Purpose::Require));
        }
        let argv = refuse("its daemon is older than its program or settings: 'cargo xtask roll --yes' first");
        let unless = Unless { argv: self.newer_than_daemon(), prints: Some(String::new()) };
        steps.push(Step::new("daemon is current", node, Effect::Run { argv, unless }).with(Purpose::Require));
        steps
    }

    /// Fails where the cluster is at a level that the release cannot do which the link leads to. Where there are no releases it is
    /// about the program that runs from the next start.
    fn fits(&self, node: &str, link: &str) -> Step {
        const NO_WAY_BACK: &str = "there is no way back to it: mend what is wrong with a newer release (cargo xtask build, stage, roll), \
                                   or restore a backup from before 'roll --finish' into a new cluster of that release";
        const ANOTHER: &str = "build and stage a release that can: cargo xtask build, then cargo xtask stage --yes";
        let (name, remedy) = match link {
            PREVIOUS => ("the previous release", NO_WAY_BACK),
            STAGED => ("the staged release", ANOTHER),
            _ => ("the release that is installed", ANOTHER),
        };
        if self.has_releases() {
            let program = self.below(&format!("{link}/{}", build::FILE));
            let dir = self.topology.cluster.install_dir.as_str();
            return level::fits(Some(dir), node, level::Release::Program(&program), name, remedy);
        }
        let program = format!("./{}", build::FILE);
        level::fits(None, node, level::Release::Program(&program), "the program that is built", "build one that can")
    }

    fn nodes(&self) -> impl Iterator<Item = &str> {
        self.topology.nodes.iter().map(|node| node.name.as_str())
    }

    fn has_releases(&self) -> bool {
        matches!(self.service, Service::Systemd)
    }

    /// The program of the node, which asks the daemon there.
    fn membershipd(&self, args: &[&str]) -> Vec<String> {
        let program = format!("./{}", build::FILE);
        words(&[&[program.as_str()], args, &["--runtime-dir", self.runtime_dir]].concat())
    }

    fn until(&self, node: &str, what: Until) -> Step {
        let (word, seconds) = what.word_and_seconds();
        let wait = |seconds: u32| self.membershipd(&["wait", "--for", word, "--within", &seconds.to_string()]);
        let unless = Unless { argv: wait(0), prints: None };
        limited(what.id(), node, Effect::Run { argv: wait(seconds), unless }, seconds).with(Purpose::Wait)
    }

    fn well(&self, node: &str, last: Until) -> [Step; 2] {
        [self.until(node, Until::Healthy), self.until(node, last)]
    }

    fn others_are_healthy(&self, node: &str) -> Vec<Step> {
        self.nodes().filter(|other| *other != node).map(|other| self.until(other, Until::Healthy)).collect()
    }

    /// Also at boot.
    fn enable(&self, node: &str) -> Step {
        let unless = Unless { argv: words(&["systemctl", "is-enabled", "--quiet", "--", UNIT]), prints: None };
        Step::new("enable", node, Effect::Run { argv: words(&["systemctl", "enable", "--", UNIT]), unless })
    }

    fn start(&self, node: &str) -> Step {
        let unless = Unless { argv: words(&["systemctl", "is-active", "--quiet", "--", UNIT]), prints: None };
        let effect = Effect::Run { argv: words(&["systemctl", "start", "--", UNIT]), unless };
        limited("start", node, effect, RESTARTED).explained_by(last_words())
    }

    fn restart(&self, node: &str, restart: Restart) -> Step {
        let argv = match &self.service {
            Service::Systemd => words(&["systemctl", "restart", "--", UNIT]),
            Service::Local { xtask, root, state } => {
                let shown = [xtask, root, state].map(|path| path.display().to_string());
                let [xtask, root, state] = shown.each_ref().map(String::as_str);
                words(&[xtask, "--root", root, "local", "--state", state, "restart", "--no-wait", node])
            }
        };
        let unless = match restart {
            // Nothing makes it needless.
            Restart::Always | Restart::Machine => Unless { argv: words(&["false"]), prints: None },
            // The socket is as old as the daemon; where there is none find fails, and so there is something to be done.
            Restart::WhereChanged => Unless { argv: self.newer_than_daemon(), prints: Some(String::new()) },
        };
        let step = limited("restart", node, Effect::Run { argv, unless }, RESTARTED);
        match self.service {
            Service::Systemd => step.explained_by(last_words()),
            // The supervisor says itself why a node does not start.
            Service::Local { .. } => step,
        }
    }

    /// Fails where the node is not healthy now.
    fn is_healthy(&self, node: &str) -> Step {
        let argv = self.membershipd(&["wait", "--for", "healthy", "--within", "0"]);
        let unless = Unless { argv: argv.clone(), prints: None };
        Step::new("is healthy", node, Effect::Run { argv, unless }).with(Purpose::Require)
    }

    fn newer_than_daemon(&self) -> Vec<String> {
        let socket = format!("{}/control.sock", self.runtime_dir);
        // On a server a link that was moved is the news; here the nodes' links lead to one file that is replaced.
        let (links, paths) = match &self.service {
            Service::Systemd => ("-P", staging::read_at_start(self.topology)),
            Service::Local { .. } => ("-L", words(&[build::FILE, engine::FILE, CLUSTER_ENV, "tls", SECRETS])),
        };
        let mut argv = words(&["find", links]);
        argv.extend(paths);
        argv.extend(words(&["!", "-type", "d", "-newer", &socket, "-print"]));
        argv
    }

    fn below(&self, path: &str) -> String {
        format!("{}/{path}", self.topology.cluster.install_dir)
    }

    fn has_previous(&self, node: &str) -> Step {
        let program = self.below(&format!("{PREVIOUS}/{}", build::FILE));
        let unless = Unless { argv: words(&["test", "-x", &program]), prints: None };
        Step::new("previous release", node, Effect::Run { argv: words(&["ls", "-lL", "--", &program]), unless })
    }

    fn go_back(&self, waves: &mut Waves, node: &str) {
        waves.then(self.switch_to(node, PREVIOUS));
        waves.then([self.restart(node, Restart::WhereChanged)]);
    }

    /// Makes the release run next that the link `to` leads to, and remembers the one that ran.
    fn switch(&self, node: &str, remember: &'static str, to: &str) -> Vec<Step> {
        let (current, previous) = (self.below(CURRENT), self.below(PREVIOUS));
        let argv = words(&["cp", "-dT", "--remove-destination", "--", &current, &previous]);
        let remember = Step::new(remember, node, Effect::Run { argv, unless: self.runs(to) });
        std::iter::once(remember).chain(self.switch_to(node, to)).collect()
    }

    /// A copy of the link, renamed into place: at no moment is there none.
    fn switch_to(&self, node: &str, to: &str) -> [Step; 2] {
        let (from, next, current) = (self.below(to), self.below("next"), self.below(CURRENT));
        let copy = words(&["cp", "-dT", "--remove-destination", "--", &from, &next]);
        let rename = words(&["mv", "-fT", "--", &next, &current]);
        [
            Step::new("next release", node, Effect::Run { argv: copy, unless: self.runs(to) }),
            Step::new("switch release", node, Effect::Run { argv: rename, unless: self.runs(to) })
                .with(Purpose::SwitchRelease),
        ]
    }

    /// Whether the link `to` leads to the release that runs from the next start.
    fn runs(&self, to: &str) -> Unless {
        Unless { argv: words(&["test", &self.below(CURRENT), "-ef", &self.below(to)]), prints: None }
    }
}
