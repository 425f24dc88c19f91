//! What a verb is about to do to nodes, as data: one printer and one executor work on the same steps.

use anyhow::{Context, Result};
use data_encoding::HEXLOWER;
use ring::digest;
use serde::Serialize;

use crate::transport::Transport;
use crate::ui::{Style, Tone};

/// One change to one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    pub(crate) id: String,
    pub(crate) node: String,
    pub(crate) effect: Effect,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Effect {
    /// A file that holds no secret, so that its content may be shown.
    PutFile { path: String, mode: u32, content: String },
}

/// Prints every step, exactly as [`execute`] would do it.
pub(crate) fn print(steps: &[Step], transport: &dyn Transport, style: Style) -> String {
    let mut out = String::new();
    for (number, step) in (1..).zip(steps) {
        let node = style.paint(Tone::Bold, &step.node);
        let place = transport.place(&step.node);
        match &step.effect {
            Effect::PutFile { path, mode, content } => {
                let sha256 = HEXLOWER.encode(digest::digest(&digest::SHA256, content.as_bytes()).as_ref());
                out.push_str(&format!("{number}. {node}: put {place}/{path}, mode {mode:04o}, sha256 {sha256}\n"));
                for line in content.lines() {
                    out.push_str(&format!("     {line}\n"));
                }
            }
        }
    }
    out
}

/// Carries the steps out, in order; the first that fails stops the rest.
pub(crate) fn execute(steps: &[Step], transport: &dyn Transport) -> Result<()> {
    for (done, step) in steps.iter().enumerate() {
        match &step.effect {
            Effect::PutFile { path, mode, content } => transport.put_file(&step.node, path, content.as_bytes(), *mode),
        }
        .with_context(|| format!("{} on {} ({done} of {} steps were done)", step.id, step.node, steps.len()))?;
    }
    Ok(())
}
