//! What the verbs have in common that change running nodes: a plan that is printed, or carried out and accounted for.

use anyhow::{Result, bail};
use serde_json::Value;

use unibus_ops::exit::BadInput;
use unibus_ops::plan::{self, LockFlags, Outcome, Purpose, State, Step};
use unibus_ops::target::Target;
use unibus_ops::transport::Transport;
use unibus_ops::ui::{Progress, Style, Tone, next};

/// The flags of such a verb.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Flags {
    /// Do it; without this the steps are only printed, and no connection is opened
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print the plan as JSON: {schema, done, steps: [{id, node, wave, effect, probe, command, explain, state, why}]}, and
    /// where there are such: here, if_a_node_fails, went_back
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) lock: LockFlags,
}

/// The flag of a verb that has nothing to do with a local cluster.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct NoLocal {
    /// Refused: what `local` runs is no server
    #[arg(long, hide = true)]
    local: bool,
}

impl NoLocal {
    /// Refuses `--local`, and says why.
    pub(crate) fn refuse(&self, why: &str) -> Result<()> {
        if self.local { Err(BadInput::new(why)) } else { Ok(()) }
    }
}

/// Steps that are only carried out if something fails, or a file here that is changed in the end: shown, never hidden.
#[derive(Default)]
pub(crate) struct Besides {
    /// Said before the steps that come after a failure.
    pub(crate) title: &'static str,
    /// Those steps, for each node.
    pub(crate) if_a_node_fails: Vec<Step>,
    /// What happens on this machine in the end, one line each.
    pub(crate) here: Vec<String>,
}

/// What a verb has to say about itself.
pub(crate) struct Words<'a> {
    /// The verb with its flags, but `--yes`.
    pub(crate) verb: &'a str,
    /// What there is to know before it is done, one line each.
    pub(crate) notes: &'a [&'a str],
    /// What to type when it is done, and why.
    pub(crate) next: &'a [(&'a str, &'a str)],
}

/// Prints what would be done.
pub(crate) fn dry_run(
    target: &Target,
    steps: &[Step],
    besides: &Besides,
    flags: &Flags,
    words: &Words<'_>,
) -> Result<()> {
    let transport = target.transport.as_ref();
    if flags.json {
        outln!("{}", json(steps, besides, transport, false)?);
        return Ok(());
    }
    let style = Style::stdout();
    out!("{}", plan::print(steps, transport, style));
    if !besides.if_a_node_fails.is_empty() {
        outln!("\n{}", style.paint(Tone::Warn, besides.title));
        out!("{}", plan::print(&besides.if_a_node_fails, transport, style));
    }
    for line in &besides.here {
        outln!("here, when all of that has ended well: {line}");
    }
    outln!("\n{} steps, each skipped where it is so already; the whole commands: --json", plan::count(steps));
    for note in words.notes {
        outln!("{note}");
    }
    outln!("dry run: nothing was changed, no connection was opened");
    out!("{}", next(&[(&with_yes(target, flags, words), "do it")]));
    Ok(())
}

/// This run again, for real.
fn with_yes(target: &Target, flags: &Flags, words: &Words<'_>) -> String {
    target.verb(&format!("{}{} --yes", words.verb, flags.lock.typed()))
}

/// Carries the steps out. To have waited is no change.
pub(crate) fn carry_out(target: &Target, steps: Vec<Step>) -> Outcome {
    carry_out_or(target, steps, &mut |_| {})
}

/// The same; where a step failed `rescue` comes before the lock is given back.
pub(crate) fn carry_out_or(target: &Target, steps: Vec<Step>, rescue: &mut dyn FnMut(&Outcome)) -> Outcome {
    let mut outcome = plan::execute_or(steps, target.transport.as_ref(), &Progress::new(), rescue);
    for step in outcome.steps.iter_mut().filter(|step| step.state == State::Changed && step.purpose == Purpose::Wait) {
        step.state = State::Done;
    }
    outcome
}

/// The plan as JSON, with what belongs to it.
pub(crate) fn json(steps: &[Step], besides: &Besides, transport: &dyn Transport, done: bool) -> Result<Value> {
    let mut value = plan::json(steps, transport, done)?;
    if let Some(all) = value.as_object_mut() {
        if !besides.if_a_node_fails.is_empty() {
            let after = plan::json(&besides.if_a_node_fails, transport, false)?;
            all.insert("if_a_node_fails".to_owned(), steps_of(after));
        }
        if !besides.here.is_empty() {
            all.insert("here".to_owned(), Value::from(besides.here.clone()));
        }
    }
    Ok(value)
}

/// The steps of a plan as JSON.
pub(crate) fn steps_of(mut plan: Value) -> Value {
    plan.get_mut("steps").map(Value::take).unwrap_or_default()
}

/// Says how it ended. A failure is an error that names each node, its step, its reason and where more stands.
pub(crate) fn report(
    target: &Target,
    outcome: &Outcome,
    besides: &Besides,
    flags: &Flags,
    words: &Words<'_>,
    remedy: &str,
) -> Result<()> {
    let failures = outcome.failures();
    if flags.json {
        outln!("{}", json(&outcome.steps, besides, target.transport.as_ref(), failures.is_empty())?);
    } else {
        outln!("{}", plan::summary(outcome));
    }
    if outcome.is_refused() {
        bail!("{}\nnothing was done; then: {}", failures.join("\n"), with_yes(target, flags, words));
    }
    if !failures.is_empty() {
        bail!(
            "{}\n{}{remedy}\nput that right and run this again, it goes on where it stopped: {}",
            failures.join("\n"),
            logs(target, outcome),
            with_yes(target, flags, words)
        );
    }
    if !flags.json {
        if outcome.count(&State::Changed) == 0 && besides.here.is_empty() {
            outln!("everything was so already: nothing was changed");
        }
        let commands: Vec<(String, &str)> = words.next.iter().map(|(verb, why)| (target.verb(verb), *why)).collect();
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
