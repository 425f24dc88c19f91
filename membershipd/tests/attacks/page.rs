//! The page of attacks and the tests behind it name each other; so does the page of rules that were taken out with theirs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const ATTACKS: &str = include_str!("../../docs/attacks.md");
const PAGES: [(&str, &str); 2] =
    [("docs/attacks.md", ATTACKS), ("docs/mutations.md", include_str!("../../docs/mutations.md"))];

/// What stands between backticks and has two colons: a test, by the end of its path.
fn named(page: &'static str) -> BTreeSet<&'static str> {
    page.split('`').skip(1).step_by(2).filter(|word| word.contains("::") && !word.contains(' ')).collect()
}

/// Every Rust file of the repository below `dir`.
fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            sources(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn each_test_that_a_page_names_exists() {
    let mut files = Vec::new();
    for part in ["..", "../../xtask"] {
        // Without its dots, so that a name may begin with the crate.
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(part).canonicalize().unwrap();
        sources(&dir, &mut files);
    }
    for (page, test) in PAGES.into_iter().flat_map(|(page, text)| named(text).into_iter().map(move |test| (page, test)))
    {
        let (module, name) = test.rsplit_once("::").unwrap();
        let end = PathBuf::from(format!("{}.rs", module.replace("::", "/")));
        let found = files
            .iter()
            .filter(|file| file.ends_with(&end))
            .any(|file| std::fs::read_to_string(file).unwrap().contains(&format!("fn {name}(")));
        assert!(found, "{page} names {test}, which is in no file that ends in {}", end.display());
    }
}

#[test]
fn the_page_names_each_test_of_this_suite() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks"), &mut files);
    for file in files.iter().filter(|file| !file.ends_with("page.rs")) {
        let text = std::fs::read_to_string(file).unwrap();
        let module = file.file_stem().unwrap().to_str().unwrap();
        let attributes = text.split("#[").filter(|part| part.starts_with("test]") || part.starts_with("tokio::test"));
        for name in attributes.filter_map(|part| part.split_once("fn ")?.1.split_once('(')).map(|(name, _)| name) {
            let test = format!("attacks::{module}::{name}");
            assert!(named(ATTACKS).contains(test.as_str()), "docs/attacks.md does not say what {test} is about");
        }
    }
}
