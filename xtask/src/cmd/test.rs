//! `test`: the tests that this machine can run, with real engines, real clients and, where it can boot them, real machines.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::external;
use crate::previous::Previous;
use crate::testing::{self, Environment, Kind, Program, Steps, Suite, Tally, Target};
use unibus_ops::cargo;
use unibus_ops::exit::BadInput;
use unibus_ops::global::Global;
use unibus_ops::paths::Paths;
use unibus_ops::prerequisites::{self, InstallArgs, Verb};
use unibus_ops::process::bounded;
use unibus_ops::shell::shell_in;
use unibus_ops::tools::Tool;
use unibus_ops::ui::{Cell, Style, Table, Tone, next, took};
#[cfg(target_os = "linux")]
use {unibus_local::cluster, unibus_ops::machine_host};

/// Run all tests that this machine can run, or those that match a name
///
/// What they need is looked for in the first second: packages that are missing are installed after a yes, everything else is
/// fetched into deploy/build. With FILTER only the test programs that have a matching test are built and run. Where this machine
/// cannot boot machines (no root, no namespaces) the end says so. What is judged without running it: cargo xtask check.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose full name contains this: `domain::`, `expired_lease`
    filter: Option<String>,
    /// Only the tests on booted machines
    #[arg(long)]
    machines: bool,
    /// Test this membershipd instead of the one that is built for the tests
    #[arg(long, value_name = "FILE")]
    membershipd: Option<PathBuf>,
    #[command(flatten)]
    install: InstallArgs,
    /// Words for the test programs, after `--`: `-- --nocapture`
    #[arg(last = true, value_name = "WORDS")]
    words: Vec<String>,
}

/// Names that the tests know.
const PYTHON_VAR: &str = "UNIBUS_TEST_PYTHON";
const JS_VAR: &str = "UNIBUS_TEST_JS";
const ENGINE_VAR: &str = "UNIBUS_TEST_ENGINE";
const MEMBERSHIPD_VAR: &str = "UNIBUS_TEST_MEMBERSHIPD";
const FAULTS_VAR: &str = "UNIBUS_TEST_MEMBERSHIPD_FAULTS";
const PREVIOUS_VAR: &str = "UNIBUS_TEST_PREVIOUS";
const WITHIN: Duration = Duration::from_secs(10);
/// Gives an ordinary user network namespaces of their own.
const NAMESPACES: [&str; 3] = ["unshare", "--user", "--map-root-user"];

/// What is to be run.
pub(crate) struct Order<'a> {
    pub(crate) filter: Option<&'a str>,
    pub(crate) machines: bool,
    pub(crate) membershipd: Option<&'a Path>,
    pub(crate) words: &'a [String],
    pub(crate) consent: prerequisites::Consent,
}

/// A set of tests that was left out, why, and the command that runs it.
struct NotRun {
    what: &'static str,
    why: String,
    command: &'static str,
}

/// Builds what the filter asks for, runs it, and counts.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let paths = global.paths()?;
    let order = Order {
        filter: args.filter.as_deref(),
        machines: args.machines,
        membershipd: args.membershipd.as_deref(),
        words: &args.words,
        consent: args.install.consent(),
    };
    let mut steps = Steps::new();
    let outcome = carry_out(&paths, &order, &mut steps);
    steps.show();
    outcome
}

