//! Carries out the commands of a rehearsal, one after the other, and notes all that they say.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::act::{Act, Chapter, Known, Meanwhile, Who, fill};
use super::record::{Done, Record};
use crate::fleet::{Fleet, Request};
use unibus_ops::paths::Paths;
use unibus_ops::process::{Go, Output, bounded, watched};
use unibus_ops::staging::UNIT;
use unibus_ops::topology::Topology;
use unibus_ops::ui::{Line, Progress, took};

/// Lines of a failed command that are shown; all of them are in the log.
const SHOWN: usize = 60;
/// Characters of each; JSON is longer.
const WIDTH: usize = 400;
/// How long a machine may take to show its journal, after something has failed on it.
const JOURNAL: Duration = Duration::from_secs(15);

/// Starts a command and waits for its end; each line of its standard error is heard on the way.
type Start<'a> = dyn Fn(&Act, &[String], &mut dyn FnMut(&str) -> Go) -> Result<Output> + 'a;

/// A rehearsal under way.
pub(super) struct Performance {
    log: File,
    known: Known,
}

impl Performance {
    /// One that notes everything in `log`, and knows this from the start.
    pub(super) fn new(log: &Path, mut known: Known) -> Result<Self> {
        let history = log.with_extension("history.jsonl").display().to_string();
        let log =
            OpenOptions::new().append(true).open(log).with_context(|| format!("opening {}", Paths::shown(log)))?;
        known.insert("history".to_owned(), history);
        Ok(Self { log, known })
    }

    /// What its commands have taught so far.
    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    /// Carries a chapter out on this host, in the operator's own clone.
    pub(super) fn on_host(
        &mut self,
        xtask: &Path,
        paths: &Paths,
        chapter: &Chapter,
        progress: &Progress,
        record: &mut Record,
    ) -> Result<()> {
        self.chapter(chapter, progress, record, &|act, argv, _| {
            let mut command = Command::new(xtask);
            command.arg("--root").arg(paths.root()).args(argv);
            // Not in a process group of its own: it is the one thing here that outlives a Ctrl-C by minutes.
            let output =
                command.stdin(Stdio::null()).output().with_context(|| format!("starting {}", shown(act, argv)))?;
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok(Output { code: output.status.code(), stdout: output.stdout, stderr })
        })
    }

    /// Carries a chapter out at the operator's place among the machines.
    pub(super) fn in_fleet(
        &mut self,
        fleet: &Fleet,
        chapter: &Chapter,
        progress: &Progress,
        record: &mut Record,
    ) -> Result<()> {
        let layout = fleet.layout();
        let clone = layout.clone_dir();
        self.known.insert("dir".to_owned(), layout.dir().display().to_string());
        self.known.insert("clone".to_owned(), clone.display().to_string());
        self.known.insert("network".to_owned(), fleet.network()?);
        let topology = Topology::load(&layout.topology())?;
        for (name, value) in [
            ("install_dir", topology.cluster.install_dir.clone()),
            ("client_port", topology.ports.client.to_string()),
            ("api_port", topology.ports.control_plane.to_string()),
            ("unit", UNIT.to_owned()),
        ] {
            self.known.insert(name.to_owned(), value);
        }
        // The seed first: what befalls it must not stop anything for good.
        let (seeds, others): (Vec<_>, Vec<_>) = topology.nodes.into_iter().partition(|node| node.seed);
        for (letter, node) in ["a", "b", "c"].into_iter().zip(seeds.into_iter().chain(others)) {
            self.known.insert(letter.to_owned(), node.name);
            self.known.insert(format!("{letter}.public"), node.public.to_string());
            self.known.insert(format!("{letter}.host"), node.ssh);
        }
        self.known.insert("cluster".to_owned(), topology.cluster.name);
        // The operator has the daemon's own tool at hand.
        let path = format!("{}:{}", clone.join("deploy/build").display(), env::var("PATH").unwrap_or_default());
        self.chapter(chapter, progress, record, &|act, argv, hear| {
            let mut command = match act.who {
                Who::Xtask => {
                    let mut xtask = fleet.command(&clone, &layout.xtask().display().to_string())?;
                    xtask.env("UNIBUS_REHEARSAL", layout.program());
                    xtask.arg("--root").arg(&clone).args(argv);
                    xtask
                }
                Who::Tool => {
                    let Some((program, arguments)) = argv.split_first() else { bail!("a command without words") };
                    let mut tool = fleet.command(&clone, program)?;
                    tool.args(arguments);
                    tool
                }
            };
            command.env("PATH", &path);
            command.env_remove("UNIBUS_ROOT");
            Ok(watched(command, b"", act.within, hear)?)
        })
    }

