//! The one table of what a verb needs of this machine; doctor, every verb's own check and the documents read it.

use crate::tools::Tool;

/// What an operator or a programmer wants to do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Verb {
    /// `local`: three nodes on this machine
    Local,
    /// `check`: format, lints, licences of dependencies, documentation
    Check,
    /// `test`: all tests but those on booted machines
    Test,
    /// `build`: the static program that servers run
    Build,
    /// `rehearse`, and `test --machines`: machines that are booted here
    Rehearse,
    /// `stage` and every other verb that reaches servers
    Deploy,
}

impl Verb {
    /// In the order in which a new user meets them.
    pub const ALL: [Self; 6] = [Self::Local, Self::Check, Self::Test, Self::Build, Self::Rehearse, Self::Deploy];

    /// As typed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Check => "check",
            Self::Test => "test",
            Self::Build => "build",
            Self::Rehearse => "rehearse",
            Self::Deploy => "deploy",
        }
    }
}

/// How a prerequisite is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A program that runs with this argument and succeeds.
    Runs(&'static str, &'static str),
    /// A program that is there; it has no harmless argument.
    IsThere(&'static str),
    /// rsync of a release that knows `--chown`.
    Rsync,
    /// python3 whose pip runs.
    Pip,
    /// A compiler with the standard library that a static program needs, installed or as source.
    MuslStd,
    /// What lies in deploy/build once it was fetched.
    Fetched(Tool),
}

/// How it comes here when it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The system's package manager installs it, as root.
    Package(Package),
    /// A Debian package, unpacked into deploy/build: only tests need it, or the package would start a service.
    Unpacked(&'static str),
    /// Fetched into deploy/build, known by its hash or lock file.
    Fetched(Tool),
    /// rustup adds it to its toolchain; where it cannot, these Debian packages bring a compiler that builds it.
    MuslStd(&'static str),
}

/// What a program comes in. Several packages are separated by blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    pub(crate) debian: &'static str,
    /// None: what macOS brings itself, or lacks for good.
    pub(crate) brew: Option<&'static str>,
}

impl Package {
    /// A package that both call the same.
    pub const fn same(name: &'static str) -> Self {
        Self { debian: name, brew: Some(name) }
    }

