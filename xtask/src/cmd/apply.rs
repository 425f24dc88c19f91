//! What the verbs have in common that change nodes: a plan that is printed, compared with the nodes, or carried out and accounted for.

use anyhow::{Result, bail};
use serde_json::Value;

use unibus_ops::exit::{BadInput, WouldChange};
use unibus_ops::plan::{self, Goal, LockFlags, Outcome, Purpose, State, Step};
use unibus_ops::target::Target;
use unibus_ops::transport::Transport;
use unibus_ops::ui::{Progress, Style, Tone, next};

/// The flags of such a verb.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    /// Do it; without this the steps are only printed, and no connection is opened
    #[arg(long, conflicts_with = "diff")]
    pub(crate) yes: bool,
    /// Ask the nodes which steps would change them as they are now; exit code 3 if any would
    #[arg(long)]
    pub(crate) diff: bool,
    /// Print the plan as JSON: {schema, done, sessions: [{node, command, stdin}], steps: [{id, node, wave, within_seconds,
    /// effect, probe, command, explain, state, why}]}, and where there are such: here, if_a_node_fails, went_back
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) lock: LockFlags,
}

/// The flag of a verb that has nothing to do with a local cluster.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RejectLocal {
    /// Refused: what `local` runs is no server
    #[arg(long, hide = true)]
    local: bool,
}

impl RejectLocal {
    /// Refuses `--local`, and says why.
    pub(crate) fn check(&self, why: &str) -> Result<()> {
        if self.local { Err(BadInput::new(why)) } else { Ok(()) }
    }
}

/// Steps that are only carried out if something fails, or a file here that is changed in the end: shown, never hidden.
#[derive(Default)]
pub(crate) struct Extras {
    /// Said before the steps that come after a failure.
    pub(crate) title: &'static str,
    /// Those steps, for each node.
    pub(crate) if_a_node_fails: Vec<Step>,
    /// What happens on this machine in the end, one line each.
    pub(crate) here: Vec<String>,
}

/// What a verb has to say about itself.
pub(crate) struct CommandInfo<'a> {
    /// The verb with its flags, but `--yes`.
    pub(crate) verb: &'a str,
    /// What there is to know before it is done, one line each.
    pub(crate) notes: &'a [&'a str],
    /// What there is to know when it is done, one line each.
    pub(crate) done: &'a [&'a str],
    /// What to type when it is done, and why.
    pub(crate) next: &'a [(&'a str, &'a str)],
}

/// Prints what would be done: from the plan alone, or with `--diff` after asking the nodes.
pub(crate) fn preview(
    target: &Target,
    steps: &[Step],
    extras: &Extras,
    args: &ApplyArgs,
    info: &CommandInfo<'_>,
) -> Result<()> {
    if args.diff {
        return diff(target, steps, extras, args, info);
    }
    let transport = target.transport.as_ref();
    if args.json {
        outln!("{}", json(steps, extras, transport, false)?);
        return Ok(());
    }
    let style = Style::stdout();
    out!("{}", plan::print(steps, transport, style));
    if !extras.if_a_node_fails.is_empty() {
        outln!("\n{}", style.paint(Tone::Warn, extras.title));
        out!("{}", plan::print(&extras.if_a_node_fails, transport, style));
    }
    for line in &extras.here {
        outln!("here, when all of that has ended well: {line}");
    }
    outln!("\n{} steps, each skipped where it is so already; the whole commands: --json", plan::count(steps));
    for note in info.notes {
        outln!("{note}");
    }
    outln!("dry run: nothing was changed, no connection was opened");
    let (yes, diff) = (again(target, args, info, "--yes"), again(target, args, info, "--diff"));
    out!("{}", next(&[(&yes, "do it"), (&diff, "ask the nodes what would change")]));
    Ok(())
}

/// Prints which steps would change the nodes as they are now; a step may make a later one necessary.
fn diff(target: &Target, steps: &[Step], extras: &Extras, args: &ApplyArgs, info: &CommandInfo<'_>) -> Result<()> {
    let transport = target.transport.as_ref();
    let mut outcome = plan::execute(steps.to_vec(), transport, Goal::Look, &Progress::new());
    // What only waits changes nothing.
    replace_state(&mut outcome, &State::WouldChange, &State::Planned);
    let failures = outcome.failures();
    if args.json {
        outln!("{}", json(&outcome.steps, extras, transport, false)?);
    } else {
        out!("{}", plan::print(&outcome.steps, transport, Style::stdout()));
        outln!("{}", plan::summary(&outcome));
    }
    if !failures.is_empty() {
        bail!("{}\nput that right and run this again: {}", failures.join("\n"), again(target, args, info, "--diff"));
    }
    if outcome.count(&State::WouldChange) > 0 {
        if !args.json {
            out!("{}", next(&[(&again(target, args, info, "--yes"), "")]));
        }
        return Err(WouldChange.into());
    }
    if !args.json {
        outln!("nothing would change");
    }
    Ok(())
}

