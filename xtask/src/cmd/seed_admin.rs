//! `seed-admin`: the first admin, before or after the cluster is up.

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Deserialize;

use unibus_ops::answer;
use unibus_ops::first_admin::{carry_out, handle, plan as record, sign_pub};
use unibus_ops::global::Global;
use unibus_ops::plan::{self, LockFlags};
use unibus_ops::process::Output;
use unibus_ops::target::{Target, Which};
use unibus_ops::ui::{Progress, Style, next};

const WITHIN: Duration = Duration::from_secs(15);

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
        Found::Nobody => target.locked(record(&target, &args.handle, &args.sign_pub)?, "seed-admin", &args.lock),
    };
    let steps = if args.yes { carry_out(&target, steps, &Progress::new())? } else { steps };
    if args.json {
        outln!("{}", plan::json(&steps, target.transport.as_ref(), args.yes)?);
        return Ok(());
    }
    if steps.is_empty() {
        outln!("{} is an admin with this key already: nothing to do", args.handle);
        out!("{}", next(&[(&target.verb("verify"), "")]));
        return Ok(());
    }
    out!("{}", plan::print(&steps, target.transport.as_ref(), Style::stdout()));
    if users.is_none() {
        outln!("no node could say who is there ({asked}); a record where an admin exists has no effect");
    }
    if args.yes {
        outln!("done; the daemon imports it once it has a lease");
        out!("{}", next(&[(&target.verb("verify"), "")]));
    } else {
        outln!("dry run: nothing was changed");
        let again = target.verb(&format!("seed-admin --sign-pub {} --handle {}", args.sign_pub, args.handle));
        out!("{}", next(&[(&format!("{again}{} --yes", args.lock.typed()), "")]));
    }
    Ok(())
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
            Ok(output) if output.ok() => match answer::read::<Users>(&output.stdout) {
                Ok(users) => return (Some(users.users), String::new()),
                Err(error) => format!("its answer is not the JSON this xtask knows: {error}"),
            },
            Ok(output) => unibus_ops::posture::complaint(&output.stdout, &output.stderr),
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
}
