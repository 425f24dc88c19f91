//! `previous`: the release before this one comes out of git's history, is built once, and is proved to be that release.

use std::process::Command;

use crate::build::{alone, zig};
use crate::common::{Clone, Done, builder, program};

/// Runs git in the clone; it must succeed. Returns what it prints.
fn git(clone: &Clone, line: &str) -> String {
    let mut git = Command::new("git");
    git.current_dir(&clone.root).args(["-c", "user.name=a", "-c", "user.email=a@example.invalid"]);
    let done = Done::of({
        git.args(line.split_whitespace());
        git
    });
    assert_eq!(done.code, Some(0), "git {line}: {done:?}");
    done.stdout.trim().to_owned()
}

/// A history whose first commit is a release of two programs, and whose second one has lost them.
fn history() -> (Clone, String) {
    let clone = Clone::new();
    clone.write("Cargo.toml", "[workspace]\nmembers = [\"membershipd\", \"xtask\"]\nresolver = \"3\"\n");
    for package in ["membershipd", "xtask"] {
        let manifest = format!("[package]\nname = \"{package}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
        clone.write(&format!("{package}/Cargo.toml"), manifest);
        clone.write(
            &format!("{package}/src/main.rs"),
            "fn main() { println!(\"{} {}\", env!(\"CARGO_PKG_NAME\"), env!(\"CARGO_PKG_VERSION\")); }\n",
        );
    }
    clone.write(".gitignore", "/deploy/build/\n/target/\n");
    let lock =
        Command::new("cargo").current_dir(&clone.root).args(["generate-lockfile", "--offline"]).output().unwrap();
    assert!(lock.status.success(), "{lock:?}");
    git(&clone, "init --quiet");
    git(&clone, "add --all");
    git(&clone, "commit --quiet --message release");
    let commit = git(&clone, "rev-parse HEAD");
    git(&clone, "rm --quiet -r membershipd xtask");
    git(&clone, "commit --quiet --message gone");
    (clone, commit)
}

fn named(clone: &Clone, version: &str, commit: &str) {
    clone.write("deploy/previous.toml", format!("version = \"{version}\"\ncommit = \"{commit}\"\n"));
}

#[test]
fn the_release_is_built_once_from_the_history() {
    let (clone, commit) = history();
    named(&clone, "0.1.0", &commit);
    let done = clone.ok("previous");
    let paths: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(paths.len(), 3, "{done:?}");
    for (path, says) in paths.iter().zip(["membershipd 0.1.0\n", "xtask 0.1.0\n"]) {
        assert_eq!(Done::of(Command::new(clone.path(path))).stdout, says);
    }
    assert!(clone.path(paths[2]).join("membershipd/src/main.rs").is_file(), "{done:?}");
    let built = std::fs::metadata(clone.path(paths[0])).unwrap().modified().unwrap();
    clone.ok("previous");
    assert_eq!(std::fs::metadata(clone.path(paths[0])).unwrap().modified().unwrap(), built, "it was built again");
}

/// What programs are told, and where it says that the static one is.
fn told(done: &Done) -> (serde_json::Value, String) {
    assert_eq!(done.code, Some(0), "{done:?}");
    let said: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let program = said["static"].as_str().unwrap_or_default().to_owned();
    (said, program)
}

#[test]
fn the_program_for_servers_is_built_once_with_what_this_clone_has_compiled() {
    let (clone, commit) = history();
    named(&clone, "0.1.0", &commit);
    let (said, program_for_servers) = told(&clone.run("previous --json"));
    assert_eq!((&said["schema"], program_for_servers.as_str()), (&1.into(), ""), "{said}");
    let place = format!("deploy/build/previous/0.1.0-{commit}");
    let source = clone.path(&format!("{place}/source"));
    assert_eq!(said["source"], source.to_str().unwrap());

    zig(&clone, "1.95.0", true);
    program(&clone, "membershipd 0.1.0", &["-s"]);
    let done = alone(&clone, "previous", "--static");
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("PT_INTERP") && done.stderr.contains("must not be staged"), "{done:?}");

    program(&clone, "membershipd 0.1.0", &["-static", "-s"]);
    for _ in 0..2 {
        let (_, built) = told(&alone(&clone, "previous", "--static --json"));
        assert_eq!(Done::of(Command::new(built)).stdout, "membershipd 0.1.0\n");
    }
    let log = clone.read("log");
    assert_eq!(log.lines().count(), 2, "it was built again: {log}");
    let wanted = format!("target={place}/static build=target/static/zigbuild ");
    assert!(log.lines().all(|line| line.contains(&wanted)), "{log}");
    assert!(log.lines().all(|line| line.contains(" cache=target/static/zigbuild/zig-cache ")), "{log}");

    // A container sees nothing of this clone.
    std::fs::remove_file(clone.path(&format!("{place}/built-static"))).unwrap();
    builder(&clone, "cross");
    clone.script("bin/docker", "#!/bin/sh\n[ \"$1\" = info ]\n");
    let done = alone(&clone, "previous", "--static");
    assert_eq!(done.stdout.lines().count(), 4, "{done:?}");
    let log = clone.read("log");
    let last = log.lines().last().unwrap();
    assert!(last.starts_with("cross ") && last.contains(&format!("target={place}/static zig= ")), "{log}");
}

#[test]
fn what_is_no_release_is_refused_with_the_remedy() {
    let (clone, commit) = history();
    let missing = "0123456789012345678901234567890123456789";
    for (version, commit, part) in [
        ("0.1.0", "76093b0", "is not 40 lower-case hex digits"),
        ("../0.1.0", commit.as_str(), "must be letters, digits"),
        ("0.1.0", missing, "git fetch --unshallow"),
        (
            "0.2.0",
            commit.as_str(),
            "previous.toml says 0.2.0, and the program of that commit says \"membershipd 0.1.0\"",
        ),
    ] {
        named(&clone, version, commit);
        let done = clone.run("previous");
        assert_eq!(done.code, Some(2), "{version} {commit}: {done:?}");
        assert!(done.stderr.contains(part), "{part}: {done:?}");
    }
}
