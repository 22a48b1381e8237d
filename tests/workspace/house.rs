//! What holds of the repository itself: licences of what it depends on, links between its pages, imports, messages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use rekindle_tests::repository;
use serde_json::Value;

/// The licences that deny.toml allows.
fn allowed() -> Vec<String> {
    let text = std::fs::read_to_string(repository("deny.toml")).expect("a list");
    let lines = text.lines().skip_while(|line| !line.starts_with("allow = [")).skip(1);
    let entries = lines.take_while(|line| !line.starts_with(']')).map(str::trim);
    let names = entries.filter(|line| !line.starts_with('#'));
    names.map(|line| line.trim_end_matches(',').trim_matches('"').to_owned()).collect()
}

/// Every package that the workspace depends on, on all systems; where their sources are not all there, on this one.
fn dependencies() -> Value {
    let run = |more: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(repository(""));
        cargo.args(["metadata", "--format-version", "1", "--locked", "--offline"]).args(more);
        cargo.output().expect("cargo runs")
    };
    let all = run(&[]);
    if all.status.success() {
        return serde_json::from_slice(&all.stdout).expect("JSON");
    }
    let version = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8(version.stdout).expect("text");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    println!("only the dependencies on {host}: `cargo fetch` gets those of other systems");
    let host = run(&["--filter-platform", host]);
    assert!(host.status.success(), "{}", String::from_utf8_lossy(&host.stderr));
    serde_json::from_slice(&host.stdout).expect("JSON")
}

#[test]
fn licences_of_all_dependencies_are_allowed() {
    let (allowed, metadata) = (allowed(), dependencies());
    assert!(allowed.iter().any(|name| name == "MIT"), "{allowed:?}");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100, "{} packages", packages.len());
    let mut refused = Vec::new();
    for package in packages {
        let (name, licence) = (&package["name"], package["license"].as_str().unwrap_or("none"));
        let expression = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX);
        let is_allowed = expression.is_ok_and(|expression| {
            expression.evaluate(|term| allowed.contains(&term.to_string()))
        });
        if !is_allowed {
            refused.push(format!("{name}: {licence}"));
        }
    }
    assert!(refused.is_empty(), "not in deny.toml: {refused:#?}");
}

/// The pages of the repository.
fn pages() -> Vec<PathBuf> {
    let listed = |folder: &str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(repository(folder)).expect("a folder");
        entries.map(|entry| entry.expect("reads").path()).collect()
    };
    let mut pages = [listed(""), listed("docs"), listed("docs/guide/src")].concat();
    for package in listed("crates") {
        pages.push(package.join("README.md"));
    }
    pages.retain(|path| path.extension().is_some_and(|ending| ending == "md") && path.is_file());
    pages
}

/// What a heading is called in a link, as on GitHub: lower case, dashes for spaces, no other signs.
fn anchor(heading: &str) -> String {
    let letters = heading.trim_start_matches('#').trim().to_lowercase();
    let letters = letters.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    letters.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The targets of a page's links; code has none.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for (number, part) in text.split("```").enumerate() {
        if number % 2 == 0 {
            let targets = part.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            links.extend(targets.map(|(target, _)| target.to_owned()));
        }
    }
    links
}

#[test]
fn links_between_pages_lead_somewhere() {
    let (pages, mut broken, mut count) = (pages(), Vec::new(), 0);
    for page in &pages {
        let text = std::fs::read_to_string(page).expect("a page");
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            count += 1;
            let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
            let folder = page.parent().expect("a folder");
            let target = if path.is_empty() { page.clone() } else { folder.join(path) };
            let is_there = target.exists()
                && (heading.is_empty() || headings(&target).any(|there| there == heading));
            if !is_there {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(pages.len() > 15 && count > 20, "{} pages, {count} links", pages.len());
    assert!(broken.is_empty(), "lead nowhere: {broken:#?}");
}

/// The sources of a crate, each with the module of the crate that it is in.
fn sources(package: &str) -> Vec<(String, PathBuf)> {
    sources_in(&repository(&format!("crates/{package}/src")))
}

fn sources_in(source: &Path) -> Vec<(String, PathBuf)> {
    let mut open = vec![source.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("reads").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let inner = path.strip_prefix(source).expect("inside");
                let first = inner.components().next().expect("a name").as_os_str();
                let module = first.to_string_lossy().trim_end_matches(".rs").to_owned();
                files.push((module, path));
            }
        }
    }
    files
}

