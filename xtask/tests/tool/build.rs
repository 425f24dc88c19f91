//! The static build: what can build is chosen or its lack explained, and what was built is inspected before it is kept.

use std::process::Command;

use crate::common::{Clone, Done, builder, program, with_cross};

const PLACE: &str = "deploy/build/membershipd";
const RECORD: &str = "deploy/build/membershipd.json";

fn build(clone: &Clone, args: &str) -> Done {
    alone(clone, "build", args)
}

/// A verb, with nothing on PATH but the clone's own `bin`.
pub(super) fn alone(clone: &Clone, verb: &str, args: &str) -> Done {
    let mut command = clone.command([verb]);
    command.args(args.split_whitespace()).env("PATH", clone.path("bin"));
    for inherited in ["CARGO", "CARGO_TARGET_DIR", "RUSTC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(inherited);
    }
    Done::of(command)
}

/// A toolchain whose std is `installed`, or only there as source.
fn toolchain(clone: &Clone, version: &str, installed: bool) {
    let root = clone.root.display();
    clone.script(
        "bin/rustc",
        &format!("#!/bin/sh\ncase \"$*\" in --version) echo 'rustc {version} (x)';; *) echo {root}/sysroot;; esac\n"),
    );
    let file = if installed {
        "sysroot/lib/rustlib/x86_64-unknown-linux-musl/lib/libstd-0.rlib"
    } else {
        "sysroot/lib/rustlib/src/rust/library/std/Cargo.toml"
    };
    clone.write(file, "");
}

fn with_zig(version: &str, installed: bool) -> Clone {
    let clone = Clone::new();
    zig(&clone, version, installed);
    program(&clone, "membershipd 0.1.0", &["-static", "-s"]);
    clone
}

/// All that zig needs to build in this clone.
pub(super) fn zig(clone: &Clone, version: &str, installed: bool) {
    builder(clone, "cargo-zigbuild");
    builder(clone, "cargo");
    clone.script("bin/zig", "#!/bin/sh\n");
    toolchain(clone, version, installed);
}

#[test]
fn where_nothing_can_build_every_way_is_named_with_its_packages() {
    let clone = Clone::new();
    clone.write("bin/none", "");
    let before = clone.tree();
    let done = build(&clone, "");
    assert_eq!(done.code, Some(2), "{done:?}");
    for part in ["no cross on PATH", "no zig with cargo-zigbuild", "no C compiler for musl", "musl-tools"] {
        assert!(done.stderr.contains(part), "{part}: {done:?}");
    }
    for part in ["cargo xtask setup build --yes", "rustup target add"] {
        assert!(done.stderr.contains(part), "{part}: {done:?}");
    }
    let done = build(&clone, "--builder cargo");
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("this builder does not work here") && !done.stderr.contains("cross"), "{done:?}");
    assert_eq!(build(&clone, "--builder make").code, Some(2));
    assert!(clone.tree() == before);
}

#[test]
fn a_builder_that_lacks_a_part_says_which() {
    let clone = with_cross();
    clone.script("bin/docker", "#!/bin/sh\nexit 1\n");
    assert!(build(&clone, "--builder cross").stderr.contains("neither docker nor podman"));

    let clone = with_zig("1.94.0", true);
    let done = build(&clone, "--builder zigbuild");
    assert!(done.stderr.contains("rustc 1.94.0 (x) is older than the 1.95"), "{done:?}");
    std::fs::remove_file(clone.path("bin/zig")).unwrap();
    assert!(build(&clone, "--builder zigbuild").stderr.contains("there is no zig"));

    let clone = with_zig("1.95.0", false);
    std::fs::remove_dir_all(clone.path("sysroot")).unwrap();
    assert!(
        build(&clone, "").stderr.contains("rustc 1.95.0 (x) has no standard library for x86_64-unknown-linux-musl")
    );

    let clone = with_zig("1.95.0", false);
    clone.script("bin/musl-gcc", "#!/bin/sh\n");
    let done = build(&clone, "--builder cargo");
    assert!(done.stderr.contains("has only the source of the standard library"), "{done:?}");
}

