//! Servers that are recordings: tools in ssh's and rsync's place note what they are told, and answer as the test says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Clone, Done};

/// The last line of what a session is told first.
const READY: &str = "echo 'unibus: ready'";

/// Stands for ssh and rsync. Its words are noted under the host's name. A session's opening is noted by itself; what follows
/// it runs, but with `ask` and `run` of its own.
const RECORDER: &str = r#"#!/bin/sh
export root=${0%/bin/*} host
trap 'exit 255' PIPE
for last; do [ "$previous" = -- ] && host=$last; previous=$last; done
case $0 in */rsync) host=${last%%:*};; esac
. "$root/bin/answers"
note "${0##*/}" "$@"
case $last in *' sh sh -s')
    look "${0##*/}" "$@"
    [ "$code" = 0 ] || { printf '%s\n' "$said" >&2; exit "$code"; }
    mkdir -p "$root/openings" "$root/locks"
    : > "$root/openings/$host"
    while IFS= read -r line && printf '%s\n' "$line" >> "$root/openings/$host" && [ "$line" != "READY" ]; do :; done
    echo 'unibus: ready'
    { cat "$root/bin/answers"; tee -a "$root/stdin"; } | sh -s
    exit
esac
case $0 in */ssh) cat >> "$root/stdin"; READY;; esac
look "${0##*/}" "$@"
if [ "$code" = 0 ]; then [ -z "$said" ] || printf '%s\n' "$said"; else printf '%s\n' "$said" >&2; fi
exit "$code"
"#;

/// What the words of a command mean on a host: `answers` has a file for each, by its hash. The lock's commands have none: they
/// run as they are, on a file of this clone. A command that ends with 255 ends the whole connection.
const ANSWERS: &str = r#"
export LC_ALL=C
note() { { printf '%s\037' "$@"; printf '\036'; } >> "$root/seen/$host"; }
look() {
    answer=$root/answers/$(printf '%s\n' "$host" "$@" | sha256sum | cut -c1-64)
    code=0 said=
    [ ! -e "$answer" ] || { code=$(head -n 1 "$answer"); said=$(tail -n +2 "$answer"); }
}
say() {
    look "$@"
    [ ! -e "$root/waits" ] || while [ -e "$root/held" ]; do sleep 0.05; done
    [ "$code" != 255 ] || { printf '%s\n' "$said" >&2; kill -PIPE 0; }
    tell "$code" "$said"
}
tell() { printf '%s %s\n%s\n' "$1" "${#2}" "$2"; }
ask() { note "$@"; say "$@"; }
run() {
    input=$1; shift
    note "$@"
    case $5 in
    /run/unibus.lock)
        set -- "$1" "$2" "$3" "$4" "$root/locks/$host"
        said=$(printf %s "$input" | "$@" 2>&1)
        tell "$?" "$said";;
    *) say "$@";;
    esac
}
"#;

/// Puts the recorders before the real tools.
pub(crate) fn record(clone: &Clone) {
    clone.script("bin/answers", ANSWERS);
    for tool in ["ssh", "rsync"] {
        clone.script(&format!("bin/{tool}"), &RECORDER.replace("READY", READY));
    }
    forget_answers(clone);
}

/// The words of `line`, to be run with the recorders.
pub(crate) fn command(clone: &Clone, line: &str) -> Command {
    fs::create_dir_all(clone.path("seen")).unwrap();
    let mut command = clone.command(line.split_whitespace());
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", clone.path("bin").display())).env_remove("CARGO_TARGET_DIR");
    command
}

/// Runs the words of `line` with the recorders.
pub(crate) fn run(clone: &Clone, line: &str) -> Done {
    Done::of(command(clone, line))
}

/// The hash of a file of the clone.
pub(crate) fn sha256(clone: &Clone, file: &str) -> String {
    let out = Command::new("openssl").args(["dgst", "-sha256", "-r"]).arg(clone.path(file)).output().unwrap();
    String::from_utf8(out.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// What `--json` printed.
pub(crate) fn json(done: &Done) -> Value {
    let said: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    assert_eq!(said["schema"], 2);
    said
}

/// The steps that `--json` printed.
pub(crate) fn plan(done: &Done) -> Vec<Value> {
    json(done)["steps"].as_array().unwrap().clone()
}

/// The steps that change servers: all but the lock's.
pub(crate) fn work(steps: &[Value]) -> impl Iterator<Item = &Value> {
    steps.iter().filter(|step| step["probe"]["kind"] != "in_the_effect")
}

/// The words of a command.
pub(crate) fn argv(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

/// Whatever the recorders saw, by host, in order; and forgets it.
pub(crate) fn seen(clone: &Clone) -> BTreeMap<String, Vec<Vec<String>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(clone.path("seen")).unwrap() {
        let entry = entry.unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        let calls = text.split_terminator('\u{1e}');
        let calls = calls.map(|call| call.split_terminator('\u{1f}').map(str::to_owned).collect()).collect();
        fs::remove_file(entry.path()).unwrap();
        all.insert(entry.file_name().into_string().unwrap(), calls);
    }
    all
}

/// The locks that lie on the hosts.
pub(crate) fn locks(clone: &Clone) -> Vec<String> {
    let Ok(entries) = fs::read_dir(clone.path("locks")) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What these words answer on a node's host from now on. Without this a command says nothing and succeeds.
pub(crate) fn answer(clone: &Clone, node: &str, words: &[String], code: u8, says: &str) {
    clone.write("said", format!("host-{node}\n{}\n", words.join("\n")));
    let hash = sha256(clone, "said");
    clone.write(&format!("answers/{hash}"), format!("{code}\n{says}\n"));
}

/// Forgets all that was to be answered.
pub(crate) fn forget_answers(clone: &Clone) {
    let _ = fs::remove_dir_all(clone.path("answers"));
    fs::create_dir(clone.path("answers")).unwrap();
}

/// Answers a step's question with `code` and what it should not say, or with what it says where all is so already.
pub(crate) fn answer_probe(clone: &Clone, step: &Value, so: bool) {
    let node = step["node"].as_str().unwrap();
    let probe = argv(&step["probe"]["command"]);
    let says = match step["probe"]["kind"].as_str().unwrap() {
        "asks" => step["probe"]["prints"].as_str().unwrap_or_default().to_owned(),
        "compares" => same_files(clone, &step["effect"]),
        other => panic!("{other}: {step}"),
    };
    answer(clone, node, &probe, u8::from(!so), if so { &says } else { "" });
}

/// Modes, owners and hashes of the files that a step sends, as the node would tell them.
fn same_files(clone: &Clone, effect: &Value) -> String {
    let text = |key: &str| effect[key].as_str().unwrap();
    let files: Vec<&str> =
        effect["files"].as_array().unwrap().iter().map(|file| file["from"].as_str().unwrap()).collect();
    let owners = files.iter().map(|_| format!("{} {}", text("mode"), text("owner")));
    let hashes = files.iter().map(|file| {
        format!("{}  {}/{}", sha256(clone, file), text("to"), Path::new(file).file_name().unwrap().to_str().unwrap())
    });
    owners.chain(hashes).collect::<Vec<_>>().join("\n")
}
