//! `previous`: the release before this one comes out of git's history, is built once, and is proved to be that release.

use std::process::Command;

use crate::common::{Clone, Done};

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
