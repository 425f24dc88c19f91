//! Which test programs have a test that a filter matches, read from the sources: only those are built.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Kind;
use unibus_ops::paths::Paths;

/// A test program by what cargo calls it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The unit tests of a package.
    Units(String),
    /// `tests/NAME` of a package.
    Integration(String, String),
}

impl Target {
    /// The words that make cargo build it.
    pub(crate) fn words(&self, paths: &Paths) -> Vec<String> {
        match self {
            Self::Units(package) => {
                let library = paths.root().join(package).join("src/lib.rs").is_file();
                vec!["--package".to_owned(), package.clone(), if library { "--lib" } else { "--bins" }.to_owned()]
            }
            Self::Integration(package, name) => {
                vec!["--package".to_owned(), package.clone(), "--test".to_owned(), name.clone()]
            }
        }
    }

    /// The package.
    pub(crate) fn package(&self) -> &str {
        match self {
            Self::Units(package) | Self::Integration(package, _) => package,
        }
    }

    /// The name of the program below `tests/`, if it is one.
    pub(crate) fn kind(&self) -> (Kind, &str) {
        match self {
            Self::Units(package) => (Kind::Unit, package),
            Self::Integration(_, name) => (Kind::Integration, name),
        }
    }
}

#[derive(Deserialize)]
struct Manifest {
    workspace: Workspace,
}

#[derive(Deserialize)]
struct Workspace {
    members: Vec<String>,
}

/// The packages of the workspace, each named like its folder.
fn packages(paths: &Paths) -> Result<Vec<String>> {
    let text = fs::read_to_string(paths.root().join("Cargo.toml")).context("reading Cargo.toml")?;
    let manifest: Manifest = toml::from_str(&text).context("reading the members of the workspace in Cargo.toml")?;
    Ok(manifest.workspace.members)
}

/// Every test program with a test whose full name contains the filter.
pub(crate) fn matching(paths: &Paths, filter: &str) -> Result<BTreeSet<Target>> {
    let mut found = BTreeSet::new();
    for package in packages(paths)? {
        let dir = paths.root().join(&package);
        if any_matches(&dir.join("src"), filter)? {
            found.insert(Target::Units(package.clone()));
        }
        let tests = dir.join("tests");
        let entries = fs::read_dir(&tests).with_context(|| format!("reading {}", Paths::shown(&tests)))?;
        for entry in entries {
            let path = entry.with_context(|| format!("reading {}", Paths::shown(&tests)))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.join("main.rs").is_file() && any_matches(&path, filter)? {
                found.insert(Target::Integration(package.clone(), name));
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
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [Target::Units("xtask".to_owned())]);
        assert!(matching(&paths, "no such test anywhere").unwrap().is_empty());
    }
}
