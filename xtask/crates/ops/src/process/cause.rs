//! Why a node could not be reached or would not do something: the usual complaints of ssh, sudo and rsync, and what helps.

/// A complaint that has a known remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    HostKeyChanged,
    HostKeyUnknown,
    Denied,
    NoName,
    Refused,
    NoAnswer,
    NoRoute,
    SudoPassword,
    SudoForbidden,
    NoSudo,
    ShellTalks,
    NoRsync,
    NoSpace,
    ReadOnly,
    WrongProgram,
    Cut,
}

/// How far a command was when there was a complaint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// ssh never got as far as running it: nothing was begun on the node.
    Connecting,
    /// It may have begun.
    Later,
}

/// What each complaint contains, in lower case. The first that fits counts: those that explain others come first, and those that
/// tell no cause last.
const KNOWN: [(&[&str], Stage, Option<Cause>); 36] = [
    (&["remote host identification has changed"], Stage::Connecting, Some(Cause::HostKeyChanged)),
    (&["host key for", "has changed"], Stage::Connecting, Some(Cause::HostKeyChanged)),
    (&["host key verification failed"], Stage::Connecting, Some(Cause::HostKeyUnknown)),
    (&["no space left on device"], Stage::Later, Some(Cause::NoSpace)),
    (&["disk quota exceeded"], Stage::Later, Some(Cause::NoSpace)),
    (&["read-only file system"], Stage::Later, Some(Cause::ReadOnly)),
    (&["exec format error"], Stage::Later, Some(Cause::WrongProgram)),
    (&["rsync: command not found"], Stage::Later, Some(Cause::NoRsync)),
    (&["rsync: not found"], Stage::Later, Some(Cause::NoRsync)),
    (&["sudo: command not found"], Stage::Later, Some(Cause::NoSudo)),
    (&["sudo: not found"], Stage::Later, Some(Cause::NoSudo)),
    (&["is not in the sudoers file"], Stage::Later, Some(Cause::SudoForbidden)),
    (&["is not allowed to execute"], Stage::Later, Some(Cause::SudoForbidden)),
    (&["sudo: a password is required"], Stage::Later, Some(Cause::SudoPassword)),
    (&["sudo: a terminal is required"], Stage::Later, Some(Cause::SudoPassword)),
    // The same of sudo-rs.
    (&["sudo: interactive authentication is required"], Stage::Later, Some(Cause::SudoPassword)),
    (&["sudo: ", "incorrect authentication attempt"], Stage::Later, Some(Cause::SudoPassword)),
    (&["sudo: ", "sorry, user", "may not run"], Stage::Later, Some(Cause::SudoForbidden)),
    (&["sudo: i'm sorry", "i can't do that"], Stage::Later, Some(Cause::SudoForbidden)),
    (&["is your shell clean"], Stage::Later, Some(Cause::ShellTalks)),
    (&["permission denied ("], Stage::Connecting, Some(Cause::Denied)),
    (&["too many authentication failures"], Stage::Connecting, Some(Cause::Denied)),
    (&["could not resolve hostname"], Stage::Connecting, Some(Cause::NoName)),
    (&["connect to host", "connection refused"], Stage::Connecting, Some(Cause::Refused)),
    (&["connect to host", "timed out"], Stage::Connecting, Some(Cause::NoAnswer)),
    (&["timeout, server", "not responding"], Stage::Later, Some(Cause::NoAnswer)),
    (&["connect to host", "no route to host"], Stage::Connecting, Some(Cause::NoRoute)),
    (&["connect to host", "network is unreachable"], Stage::Connecting, Some(Cause::NoRoute)),
    (&["closed by remote host"], Stage::Later, Some(Cause::Cut)),
    (&["connection unexpectedly closed"], Stage::Later, Some(Cause::Cut)),
    (&["connection reset by peer"], Stage::Later, Some(Cause::Cut)),
    (&["broken pipe"], Stage::Later, Some(Cause::Cut)),
    (&["connect to host"], Stage::Connecting, None),
    (&["kex_exchange_identification"], Stage::Connecting, None),
    (&["banner exchange"], Stage::Connecting, None),
    (&["bad configuration option"], Stage::Connecting, None),
];

impl Cause {
    fn remedy(self) -> &'static str {
        match self {
            Self::HostKeyChanged => {
                "somebody may be in between, or the server was made anew: compare the key with the provider's console, \
                 and only then remove the old one with ssh-keygen -R"
            }
            Self::HostKeyUnknown => "ssh there once by hand, and compare the key with the provider's console",
            Self::Denied => "ssh there must work without a password: see ssh-agent and ~/.ssh/config",
            Self::NoName => "its ssh name in the topology must be a name that ssh knows: see ~/.ssh/config",
            Self::Refused => "the machine is up and no sshd listens there: see its port and its firewall",
            Self::NoAnswer => "the machine is down, or a firewall drops what comes from here",
            Self::NoRoute => "this machine has no way there: see the network here, and whether the server is up",
            Self::SudoPassword => "log in as root, or give that user NOPASSWD in /etc/sudoers.d",
            Self::SudoForbidden => "log in as root, or allow that user everything in /etc/sudoers.d",
            Self::NoSudo => "log in as root, or install sudo there",
            Self::ShellTalks => "its login shell prints something: see `cargo xtask doctor --nodes`",
            Self::NoRsync => "install rsync there: apt-get install rsync",
            Self::NoSpace => "make room there; old releases lie in releases/ of the install directory",
            Self::ReadOnly => "its disk can only be read: see its kernel's log for why",
            Self::Cut => "the connection broke on the way: see the network, and that server's log",
            Self::WrongProgram => "the program is built for x86-64 and that server is none",
        }
    }
}

