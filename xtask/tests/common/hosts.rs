//! Three servers that are directories here. What goes over ssh and rsync is really done, by the real tools, below the
//! directory that stands for the host; only systemd, the daemon, users and owners are played.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Clone, Done, NODES, with_cross};

const ENGINE: &str = "deploy/build/engine/2.15.1/nats-server";

/// Notes its words, then does on the directory of the host what it is told there: a command, or line by line whatever a session
/// brings. How to answer it knows by itself: paths of a server mean paths below that directory here, but only in the words of a
/// command, never in a file.
const SSH: &str = r#"#!/bin/sh
export LC_ALL=C
root=${0%/bin/*}
for last; do [ "$previous" = -- ] && host=$last; previous=$last; done
here=$root/hosts/$host
note() { { printf '%s\037' "$@"; printf '\036'; } >> "$root/seen/$host"; }
cut() {
    if [ -e "$root/cut" ] && printf '%s' "$*" | grep -qF -- "$(cat "$root/cut")"; then
        echo "ssh: connect to host $host port 22: Connection refused" >&2; exit 255
    fi
}
moved() {
    printf '%s' "$1" | sed "s#/opt/unibus#$here/opt/unibus#g; s#/run/unibus#$here/run/unibus#g; \
s#/etc/systemd/system#$here/units#g"
}
there() {
    case $1 in
    */unibus* | */systemd*) moved "$1" ;;
    *) printf '%s' "$1" ;;
    esac
}
doing() {
    first=yes
    for word; do
        [ $first = yes ] && { set --; first=no; }
        set -- "$@" "$(there "$word")"
    done
    "$@"
}
here() { cd "$here/opt/unibus" && "$@"; }
tell() {
    # What is told of a path is what the server would tell.
    set -- "$1" "$(printf %s "$2" | sed "s#$here/units#/etc/systemd/system#g; s#$here/#/#g")"
    printf '%s %s\n%s\n' "$1" "${#2}" "$2"
}
ask() {
    note "$@"; cut "$@"
    said=$(doing "$@" < /dev/null 2> /dev/null); tell "$?" "$said"
}
run() {
    input=$1; shift
    note "$@"; cut "$@"
    said=$(printf %s "$input" | doing "$@" 2>&1); tell "$?" "$said"
}
note ssh "$@"
HOST=$host ROOT=$root PATH=$root/server:$PATH; export HOST ROOT PATH
cd "$here" || exit 255
case $last in
*' sh sh -s') ;;
*) cut "$last"; exec sh -c "$(moved "$last")" ;;
esac
while IFS= read -r line && [ "$line" != "echo 'unibus: ready'" ]; do :; done
echo 'unibus: ready'
. /dev/stdin
"#;

