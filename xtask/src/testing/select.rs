//! Which test programs have a test that a filter matches, read from the sources: only those are built.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::Kind;
use unibus_ops::cargo;
use unibus_ops::paths::Paths;
use unibus_ops::process::bounded;
use unibus_ops::shell::shell_in;

const WITHIN: Duration = Duration::from_secs(60);

/// A test program by what cargo calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The unit tests of a package: those of its library, or of its programs where it has none.
    Units { package: String, library: bool },
    /// `tests/NAME` of a package.
    Integration { package: String, name: String },
}

impl Target {
    /// The words that make cargo build it.
    pub(crate) fn words(&self) -> Vec<&str> {
        match self {
            Self::Units { package, library } => vec!["--package", package, if *library { "--lib" } else { "--bins" }],
            Self::Integration { package, name } => vec!["--package", package, "--test", name],
        }
    }

    /// The package.
    pub(crate) fn package(&self) -> &str {
        match self {
            Self::Units { package, .. } | Self::Integration { package, .. } => package,
        }
    }

    /// The name of the program below `tests/`, if it is one.
    pub(crate) fn kind(&self) -> (Kind, &str) {
        match self {
            Self::Units { package, .. } => (Kind::Unit, package),
            Self::Integration { name, .. } => (Kind::Integration, name),
        }
    }
}

/// What cargo says about the workspace.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Crate>,
}

#[derive(Deserialize)]
struct Crate {
    name: String,
    kind: Vec<String>,
    src_path: PathBuf,
}

impl Crate {
    fn is(&self, kind: &str) -> bool {
        self.kind.iter().any(|one| one == kind)
    }
}

fn packages(paths: &Paths) -> Result<Vec<Package>> {
    let shell = shell_in(paths.root())?;
    let ask = cargo::cargo(&shell).args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let said = bounded(ask, b"", WITHIN)?;
    if !said.ok() {
        bail!("cargo metadata: {}", said.reason());
    }
    let metadata: Metadata =
        serde_json::from_slice(&said.stdout).context("reading what cargo says of the workspace")?;
    Ok(metadata.packages)
}

/// Every test program with a test whose full name contains the filter.
pub(crate) fn matching(paths: &Paths, filter: &str) -> Result<BTreeSet<Target>> {
    let mut found = BTreeSet::new();
    for Package { name: package, targets } in packages(paths)? {
        let library = targets.iter().any(|target| target.is("lib"));
        for target in &targets {
            let package = package.clone();
            let program = match (target.is("test"), target.is("lib"), target.is("bin")) {
                (true, ..) => Target::Integration { package, name: target.name.clone() },
                (_, true, _) | (.., true) => Target::Units { package, library },
                _ => continue,
            };
            let Some(root) = target.src_path.parent() else { continue };
            if any_matches(root, filter)? {
                found.insert(program);
            }
        }
    }
    Ok(found)
}

/// Whether any test below a directory that is the root of a crate has such a name.
fn any_matches(root: &Path, filter: &str) -> Result<bool> {
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("reading {}", Paths::shown(&dir)))? {
            let path = entry.with_context(|| format!("reading {}", Paths::shown(&dir)))?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                let text = fs::read_to_string(&path).with_context(|| format!("reading {}", Paths::shown(&path)))?;
                let module = module(path.strip_prefix(root).unwrap_or(&path));
                if tests(&module, &text).iter().any(|name| name.contains(filter)) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// `domain/limits.rs` is `domain::limits`; `mod.rs`, `lib.rs` and `main.rs` add nothing.
fn module(file: &Path) -> String {
    let file: PathBuf = match file.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib" | "main") => file.parent().map(Path::to_path_buf).unwrap_or_default(),
        _ => file.with_extension(""),
    };
    file.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("::")
}

/// The full names of the tests in a file. A module within it counts from the line that opens it at the margin.
fn tests(module: &str, text: &str) -> Vec<String> {
    let (mut names, mut inner, mut announced) = (Vec::new(), "", false);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
            inner = name;
        }
        let line = line.trim_start();
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            announced = true;
        }
        let Some((_, rest)) = line.split_once("fn ").filter(|_| announced && !line.starts_with("//")) else { continue };
        announced = false;
        let name = rest.split('(').next().unwrap_or(rest);
        names
            .push([module, inner, name].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("::"));
    }
    names
}

#[cfg(test)]
mod tests_of_names {
    use super::*;

    #[test]
    fn names_are_those_that_the_test_program_prints() {
        let lines = [
            "fn helper() {}",
            "#[cfg(test)]",
            "mod tests {",
            "    #[test]",
            "    #[ignore]",
            "    fn works() {}",
            "    #[tokio::test]",
            "    async fn too() {}",
            "}",
        ];
        let text = &lines.join("\n");
        assert_eq!(tests("domain::limits", text), ["domain::limits::tests::works", "domain::limits::tests::too"]);
        assert_eq!(tests("", "#[test]\nfn alone() {}\n"), ["alone"]);
        assert_eq!(module(Path::new("domain/mod.rs")), "domain");
        assert_eq!(module(Path::new("domain/limits.rs")), "domain::limits");
        assert_eq!(module(Path::new("main.rs")), "");
    }

    #[test]
    fn this_very_test_is_found() {
        let paths = Paths::find(Path::new(env!("CARGO_MANIFEST_DIR")).parent()).unwrap();
        let found = matching(&paths, "testing::select::tests_of_names::this_very_test").unwrap();
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [Target::Units { package: "xtask".to_owned(), library: false }]
        );
        assert!(matching(&paths, "no such test anywhere").unwrap().is_empty());
    }
}