fn fits(text: &str, parts: &[&str]) -> bool {
    let text = text.to_lowercase();
    parts.iter().all(|part| text.contains(part))
}

/// How a line begins with which our own programs say what helps, after the one that says what is wrong.
const REMEDY: &str = "remedy: ";

/// What ssh says of a second session that the server does not take on one connection. It makes another connection then, so it is
/// why nothing failed.
const ALONE: [&str; 2] = [REFUSED_SESSION, "disabling multiplexing"];
const REFUSED_SESSION: &str = "session open refused by peer";

/// Whether ssh had to make a connection of its own although one was open.
pub(crate) fn refused_session(stderr: &str) -> bool {
    fits(stderr, &[REFUSED_SESSION])
}

/// The line that tells most: one with a known cause, else the last; where that only says what helps, with the one before.
pub(super) fn telling(stderr: &str) -> String {
    let mut caused = KNOWN.iter().filter(|(.., cause)| cause.is_some());
    let known = caused.find_map(|(parts, ..)| stderr.lines().find(|line| fits(line, parts)));
    // ssh frames its warning of a changed key.
    let bare = |line: &str| line.trim_matches(['@', ' ', '\r']).to_owned();
    let telling = |line: &String| !line.is_empty() && !ALONE.iter().any(|words| fits(line, &[words]));
    let mut last = stderr.lines().rev().map(bare).filter(telling);
    match known {
        Some(line) => bare(line),
        None => match (last.next(), last.next()) {
            (Some(remedy), Some(wrong)) if remedy.starts_with(REMEDY) => format!("{wrong}; {remedy}"),
            (Some(line), _) => line,
            (None, _) => "no message".to_owned(),
        },
    }
}

/// The same complaint with what helps, where that is known.
pub(crate) fn with_remedy(why: &str) -> String {
    match KNOWN.iter().find(|(parts, ..)| fits(why, parts)) {
        Some((.., Some(cause))) => format!("{why}; {}", cause.remedy()),
        _ => why.to_owned(),
    }
}

/// Whether ssh failed before anything began on the node.
pub(crate) fn not_begun(stderr: &str) -> bool {
    KNOWN.iter().any(|(parts, stage, _)| *stage == Stage::Connecting && fits(stderr, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGED: &str = "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n\
        @    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n\
        @@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r\n\
        IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\r\n\
        Host key for homer has changed and you have requested strict checking.\r\n\
        Host key verification failed.\r\n";

    #[test]
    fn a_complaint_of_many_lines_is_told_by_the_one_that_matters() {
        assert_eq!(telling(CHANGED), "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!");
        let rsync = "sh: 1: exec: rsync: not found\nrsync: connection unexpectedly closed (0 bytes received so far)\n\
                     rsync error: error in rsync protocol data stream (code 12) at io.c(232)";
        assert_eq!(telling(rsync), "sh: 1: exec: rsync: not found");
        assert_eq!(telling("first\nlast\n\n"), "last");
        let ours = "12 of 70\nmembershipd: the target holds a room\n  remedy: empty stores\n";
        assert_eq!(telling(ours), "membershipd: the target holds a room; remedy: empty stores");
        assert_eq!(telling("  remedy: alone"), "remedy: alone");
        assert_eq!(telling(""), "no message");
        let alone = "mux_client_request_session: session request failed: Session open refused by peer\r\n\
                     cat: /x: No such file or directory\n\
                     ControlSocket /run/unibus-ssh-0-1/ab already exists, disabling multiplexing\r";
        assert_eq!(telling(alone), "cat: /x: No such file or directory");
        assert!(refused_session(alone) && !refused_session("cat: /x: Permission denied"));
    }

    #[test]
    fn the_usual_complaints_have_a_remedy() {
        let changed = telling(CHANGED);
        let usual = [
            (changed.as_str(), "ssh-keygen -R"),
            ("Host key verification failed.", "by hand"),
            ("root@homer: Permission denied (publickey).", "ssh-agent"),
            ("ssh: connect to host homer port 22: Connection refused", "sshd"),
            ("ssh: connect to host homer port 22: Connection timed out", "firewall"),
            ("ssh: connect to host homer port 22: No route to host", "no way there"),
            ("ssh: Could not resolve hostname dd: Name or service not known", "~/.ssh/config"),
            ("sudo: a password is required", "NOPASSWD"),
            ("sudo: interactive authentication is required", "NOPASSWD"),
            ("sudo: Maximum 3 incorrect authentication attempts", "NOPASSWD"),
            ("sudo: Sorry, user op may not run sh on homer.", "allow that user"),
            ("sudo: I'm sorry op. I'm afraid I can't do that", "allow that user"),
            ("protocol version mismatch -- is your shell clean?", "login shell prints"),
            ("bash: line 1: rsync: command not found", "apt-get install rsync"),
            ("rsync: [receiver] write failed on \"/opt/x\": No space left on device (28)", "make room"),
            ("sh: 1: ./membershipd: Exec format error", "x86-64"),
        ];
        for (why, remedy) in usual {
            assert!(with_remedy(why).contains(remedy), "{}", with_remedy(why));
        }
        assert_eq!(with_remedy("useradd: user 'unibus' already exists"), "useradd: user 'unibus' already exists");
        // A file that may not be read is no matter of ssh's.
        for other in ["cat: /x: Permission denied", "control socket: Connection refused", "the write timed out"] {
            assert_eq!(with_remedy(other), other);
        }
    }

    #[test]
    fn a_connection_that_was_lost_may_have_begun_something() {
        assert!(not_begun("ssh: connect to host homer port 22: Connection refused"));
        assert!(not_begun(CHANGED));
        for lost in ["client_loop: send disconnect: Broken pipe", "Connection to homer closed by remote host.", ""] {
            assert!(!not_begun(lost), "{lost}");
        }
    }
}
