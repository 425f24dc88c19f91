//! `seed-admin`: the first admin, before or after the cluster is up.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;

use crate::Global;
use crate::exit::BadInput;
use crate::local_state::BOOTSTRAP;
use crate::plan::{self, Effect, Goal, LockFlags, Mode, Step};
use crate::staging;
use crate::target::{Target, Which};
use crate::transport::Output;
use crate::ui::{Progress, Style, next};

const WITHIN: Duration = Duration::from_secs(15);
/// The daemon deletes the record once it has read it.
const MODE: Mode = Mode(0o600);
const HANDLE_RULE: &str = "1 to 32 of a-z, 0-9, '_' and '-', the first a letter or digit";

/// Leaves a record on the seed node; the daemon imports it once it has a lease, unless the cluster already had a
/// first admin. Refuses where it had one. Without --yes nothing is changed.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// The admin's public signing key: 64 hex digits, as `membershipd identity show` prints it
    #[arg(long, value_name = "HEX", value_parser = sign_pub)]
    sign_pub: String,
    /// The admin's name
    #[arg(long, default_value = "root", value_parser = handle)]
    handle: String,
    /// Do it; without this the steps are only printed
    #[arg(long)]
    yes: bool,
    /// Print the plan as JSON: {schema, done, sessions, steps}
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    lock: LockFlags,
}

/// Someone the cluster knows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct User {
    handle: String,
    sign_pub: String,
    role: String,
    state: String,
}

#[derive(Deserialize)]
struct Users {
    users: Vec<User>,
}

/// What the cluster says about its admins.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Nobody yet, or nobody could say.
    Nobody,
    /// The very admin that is to be seeded.
    This,
    /// Somebody else, in words.
    Other(String),
}

/// Prints the plan, and carries it out with `--yes`.
pub(crate) fn run(global: &Global, args: &Args) -> Result<()> {
    let target = args.which.open(global)?;
    let (users, asked) = ask_users(&target);
    let steps = match judge(users.as_deref().unwrap_or_default(), &args.handle, &args.sign_pub) {
        Found::Other(who) => bail!("this cluster has had its first admin: {who}; next: {}", target.verb("verify")),
        Found::This => Vec::new(),
        Found::Nobody => target.locked(plan(&target, &args.handle, &args.sign_pub)?, "seed-admin", &args.lock),
    };
    let steps = if args.yes { carry_out(&target, steps, &Progress::new())? } else { steps };
    if args.json {
        println!("{}", plan::json(&steps, target.transport.as_ref(), args.yes)?);
        return Ok(());
    }
    if steps.is_empty() {
        println!("{} is an admin with this key already: nothing to do", args.handle);
        print!("{}", next(&[(&target.verb("verify"), "")]));
        return Ok(());
    }
    print!("{}", plan::print(&steps, target.transport.as_ref(), Style::stdout()));
    if users.is_none() {
        println!("no node could say who is there ({asked}); a record where an admin exists has no effect");
    }
    if args.yes {
        println!("done; the daemon imports it once it has a lease");
        print!("{}", next(&[(&target.verb("verify"), "")]));
    } else {
        println!("dry run: nothing was changed");
        let again = target.verb(&format!("seed-admin --sign-pub {} --handle {}", args.sign_pub, args.handle));
        print!("{}", next(&[(&format!("{again}{} --yes", args.lock.typed()), "")]));
    }
    Ok(())
}

/// Leaves the record for `local`, whose cluster is not up yet and is its own: nobody else may work on it.
pub(crate) fn leave_record(target: &Target, handle: &str, sign_pub: &str) -> Result<()> {
    carry_out(target, plan(target, handle, sign_pub)?, &Progress::silent()).map(drop)
}

fn carry_out(target: &Target, steps: Vec<Step>, progress: &Progress) -> Result<Vec<Step>> {
    let outcome = plan::execute(steps, target.transport.as_ref(), Goal::Do, progress);
    let failures = outcome.failures();
    if failures.is_empty() { Ok(outcome.steps) } else { bail!(failures.join("; ")) }
}

fn plan(target: &Target, handle: &str, sign_pub: &str) -> Result<Vec<Step>> {
    let record = json!({ "schema": 1, "handle": handle, "sign_pub": sign_pub });
    // On a server the daemon runs as a user of its own, which must read the record and delete it.
    let (path, owner) = match target.install_dir() {
        Some(dir) => (format!("{dir}/{BOOTSTRAP}"), Some(staging::DAEMON.to_owned())),
        None => (BOOTSTRAP.to_owned(), None),
    };
    let effect = Effect::PutFile { path, owner, mode: MODE, content: format!("{record}\n") };
    Ok(vec![Step::new("bootstrap", &target.seed()?.name, effect)])
}