/// Does what was ordered; the steps know how long each part took.
pub(crate) fn carry_out(paths: &Paths, order: &Order<'_>, steps: &mut Steps) -> Result<()> {
    let targets = targets(paths, order)?;
    let obstacles = obstacles();
    let wants_machines = match &targets {
        Some(targets) => targets.iter().any(|target| suite_of(target).machines),
        None => true,
    };
    let only_machines = targets.as_ref().is_some_and(|targets| targets.iter().all(|one| suite_of(one).machines));
    if only_machines && !obstacles.is_empty() {
        return Err(BadInput::new(format!("this host cannot carry machines:\n  {}", obstacles.join("\n  "))));
    }
    let boots = wants_machines && obstacles.is_empty();
    let only_units = targets.as_ref().is_some_and(|targets| targets.iter().all(|t| t.kind().0 == Kind::Unit));
    let verbs: &[Verb] = match (only_units, boots) {
        (true, _) => &[],
        (false, true) => &[Verb::Test, Verb::Rehearse],
        (false, false) => &[Verb::Test],
    };
    prerequisites::ensure(paths, verbs, order.consent, &steps.progress)?;

    let faults = match &targets {
        Some(targets) if !targets.iter().any(|target| suite_of(target).needs_faults) => None,
        _ => Some(steps.step("fault build", |line| cargo::build_faults(paths, line))?),
    };
    let previous = match &targets {
        Some(targets) if !targets.iter().any(|target| suite_of(target).needs_previous) => None,
        _ => Some(steps.step("previous release", |line| Previous::load(&paths.previous())?.obtain(paths, line))?),
    };
    let messages = match &targets {
        None => build(paths, &["--workspace"], steps)?,
        Some(targets) => {
            // One at a time: cargo gives `--lib` to every package that is named beside it.
            let built = targets.iter().map(|target| build(paths, &target.words(), steps));
            built.collect::<Result<Vec<String>>>()?.concat()
        }
    };
    let mut environment = Environment(vec![("PATH", prerequisites::path(paths))]);
    if !only_units {
        let plain = match order.membershipd {
            Some(file) => chosen(file)?,
            None => match cargo::executable(&messages, "membershipd") {
                Some(built) => built,
                None => steps.step("membershipd", |line| cargo::build_membershipd(paths, line))?,
            },
        };
        if targets.as_ref().is_none_or(|targets| targets.iter().any(|target| target.package() == "xtask")) {
            for external in [external::REHEARSAL, external::OPERATOR] {
                let built = cargo::executable(&messages, external.package);
                let program = built.map_or_else(|| external::program(&external, &steps.progress), Ok)?;
                environment.0.push((external.variable, program.into()));
            }
        }
        let tool = |tool: Tool| tool.here(paths).with_context(|| format!("{tool:?} is gone again"));
        let found = [
            (ENGINE_VAR, tool(Tool::Engine)?),
            (PYTHON_VAR, tool(Tool::PythonClients)?),
            (JS_VAR, tool(Tool::JsClients)?),
            (MEMBERSHIPD_VAR, plain),
        ];
        let found = found.into_iter().chain(faults.map(|program| (FAULTS_VAR, program)));
        let found = found.chain(previous.map(|programs| (PREVIOUS_VAR, programs.membershipd)));
        environment.0.extend(found.map(|(name, path)| (name, OsString::from(path))));
    }
    let mut left_out = Vec::new();
    if wants_machines && !boots {
        left_out.push(NotRun {
            what: "the tests on booted machines",
            why: obstacles.join("; "),
            command: "sudo cargo xtask test --machines",
        });
    }
    let programs = Program::all(&messages).into_iter().filter(|program| {
        let machines = program.suite().machines;
        (boots || !machines) && (machines || !order.machines)
    });
    let tallies = run_all(programs.collect(), order, &environment, &mut left_out, steps)?;
    conclude(&tallies, &left_out, order)
}

/// Builds test programs, and returns cargo's messages.
fn build(paths: &Paths, what: &[&str], steps: &mut Steps) -> Result<String> {
    let shell = shell_in(paths.root())?;
    let build = cargo::cargo(&shell).args(["test", "--locked", "--no-run"]).args(cargo::JSON_MESSAGES).args(what);
    steps.step("build", |line| cargo::run(build, line))
}

/// The test programs of the filter; none: all.
fn targets(paths: &Paths, order: &Order<'_>) -> Result<Option<BTreeSet<Target>>> {
    let found = match order.filter {
        None if order.machines => testing::matching(paths, "")?,
        None => return Ok(None),
        Some(filter) => testing::matching(paths, filter)?,
    };
    let found: BTreeSet<Target> =
        found.into_iter().filter(|target| !order.machines || suite_of(target).machines).collect();
    if found.is_empty() {
        let filter = order.filter.unwrap_or_default();
        return Err(BadInput::new(format!(
            "no test has a name with {filter:?} in it; a name is its module and its function, such as domain::limits::tests::…"
        )));
    }
    Ok(Some(found))
}

fn suite_of(target: &Target) -> Suite {
    match target.kind() {
        (Kind::Integration, name) => testing::suite(target.package(), name),
        (Kind::Unit, _) => testing::suite(target.package(), ""),
    }
}