    /// Notes what the machines' journals say, for whoever reads the log when the machines are gone.
    pub(super) fn note_journals(&mut self, fleet: &Fleet) {
        let Ok(status) = fleet.ask(&Request::Status) else { return };
        for node in status.nodes {
            let asked =
                fleet.command(Path::new("/"), "ssh").map_err(|error| format!("{error:#}")).and_then(|mut ssh| {
                    ssh.args(["-o", "ConnectTimeout=3", "--", &node.ssh, "journalctl --boot --no-pager --lines=300"]);
                    bounded(ssh, b"", JOURNAL).map_err(|failure| failure.to_string())
                });
            let said = match asked {
                Ok(output) if output.ok() => String::from_utf8_lossy(&output.stdout).into_owned(),
                Ok(output) => output.stderr,
                Err(why) => why,
            };
            // The failure itself is reported elsewhere.
            let _ = writeln!(self.log, "\n===== journal of {}\n{said}", node.name);
        }
    }

    fn chapter(
        &mut self,
        chapter: &Chapter,
        progress: &Progress,
        record: &mut Record,
        start: &Start<'_>,
    ) -> Result<()> {
        let line = progress.line(chapter.name);
        record.chapter(chapter.name);
        let begun = Instant::now();
        for act in &chapter.acts {
            if let Err(error) = self.act(act, &line, record, start) {
                line.failed(&took(begun.elapsed()));
                return Err(error.context(format!("chapter '{}'", chapter.name)));
            }
        }
        line.done(&took(begun.elapsed()));
        Ok(())
    }

    fn act(&mut self, act: &Act, line: &Line, record: &mut Record, start: &Start<'_>) -> Result<()> {
        let argv = act.argv(&self.known)?;
        let command = shown(act, &argv);
        line.set(command.as_str());
        writeln!(self.log, "\n$ {command}").context("writing the log")?;
        let begun = Instant::now();
        let mut to_come = act.meanwhile.iter();
        let mut awaited = to_come.next();
        let mut beside = Ok(());
        let answered = start(act, &argv, &mut |said| {
            let Some((words, what)) = awaited else { return Go::On };
            if !fill(words, &self.known).is_ok_and(|words| said.contains(&words)) {
                return Go::On;
            }
            awaited = to_come.next();
            match what {
                Meanwhile::Killed => Go::Die,
                Meanwhile::Beside(other) => {
                    beside = self.act(other, line, record, start);
                    if beside.is_ok() { Go::On } else { Go::Die }
                }
            }
        });
        beside.with_context(|| format!("beside `{command}`"))?;
        let took = begun.elapsed();
        let (code, said, stdout) = match &answered {
            Ok(output) => {
                let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
                (output.code, format!("{stdout}{}", output.stderr), stdout)
            }
            Err(error) => (None, format!("{error:#}"), String::new()),
        };
        let code_shown = code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
        writeln!(self.log, "{}\n[{code_shown}, {:.2} s]", said.trim_end(), took.as_secs_f64())
            .context("writing the log")?;
        let unsaid = awaited.map(|(words, _)| format!("it never said {words:?}, for which something else waited"));
        let wrong = act.judge(code, &said, &self.known).or(unsaid);
        record.command(Done { command: command.clone(), seconds: took.as_secs_f64(), code, ok: wrong.is_none() });
        if act.judges {
            let verdict = serde_json::from_str(&stdout).with_context(|| format!("`{command}` gave no verdict"));
            match verdict {
                Ok(verdict) => record.verdict(&command, verdict),
                // Why there is none is what it is about then.
                Err(error) if wrong.is_none() => return Err(error),
                Err(_) => {}
            }
        }
        if let Some(wrong) = wrong {
            bail!("`{command}`: {wrong}; it said:\n{}", last(&said));
        }
        for (name, pointer) in &act.learns {
            let value = serde_json::from_str::<serde_json::Value>(&stdout).ok();
            let value = value.as_ref().and_then(|json| json.pointer(pointer)).and_then(|value| value.as_str());
            let value =
                value.with_context(|| format!("`{command}`: its JSON has no text at {pointer}:\n{}", last(&said)))?;
            self.known.insert((*name).to_owned(), value.to_owned());
        }
        Ok(())
    }
}

/// The command as the runbook has it.
fn shown(act: &Act, argv: &[String]) -> String {
    match act.who {
        Who::Xtask => format!("cargo xtask {}", argv.join(" ")),
        Who::Tool => argv.join(" "),
    }
}

fn last(said: &str) -> String {
    let lines: Vec<&str> = said.trim_end().lines().collect();
    let skipped = lines.len().saturating_sub(SHOWN);
    let cut = |line: &&str| match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}...", line.get(..end).unwrap_or_default()),
        None => (*line).to_owned(),
    };
    let shown = lines.iter().skip(skipped).map(cut).collect::<Vec<_>>().join("\n");
    if skipped > 0 { format!("({skipped} lines more in the log)\n{shown}") } else { shown }
}