/// Which modules of the crate each module uses outside of its tests.
fn uses(package: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, path) in sources(package) {
        if module == "lib" {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source");
        let code = text.split("#[cfg(test)]\nmod ").next().expect("a part");
        let own = uses.entry(module.clone()).or_default();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for rest in line.split("crate::").skip(1) {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                let used = &rest[..end.unwrap_or(rest.len())];
                let is_module = used.starts_with(|c: char| c.is_lowercase());
                assert!(is_module, "{}: `{line}` does not say the module", path.display());
                own.insert(used.to_owned());
            }
        }
        own.remove(&module);
    }
    uses
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    for package in ["rekindle-infer", "rekindle-train"] {
        let mut left = uses(package);
        assert!(left.len() > 5, "{package}: {left:?}");
        loop {
            let there: BTreeSet<String> = left.keys().cloned().collect();
            let before = left.len();
            left.retain(|_, used| used.iter().any(|name| there.contains(name)));
            if left.len() == before {
                break;
            }
        }
        assert!(left.is_empty(), "{package}: in a circle, or used by one: {left:#?}");
    }
}

/// What messages may write in Rust's Debug form, by the name that it is captured with: lists of numbers, which look as in
/// Python, and widths of networks, whose Debug form has Keras's `1.0` where the other has `1`.
const LISTS: [&str; 13] = [
    "shape", "extents", "axes", "dims", "stride", "dilation", "kernel", "padding", "order",
    "target", "weights", "alpha", "labels",
];

/// The same for names that say less, by file.
const LISTS_OF_FILES: [(&str, &[&str]); 15] = [
    ("rekindle-nn/src/error.rs", &["found", "expected"]),
    ("rekindle-nn/src/ops/activations.rs", &["other"]),
    ("rekindle-nn/src/ops/batch_norm.rs", &["other"]),
    ("rekindle-nn/src/ops/group_norm.rs", &["other"]),
    ("rekindle-nn/src/ops/merge.rs", &["other"]),
    ("rekindle-nn/src/ops/reshape.rs", &["found"]),
    ("rekindle-weights/src/error.rs", &["found", "expected"]),
    ("rekindle-weights/src/export/keras/hdf5.rs", &["expected"]),
    ("rekindle-weights/src/export/keras/plain.rs", &["most"]),
    ("rekindle-weights/src/keras/place.rs", &["found", "expected"]),
    ("rekindle-weights/src/onnx/constant.rs", &["a", "b", "own"]),
    ("rekindle-weights/src/onnx/read.rs", &["found", "expected"]),
    ("rekindle-weights/src/tflite/metadata.rs", &["mean", "std"]),
    ("rekindle-weights/src/torch/mod.rs", &["found", "expected"]),
    ("weights-convert/src/verify.rs", &["found", "expected"]),
];

/// What no user reads: an operation that is compared with another of the same run, the name of a kind of numbers that the
/// crate hdf5-pure has no other way to ask for.
const NO_MESSAGES: [(&str, &str); 3] = [
    ("rekindle-weights/src/recognise/numbers.rs", "op"),
    ("rekindle-weights/src/torch/write/compare.rs", "op"),
    ("rekindle-weights/src/hdf5.rs", "kind"),
];

/// The names between `{` and `:?}`, or `:#?}`, in a line.
fn debug_forms(line: &str) -> impl Iterator<Item = &str> {
    let ends = line.match_indices("?}").map(|(place, _)| &line[..place]);
    ends.filter_map(|before| {
        let (_, name) = before.rsplit_once('{')?;
        name.trim_end_matches('#').strip_suffix(':')
    })
}