    /// A package of Debian.
    pub(crate) const fn debian(name: &'static str) -> Self {
        Self { debian: name, brew: None }
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prerequisite {
    /// As doctor calls it.
    pub name: &'static str,
    pub(crate) probe: Probe,
    pub(crate) source: Source,
    /// The verbs that cannot do without it.
    pub verbs: &'static [Verb],
    pub(crate) purpose: &'static str,
}

impl Prerequisite {
    /// Its verbs in words.
    pub(crate) fn for_verbs(&self) -> String {
        if self.verbs.len() == Verb::ALL.len() {
            return "all".to_owned();
        }
        self.verbs.iter().map(|verb| verb.name()).collect::<Vec<_>>().join(", ")
    }
}

const fn installed(
    program: &'static str,
    argument: &'static str,
    package: Package,
    verbs: &'static [Verb],
    purpose: &'static str,
) -> Prerequisite {
    let (probe, source) = (Probe::Runs(program, argument), Source::Package(package));
    Prerequisite { name: program, probe, source, verbs, purpose }
}

const fn unpacked(
    program: &'static str,
    argument: &'static str,
    package: &'static str,
    purpose: &'static str,
) -> Prerequisite {
    let (probe, source) = (Probe::Runs(program, argument), Source::Unpacked(package));
    Prerequisite { name: program, probe, source, verbs: &[Verb::Test], purpose }
}

const fn fetched(name: &'static str, tool: Tool, verbs: &'static [Verb], purpose: &'static str) -> Prerequisite {
    Prerequisite { name, probe: Probe::Fetched(tool), source: Source::Fetched(tool), verbs, purpose }
}

const PYTHON: Package = Package { debian: "python3-pip", brew: Some("python3") };
const SSH: Package = Package::debian("openssh-client");
const REHEARSE: &[Verb] = &[Verb::Rehearse];
const SERVERS: &[Verb] = &[Verb::Rehearse, Verb::Deploy];
const ALL: &[Verb] = &[Verb::Local, Verb::Check, Verb::Test, Verb::Build, Verb::Rehearse, Verb::Deploy];

/// Everything that any verb needs. No package among those that are installed starts a service.
pub(crate) const PREREQUISITES: [Prerequisite; 27] = [
    installed("cc", "--version", Package::debian("gcc libc6-dev"), ALL, "compiles what is written in C"),
    installed("git", "--version", Package::same("git"), &[Verb::Test, Verb::Build], "names the commit; makes clones"),
    Prerequisite {
        name: "python3 with pip",
        probe: Probe::Pip,
        source: Source::Package(PYTHON),
        verbs: &[Verb::Local, Verb::Test, Verb::Build, Verb::Rehearse, Verb::Deploy],
        purpose: "fetches the engine, the linker and the clients of tests",
    },
    installed("ssh", "-V", SSH, SERVERS, "reaches servers"),
    Prerequisite {
        name: "rsync",
        probe: Probe::Rsync,
        source: Source::Package(Package::same("rsync")),
        verbs: SERVERS,
        purpose: "sends what differs",
    },
    Prerequisite {
        name: "ssh-keygen",
        probe: Probe::IsThere("ssh-keygen"),
        source: Source::Package(SSH),
        verbs: REHEARSE,
        purpose: "makes keys for the machines",
    },
    installed("systemd-nspawn", "--version", Package::debian("systemd-container"), REHEARSE, "boots machines"),
    installed("mmdebstrap", "--version", Package::debian("mmdebstrap"), REHEARSE, "makes the machines' system"),
    installed("nft", "--version", Package::debian("nftables"), REHEARSE, "makes faults of the network"),
    installed("ip", "-V", Package::debian("iproute2"), REHEARSE, "makes the machines' networks"),
    installed("unshare", "--version", Package::debian("util-linux"), REHEARSE, "makes namespaces"),
    installed("nsenter", "--version", Package::debian("util-linux"), REHEARSE, "enters namespaces"),
    installed("zstd", "--version", Package::debian("zstd"), REHEARSE, "keeps the machines' system packed"),
    installed("tar", "--version", Package::debian("tar"), REHEARSE, "unpacks the machines' system"),
    Prerequisite {
        name: "Rust for musl",
        probe: Probe::MuslStd,
        source: Source::MuslStd("rustc-web cargo-web rust-web-src"),
        verbs: &[Verb::Build],
        purpose: "compiles the static membershipd",
    },
    unpacked("openssl", "version", "openssl", "judges certificates"),
    unpacked("curl", "--version", "curl", "asks the API"),
    unpacked("systemd-analyze", "--version", "systemd", "judges the unit"),
    unpacked("rsync", "--version", "rsync", "sends what differs to the servers of tests"),
    unpacked("ip", "-V", "iproute2", "makes networks of tests"),
    unpacked("nft", "--version", "nftables", "cuts networks of tests"),
    fetched("engine", Tool::Engine, &[Verb::Local, Verb::Test, Verb::Rehearse, Verb::Deploy], "runs on every node"),
    fetched("Python clients", Tool::PythonClients, &[Verb::Test], "sign and talk as programs of others do"),
    fetched("Node.js", Tool::Node, &[Verb::Test], "runs the JavaScript clients"),
    fetched("JavaScript clients", Tool::JsClients, &[Verb::Test], "talk as programs of others do"),
    fetched("linker", Tool::Zig, &[Verb::Build], "links the static membershipd"),
    fetched("cargo-deny", Tool::CargoDeny, &[Verb::Check], "judges licences and sources of dependencies"),
];

/// The rows that these verbs need, in the table's order.
pub(crate) fn needed_by(verbs: &[Verb]) -> Vec<&'static Prerequisite> {
    PREREQUISITES.iter().filter(|row| row.verbs.iter().any(|verb| verbs.contains(verb))).collect()
}

/// The Debian packages of each verb as rows of Markdown, for the documents.
#[cfg(test)]
pub(crate) fn as_markdown() -> String {
    let mut lines =
        vec!["| for | Debian packages | fetched into `deploy/build` |".to_owned(), "|---|---|---|".to_owned()];
    for verb in Verb::ALL {
        let (mut packages, mut tools): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        for row in needed_by(&[verb]) {
            let (list, words) = match row.source {
                Source::Package(package) => (&mut packages, package.debian),
                Source::MuslStd(debian) => (&mut packages, debian),
                Source::Unpacked(package) => (&mut tools, package),
                Source::Fetched(_) => {
                    tools.push(row.name);
                    continue;
                }
            };
            list.extend(words.split(' '));
        }
        for list in [&mut packages, &mut tools] {
            let mut seen = Vec::new();
            list.retain(|word| {
                !seen.contains(word) && {
                    seen.push(word);
                    true
                }
            });
        }
        lines.push(format!("| `{}` | {} | {} |", verb.name(), packages.join(", "), tools.join(", ")));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_and_row_is_used() {
        for verb in Verb::ALL {
            assert!(!needed_by(&[verb]).is_empty(), "{}", verb.name());
        }
        for row in &PREREQUISITES {
            assert!(!row.verbs.is_empty() && !row.purpose.is_empty(), "{}", row.name);
        }
    }

    #[test]
    fn a_program_that_comes_in_two_ways_is_not_needed_twice_by_one_verb() {
        for verb in Verb::ALL {
            let names: Vec<&str> = needed_by(&[verb]).iter().map(|row| row.name).collect();
            for name in &names {
                assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name} for {}", verb.name());
            }
        }
    }

    /// The documents show this table and no other one.
    #[test]
    fn documents_show_the_table() {
        let table = as_markdown();
        for (file, text) in [
            ("README.md", include_str!("../../../../../README.md")),
            ("deploy/README.md", include_str!("../../../../../deploy/README.md")),
        ] {
            assert!(text.contains(&table), "{file} does not contain this table:\n{table}");
        }
    }
}
