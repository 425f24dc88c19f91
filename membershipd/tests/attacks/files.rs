//! Files that hold a secret, where others could have put something else, and files that are gone.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::requests::{API_PORT, seed_admin};
use crate::common::{Authority, Daemon, Dir, TLS, engine, membershipd, own_address, program, said};

/// What a program says that must end by itself.
fn ended(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{command:?} hangs: {}", said(&child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

fn refused(command: Command, words: &[&str]) {
    let output = ended(command);
    assert!(!output.status.success(), "{}", said(&output));
    for word in words {
        assert!(said(&output).contains(word), "{word:?} is not in {}", said(&output));
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn pipe(path: &Path) {
    let _ = fs::remove_file(path);
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(path).status().unwrap().success());
}

fn show(dir: &Dir, file: &str) -> Command {
    let mut command = membershipd(dir.path());
    command.args(["identity", "show", "--identity", file]);
    command
}

fn check_config(dir: &Dir) -> Command {
    let mut command = membershipd(dir.path());
    command.args(["check-config", "--secrets-dir", "secrets"]).args(TLS).arg("--engine").arg(engine());
    command
}

/// A directory with an identity, and with all that a daemon has to be started with.
fn files() -> Dir {
    let dir = Dir::new();
    Authority::new(&dir).leaf(&dir, own_address(), 365);
    dir.write_secrets();
    let made = membershipd(dir.path()).args(["identity", "new", "--handle", "alice", "--out", "alice.toml"]).output();
    assert!(made.unwrap().status.success());
    assert!(ended(show(&dir, "alice.toml")).status.success());
    assert!(ended(check_config(&dir)).status.success(), "{}", said(&ended(check_config(&dir))));
    dir
}

#[test]
fn a_pipe_in_the_place_of_a_key_is_refused_at_once() {
    let dir = files();
    for file in ["alice.toml", "secrets/callout.nk", "server.key"] {
        let path = dir.path().join(file);
        let kept = fs::read(&path).unwrap();
        pipe(&path);
        let command = if file == "alice.toml" { show(&dir, file) } else { check_config(&dir) };
        refused(command, &[file, "no regular file"]);
        fs::remove_file(&path).unwrap();
        dir.write(file, std::str::from_utf8(&kept).unwrap(), 0o600);
    }
    assert!(ended(check_config(&dir)).status.success());
}

#[test]
fn a_key_of_another_user_is_refused_by_name() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give a file away; `unibus_names::private` has the rule for all users.
        return;
    }
    let dir = files();
    for file in ["alice.toml", "secrets/issuer.nk", "server.key"] {
        let path = dir.path().join(file);
        std::os::unix::fs::chown(&path, Some(4242), Some(4242)).unwrap();
        let command = if file == "alice.toml" { show(&dir, file) } else { check_config(&dir) };
        refused(command, &[file, "belongs to user 4242", "run: chown 0 "]);
        std::os::unix::fs::chown(&path, Some(0), Some(0)).unwrap();
    }
}

#[test]
fn a_directory_in_which_others_can_put_another_key_is_refused_by_name() {
    let dir = files();
    for loose in [0o777, 0o757] {
        fs::set_permissions(dir.path().join("secrets"), Permissions::from_mode(loose)).unwrap();
        refused(check_config(&dir), &["secrets has mode 0", "chmod go-w secrets"]);
        fs::set_permissions(dir.path(), Permissions::from_mode(loose)).unwrap();
        refused(show(&dir, "alice.toml"), &["has mode 0", "chmod go-w ."]);
        let mut new = membershipd(dir.path());
        new.args(["identity", "new", "--handle", "bob", "--out", "bob.toml"]);
        refused(new, &["chmod go-w"]);
        assert!(!dir.path().join("bob.toml").exists());
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    }
}

/// Everything below `dir`, with its mode.
fn modes(dir: &Path, into: &mut Vec<(String, u32)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let Ok(of) = fs::symlink_metadata(&path) else { continue };
        if of.is_dir() {
            modes(&path, into);
        }
        if !of.is_symlink() {
            into.push((path.display().to_string(), of.permissions().mode() & 0o777));
        }
    }
}