/// Gives the steps that only wait another state in place of this one.
fn replace_state(outcome: &mut Outcome, old: &State, new: &State) {
    for step in outcome.steps.iter_mut().filter(|step| step.state == *old && step.purpose == Purpose::Wait) {
        step.state = new.clone();
    }
}

/// This run again, with another goal.
fn again(target: &Target, args: &ApplyArgs, info: &CommandInfo<'_>, goal: &str) -> String {
    target.verb(&format!("{}{} {goal}", info.verb, args.lock.typed()))
}

/// Carries the steps out. To have waited is no change.
pub(crate) fn carry_out(target: &Target, steps: Vec<Step>) -> Outcome {
    carry_out_or(target, steps, &mut |_| {})
}

/// The same; where a step failed `rescue` comes before the lock is given back.
pub(crate) fn carry_out_or(target: &Target, steps: Vec<Step>, rescue: &mut dyn FnMut(&Outcome)) -> Outcome {
    let mut outcome = plan::execute_or(steps, target.transport.as_ref(), &Progress::new(), rescue);
    replace_state(&mut outcome, &State::Changed, &State::Done);
    outcome
}

/// The plan as JSON, with what belongs to it.
pub(crate) fn json(steps: &[Step], extras: &Extras, transport: &dyn Transport, done: bool) -> Result<Value> {
    let mut value = plan::json(steps, transport, done)?;
    if let Some(all) = value.as_object_mut() {
        if !extras.if_a_node_fails.is_empty() {
            let after = plan::json(&extras.if_a_node_fails, transport, false)?;
            all.insert("if_a_node_fails".to_owned(), steps_of(after));
        }
        if !extras.here.is_empty() {
            all.insert("here".to_owned(), Value::from(extras.here.clone()));
        }
    }
    Ok(value)
}

/// The steps of a plan as JSON.
pub(crate) fn steps_of(mut plan: Value) -> Value {
    plan.get_mut("steps").map(Value::take).unwrap_or_default()
}

/// Says how it ended. A failure is an error that names each node, its step and its reason; and with a `remedy`, which is for what
/// runs on the nodes, where their daemons say more.
pub(crate) fn report(
    target: &Target,
    outcome: &Outcome,
    extras: &Extras,
    args: &ApplyArgs,
    info: &CommandInfo<'_>,
    remedy: Option<&str>,
) -> Result<()> {
    let failures = outcome.failures();
    if args.json {
        outln!("{}", json(&outcome.steps, extras, target.transport.as_ref(), failures.is_empty())?);
    } else {
        outln!("{}", plan::summary(outcome));
    }
    let yes = again(target, args, info, "--yes");
    if outcome.is_refused() {
        bail!("{}\nnothing was done; then: {yes}", failures.join("\n"));
    }
    if outcome.is_prevented() {
        bail!("{}\nnothing was changed; once that is put right: {yes}", failures.join("\n"));
    }
    if !failures.is_empty() {
        let more = remedy.map(|remedy| format!("{}{remedy}\n", logs(target, outcome))).unwrap_or_default();
        bail!("{}\n{more}put that right and run this again, it goes on where it stopped: {yes}", failures.join("\n"));
    }
    if !args.json {
        if outcome.count(&State::Changed) == 0 && extras.here.is_empty() {
            outln!("everything was so already: nothing was changed");
        }
        for line in info.done {
            outln!("{line}");
        }
        let commands: Vec<(String, &str)> = info.next.iter().map(|(verb, why)| (target.verb(verb), *why)).collect();
        let commands: Vec<(&str, &str)> = commands.iter().map(|(command, why)| (command.as_str(), *why)).collect();
        out!("{}", next(&commands));
    }
    Ok(())
}

/// Where the nodes that failed say more, one line each.
pub(crate) fn logs(target: &Target, outcome: &Outcome) -> String {
    failed_nodes(outcome)
        .into_iter()
        .map(|node| format!("the log of {node}: {}\n", target.expected.remedies.log(node)))
        .collect()
}

/// The nodes on which a step failed.
pub(crate) fn failed_nodes(outcome: &Outcome) -> Vec<&str> {
    let failed = outcome.steps.iter().filter(|step| matches!(step.state, State::Failed(_)));
    failed.map(|step| step.node.as_str()).collect()
}
