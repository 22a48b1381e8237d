//! Which of a model's outputs is which class.

use std::path::{Path, PathBuf};

use rekindle_vision::{ImageFolder, imagenet_labels, read_class_names};
use rekindle_weights::with_causes;

use crate::error::InferError;

/// The number in the model of each of the folder's classes: by name, or where the model names none in Keras's order,
/// which is that of the folder.
pub fn numbers(
    folder: &ImageFolder,
    known: &[String],
    is_named: bool,
) -> Result<Vec<usize>, InferError> {
    let classes = folder.classes();
    let is_known = |class: &String| known.contains(class);
    // Numbers are no names, unless the folders are called by them.
    let are_numbers = known.iter().enumerate().all(|(number, name)| *name == number.to_string());
    if !is_named || are_numbers && !classes.iter().all(is_known) {
        let (found, expected) = (classes.len(), known.len());
        if found != expected {
            let path = folder.path().to_owned();
            return Err(InferError::UnnamedClasses { path, found, expected });
        }
        tracing::warn!(
            "the model does not name its classes: its outputs are taken for {} in this order, as Keras sorts folders",
            classes.join(", ")
        );
        return Ok((0..found).collect());
    }
    let number = |class: &String| {
        known.iter().position(|name| name == class).ok_or_else(|| {
            let (path, class) = (folder.path().to_owned(), class.clone());
            InferError::UnknownClass { path, class, known: known.join(", ") }
        })
    };
    classes.iter().map(number).collect()
}

/// The names of ImageNet's classes as a model's classes: WordNet id and label.
pub(crate) fn imagenet_classes() -> Vec<String> {
    imagenet_labels().iter().map(|label| format!("{} {}", label.id, label.name)).collect()
}

/// What a file beside a model says of the names of its classes.
pub(crate) struct Beside {
    /// The names, where it has as many as the model has outputs.
    pub names: Option<Vec<String>>,
    /// What was done with it, a sentence.
    pub said: String,
}

/// Looks for `labels.txt` beside a model's file, or in its folder, and for the `metadata.json` that Teachable Machine
/// writes.
pub(crate) fn beside(model: &Path, outputs: usize) -> Option<Beside> {
    let folder = match model.is_dir() {
        true => model.to_owned(),
        false => model.parent().map_or_else(PathBuf::new, Path::to_owned),
    };
    let labels = folder.join("labels.txt");
    if labels.is_file() {
        return Some(match read_class_names(&labels) {
            Ok(names) if names.len() == outputs => {
                let said = format!(
                    "the file names no classes: the names are those of {}",
                    labels.display()
                );
                Beside { names: Some(names), said }
            }
            Ok(names) => {
                let (path, found) = (labels.display(), names.len());
                let said = format!(
                    "the file names no classes, and {path} is not used: it has {found} names, and the model {outputs} outputs"
                );
                Beside { names: None, said }
            }
            Err(error) => Beside {
                names: None,
                said: format!(
                    "the file names no classes, and what is beside it is not used: {}",
                    with_causes(&error)
                ),
            },
        });
    }
    // Other programs call their files so, too.
    let metadata = folder.join("metadata.json");
    let names = read_class_names(&metadata).ok().filter(|names| names.len() == outputs)?;
    let said = format!("the file names no classes: the names are those of {}", metadata.display());
    Some(Beside { names: Some(names), said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_beside_a_model_name_its_classes() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        let model = at("model.keras");
        assert!(beside(&model, 2).is_none());
        std::fs::write(at("metadata.json"), r#"{"labels": ["x", "y"]}"#).expect("writes");
        let names = |found: Option<Beside>| found.and_then(|found| found.names);
        assert_eq!(names(beside(&model, 2)), Some(vec!["x".into(), "y".into()]));
        assert!(beside(&model, 3).is_none());
        std::fs::write(at("labels.txt"), "0 a\n1 b\n").expect("writes");
        for model in [&model, dir.path()] {
            let found = beside(model, 2).expect("there");
            assert!(found.said.contains("labels.txt"), "{}", found.said);
            assert_eq!(found.names, Some(vec!["a".into(), "b".into()]));
        }
        let other = beside(&model, 3).expect("there");
        assert!(other.names.is_none() && other.said.contains("2 names, and the model 3 outputs"));
        std::fs::write(at("labels.txt"), b"\xFF").expect("writes");
        assert!(beside(&model, 2).is_some_and(|found| found.names.is_none()));
    }

    #[test]
    fn outputs_are_matched_to_folders_by_name_or_order() {
        let dir = tempfile::tempdir().expect("a folder");
        for class in ["b", "a"] {
            std::fs::create_dir(dir.path().join(class)).expect("creates");
            std::fs::write(dir.path().join(class).join("1"), b"\xFF\xD8\xFF").expect("writes");
        }
        let folder = ImageFolder::open(dir.path()).expect("opens");
        let of = |names: &[&str], is_named: bool| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            numbers(&folder, &names, is_named).map_err(|error| error.to_string())
        };
        assert_eq!(of(&["b", "c", "a"], true), Ok(vec![2, 0]));
        assert_eq!(of(&["b", "a"], false), Ok(vec![0, 1]));
        assert_eq!(of(&["0", "1"], true), Ok(vec![0, 1]));
        assert!(of(&["0", "1", "2"], true).is_err_and(|error| error.contains("--labels")));
        assert!(of(&["b", "c"], true).is_err_and(|error| error.contains("class `a`")));
    }
}
