//! Nodes that ssh reaches, with the operator's own configuration and known hosts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv6Addr;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::connections::{self, Connections};
use super::shell::{self, READY, Shell, ready};
use super::{Call, Files, Login, Opening, Session, Transport};
use crate::process::{Failure, Output, bounded, bounded_into, not_begun, refused_session};

/// ssh gives up by itself long before; this is for one that does not.
const OPENS_WITHIN: Duration = Duration::from_secs(30);
/// ssh's own exit code for 'I could not'.
const SSH_FAILED: i32 = 255;
/// The remote shell's exit codes for a program that is not there or may not be run.
const NOT_RUNNABLE: [i32; 2] = [126, 127];

/// Becomes root unless it is. `sudo` keeps the directory and the standard streams. What it and the command complain about is in the
/// language in which complaints are recognised.
const AS_ROOT: &str = "export LC_ALL=C; [ \"$(id -u)\" = 0 ] || set -- sudo -n -- \"$@\"; exec \"$@\"";

/// Runs in the install directory. The arguments come after the script, so that nothing is quoted twice.
const RUN: &str =
    "cd -- \"$1\" && shift || exit; export LC_ALL=C; [ \"$(id -u)\" = 0 ] || set -- sudo -n -- \"$@\"; exec \"$@\"";

/// Says the line [`READY`], before anything that is wanted.
const SAY_READY: &str = concat!("echo \"", ready!(), "\"");

/// Runs ssh with the words that follow, on this machine, and passes on what comes after the line [`READY`]: a login shell there may have
/// printed something first, a thousand lines at most. Ends with ssh's exit code. No single quote is in it: rsync, which starts it too, has
/// it between two.
const AFTER_GREETING: &str = concat!(
    "exec 3>&1; code=$({ { ssh \"$@\" 3>&- 4>&-; echo $? >&4; } | { ulimit -v 200000 2>/dev/null; n=0; ",
    "while [ $n -lt 1000 ] && IFS= read -r line && [ \"$line\" != \"",
    ready!(),
    "\" ]; do n=$((n+1)); done; exec cat >&3 4>&-; }; } 4>&1); exit \"$code\"",
);
/// Longest part of a greeting that is kept, in bytes.
const GREETING: usize = 1000;

/// Takes install directory, path, mode, length and owner. The length is compared before the rename: a connection that
/// dies half-way must leave the old file. A path below the install directory may lie where the daemon can write; so its
/// temporary file is made in the install directory itself, where nobody but root can put another in its place.
const PUT: &str = "set -eu; umask 077; cd -- \"$1\"; case $2 in \"$1\"/*) d=.;; /*) d=${2%/*};; *) d=.;; esac; \
                   t=$(mktemp \"$d/.put.XXXXXXXX\"); trap 'rm -f -- \"$t\"' EXIT; \
                   cat > \"$t\"; [ \"$(wc -c < \"$t\")\" -eq \"$4\" ] || { echo 'the file arrived incomplete' >&2; exit 1; }; \
                   chmod -- \"$3\" \"$t\"; [ -z \"$5\" ] || chown -- \"$5\" \"$t\"; \
                   sync -- \"$t\"; mv -fT -- \"$t\" \"$2\"; trap - EXIT";

/// Reaches nodes by ssh.
pub struct Ssh {
    hosts: BTreeMap<String, String>,
    install_dir: String,
    /// From the first connection on.
    connections: Mutex<Option<Connections>>,
}

impl Ssh {
    /// Nodes by name, with the host that ssh knows each by.
    pub fn new(hosts: BTreeMap<String, String>, install_dir: impl Into<String>) -> Self {
        Self { hosts, install_dir: install_dir.into(), connections: Mutex::default() }
    }

    fn host(&self, node: &str) -> Result<&str, Failure> {
        match self.hosts.get(node).map(String::as_str) {
            Some(host) if !host.is_empty() && !host.starts_with('-') => Ok(host),
            Some(host) => Err(Failure::Unreachable(format!("'{host}' is no host name that ssh can take"))),
            None => Err(Failure::Unreachable(format!("the topology has no node '{node}'"))),
        }
    }