/// Notes its words, then does the same with directories of this machine, which know no such owners.
const RSYNC: &str = r#"#!/bin/sh
root=${0%/bin/*}
for last; do :; done
host=${last%%:*}
{ printf '%s\037' rsync "$@"; printf '\036'; } >> "$root/seen/$host"
first=yes
for word; do
    [ $first = yes ] && { set --; first=no; }
    case $word in
        --owner | --group | --chown=* | --rsh=* | --rsync-path=*) ;;
        "$host":*) set -- "$@" "$root/hosts/$host${word#"$host":}" ;;
        *) set -- "$@" "$word" ;;
    esac
done
exec "$RSYNC" "$@"
"#;

/// A service manager that starts what is not on the list of what does not start.
const SYSTEMCTL: &str = r#"#!/bin/sh
here=$ROOT/hosts/$HOST socket=$ROOT/hosts/$HOST/run/unibus/control.sock
echo "$HOST systemctl $1" >> "$ROOT/log"
case $1 in
is-active) [ -e "$socket" ] || exit 3 ;;
is-enabled) [ -e "$here/enabled" ] || exit 1 ;;
enable) [ -e "$here/units/membershipd-cluster.service" ] || { echo 'Unit file does not exist.' >&2; exit 1; }
    : > "$here/enabled" ;;
show) echo no ;;
start | restart)
    while [ -e "$ROOT/hang" ]; do : > "$ROOT/hanging"; sleep 0.05; done
    [ ! -e "$ROOT/dead" ] || { rm "$ROOT/dead"; exit 1; }
    rm -f "$socket"
    release=$(readlink "$here/opt/unibus/current") || exit 1
    if grep -qsx "$release" "$ROOT/broken" || grep -qs broken "$here/opt/unibus/cluster.env"; then
        echo "Job for $3 failed because the control process exited with error code." >&2; exit 1
    fi
    mkdir -p "$here/run/unibus"
    : > "$socket" ;;
esac
"#;

/// A daemon that is well where it runs, unless the host is on the list of the ill.
const MEMBERSHIPD: &str = r#"#!/bin/sh
echo "$HOST membershipd $*" >> "$ROOT/log"
case $1 in
wait)
    [ -e "$ROOT/hosts/$HOST/run/unibus/control.sock" ] || { echo 'no daemon answers' >&2; exit 1; }
    if grep -qsx "$HOST $3" "$ROOT/ill"; then echo "$HOST is not $3: no lease" >&2; exit 1; fi ;;
scale)
    case " $* " in
    *' --check '*) [ "$2" = "$(cat "$ROOT/copies")" ] || exit 1 ;;
    *) echo "$2" > "$ROOT/copies" ;;
    esac ;;
level)
    case " $* " in
    *' --check '*) [ -e "$ROOT/raised" ] || exit 1 ;;
    *)
        if [ -e "$ROOT/older" ]; then echo "the level stays 1: $(cat "$ROOT/older") can do level 1 at most" >&2; exit 1; fi
        : > "$ROOT/raised"
        for store in "$ROOT"/hosts/*/opt/unibus/local_files; do echo 2 > "$store/jetstream.level"; done ;;
    esac ;;
esac
"#;

/// Everything belongs to whom it should, whoever runs the test.
const STAT: &str = r#"#!/bin/sh
for last; do :; done
case $last in
*/tls | */bootstrap) owner=root:unibus ;;
*/local_files | */tls/*.key) owner=unibus:unibus ;;
*) owner=root:root ;;
esac
format=$(printf %s "$2" | sed "s/%U:%G/$owner/")
shift 2
PATH=${PATH#*:} exec stat -c "$format" "$@"
"#;

/// What the program of the test says about itself, and whom it asks for everything else.
const PROGRAM: &str = r#"#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "--version")) { puts("membershipd VERSION"); return 0; }
    if (argc > 2 && !strcmp(argv[1], "level") && !strcmp(argv[2], "highest")) {
        if (HIGHEST < 2) { fputs("error: unrecognized subcommand 'level'\n", stderr); return 2; }
        printf("%d\n", HIGHEST);
        return 0;
    }
    execvp("played-membershipd", argv);
    perror("played-membershipd");
    return 127;
}
"#;

/// A clone and its three servers.
pub(crate) struct Servers {
    pub(crate) clone: Clone,
}

impl Servers {
    /// Servers on which nothing is yet, and a clone from which they can be staged.
    pub(crate) fn new() -> Self {
        let clone = with_cross();
        let servers = Self { clone };
        let clone = &servers.clone;
        clone.write("deploy/membershipd-cluster.service", include_str!("../../../deploy/membershipd-cluster.service"));
        clone.script(ENGINE, "#!/bin/sh\necho 'nats-server: v2.15.1'\n");
        let engine = sha256(clone, ENGINE);
        let none = "0".repeat(64);
        clone.write(
            "deploy/engine.toml",
            format!(
                "version = \"2.15.1\"\nsha256 = \"{engine}\"\n[pypi]\npackage = \"p\"\nplatform = \"x\"\nsha256 = \"{none}\"\n"
            ),
        );
        servers.build("0.1.0");
        for verb in ["client-ca", "cluster-certs", "secrets"] {
            servers.ok(verb);
        }
        clone.script("bin/ssh", SSH);
        clone.script("bin/rsync", RSYNC);
        clone.script("server/systemctl", SYSTEMCTL);
        clone.script("server/played-membershipd", MEMBERSHIPD);
        clone.script("server/id", "#!/bin/sh\ncase $1 in -u) echo 0;; *) echo unibus;; esac\n");
        clone.script("server/chown", "#!/bin/sh\n");
        clone.script("server/stat", STAT);
        clone.script("server/install", "#!/bin/sh\nexec mkdir -p -m \"$7\" -- \"$9\"\n");
        for node in NODES {
            servers.machine(&format!("host-{node}"));
        }
        clone.write("copies", "1\n");
        fs::create_dir(clone.path("seen")).unwrap();
        servers
    }

    /// Servers that were staged and started.
    pub(crate) fn up() -> Self {
        let servers = Self::new();
        servers.ok("stage --yes");
        servers.ok("up --yes");
        servers.forget();
        servers
    }

    /// An empty machine.
    pub(crate) fn machine(&self, host: &str) {
        for dir in ["opt/unibus", "units", "run"] {
            fs::create_dir_all(self.clone.path(&format!("hosts/{host}/{dir}"))).unwrap();
        }
    }

    /// Puts another version of the daemon where `stage` finds it. Versions 0.1 are from before there were feature levels.
    pub(crate) fn build(&self, version: &str) {
        let clone = &self.clone;
        let highest = if version.starts_with("0.1.") { "1" } else { "2" };
        let program = PROGRAM.replace("VERSION", version).replace("HIGHEST", highest);
        clone.write("program.c", program);
        let done = Command::new("cc")
            .args(["-static", "-s", "-o"])
            .args([clone.path("program"), clone.path("program.c")])
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        self.ok("build");
    }

    /// A verb, with these servers in the place of the real ones.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = self.clone.command(line.split_whitespace());
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.clone.path("bin").display()));
        command.env("RSYNC", which("rsync")).env_remove("CARGO_TARGET_DIR").stdin(Stdio::null());
        command
    }

    /// Runs the words of `line`.
    pub(crate) fn run(&self, line: &str) -> Done {
        Done::of(self.command(line))
    }

    /// Runs what must succeed.
    pub(crate) fn ok(&self, line: &str) -> Done {
        let done = self.run(line);
        assert_eq!(done.code, Some(0), "{line}: {done:?}");
        done
    }

    /// The steps that `line --json` prints; those of the lock, which keeps other operators out, come first and last and are
    /// left out.
    pub(crate) fn plan(&self, line: &str) -> Vec<Value> {
        let all = steps(&self.ok(&format!("{line} --json")));
        let count = all.len();
        let lock =
            |at: usize| if at < NODES.len() { Some("lock") } else { (at >= count - NODES.len()).then_some("unlock") };
        for (at, step) in all.iter().enumerate() {
            let id = step["id"].as_str().unwrap();
            assert_eq!(lock(at), Some(id).filter(|id| ["lock", "unlock"].contains(id)), "{line}: {at}");
        }
        all[NODES.len()..count - NODES.len()].to_vec()
    }

    /// Every command that `line --json` announces: those that ask and those that do.
    pub(crate) fn announced(&self, line: &str) -> Vec<Vec<String>> {
        let said: Value = serde_json::from_str(&self.ok(&format!("{line} --json")).stdout).unwrap();
        let sessions = said["sessions"].as_array().unwrap().iter().map(|session| &session["command"]);
        let commands = said["steps"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|step| [&step["probe"]["command"], &step["command"], &step["note"]])
            .chain(sessions);
        commands.filter(|command| command.is_array()).map(argv).collect()
    }

    /// What systemd and the daemons were told to do, in order; questions are left out.
    pub(crate) fn deeds(&self) -> Vec<String> {
        let asked = ["is-active", "is-enabled", "show", "--within 0 ", "--check", "check-config"];
        let log = fs::read_to_string(self.clone.path("log")).unwrap_or_default();
        log.lines().filter(|line| !asked.iter().any(|word| line.contains(word))).map(str::to_owned).collect()
    }

    /// The deeds that stop or start a daemon.
    pub(crate) fn starts(&self) -> Vec<String> {
        let starts = |deed: &String| deed.ends_with("start");
        self.deeds().into_iter().filter(starts).map(|deed| deed.replace(" systemctl", "")).collect()
    }

    /// All commands that went out.
    pub(crate) fn seen(&self) -> Vec<Vec<String>> {
        let mut all = Vec::new();
        for host in fs::read_dir(self.clone.path("seen")).unwrap() {
            let text = fs::read_to_string(host.unwrap().path()).unwrap();
            let calls = text.split_terminator('\u{1e}');
            all.extend(calls.map(|call| call.split_terminator('\u{1f}').map(str::to_owned).collect()));
        }
        all
    }

    /// Forgets deeds and commands.
    pub(crate) fn forget(&self) {
        let _ = fs::remove_file(self.clone.path("log"));
        fs::remove_dir_all(self.clone.path("seen")).unwrap();
        fs::create_dir(self.clone.path("seen")).unwrap();
    }

    /// A path in the install directory of a node.
    pub(crate) fn at(&self, node: &str, file: &str) -> PathBuf {
        self.clone.path(&format!("hosts/host-{node}/opt/unibus/{file}"))
    }

    /// Where a node's link leads, or nothing.
    pub(crate) fn link(&self, node: &str, link: &str) -> String {
        fs::read_link(self.at(node, link)).map(|to| to.display().to_string()).unwrap_or_default()
    }

    /// The names of a node's releases.
    pub(crate) fn releases(&self, node: &str) -> BTreeSet<String> {
        let dir = fs::read_dir(self.at(node, "releases")).unwrap();
        dir.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// A step of a plan in short.
pub(crate) fn short(step: &Value) -> (u64, String) {
    let text = |key: &str| step[key].as_str().unwrap().to_owned();
    (step["wave"].as_u64().unwrap(), format!("{} {}", text("node"), text("id")))
}

/// The steps of a plan.
pub(crate) fn steps(done: &Done) -> Vec<Value> {
    let said: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    assert_eq!(said["schema"], 2);
    said["steps"].as_array().unwrap().clone()
}

/// A command of a plan.
pub(crate) fn argv(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn sha256(clone: &Clone, file: &str) -> String {
    let out = Command::new("openssl").args(["dgst", "-sha256", "-r"]).arg(clone.path(file)).output().unwrap();
    String::from_utf8(out.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

fn which(tool: &str) -> String {
    let out = Command::new("sh").args(["-c", "command -v \"$1\"", "sh", tool]).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}
