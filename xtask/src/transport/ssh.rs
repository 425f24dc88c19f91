//! Nodes that ssh reaches, with the operator's own configuration and known hosts.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use super::{Failure, Output, Transport, bounded};

/// ssh's own exit code for 'I could not'.
const SSH_FAILED: i32 = 255;
/// The remote shell's exit codes for a program that is not there or may not be run.
const NOT_RUNNABLE: [i32; 2] = [126, 127];

/// Runs in the install directory. The arguments come after the script, so that nothing is quoted twice.
const RUN: &str = "cd -- \"$1\" && shift && exec \"$@\"";

/// The length is compared before the rename: a connection that dies half-way must leave the old file.
const PUT: &str = "set -eu; umask 077; cd -- \"$1\"; t=$(mktemp \"./.put.XXXXXXXX\"); trap 'rm -f -- \"$t\"' EXIT; \
                   cat > \"$t\"; [ \"$(wc -c < \"$t\")\" -eq \"$4\" ] || { echo 'the file arrived incomplete' >&2; exit 1; }; \
                   chmod -- \"$3\" \"$t\"; sync -- \"$t\"; mv -f -- \"$t\" \"$2\"; trap - EXIT";

/// Reaches nodes by ssh.
pub(crate) struct Ssh {
    hosts: BTreeMap<String, String>,
    install_dir: String,
}

impl Ssh {
    /// Nodes by name, with the host that ssh knows each by.
    pub(crate) fn new(hosts: BTreeMap<String, String>, install_dir: impl Into<String>) -> Self {
        Self { hosts, install_dir: install_dir.into() }
    }

    fn host(&self, node: &str) -> Result<&str, Failure> {
        match self.hosts.get(node).map(String::as_str) {
            Some(host) if !host.is_empty() && !host.starts_with('-') => Ok(host),
            Some(host) => Err(Failure::Unreachable(format!("'{host}' is no host name that ssh can take"))),
            None => Err(Failure::Unreachable(format!("the topology has no node '{node}'"))),
        }
    }

    fn call(&self, node: &str, script: &str, args: &[&str], stdin: &[u8], within: Duration) -> Result<Output, Failure> {
        let host = self.host(node)?;
        let mut command = Command::new("ssh");
        command.args(options()).args(["--", host]).arg(remote_command(script, args));
        let output = bounded(command, stdin, within).map_err(|failure| match failure {
            Failure::Unknown(why) => Failure::Unknown(format!("ssh {host}: {why}")),
            Failure::Unreachable(why) => Failure::Unreachable(format!("ssh {host}: {why}")),
        })?;
        match output.code {
            Some(SSH_FAILED) => Err(Failure::Unreachable(format!("ssh {host}: {}", last_line(&output.stderr)))),
            Some(code) if NOT_RUNNABLE.contains(&code) => Err(Failure::Unreachable(format!(
                "{host}: {} (is unibus installed in {}?)",
                last_line(&output.stderr),
                self.install_dir
            ))),
            None => Err(Failure::Unknown(format!("ssh {host} was ended by a signal"))),
            Some(_) => Ok(output),
        }
    }
}

impl Transport for Ssh {
    fn run(&self, node: &str, argv: &[&str], stdin: &[u8], within: Duration) -> Result<Output, Failure> {
        let args: Vec<&str> = std::iter::once(self.install_dir.as_str()).chain(argv.iter().copied()).collect();
        self.call(node, RUN, &args, stdin, within)
    }

    fn put_file(&self, node: &str, path: &str, bytes: &[u8], mode: u32) -> Result<(), Failure> {
        let (mode, length) = (format!("{mode:04o}"), bytes.len().to_string());
        let args = [self.install_dir.as_str(), path, &mode, &length];
        let output = self.call(node, PUT, &args, bytes, Duration::from_secs(30))?;
        if output.ok() {
            return Ok(());
        }
        Err(Failure::Unreachable(format!("{}: writing {path}: {}", self.place(node), last_line(&output.stderr))))
    }

    fn place(&self, node: &str) -> String {
        format!("{}:{}", self.hosts.get(node).map_or(node, String::as_str), self.install_dir)
    }
}

/// Never asks, never hangs for ever, never relaxes host key checking.
fn options() -> [&'static str; 8] {
    ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]
}

/// One word for ssh, which joins its arguments and gives them to the remote user's shell, whichever that is.
fn remote_command(script: &str, args: &[&str]) -> String {
    let mut words = vec!["exec sh -c".to_owned(), quote(script), "sh".to_owned()];
    words.extend(args.iter().map(|arg| quote(arg)));
    words.join(" ")
}

/// One argument for a shell. A quote is written as a double-quoted one: fish reads a backslash in its own way.
fn quote(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(safe) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\"'\"'"))
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the remote side does, with a local shell in ssh's place.
    fn remote(script: &str, args: &[&str], stdin: &[u8]) -> Output {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(remote_command(script, args));
        bounded(shell, stdin, Duration::from_secs(10)).unwrap()
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("xtask ssh '{name}' {}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn every_argument_arrives_as_it_was() {
        let nasty =
            ["", " ", "a b", "it's", "\"", "$HOME", "`id`", "a\nb", "\\", "*", "-n", "é", "';exit 9;'", "$(id)"];
        for word in nasty {
            let output = remote(RUN, &["/", "printf", "%s", word], b"");
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
        assert_eq!(quote("./membershipd"), "./membershipd");
        assert_eq!(quote("it's"), "'it'\"'\"'s'");
    }

    #[test]
    fn a_command_runs_in_the_install_directory_with_its_exit_code() {
        let dir = scratch("run");
        let output = remote(RUN, &[dir.to_str().unwrap(), "sh", "-c", "pwd; cat; exit 4"], b"in");
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\nin", dir.display()));
        assert_eq!(output.code, Some(4));
    }

    #[test]
    fn a_file_is_put_whole_with_its_mode_or_not_at_all() {
        use std::os::unix::fs::PermissionsExt;
        let dir = scratch("put");
        let at = dir.to_str().unwrap();
        let put = |length: &str| remote(PUT, &[at, "bootstrap.json", "0640", length], b"whole");
        assert_eq!(put("9").code, Some(1), "cut short");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "nothing may be left");
        let done = put("5");
        assert!(done.ok(), "{}", done.stderr);
        let file = dir.join("bootstrap.json");
        assert_eq!(std::fs::read(&file).unwrap(), b"whole");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "no temporary file is left");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_host_is_never_taken_for_an_option() {
        let hosts = [("a", "-oProxyCommand=x"), ("b", "")].map(|(n, h)| (n.to_owned(), h.to_owned()));
        let ssh = Ssh::new(BTreeMap::from(hosts), "/opt/unibus");
        for node in ["a", "b", "c"] {
            let failure = ssh.run(node, &["true"], b"", Duration::from_secs(1)).unwrap_err();
            assert!(matches!(failure, Failure::Unreachable(_)), "{failure}");
        }
    }

    #[test]
    fn host_keys_are_always_checked() {
        assert!(!options().iter().any(|option| option.contains("HostKey") || option.contains("KnownHosts")));
    }

    #[test]
    fn the_reason_is_the_last_thing_said() {
        assert_eq!(last_line("banner\nPermission denied.\n\n"), "Permission denied.");
        assert_eq!(last_line(""), "no message");
    }
}