    /// What ssh needs on this machine to connect.
    fn connect(&self) -> Result<(), Failure> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if connections.is_none() {
            *connections = Some(Connections::hold()?);
        }
        Ok(())
    }

    /// The whole command that runs `script` on the node.
    fn ssh(&self, node: &str, script: &str, args: &[&str]) -> Result<Vec<String>, Failure> {
        let host = self.host(node)?;
        let fixed = std::iter::once("ssh".to_owned()).chain(options());
        Ok(fixed.chain(["--".to_owned(), host.to_owned(), remote_command(script, args)]).collect())
    }

    /// The same where all that it prints is wanted, and nothing that a login shell prints before; with these options besides.
    fn exact(&self, node: &str, args: &[&str], more: &[&str]) -> Result<Vec<String>, Failure> {
        let script = format!("{SAY_READY}; {RUN}");
        let args: Vec<&str> = std::iter::once(self.install_dir.as_str()).chain(args.iter().copied()).collect();
        let words = self.ssh(node, &script, &args)?;
        // ssh takes the first value that it is given.
        let more = more.iter().map(|&word| word.to_owned());
        Ok(after_greeting().into_iter().chain(more).chain(words.into_iter().skip(1)).collect())
    }

    fn rsync(&self, node: &str, files: &Files) -> Result<Vec<String>, Failure> {
        let host = self.host(node)?;
        let rsh = format!("sh -c '{AFTER_GREETING}' sh {}", options().join(" "));
        let mut words = vec!["rsync".to_owned()];
        // Content decides, not the time of a build; owner and mode are those of the plan, not those of this machine.
        words.extend(["--checksum", "--perms", "--owner", "--group", "--itemize-changes"].map(str::to_owned));
        words.extend([format!("--chmod=F{}", files.mode), format!("--chown={}", files.owner)]);
        words.extend(["--timeout=30".to_owned(), format!("--rsh={rsh}")]);
        words.push(format!("--rsync-path=sh -c {} sh rsync", quote(&format!("{SAY_READY}; {AS_ROOT}"))));
        words.push("--".to_owned());
        words.extend(files.from.iter().map(|file| file.display().to_string()));
        words.push(format!("{}:{}/", rsync_host(host), files.to));
        Ok(words)
    }

    fn start(&self, node: &str, words: &[String], stdin: &[u8], within: Duration) -> Result<Output, Failure> {
        self.carry_out(node, "rsync", words, |command| bounded(command, stdin, within))
    }

    /// Starts `words`; `program` is what they amount to, for messages.
    fn carry_out(
        &self,
        node: &str,
        program: &str,
        words: &[String],
        run: impl FnOnce(Command) -> Result<Output, Failure>,
    ) -> Result<Output, Failure> {
        let host = self.host(node)?;
        let [first, args @ ..] = words else {
            return Err(Failure::Unreachable("no command was given".to_owned()));
        };
        self.connect()?;
        let output = run(start(first, args)).map_err(|failure| failure.at(program, host))?;
        match output.code {
            Some(SSH_FAILED) if not_begun(&output.stderr) => {
                Err(Failure::Unreachable(output.reason().to_owned()).at(program, host))
            }
            Some(SSH_FAILED) => Err(Failure::Unknown(output.reason().to_owned()).at(program, host)),
            None => Err(Failure::Unknown(format!("{program} {host} was ended by a signal"))),
            Some(_) => Ok(output),
        }
    }
}

impl Ssh {
    /// Runs a command in the install directory, by `run`.
    fn there(
        &self,
        node: &str,
        argv: &[&str],
        run: impl FnOnce(Command) -> Result<Output, Failure>,
    ) -> Result<Output, Failure> {
        let output = self.carry_out(node, "ssh", &self.exact(node, argv, &[])?, run)?;
        match output.code {
            Some(code) if NOT_RUNNABLE.contains(&code) => Err(Failure::Unreachable(format!(
                "{}: {} (is unibus installed in {}?)",
                self.host(node)?,
                output.reason(),
                self.install_dir
            ))),
            _ => Ok(output),
        }
    }
}

