//! The record that seeds a cluster's first admin: what may stand in it, and how it gets to the seed node.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;
use unibus_names::{HANDLE_RULE, SIGN_PUB_DIGITS, is_handle};

use crate::exit::BadInput;
use crate::install_dir::BOOTSTRAP;
use crate::plan::{self, Effect, Goal, Step};
use crate::posture::complaint;
use crate::process::Output;
use crate::staging;
use crate::target::Target;
use crate::transport::Mode;
use crate::ui::Progress;

/// The daemon deletes the record once it has read it.
const MODE: Mode = Mode(0o600);

/// Leaves the record for `local`, whose cluster is not up yet and is its own: nobody else may work on it.
pub fn leave_record(target: &Target, handle: &str, sign_pub: &str) -> Result<()> {
    carry_out(target, plan(target, handle, sign_pub)?, &Progress::silent()).map(drop)
}

/// Carries the steps out, and returns them as they were left; fails where one of them did.
pub fn carry_out(target: &Target, steps: Vec<Step>, progress: &Progress) -> Result<Vec<Step>> {
    let outcome = plan::execute(steps, target.transport.as_ref(), Goal::Do, progress);
    let failures = outcome.failures();
    if failures.is_empty() { Ok(outcome.steps) } else { bail!(failures.join("; ")) }
}

/// The step that leaves the record on the seed node.
pub fn plan(target: &Target, handle: &str, sign_pub: &str) -> Result<Vec<Step>> {
    let record = json!({ "schema": 1, "handle": handle, "sign_pub": sign_pub });
    // On a server the daemon runs as a user of its own, which must read the record and delete it.
    let (path, owner) = match target.install_dir() {
        Some(dir) => (format!("{dir}/{BOOTSTRAP}"), Some(staging::DAEMON.to_owned())),
        None => (BOOTSTRAP.to_owned(), None),
    };
    let effect = Effect::PutFile { path, owner, mode: MODE, content: format!("{record}\n") };
    Ok(vec![Step::new("bootstrap", &target.seed()?.name, effect)])
}

/// The public signing key as it was typed, in lower case; else what is wrong with it.
pub fn sign_pub(typed: &str) -> Result<String, String> {
    let digits = typed.chars().filter(char::is_ascii_hexdigit).count();
    if digits != typed.chars().count() {
        return Err("it must be hexadecimal digits only".to_owned());
    }
    if digits != SIGN_PUB_DIGITS {
        return Err(format!("it has {digits} hex digits, an Ed25519 public key has {SIGN_PUB_DIGITS}"));
    }
    Ok(typed.to_ascii_lowercase())
}

/// The admin's name as it was typed; else the rule for such names.
pub fn handle(typed: &str) -> Result<String, String> {
    if is_handle(typed) { Ok(typed.to_owned()) } else { Err(HANDLE_RULE.to_owned()) }
}

/// Asks a `membershipd` here for the public half of an identity file, or makes one.
pub fn identity(output: &Output) -> Result<(String, String)> {
    #[derive(Deserialize)]
    struct Identity {
        handle: String,
        sign_pub: String,
    }
    if !output.ok() {
        bail!(complaint(&output.stdout, &output.stderr));
    }
    let Identity { handle: name, sign_pub: key } =
        serde_json::from_slice(&output.stdout).context("reading the answer of membershipd identity")?;
    let name = handle(&name).map_err(BadInput::new)?;
    Ok((name, sign_pub(&key).map_err(BadInput::new)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_handles_are_checked_before_anything_else() {
        assert_eq!(sign_pub(&"aB".repeat(32)).unwrap(), "ab".repeat(32));
        assert!(sign_pub("abc").unwrap_err().contains('3'));
        assert!(sign_pub(&"zz".repeat(32)).unwrap_err().contains("hexadecimal"));
        for bad in ["", "Root", "-x", "a b", &"a".repeat(33)] {
            handle(bad).unwrap_err();
        }
        assert_eq!(handle("root").unwrap(), "root");
    }
}
