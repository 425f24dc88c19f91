//! `setup`, and the first second of every verb that needs something: what is missing is said at once, installed only with
//! consent, and nothing is left half done. apt and sudo are recordings; a machine that is really bare is `prove bare`.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::{Clone, Done, is_root, own_mounts};

/// Notes how it is called and answers as `answers/VERB` says: an exit code, then what is said on both streams.
const APT_GET: &str = r#"#!/bin/sh
root=${0%/bin/*}
echo "$*" >> "$root/apt"
for verb in simulate download-only assume-no update purge install; do
    case " $* " in *" --$verb "* | *" $verb "*) break;; esac
done
[ "$verb" = install ] && [ ! -e "$root/answers/install" ] && cp "$root/arrives/"* "$root/bin/" 2>/dev/null
answer=$root/answers/$verb
[ -e "$answer" ] || exit 0
tail -n +2 "$answer"; tail -n +2 "$answer" >&2
exit "$(head -n 1 "$answer")"
"#;

/// Notes that it was called; it needs no password.
const SUDO: &str = "#!/bin/sh\necho sudo >> \"${0%/bin/*}/sudo\"\n[ \"$1\" = --validate ] && exit 0\nexec \"$@\"\n";

/// A clone on a machine that lacks rsync and ssh, where apt answers as the test says.
fn lacking() -> Clone {
    let clone = Clone::new();
    clone.script("bin/apt-get", APT_GET);
    clone.script("bin/cc", "#!/bin/sh\necho 'cc 12.2.0'\n");
    clone.script("bin/python3", "#!/bin/sh\necho 'pip 23.0.1'\n");
    for tool in ["env", "sh", "cat", "cp", "tail", "head", "rm"] {
        let real =
            ["/usr/bin", "/bin"].map(|dir| std::path::Path::new(dir).join(tool)).into_iter().find(|file| file.exists());
        std::os::unix::fs::symlink(real.unwrap(), clone.path(&format!("bin/{tool}"))).unwrap();
    }
    clone.script("arrives/rsync", "#!/bin/sh\necho 'rsync  version 3.2.7  protocol version 31'\n");
    clone.script("arrives/ssh", "#!/bin/sh\necho 'OpenSSH_9.2p1'\n");
    clone.write(
        "answers/simulate",
        "0\nInst rsync (3.2.7 Debian:12 [amd64])\nInst openssh-client (9.2 Debian:12 [amd64])\n",
    );
    // Root's process needs none.
    if !is_root() {
        clone.script("bin/sudo", SUDO);
    }
    // The engine is here, so nothing is fetched over the network.
    let engine = clone.path("deploy/build/engine/2.15.1/nats-server");
    fs::create_dir_all(engine.parent().unwrap()).unwrap();
    fs::write(engine, "").unwrap();
    clone
}

fn command(clone: &Clone, line: &str) -> Command {
    let mut command = clone.command(line.split_whitespace());
    command.env("PATH", clone.path("bin")).env_remove("CARGO_TARGET_DIR");
    command
}

fn run(clone: &Clone, line: &str) -> Done {
    Done::of(command(clone, line))
}

fn apt(clone: &Clone) -> String {
    fs::read_to_string(clone.path("apt")).unwrap_or_default()
}

#[test]
fn a_dry_run_shows_everything_and_changes_nothing() {
    let clone = lacking();
    let before = clone.tree();
    let done = run(&clone, "setup deploy");
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(before == clone.tree(), "it changed something");
    for part in [
        "MISSING  ssh",
        "MISSING  rsync",
        "would install: apt-get install openssh-client rsync",
        "next: cargo xtask setup deploy --yes",
    ] {
        assert!(done.stdout.contains(part), "{part}: {done:?}");
    }
}

#[test]
fn yes_installs_says_what_undoes_it_and_has_nothing_to_do_again() {
    let clone = lacking();
    let done = run(&clone, "setup deploy --yes");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("installed rsync openssh-client"), "{done:?}");
    let undo = "apt-get purge rsync openssh-client";
    assert!(
        done.stderr.lines().any(|line| line.trim_start_matches("undo: ").trim_start_matches("sudo ") == undo),
        "{done:?}"
    );
    let calls = apt(&clone);
    let calls: Vec<&str> = calls.lines().collect();
    assert_eq!(calls.len(), 4, "{calls:?}");
    for (call, word) in calls.iter().zip(["--simulate", "--assume-no", "--download-only", "--yes"]) {
        assert!(call.contains(word), "it is asked, sized, downloaded, and only then installed: {calls:?}");
    }
    assert!(!calls[1].contains("--yes"), "that would answer the question: {calls:?}");
    fs::remove_file(clone.path("apt")).unwrap();
    let again = run(&clone, "setup deploy --yes");
    assert_eq!((again.code, apt(&clone).as_str()), (Some(0), ""), "{again:?}");
}

#[test]
fn without_consent_all_of_it_is_listed_with_the_next_command() {
    let clone = lacking();
    fs::remove_file(clone.path("bin/cc")).unwrap();
    let before = clone.tree();
    let done = run(&clone, "check --no-install");
    assert_eq!(done.code, Some(2), "{done:?}");
    for part in
        ["cc: not on PATH", "--no-install was given", "apt-get install gcc libc6-dev", "next: cargo xtask setup --yes"]
    {
        assert!(done.stderr.contains(part), "{part}: {done:?}");
    }
    assert!(before == clone.tree());
}

/// What a verb does on a terminal where the operator types this answer.
fn answered(clone: &Clone, term: &str, answer: &str) -> String {
    let line = format!("PATH={} {} check", clone.path("bin").display(), env!("CARGO_BIN_EXE_xtask"));
    let mut terminal = Command::new("script");
    terminal.current_dir(&clone.root).args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    terminal.env("TERM", term).env_remove("UNIBUS_ROOT").env_remove("CARGO_MANIFEST_DIR");
    let mut child = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{answer}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn on_a_terminal_it_asks_once_and_takes_no_for_an_answer() {
    let clone = lacking();
    fs::remove_file(clone.path("bin/cc")).unwrap();
    // Root's process and, through sudo, anyone else's.
    clone.script("bin/sudo", SUDO);
    for no in ["n", "", "yess"] {
        let said = answered(&clone, "xterm", no);
        assert!(said.contains("cc: not on PATH") && said.contains("[y/N]"), "{said}");
        assert!(said.contains("nothing was installed") && apt(&clone).is_empty(), "{no}: {said}");
    }
    clone.write("answers/simulate", "0\nInst gcc (12.2 Debian:12 [amd64])\n");
    clone.script("arrives/cc", "#!/bin/sh\necho 'cc 12.2.0'\n");
    for term in ["xterm", "dumb"] {
        let said = answered(&clone, term, "y");
        assert!(said.contains("installed gcc") && said.contains("apt-get purge gcc"), "{term}: {said}");
        assert_eq!(said.matches("[y/N]").count(), 1, "{said}");
        assert_eq!(said.contains('\x1b'), term != "dumb", "{said:?}");
        fs::remove_file(clone.path("bin/cc")).unwrap();
    }
}

#[test]
fn an_ordinary_user_without_sudo_is_told_what_to_type_as_root() {
    let clone = lacking();
    // Root's tests become an ordinary user; an ordinary user's stay what they are.
    let root = is_root();
    if !root {
        fs::remove_file(clone.path("bin/sudo")).unwrap();
    }
    let runner: &[&str] =
        if root { &["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--"] } else { &[] };
    clone.shell(&[], "chmod -R a+rX . && chmod a+rx \"$0\"");
    let script = "PATH=$PWD/bin exec \"$0\" setup deploy --yes";
    let done = clone.shell(runner, script);
    // Where the tests' own program lies out of an ordinary user's reach, there is nothing to show.
    if root && done.code == Some(126) {
        return;
    }
    assert_eq!(done.code, Some(2), "{done:?}");
    for part in ["not root and there is no sudo", "rsync: not on PATH", "by hand: apt-get install openssh-client rsync"]
    {
        assert!(done.stderr.contains(part), "{part}: {done:?}");
    }
    assert_eq!(apt(&clone), "", "apt was started");
}

#[test]
fn an_ordinary_user_installs_through_sudo_after_a_yes_alone() {
    let clone = lacking();
    if is_root() {
        // Root needs no sudo: that it starts none is the whole of it.
        clone.script("bin/sudo", SUDO);
        assert_eq!(run(&clone, "setup deploy --yes").code, Some(0));
        assert!(!clone.path("sudo").exists());
        return;
    }
    let cc = clone.path("bin/cc");
    fs::rename(&cc, clone.path("cc")).unwrap();
    assert_eq!(run(&clone, "check").code, Some(2), "without a terminal and a yes nothing is installed");
    assert!(!clone.path("sudo").exists());
    fs::rename(clone.path("cc"), cc).unwrap();
    let done = run(&clone, "setup deploy --yes");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(clone.path("sudo").exists() && done.stderr.contains("undo: sudo apt-get purge"), "{done:?}");
}

#[test]
fn a_package_that_this_debian_lacks_is_named_and_nothing_installed() {
    let clone = lacking();
    clone.write("answers/simulate", "100\nE: Unable to locate package openssh-client\n");
    let done = run(&clone, "setup deploy --yes");
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("this system has no package openssh-client; nothing was installed"), "{done:?}");
    let calls = apt(&clone);
    assert!(
        calls.contains("update") && !calls.contains("download-only"),
        "the lists are fetched once, and no more: {calls}"
    );
}

#[test]
fn without_a_network_the_remedy_is_said_and_nothing_installed() {
    let clone = lacking();
    clone.write("answers/simulate", "100\nE: Unable to locate package openssh-client\n");
    clone.write(
        "answers/update",
        "100\nErr:1 http://mirror.example.invalid bookworm InRelease\nE: Failed to fetch: Could not resolve host\n",
    );
    let done = run(&clone, "setup deploy --yes");
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("package lists could not be fetched; nothing was installed"), "{done:?}");
    assert!(done.stderr.contains("Could not resolve host") && done.stderr.contains("sources.list"), "{done:?}");

    // The lists are here, and the packages are not to be had.
    let clone = lacking();
    clone.write("answers/download-only", "100\nE: Failed to fetch rsync: Could not connect\n");
    let done = run(&clone, "setup deploy --yes");
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("could not be downloaded; nothing was installed"), "{done:?}");
    assert!(
        apt(&clone)
            .lines()
            .all(|call| !call.contains("--yes") || call.contains("--download-only") || call.contains(" update")),
        "{}",
        apt(&clone)
    );
}

#[test]
fn a_disk_that_is_too_small_is_refused_before_anything_is_downloaded() {
    let clone = lacking();
    clone.write(
        "answers/assume-no",
        "1\nNeed to get 900 GB of archives.\nAfter this operation, 4000 GB of additional disk space will be used.\n",
    );
    let done = run(&clone, "setup deploy --yes");
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(
        done.stderr.contains("MiB free, and the packages need") && done.stderr.contains("nothing was installed"),
        "{done:?}"
    );
    assert!(!apt(&clone).contains("--download-only"), "{}", apt(&clone));
}

#[test]
fn what_is_fetched_needs_room_in_the_clone() {
    let clone = lacking();
    let script = "mount -t tmpfs -o size=1m tmpfs deploy/build && PATH=$PWD/bin \"$0\" setup check --yes; code=$?; \
                  find deploy/build -mindepth 1; exit $code";
    let done = clone.shell(own_mounts(), script);
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{done:?}");
    assert!(done.stderr.contains("MiB free") && done.stderr.contains("nothing was fetched"), "{done:?}");
}

#[test]
fn a_failed_installation_is_taken_back() {
    let clone = lacking();
    clone.write("answers/install", "100\nE: Sub-process /usr/bin/dpkg returned an error code (1)\n");
    let done = run(&clone, "setup deploy --yes");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stderr.contains("apt could not install openssh-client rsync; what was new is removed again"),
        "{done:?}"
    );
    assert!(apt(&clone).contains("purge rsync openssh-client"), "{}", apt(&clone));
}

#[test]
fn what_would_remove_a_package_is_left_to_the_operator() {
    let clone = lacking();
    clone.write("answers/simulate", "0\nRemv openssh-server [9.2]\nInst rsync (3.2.7 Debian:12 [amd64])\n");
    let done = run(&clone, "setup deploy --yes");
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("would remove openssh-server, so nothing was installed"), "{done:?}");
}

#[test]
fn a_system_without_apt_is_told_the_names() {
    let clone = lacking();
    fs::remove_file(clone.path("bin/apt-get")).unwrap();
    let done = run(&clone, "setup deploy --yes");
    assert_eq!(done.code, Some(2), "{done:?}");
    for part in ["only Debian and Ubuntu are set up", "rsync: not on PATH", "openssh-client rsync"] {
        assert!(done.stderr.contains(part), "{part}: {done:?}");
    }
}

#[test]
fn a_verb_that_is_unknown_is_refused_with_the_known_ones() {
    let clone = lacking();
    let done = run(&clone, "setup everything");
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("local, check, test, build, rehearse, deploy"), "{done:?}");
}

#[test]
fn doctor_and_setup_agree() {
    let clone = lacking();
    let said: Value = serde_json::from_str(&run(&clone, "doctor --json").stdout).unwrap();
    let setup = run(&clone, "setup").stdout;
    for check in said["checks"].as_array().unwrap() {
        let name = check["id"].as_str().unwrap();
        if ["ssh", "rsync", "cc"].contains(&name) {
            let missing = setup.lines().any(|line| line.starts_with("MISSING") && line.contains(&format!("  {name} ")));
            assert_eq!(check["ok"] == false, missing, "{name}: {check}\n{setup}");
        }
    }
}