#[test]
fn files_have_their_modes_whatever_the_umask() {
    for umask in ["000", "077"] {
        let (dir, address) = (Dir::new(), own_address());
        Authority::new(&dir).leaf(&dir, address, 365);
        // The program, below a shell that sets the umask.
        let below = |dir: &Path, arguments: &[&str]| {
            let mut command = Command::new("sh");
            command.env_clear().env("PATH", "/usr/bin:/bin").current_dir(dir).stdin(Stdio::null());
            command.args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")]).arg(program()).args(arguments);
            command
        };
        let (bind, engine) = (address.to_string(), engine());
        let flags = ["--runtime-dir", "run", "--bind", &bind, "--engine", engine.to_str().unwrap()];
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let child = below(dir.path(), &[&flags[..], &TLS[..]].concat()).stderr(log).spawn().unwrap();
        let daemon = Daemon { dir, address, child };
        daemon.wait_for_lease();
        seed_admin(&daemon);
        let dir = daemon.dir.path();
        let mut made = Vec::new();
        for part in ["run", "local_files"] {
            modes(&dir.join(part), &mut made);
        }
        assert!(made.len() > 5, "{made:?}");
        for (path, mode) in made.iter().filter(|(path, _)| !path.ends_with(".sock")) {
            assert_eq!(mode & 0o077, 0, "umask {umask}: {path} has mode {mode:o}");
        }

        let url = format!("https://{address}:{API_PORT}");
        let as_root = ["--identity", "root.toml", "--ca", "ca.crt", "--url", &url];
        let invited = ended(below(dir, &[&["invite", "new", "alice"], &as_root[..]].concat()));
        let link = String::from_utf8(invited.stdout.clone()).unwrap();
        assert!(invited.status.success(), "{}", said(&invited));
        let registered = ended(below(dir, &["register", link.trim(), "--out", "alice.toml"]));
        assert!(registered.status.success(), "{}", said(&registered));
        let of = |file: &str| mode(&dir.join(file));
        assert_eq!(
            [of("alice.toml"), of("alice.toml.pins"), of("alice.ca.crt")],
            [0o600, 0o600, 0o644],
            "umask {umask}"
        );
    }
}

#[test]
fn pins_that_are_gone_are_no_first_time() {
    let daemon = Daemon::start(&[]);
    let url = format!("http://{}:{API_PORT}", daemon.address);
    let run = |who: &str, words: &str| {
        let mut command = membershipd(daemon.dir.path());
        command.args(words.split(' ')).args(["--identity", &format!("{who}.toml"), "--url", &url]).output().unwrap()
    };
    let done = |who: &str, words: &str| {
        let output = run(who, words);
        assert!(output.status.success(), "{words}: {}", said(&output));
        said(&output)
    };
    let gone = |words: &str| {
        let output = run("alice", &format!("{words} --json"));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        assert_eq!((output.status.code(), answer["error"]["code"].as_str()), (Some(1), Some("pins-gone")), "{answer}");
        assert!(
            said(&output).contains("alice.toml.pins") && said(&output).contains("--begin-anew"),
            "{}",
            said(&output)
        );
    };
    for who in ["alice", "bob"] {
        let key = daemon.identity(who);
        assert!(daemon.ask(&["user", "add", "--handle", who, "--sign-pub", &key]).status.success());
    }
    done("alice", "room create kitchen --subject room.kitchen");
    done("alice", "member invite kitchen bob --role member");
    done("bob", "member accept kitchen");
    // Only then others know for which key to seal.
    done("alice", "tail kitchen --no-follow");
    done("bob", "say kitchen hello");
    let shown = done("alice", "tail kitchen --no-follow");
    assert!(shown.contains("bob hello"), "{shown}");
    assert!(done("alice", "key pins").contains("bob "));

    fs::remove_file(daemon.dir.path().join("alice.toml.pins")).unwrap();
    for words in ["tail kitchen --no-follow", "say kitchen to-whom", "key pins", "key rotate kitchen", "key forget bob"]
    {
        gone(words);
    }
    assert!(done("alice", "key pins --begin-anew").contains("compare their keys"));
    assert!(done("alice", "key pins").contains("nobody yet"));
    // It was seen before.
    assert!(done("alice", "tail kitchen --no-follow --all").contains("bob hello"));
    assert!(done("alice", "key pins").contains("bob "));
    assert!(done("alice", "key pins --begin-anew").contains("nothing to do"));
}
