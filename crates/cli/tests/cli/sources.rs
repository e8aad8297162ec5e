//! What holds for the sources of all packages.

use std::{fs, path::Path};

fn sources(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The causes of an error are printed after it, so one that its text contains would be told twice.
#[test]
fn no_error_has_a_source_that_its_text_contains() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    sources(&root.join("src"), &mut found);
    for package in fs::read_dir(root.join("crates")).unwrap() {
        sources(&package.unwrap().path().join("src"), &mut found);
    }
    let mut errors = 0;
    for (file, text) in found {
        for error in text.split("#[error(").skip(1) {
            errors += 1;
            let (told, rest) = error.split_once(")]").unwrap_or((error, ""));
            let field = rest.split("#[error(").next().unwrap_or_default();
            let field = field.split("///").next().unwrap_or_default();
            let has_cause =
                told.contains("{0}") || told.contains("{source}") || told.contains("{error}");
            let is_source = ["#[from]", "#[source]", "source:"].iter().any(|it| field.contains(it));
            assert!(!(has_cause && is_source), "{file}: {told} {field}");
        }
    }
    assert!(errors > 200, "{errors}");
}