impl Transport for Ssh {
    fn run(&self, node: &str, argv: &[&str], stdin: &[u8], within: Duration) -> Result<Output, Failure> {
        self.there(node, argv, |command| bounded(command, stdin, within))
    }

    fn fetch(&self, node: &str, argv: &[&str], file: (&File, u64), within: Duration) -> Result<Output, Failure> {
        self.there(node, argv, |command| bounded_into(command, file, within))
    }

    fn call(&self, node: &str, call: &Call, within: Duration) -> Result<Output, Failure> {
        match call {
            Call::Sync(files) => self.start(node, &self.rsync(node, files)?, b"", within),
            _ => self.talk(node)?.call(call, within),
        }
    }

    fn open<'a>(&'a self, node: &str) -> Result<Option<Box<dyn Session + 'a>>, Failure> {
        Ok(Some(Box::new(self.talk(node)?)))
    }

    fn opening(&self, node: &str) -> Result<Option<Opening>, Failure> {
        let command = self.ssh(node, AS_ROOT, &["sh", "-s"])?;
        Ok(Some(Opening { command, stdin: shell::opening(&self.install_dir) }))
    }

    fn command(&self, node: &str, call: &Call) -> Result<Option<Vec<String>>, Failure> {
        match call {
            Call::Sync(files) => self.rsync(node, files).map(Some),
            _ => Ok(Some(self.words(call).0)),
        }
    }

    fn relay(&self, node: &str, argv: &[&str]) -> Result<Vec<String>, Failure> {
        // It lasts for minutes, and must neither end with another's connection nor keep one up that is dead.
        self.exact(node, argv, &["-o", "ControlMaster=no", "-o", "ControlPath=none"])
    }

    fn login(&self, node: &str, within: Duration) -> Result<Option<Login>, Failure> {
        // Not [`AS_ROOT`]: it is the user's own shell that is asked about.
        let words = self.ssh(node, SAY_READY, &[])?;
        let output = self.carry_out(node, "ssh", &words, |command| bounded(command, b"", within))?;
        Ok(Some(Login { greeting: greeting(&output.stdout), alone: refused_session(&output.stderr) }))
    }

    fn place(&self, node: &str) -> String {
        format!("{}:{}", self.hosts.get(node).map_or(node, String::as_str), self.install_dir)
    }
}

impl Ssh {
    fn talk(&self, node: &str) -> Result<Talk<'_>, Failure> {
        let (host, opening) = (self.host(node)?, self.opening(node)?);
        let Some(Opening { command: words, stdin }) = opening else {
            return Err(Failure::Unreachable("no command was given".to_owned()));
        };
        self.connect()?;
        let words: Vec<String> = words.into_iter().skip(1).collect();
        let shell =
            Shell::open(start("ssh", &words), &stdin, OPENS_WITHIN).map_err(|failure| failure.at("ssh", host))?;
        Ok(Talk { ssh: self, host: host.to_owned(), shell })
    }

    /// What a session runs on the node, and what that reads.
    fn words<'a>(&self, call: &'a Call) -> (Vec<String>, &'a str) {
        match call {
            Call::Run(argv) => (in_its_place(argv), ""),
            Call::Feed { argv, stdin } => (in_its_place(argv), stdin),
            Call::Put { path, owner, mode, content } => {
                let (mode, length) = (mode.to_string(), content.len().to_string());
                let put = [&self.install_dir, path, &mode, &length, owner.as_deref().unwrap_or_default()];
                (["sh", "-c", PUT, "sh"].into_iter().chain(put).map(str::to_owned).collect(), content)
            }
            Call::Sync(_) => (Vec::new(), ""),
        }
    }
}

/// A path of the node's own, such as ./membershipd, is meant from the install directory.
fn in_its_place(argv: &[String]) -> Vec<String> {
    let own = argv.first().is_some_and(|program| program.starts_with("./"));
    own.then(|| "here".to_owned()).into_iter().chain(argv.iter().cloned()).collect()
}

