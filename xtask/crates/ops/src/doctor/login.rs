//! How a machine lets its operator in: what its shell prints unasked, and how many commands it takes on one connection. Pure.

use super::{Check, Level};
use crate::transport::Login;

pub(super) const IDS: [&str; 2] = ["shell", "sessions"];

/// Both checks of a node; the login is an error where it could not be tried.
pub(super) fn checks(node: &str, login: &Result<Login, String>) -> [Check; 2] {
    let [shell, sessions] = IDS;
    let (quiet, shared) = ("prints nothing of its own accord", "several on one connection");
    let login = match login {
        Ok(login) => login,
        Err(why) => {
            let lost = |id, want| Check::new(id, node, Level::Warn, want, why).remedy("run this again");
            return [lost(shell, quiet), lost(sessions, shared)];
        }
    };
    let shell = if login.greeting.is_empty() {
        Check::new(shell, node, Level::Ok, quiet, "quiet")
    } else {
        let first = login.greeting.lines().next().unwrap_or_default();
        Check::new(shell, node, Level::Warn, quiet, format!("prints before every command: {first}")).remedy(
            "these verbs leave it out, and others, such as scp or rsync by hand, break: print only where a person works. In \
             .bashrc, before what prints: case $- in *i*) ;; *) return ;; esac. Also looked at: .zshenv, config.fish, \
             .cshrc, /etc/bash.bashrc, ~/.ssh/rc",
        )
    };
    let sessions = if login.alone {
        Check::new(sessions, node, Level::Info, shared, "one, so each has a connection of its own")
            .remedy("nothing: it is only slower; to have it otherwise: MaxSessions 10 in /etc/ssh/sshd_config there")
    } else {
        Check::new(sessions, node, Level::Ok, shared, "shared")
    };
    [shell, sessions]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_that_talks_and_server_that_takes_one_session_are_named_with_a_remedy() {
        let levels = |login: Result<Login, String>| checks("a", &login).map(|check| check.level);
        assert_eq!(levels(Ok(Login::default())), [Level::Ok, Level::Ok]);
        let login = Login { greeting: "Welcome!\nagain".to_owned(), alone: true };
        let [shell, sessions] = checks("a", &Ok(login));
        assert_eq!((shell.level, sessions.level), (Level::Warn, Level::Info));
        assert!(shell.got.ends_with(": Welcome!") && shell.remedy.contains(".bashrc"), "{shell:?}");
        assert!(sessions.remedy.contains("MaxSessions"), "{sessions:?}");
        assert_eq!(levels(Err("gone".to_owned())), [Level::Warn, Level::Warn]);
    }
}
