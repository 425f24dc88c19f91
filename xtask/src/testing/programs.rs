//! The test programs: what cargo built, and what each needs and bears.

use std::path::PathBuf;

use unibus_ops::cargo::{Artifact, artifacts};

/// Which part of a package a test program is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Unit tests, compiled into the library or the program.
    Unit,
    /// A program of its own, below `tests/`.
    Integration,
}

/// A test program that cargo built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) package: String,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
    /// The directory of its package, in which it runs.
    pub(crate) dir: PathBuf,
}

/// How a test program is run. One that is not named here runs like unit tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suite {
    /// Tests at once: those of clusters wait for elections and leases, and hardly compute.
    pub(crate) threads: usize,
    /// Whether it starts the daemon whose safeguards can be switched off.
    pub(crate) needs_faults: bool,
    /// Whether it starts the daemon of the previous release.
    pub(crate) needs_previous: bool,
    /// Whether it boots machines.
    pub(crate) machines: bool,
    /// Tests of it that lay cables between network namespaces.
    pub(crate) needs_networks: &'static [&'static str],
}

const PLAIN: Suite =
    Suite { threads: 4, needs_faults: false, needs_previous: false, machines: false, needs_networks: &[] };

/// The programs below `tests/`, in the order in which they run: what fails fast comes first, what boots machines last.
const SUITES: [(&str, &str, Suite); 7] = [
    ("xtask", "tool", PLAIN),
    ("membershipd", "daemon", PLAIN),
    ("membershipd", "attacks", PLAIN),
    ("membershipd", "three", Suite { threads: 6, needs_networks: &["silent::"], ..PLAIN }),
    // Its harness says how many clusters there are at once: here all may wait for their turn.
    ("xtask", "cluster", Suite { threads: 20, needs_faults: true, ..PLAIN }),
    ("xtask", "upgrade", Suite { needs_previous: true, ..PLAIN }),
    // As many as have room for their machines.
    ("xtask", "fleet", Suite { threads: 6, machines: true, ..PLAIN }),
];

/// How the program of that package and name is run.
pub(crate) fn suite(package: &str, name: &str) -> Suite {
    SUITES.iter().find(|suite| (suite.0, suite.1) == (package, name)).map_or(PLAIN, |(_, _, suite)| *suite)
}

impl Program {
    /// The test programs among cargo's messages, unit tests first and those that boot machines last.
    pub(crate) fn all(messages: &str) -> Vec<Self> {
        let mut programs: Vec<Self> =
            artifacts(messages).filter(|artifact| artifact.profile.test).filter_map(Self::of).collect();
        programs.sort_by_key(|program| {
            let place = SUITES.iter().position(|suite| (suite.0, suite.1) == (&program.package, &program.name));
            (program.kind == Kind::Integration, place, program.package.clone())
        });
        programs
    }

    fn of(artifact: Artifact) -> Option<Self> {
        let dir = artifact.manifest_path.parent()?.to_path_buf();
        let integration = artifact.target.kind.iter().any(|kind| kind == "test");
        Some(Self {
            package: artifact.package().to_owned(),
            name: artifact.target.name,
            kind: if integration { Kind::Integration } else { Kind::Unit },
            path: artifact.executable?,
            dir,
        })
    }

    /// How it is run.
    pub(crate) fn suite(&self) -> Suite {
        match self.kind {
            Kind::Unit => PLAIN,
            Kind::Integration => suite(&self.package, &self.name),
        }
    }

    /// As people call it.
    pub(crate) fn title(&self) -> String {
        match self.kind {
            Kind::Unit if self.name.replace('_', "-") == self.package => format!("{} (units)", self.package),
            Kind::Unit => format!("{} (units of {})", self.package, self.name),
            Kind::Integration => format!("{} {}", self.package, self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(package: &str, name: &str, kind: &str, test: bool, executable: &str) -> String {
        serde_json::json!({
            "reason": "compiler-artifact", "package_id": if package.contains('#') { format!("path+file:///w/{package}") } else { format!("path+file:///w/{package}#0.1.0") },
            "manifest_path": format!("/w/{package}/Cargo.toml"),
            "target": { "name": name, "kind": [kind] }, "profile": { "test": test },
            "executable": if executable.is_empty() { None } else { Some(executable) },
        })
        .to_string()
    }

    #[test]
    fn test_programs_are_told_from_what_they_need() {
        let messages = [
            message("membershipd", "membershipd", "lib", false, ""),
            message("xtask", "fleet", "test", true, "/t/fleet-1"),
            message("xtask", "cluster", "test", true, "/t/cluster-1"),
            message("membershipd", "membershipd", "bin", false, "/t/membershipd"),
            message("membershipd", "membershipd", "lib", true, "/t/membershipd-2"),
            message("crates/ops#unibus-ops@0.1.0", "unibus_ops", "lib", true, "/t/unibus_ops-1"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        let titles: Vec<String> = Program::all(&messages).iter().map(Program::title).collect();
        assert_eq!(titles, ["membershipd (units)", "unibus-ops (units)", "xtask cluster", "xtask fleet"]);
        let last = Program::all(&messages).pop().unwrap();
        assert_eq!((last.dir.clone(), last.suite().machines), (PathBuf::from("/w/xtask"), true));
    }
}