/// The program to be tested, if it is a membershipd.
fn chosen(file: &Path) -> Result<PathBuf> {
    #[cfg(target_os = "linux")]
    return cluster::chosen(file);
    #[cfg(not(target_os = "linux"))]
    Err(BadInput::new(format!("--membershipd {}: the daemon is tested on Linux", file.display())))
}

/// Why this machine boots no machines.
fn obstacles() -> Vec<String> {
    #[cfg(target_os = "linux")]
    return machine_host::obstacles();
    #[cfg(not(target_os = "linux"))]
    vec!["machines need Linux".to_owned()]
}

fn run_all(
    programs: Vec<Program>,
    order: &Order<'_>,
    environment: &Environment,
    left_out: &mut Vec<NotRun>,
    steps: &mut Steps,
) -> Result<Vec<Tally>> {
    open_many_files();
    let mut tallies = Vec::new();
    for program in programs {
        let suite = program.suite();
        let mut words: Vec<String> = order.filter.iter().map(|filter| (*filter).to_owned()).collect();
        words.extend(["--test-threads".to_owned(), suite.threads.to_string()]);
        let mut before: &[&str] = &[];
        if !suite.needs_networks.is_empty() && !rustix::process::geteuid().is_root() {
            match has_namespaces() {
                Ok(()) => before = &NAMESPACES,
                Err(why) => {
                    words
                        .extend(suite.needs_networks.iter().flat_map(|name| ["--skip".to_owned(), (*name).to_owned()]));
                    left_out.push(NotRun {
                        what: "the tests that cut a cable between two networks",
                        why: format!("you are not root, and user namespaces cannot be made ({why})"),
                        command: "sudo cargo xtask test silent::",
                    });
                }
            }
        }
        words.extend(order.words.iter().cloned());
        errln!("\n{}", Style::stderr().paint(Tone::Bold, &program.title()));
        let tally = testing::run(&program, &words, environment, before)?;
        steps.add(&tally.title, tally.took, tally.ok());
        tallies.push(tally);
    }
    Ok(tallies)
}

/// Lets the tests have as many open files as this user may: a thousand clients at once need more than the usual 1,024.
fn open_many_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Where it is refused, the test that needs more says so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

fn has_namespaces() -> Result<(), String> {
    let mut probe = Command::new(NAMESPACES[0]);
    probe.args(&NAMESPACES[1..]).args(["unshare", "--net", "true"]);
    match bounded(probe, b"", WITHIN) {
        Ok(output) if output.ok() => Ok(()),
        Ok(output) => Err(output.reason()),
        Err(failure) => Err(failure.to_string()),
    }
}

/// Counts, says what was not run, and fails with the names of what failed.
fn conclude(tallies: &[Tally], left_out: &[NotRun], order: &Order<'_>) -> Result<()> {
    let mut table = Table::new(&["tests", "passed", "failed", "ignored", "took"]);
    for tally in tallies {
        table.row(vec![
            tally.title.as_str().into(),
            tally.passed.to_string().into(),
            Cell::judged(tally.ok(), tally.failed.len().to_string()),
            tally.ignored.to_string().into(),
            took(tally.took).into(),
        ]);
    }
    outln!("\n{}", table.render(Style::stdout()).trim_end());
    for set in left_out {
        outln!("\nnot run: {}, since {}\n  run them: {}", set.what, set.why, set.command);
    }
    let broken =
        tallies.iter().filter_map(|tally| Some(format!("{} ended early: {}", tally.title, tally.broken.as_ref()?)));
    let failed = tallies.iter().flat_map(|tally| tally.failed.iter().map(|name| format!("{name} ({})", tally.title)));
    let wrong: Vec<String> = broken.chain(failed).collect();
    let passed: usize = tallies.iter().map(|tally| tally.passed).sum();
    if let Some(first) = wrong.first() {
        let name = first.split(' ').next().unwrap_or_default();
        out!("{}", next(&[(&format!("cargo xtask test {name}"), "the first of them alone")]));
        bail!(
            "{} of {} tests failed; what each said is above:\n  {}",
            wrong.len(),
            passed + wrong.len(),
            wrong.join("\n  ")
        );
    }
    if passed == 0 {
        let filter = order.filter.unwrap_or_default();
        return Err(BadInput::new(format!(
            "no test ran: {filter:?} matches only tests that are ignored; add -- --ignored"
        )));
    }
    outln!("\nall {passed} tests passed");
    Ok(())
}