#[test]
fn each_builder_gets_what_it_needs_and_a_directory_of_its_own() {
    let common = "build --locked --release --package membershipd --target x86_64-unknown-linux-musl";
    let clone = with_cross();
    program(&clone, "membershipd 0.1.0", &["-static", "-s"]);
    assert_eq!(build(&clone, "").code, Some(0));
    assert_eq!(
        clone.read("log"),
        format!("cross {common} target=target/static/cross zig= cache= cc= bootstrap= flags=\n")
    );

    let clone = with_zig("1.95.0", true);
    let zig = clone.path("bin/zig");
    assert_eq!(build(&clone, "").code, Some(0));
    let wanted = format!(
        "target=target/static/zigbuild zig={} cache=target/static/zigbuild/zig-cache cc= bootstrap= flags=\n",
        zig.display()
    );
    assert_eq!(clone.read("log"), format!("cargo-zigbuild zig{common} {wanted}"));

    // Nothing but its source: std is built along, in another directory, since its flags differ.
    let clone = with_zig("1.96.0", false);
    let zig = clone.path("bin/zig");
    assert_eq!(build(&clone, "").code, Some(0));
    let wanted = format!(
        "-Zbuild-std=std,panic_unwind target=target/static/zigbuild-std zig={} \
         cache=target/static/zigbuild-std/zig-cache cc= bootstrap=1 flags=-C link-self-contained=no\n",
        zig.display()
    );
    assert_eq!(clone.read("log"), format!("cargo-zigbuild zig{common} {wanted}"));

    let clone = with_zig("1.95.0", true);
    let cc = clone.script("bin/musl-gcc", "#!/bin/sh\n");
    assert_eq!(build(&clone, "--builder cargo").code, Some(0));
    let wanted = format!("target=target/static/cargo zig= cache= cc={} bootstrap= flags=\n", cc.display());
    assert_eq!(clone.read("log"), format!("cargo {common} {wanted}"));
}

#[test]
fn what_was_built_is_kept_with_what_is_known_about_it() {
    let clone = with_cross();
    program(&clone, "membershipd 0.1.0", &["-static", "-s"]);
    let done = build(&clone, "--json");
    assert_eq!(done.code, Some(0), "{done:?}");
    let said: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&clone.read(RECORD)).unwrap();
    assert_eq!(said, kept);
    assert_eq!((&kept["schema"], &kept["version"]), (&1.into(), &"0.1.0".into()));
    let hash = Command::new("openssl").args(["dgst", "-sha256", "-r"]).arg(clone.path(PLACE)).output().unwrap();
    let hash = String::from_utf8(hash.stdout).unwrap();
    assert_eq!(kept["sha256"], hash.split_whitespace().next().unwrap());
    assert_eq!(clone.mode(PLACE), 0o755);
    let done = build(&clone, "");
    assert!(done.stdout.contains("next: cargo xtask stage"), "{done:?}");
    // Built elsewhere; a name alone is a file here, whatever PATH has.
    let done = build(&clone, "--from program");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(clone.read(RECORD).contains("\"unknown\""), "{}", clone.read(RECORD));
    assert_eq!(build(&clone, "--from nowhere").code, Some(2));
}

#[test]
fn what_a_server_could_not_run_takes_nobodys_place() {
    let clone = with_cross();
    program(&clone, "membershipd 0.1.0", &["-static", "-s"]);
    assert_eq!(build(&clone, "").code, Some(0));
    let good = (clone.read(RECORD), std::fs::read(clone.path(PLACE)).unwrap());
    let cases: [(&str, &[&str], &str); 4] = [
        ("membershipd 0.1.0", &["-s"], "PT_INTERP"),
        ("membershipd 0.1.0", &["-static"], "not stripped"),
        ("membershipd 0.1.0+faults", &["-static", "-s"], "test build"),
        ("hello", &["-static", "-s"], "it said \"hello\""),
    ];
    for (says, flags, why) in cases {
        program(&clone, says, flags);
        let done = build(&clone, "");
        assert_eq!(done.code, Some(2), "{why}: {done:?}");
        assert!(done.stderr.contains(why) && done.stderr.contains("must not be staged"), "{why}: {done:?}");
    }
    clone.write("program", "#!/bin/sh\necho membershipd 0.1.0\n");
    assert!(build(&clone, "").stderr.contains("no ELF"));
    clone.script("bin/cross", "#!/bin/sh\necho 'error: linking failed' >&2\nexit 101\n");
    let done = build(&clone, "");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("error: linking failed"), "{done:?}");
    assert!(good == (clone.read(RECORD), std::fs::read(clone.path(PLACE)).unwrap()));
}