/// Whom any node knows; and why not, if none could say.
fn ask_users(target: &Target) -> (Option<Vec<User>>, String) {
    let argv = ["./membershipd", "user", "list", "--json", "--runtime-dir", target.runtime_dir.as_str()];
    let transport = target.transport.as_ref();
    let answers: Vec<Result<Output, _>> = thread::scope(|scope| {
        let asked: Vec<_> =
            target.nodes().iter().map(|node| scope.spawn(move || transport.run(node, &argv, b"", WITHIN))).collect();
        asked.into_iter().filter_map(|answer| answer.join().ok()).collect()
    });
    let mut reasons: Vec<(&str, String)> = Vec::new();
    for (node, answer) in target.nodes().iter().zip(answers) {
        let said = match answer {
            Ok(output) if output.ok() => match serde_json::from_slice::<Users>(&output.stdout) {
                Ok(users) => return (Some(users.users), String::new()),
                Err(error) => format!("its answer is not the JSON this xtask knows: {error}"),
            },
            Ok(output) => crate::posture::complaint(&output.stdout, &output.stderr),
            Err(failure) => failure.to_string(),
        };
        reasons.push((node, said));
    }
    let same = reasons.first().filter(|(_, first)| reasons.iter().all(|(_, said)| said == first));
    let why = match same {
        Some((_, said)) => said.clone(),
        None => reasons.iter().map(|(node, said)| format!("{node}: {said}")).collect::<Vec<_>>().join("; "),
    };
    (None, why)
}

fn judge(users: &[User], handle: &str, sign_pub: &str) -> Found {
    let active = |user: &&User| user.role == "admin" && user.state == "active";
    let admins: Vec<&User> = users.iter().filter(active).collect();
    if admins.iter().any(|user| user.handle == handle && user.sign_pub == sign_pub) {
        return Found::This;
    }
    let name = |user: &User| format!("{} ({}, {}, key {})", user.handle, user.role, user.state, user.sign_pub);
    if !admins.is_empty() {
        return Found::Other(admins.into_iter().map(name).collect::<Vec<_>>().join(", "));
    }
    // A cluster that has ever had users has had its first admin: a record would do nothing.
    match users.first() {
        None => Found::Nobody,
        Some(_) => Found::Other(format!(
            "nobody of {} is an active admin now; as root on a node: membershipd user add --role admin",
            users.iter().map(name).collect::<Vec<_>>().join(", ")
        )),
    }
}

fn sign_pub(typed: &str) -> Result<String, String> {
    let digits = typed.chars().filter(char::is_ascii_hexdigit).count();
    if digits != typed.chars().count() {
        return Err("it must be hexadecimal digits only".to_owned());
    }
    if digits != 64 {
        return Err(format!("it has {digits} hex digits, an Ed25519 public key has 64"));
    }
    Ok(typed.to_ascii_lowercase())
}

fn handle(typed: &str) -> Result<String, String> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let good = (1..=32).contains(&typed.len())
        && typed.starts_with(word)
        && typed.chars().all(|c| word(c) || c == '_' || c == '-');
    if good { Ok(typed.to_owned()) } else { Err(HANDLE_RULE.to_owned()) }
}

/// Asks a `membershipd` here for the public half of an identity file, or makes one.
pub(crate) fn identity(output: &Output) -> Result<(String, String)> {
    #[derive(Deserialize)]
    struct Identity {
        handle: String,
        sign_pub: String,
    }
    if !output.ok() {
        bail!(crate::posture::complaint(&output.stdout, &output.stderr));
    }
    let Identity { handle: name, sign_pub: key } =
        serde_json::from_slice(&output.stdout).context("reading the answer of membershipd identity")?;
    let name = handle(&name).map_err(BadInput::new)?;
    Ok((name, sign_pub(&key).map_err(BadInput::new)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(handle: &str, key: &str, role: &str, state: &str) -> User {
        User { handle: handle.to_owned(), sign_pub: key.to_owned(), role: role.to_owned(), state: state.to_owned() }
    }

    #[test]
    fn an_admin_that_is_there_is_named() {
        let Found::Other(who) = judge(&[user("root", "aa", "admin", "active")], "root", "bb") else { panic!() };
        assert!(who.contains("root") && who.contains("aa"), "{who}");
    }

    #[test]
    fn the_same_admin_again_is_no_mistake() {
        assert_eq!(judge(&[user("root", "aa", "admin", "active")], "root", "aa"), Found::This);
        let gone = [user("root", "aa", "admin", "removed")];
        assert!(matches!(judge(&gone, "root", "aa"), Found::Other(why) if why.contains("removed")));
    }

    #[test]
    fn a_cluster_that_had_users_is_not_seeded_again() {
        assert!(matches!(judge(&[user("bob", "aa", "user", "active")], "root", "bb"), Found::Other(_)));
        assert_eq!(judge(&[], "root", "bb"), Found::Nobody);
    }

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
