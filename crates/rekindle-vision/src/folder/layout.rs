//! Folders that are split already: `train`, `validation` and `test`, each with the folders of the classes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::scan::{What, entries};
use crate::VisionError;

/// The parts of a folder that is split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub train: PathBuf,
    pub valid: Option<PathBuf>,
    pub test: Option<PathBuf>,
    /// Whether the photos of `test` are in folders of classes.
    pub is_test_labelled: bool,
    /// Files beside the parts.
    pub strays: Vec<PathBuf>,
}

/// What a folder's name says that it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Train,
    Valid,
    Test,
}

const ROLES: [(&str, Role); 7] = [
    ("train", Role::Train),
    ("training", Role::Train),
    ("validation", Role::Valid),
    ("valid", Role::Valid),
    ("val", Role::Valid),
    ("test", Role::Test),
    ("testing", Role::Test),
];

/// What a folder is for, by its name.
fn role(name: &str) -> Option<Role> {
    let lower = name.to_lowercase();
    ROLES.iter().find(|(known, _)| *known == lower).map(|&(_, role)| role)
}

/// Whether a folder of this name may be a part of a data set that is split already.
#[must_use]
pub fn is_part(name: &str) -> bool {
    role(name).is_some()
}

/// A part: the folder's name, and those of the folders in it.
struct Part {
    role: Role,
    name: String,
    path: PathBuf,
    classes: BTreeSet<String>,
}

/// What to do where a folder may be meant either way.
const EITHER: &str = "give all of them the same class folders, or have train, validation and test taken as classes \
                      (--classes-are-folders, ImageFolder::open_classes)";

/// The parts of a folder, where it is split; or a note where it only looks so.
pub(super) fn layout(root: &Path) -> Result<(Option<Layout>, Option<String>), VisionError> {
    let wrong = |reason: String| VisionError::folder(root, format!("{reason}; {EITHER}"));
    let (mut parts, mut others, mut strays) = (Vec::<Part>::new(), Vec::new(), Vec::new());
    for entry in entries(root).map_err(|error| VisionError::io(root, error))? {
        if !matches!(entry.what, What::Folder | What::LinkedFolder) {
            if !matches!(entry.what, What::Hidden) {
                strays.push(entry.path);
            }
            continue;
        }
        let name = entry.name.to_string_lossy().into_owned();
        match role(&name) {
            Some(role) => {
                let classes = folders(&entry.path)?;
                parts.push(Part { role, name, path: entry.path, classes });
            }
            None => others.push(name),
        }
    }
    let of = |role: Role| parts.iter().find(|part| part.role == role);
    let (Some(train), true) = (of(Role::Train), parts.len() > 1) else { return Ok((None, None)) };
    // Photos of trains, of tests, ...
    if train.classes.is_empty() {
        return Ok((None, None));
    }
    let rest = || parts.iter().filter(|part| part.role != Role::Train);
    let is_alike = |part: &Part| !part.classes.is_disjoint(&train.classes);
    let looks_split = rest().any(is_alike);
    let names = || parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(", ");
    if let (Some(other), true) = (others.first(), looks_split) {
        let note = format!(
            "{}: {} look like the parts of a split, but `{other}` is beside them: every folder is taken as a class",
            root.display(),
            names()
        );
        return Ok((None, Some(note)));
    }
    // Photos of a test that are in no folders have no labels, as competitions have them.
    let is_unlabelled_test = of(Role::Test).is_some_and(|test| test.classes.is_empty());
    if !others.is_empty() || !(looks_split || is_unlabelled_test) {
        return Ok((None, None));
    }
    for (position, part) in parts.iter().enumerate() {
        if let Some(other) = parts[..position].iter().find(|other| other.role == part.role) {
            return Err(wrong(format!("both `{}` and `{}` are there", other.name, part.name)));
        }
        let is_empty = part.classes.is_empty();
        if is_empty && part.role == Role::Valid {
            return Err(wrong(format!("`{}` has no folders of classes", part.name)));
        }
        if let Some(class) = part.classes.difference(&train.classes).next() {
            let (part, train) = (&part.name, &train.name);
            return Err(wrong(format!("`{part}` has a class `{class}`, which `{train}` has not")));
        }
    }
    let path = |role: Role| of(role).map(|part| part.path.clone());
    let (train, valid, test) = (train.path.clone(), path(Role::Valid), path(Role::Test));
    let is_test_labelled = test.is_some() && !is_unlabelled_test;
    Ok((Some(Layout { train, valid, test, is_test_labelled, strays }), None))
}

/// The names of the folders in a folder.
fn folders(folder: &Path) -> Result<BTreeSet<String>, VisionError> {
    let all = entries(folder).map_err(|error| VisionError::io(folder, error))?;
    let folders = all.into_iter().filter(|e| matches!(e.what, What::Folder | What::LinkedFolder));
    Ok(folders.map(|entry| entry.name.to_string_lossy().into_owned()).collect())
}

impl Layout {
    /// The part to evaluate on.
    pub fn to_evaluate(&self, root: &Path) -> Result<&Path, VisionError> {
        match (&self.test, &self.valid) {
            (Some(test), _) if self.is_test_labelled => Ok(test),
            (_, Some(valid)) => Ok(valid),
            _ => {
                let reason =
                    "its test photos are not in folders of classes: name the folder to evaluate on";
                Err(VisionError::folder(root, reason))
            }
        }
    }

    /// What is done with its parts, in a sentence; `uses_valid` says whether the validation photos are used.
    pub fn note(&self, root: &Path, uses_valid: bool) -> String {
        let name = |path: &PathBuf| {
            path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into())
        };
        let mut parts = vec![format!("`{}` is trained on", name(&self.train))];
        match &self.valid {
            Some(valid) if uses_valid => parts.push(format!("`{}` is validated on", name(valid))),
            Some(valid) => parts.push(format!("`{}` is not used", name(valid))),
            None => {}
        }
        if let Some(test) = &self.test {
            let path = test.display();
            parts.push(match self.is_test_labelled {
                true => format!("`{}` is left for `rekindle evaluate MODEL {path}`", name(test)),
                false => format!(
                    "`{}` has no class folders and is left for `rekindle predict MODEL {path}`",
                    name(test)
                ),
            });
        }
        format!(
            "{} is split already: {} (--classes-are-folders takes these folders as classes)",
            root.display(),
            parts.join(", ")
        )
    }
}