/// One connection, kept open.
struct Talk<'a> {
    ssh: &'a Ssh,
    host: String,
    shell: Shell,
}

impl Session for Talk<'_> {
    fn ask(&mut self, questions: &[Vec<String>], within: Duration) -> Result<Vec<Output>, Failure> {
        let text: String = questions.iter().map(|argv| shell::question(&in_its_place(argv))).collect();
        self.shell.talk(&text, questions.len(), within).map_err(|failure| failure.at("ssh", &self.host))
    }

    fn call(&mut self, call: &Call, within: Duration) -> Result<Output, Failure> {
        let (words, stdin) = self.ssh.words(call);
        if words.is_empty() {
            return Err(Failure::Unreachable("files are not sent that way".to_owned()));
        }
        let outputs = self.shell.talk(&shell::order(&words, stdin), 1, within);
        let outputs = outputs.map_err(|failure| failure.at("ssh", &self.host))?;
        outputs.into_iter().next().ok_or_else(|| Failure::Unknown("no answer".to_owned()).at("ssh", &self.host))
    }
}

/// Never asks, never hangs for ever, never relaxes host key checking. One connection serves a whole run, and ends by itself
/// soon after. What a configuration says for people who log in to work there is left out: a command, a terminal, forwarded ports.
fn options() -> Vec<String> {
    let control = format!("ControlPath={}/%C", connections::directory());
    let wanted = ["BatchMode=yes", "ConnectTimeout=5", "ServerAliveInterval=5", "ServerAliveCountMax=3"];
    let plain = ["RemoteCommand=none", "RequestTTY=no", "ClearAllForwardings=yes"];
    let shared = ["ControlMaster=auto", "ControlPersist=10", control.as_str()];
    let all = wanted.iter().chain(&plain).chain(&shared);
    all.flat_map(|option| ["-o".to_owned(), (*option).to_owned()]).collect()
}

/// The words before those of ssh where what a login shell prints is to be left out.
fn after_greeting() -> [String; 4] {
    ["sh", "-c", AFTER_GREETING, "sh"].map(str::to_owned)
}

/// A program of this machine, whose complaints are in the language in which they are recognised.
fn start(program: &str, args: &[String]) -> Command {
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C");
    command
}

/// A host as rsync reads it, which takes the first colon for the end of one: an address of IPv6 stands in brackets.
fn rsync_host(host: &str) -> Cow<'_, str> {
    let (user, address) = host.rsplit_once('@').map_or(("", host), |(user, address)| (user, address));
    match (is_ipv6(address), user) {
        (false, _) => Cow::Borrowed(host),
        (true, "") => Cow::Owned(format!("[{address}]")),
        (true, user) => Cow::Owned(format!("{user}@[{address}]")),
    }
}

/// Whether a host is an address of IPv6, with a zone or without.
pub(crate) fn is_ipv6(host: &str) -> bool {
    host.split_once('%').map_or(host, |(address, _)| address).parse::<Ipv6Addr>().is_ok()
}

/// What a login shell printed before it ran the command.
fn greeting(stdout: &[u8]) -> String {
    let text = String::from_utf8_lossy(stdout.get(..GREETING).unwrap_or(stdout));
    let before = text.lines().take_while(|line| *line != READY).filter(|line| !line.trim().is_empty());
    before.map(|line| crate::process::text(line.as_bytes())).collect::<Vec<_>>().join("\n")
}

/// One word for ssh, which joins its arguments and gives them to the remote user's shell, whichever that is.
fn remote_command(script: &str, args: &[&str]) -> String {
    let mut words = vec!["exec sh -c".to_owned(), quote(script), "sh".to_owned()];
    words.extend(args.iter().map(|arg| quote(arg)));
    words.join(" ")
}

/// One argument for a shell. A quote is written as a double-quoted one: fish reads a backslash in its own way.
pub fn quote(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(safe) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\"'\"'"))
}

#[cfg(test)]
mod tests;
