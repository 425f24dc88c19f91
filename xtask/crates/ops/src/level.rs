//! Whether a release can do what the cluster does: compared on each node before anything is touched.
//!
//! A cluster at a feature level above the first keeps releases out that cannot do it. The daemon sees to that by itself; here the
//! operator is told before a node is taken to such a release. Beside its store each daemon notes the level, so the comparison needs no
//! daemon that runs.

use crate::install_dir::LEVEL_NOTE;
use crate::plan::{Effect, Purpose, Step, Unless, words};

/// `$1` is the note of the level, `$2` the program that is asked or the level that it can do, `$3` its name, `$4` what to do. Where no
/// level is noted the cluster is at the first one; a program that does not know the question is from before there were levels.
const COMPARE: &str = "at=$(cat -- \"$1\" 2>/dev/null || echo 1); \
                       case $2 in */*) can=$(\"$2\" level highest 2>/dev/null || echo 1) ;; *) can=$2 ;; esac; \
                       test \"$can\" -ge \"$at\" || { \
                       echo \"the cluster is at feature level $at, and $3 can do level $can at most: it would stay out, and a \
                       level is never lowered; $4\" >&2; exit 1; }";

/// A release that is to run on a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Release<'a> {
    /// Its program there, which says what it can do.
    Program(&'a str),
    /// The highest level that it can do, where its program is not there yet.
    Highest(u32),
}

/// Fails where the cluster of the node is at a level that the release, which people know by `name`, cannot do. Paths are absolute on a
/// server, whose install directory that is.
pub(crate) fn fits(install_dir: Option<&str>, node: &str, release: Release<'_>, name: &str, remedy: &str) -> Step {
    let note = install_dir.map_or_else(|| LEVEL_NOTE.to_owned(), |dir| format!("{dir}/{LEVEL_NOTE}"));
    let release = match release {
        Release::Program(program) => program.to_owned(),
        Release::Highest(level) => level.to_string(),
    };
    let argv = words(&["sh", "-c", COMPARE, "sh", &note, &release, name, remedy]);
    let unless = Unless { argv: argv.clone(), prints: None };
    Step::new("feature level", node, Effect::Run { argv, unless }).with(Purpose::Require)
}

/// The steps of a release that was built here, each in the wave after those that prove on every one of `nodes` that it fits; the same
/// steps where it is not known what it can do.
pub fn after_built_fits<'a>(
    install_dir: &str,
    nodes: impl Iterator<Item = &'a str>,
    highest: Option<u32>,
    steps: Vec<Step>,
) -> Vec<Step> {
    const BUILT: &str = "the release in deploy/build";
    const REMEDY: &str = "build a release that can: cargo xtask build";
    let Some(highest) = highest else { return steps };
    let proofs = nodes.map(|node| fits(Some(install_dir), node, Release::Highest(highest), BUILT, REMEDY));
    // The proofs are in the first wave of all, and alone there.
    let later = u32::from(steps.iter().any(|step| step.wave == 0));
    let steps = steps.into_iter().map(|step| Step { wave: step.wave.saturating_add(later), ..step });
    proofs.chain(steps).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// What the comparison says in a directory with this note and this program.
    fn compare(note: Option<&str>, release: Release<'_>, program: &str) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("local_files")).unwrap();
        if let Some(note) = note {
            fs::write(dir.path().join(LEVEL_NOTE), note).unwrap();
        }
        let file = dir.path().join("membershipd");
        fs::write(&file, program).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let step = fits(None, "a", release, "the previous release", "do this");
        run(&step, dir.path())
    }

    fn run(step: &Step, dir: &Path) -> Result<(), String> {
        let Effect::Run { argv, .. } = &step.effect else { panic!("{step:?}") };
        let (program, arguments) = argv.split_first().unwrap();
        let output = Command::new(program).args(arguments).current_dir(dir).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
    }

    const CAN_TWO: &str = "#!/bin/sh\n[ \"$*\" = 'level highest' ] && echo 2\n";
    const KNOWS_NO_LEVEL: &str = "#!/bin/sh\necho \"error: unrecognized subcommand 'level'\" >&2\nexit 2\n";

    #[test]
    fn a_release_fits_where_it_can_do_the_level_that_is_noted() {
        let program = Release::Program("./membershipd");
        for (note, release, said) in [
            (None, program, KNOWS_NO_LEVEL),
            (Some("1\n"), program, KNOWS_NO_LEVEL),
            (Some("2\n"), program, CAN_TWO),
            (None, Release::Highest(1), ""),
            (Some("2\n"), Release::Highest(2), ""),
        ] {
            assert_eq!(compare(note, release, said), Ok(()), "{note:?} {release:?}");
        }
        let refused = compare(Some("2\n"), program, KNOWS_NO_LEVEL).unwrap_err();
        let why =
            "the cluster is at feature level 2, and the previous release can do level 1 at most: it would stay out";
        assert!(refused.contains(why) && refused.contains("do this"), "{refused}");
        assert!(
            compare(Some("3\n"), program, CAN_TWO)
                .unwrap_err()
                .contains("level 3, and the previous release can do level 2")
        );
        compare(Some("2\n"), Release::Highest(1), "").unwrap_err();
        compare(Some("damaged"), Release::Highest(2), "").unwrap_err();
    }
}