/// Modules that are compiled for tests only, of the sources of a crate.
fn test_modules(files: &[PathBuf]) -> Vec<PathBuf> {
    let mut modules = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).expect("a source");
        let inner = match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("lib" | "main" | "mod") => path.parent().expect("a folder").to_owned(),
            _ => path.with_extension(""),
        };
        for rest in text.split("#[cfg(test)]\n").skip(1) {
            let line = rest.lines().next().unwrap_or_default();
            let name = line.split_once("mod ").and_then(|(_, name)| name.strip_suffix(';'));
            modules.extend(name.map(|name| inner.join(name)));
        }
    }
    modules
}

#[test]
fn no_message_is_written_in_rusts_debug_form() {
    assert_eq!(debug_forms("{a:?} {} {b:>3} {:#?}").collect::<Vec<_>>(), ["a", ""]);
    let (mut found, mut count, mut unused) = (Vec::new(), 0, Vec::from(NO_MESSAGES));
    for (folder, files) in packages() {
        let tests = test_modules(&files);
        for path in files {
            if tests.iter().any(|test| path.starts_with(test) || path.with_extension("") == *test) {
                continue;
            }
            count += 1;
            let name = path.strip_prefix(&folder).expect("inside").to_string_lossy();
            let text = std::fs::read_to_string(&path).expect("a source");
            let code = text.split("#[cfg(test)]\nmod ").next().expect("a part");
            for (number, line) in code.lines().enumerate() {
                // What stops the program is a defect of ours, and what debugs is for us.
                let is_ours = ["unreachable!(", "panic!(", "assert", "debug!("];
                if line.trim_start().starts_with("//") || is_ours.iter().any(|w| line.contains(w)) {
                    continue;
                }
                for form in debug_forms(line) {
                    let of_file = LISTS_OF_FILES.iter().filter(|(file, _)| *file == name);
                    let mut is_allowed = LISTS.contains(&form)
                        || of_file.flat_map(|(_, forms)| *forms).any(|one| *one == form);
                    unused.retain(|(file, one)| {
                        let is_this = *file == name && *one == form;
                        is_allowed |= is_this;
                        !is_this
                    });
                    if !is_allowed {
                        found.push(format!("{name}:{}: {}", number + 1, line.trim()));
                    }
                }
            }
        }
    }
    assert!(count > 200, "{count} sources");
    assert!(unused.is_empty(), "not there any more: {unused:#?}");
    assert!(found.is_empty(), "say it in words: {found:#?}");
}

/// What reports an error walks its causes: a message that holds its source says it twice.
#[test]
fn errors_leave_their_causes_to_their_source() {
    let (mut found, mut count) = (Vec::new(), 0);
    for (_, files) in packages() {
        for path in files {
            let text = std::fs::read_to_string(&path).expect("a source");
            for attribute in text.split("#[error(").skip(1) {
                count += 1;
                let message = attribute.split(")]").next().unwrap_or_default();
                let variant = attribute.split("#[error(").next().unwrap_or_default();
                let has_source = variant.contains("#[from]") || variant.contains("#[source]");
                let says_it = message.contains("source") || has_source && message.contains("{0");
                if says_it {
                    found.push(format!("{}: {message}", path.display()));
                }
            }
        }
    }
    assert!(count > 50, "{count} messages");
    assert!(found.is_empty(), "{found:#?}");
}

/// The folder that each crate is in, and the crate's sources.
fn packages() -> Vec<(PathBuf, Vec<PathBuf>)> {
    let crates = std::fs::read_dir(repository("crates")).expect("a folder");
    let mut places: Vec<PathBuf> = crates.map(|entry| entry.expect("reads").path()).collect();
    places.push(repository("weights-convert"));
    let files = |place: &PathBuf| {
        let sources = sources_in(&place.join("src")).into_iter();
        (place.parent().expect("a folder").to_owned(), sources.map(|(_, path)| path).collect())
    };
    places.iter().map(files).collect()
}

fn headings(page: &Path) -> impl Iterator<Item = String> {
    let text = std::fs::read_to_string(page).expect("a page");
    let lines: Vec<String> =
        text.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
    lines.into_iter()
}
