use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::{ImageFolder, Place, Sample, VisionError};

/// The longest list that is read.
const MAX_BYTES: u64 = 1 << 28;

/// What stands in a list for one photo.
pub(crate) struct Row {
    pub line: usize,
    pub path: String,
    pub labels: Vec<String>,
}

impl ImageFolder {
    /// The photos of a list, `.csv` or `.jsonl`, with paths relative to the list's folder:
    ///
    /// ```csv
    /// path,label
    /// cats/1.jpg,cat
    /// ```
    /// ```json
    /// {"path": "cats/1.jpg", "label": "cat"}
    /// ```
    /// With `labels` instead of `label` a photo may be of several classes or of none: `"cat;indoors"` in CSV, a list in
    /// JSON. A head for these ends in [sigmoids](../rekindle_nn/struct.HeadConfig.html#method.multi_label).
    ///
    /// # Errors
    /// When the list cannot be read, a line is not as above, a photo is not there, or there are fewer than two
    /// classes.
    pub fn from_list(path: impl AsRef<Path>) -> Result<Self, VisionError> {
        let path = path.as_ref();
        let List { root, rows, classes, multi_label } = List::read(path)?;
        if classes.len() < 2 && !multi_label || classes.is_empty() {
            let reason = format!("{} classes; a classifier needs at least two", classes.len());
            return Err(VisionError::folder(path, reason));
        }
        let sample = |row: Row| row.sample(path, &root, &classes);
        let samples = rows.into_iter().map(sample).collect::<Result<Vec<Sample>, VisionError>>()?;
        Ok(Self::of(path.to_owned(), classes, samples, multi_label))
    }
}

/// A list of photos, as it stands there.
pub(crate) struct List {
    /// What its paths are relative to.
    pub root: PathBuf,
    pub rows: Vec<Row>,
    /// Sorted.
    pub classes: Vec<String>,
    pub multi_label: bool,
}

impl List {
    pub fn read(path: &Path) -> Result<Self, VisionError> {
        let io = |error| VisionError::io(path, error);
        let length = fs::metadata(path).map_err(io)?.len();
        if length > MAX_BYTES {
            return Err(VisionError::folder(
                path,
                format!("{length} bytes, expected at most {MAX_BYTES}"),
            ));
        }
        let text = fs::read_to_string(path).map_err(io)?;
        // Spreadsheets write a byte order mark.
        let text = text.trim_start_matches('\u{FEFF}').to_owned();
        let is_json = path.extension().is_some_and(|extension| extension != "csv");
        let (rows, multi_label) = if is_json { json_rows(&text) } else { csv_rows(&text) }
            .map_err(|(line, reason)| wrong(path, line, &reason))?;
        let names: BTreeSet<&String> = rows.iter().flat_map(|row| &row.labels).collect();
        let classes = names.into_iter().cloned().collect();
        let root = path.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Self { root, rows, classes, multi_label })
    }
}

fn wrong(path: &Path, line: usize, reason: &str) -> VisionError {
    VisionError::folder(path, format!("line {line}: {reason}"))
}

impl Row {
    /// Its photo, which has to be there.
    pub fn sample(
        self,
        list: &Path,
        root: &Path,
        classes: &[String],
    ) -> Result<Sample, VisionError> {
        let file: PathBuf = root.join(&self.path);
        if !file.is_file() {
            let reason = format!("{}: there is no such file", file.display());
            return Err(wrong(list, self.line, &reason));
        }
        // They are sorted.
        let labels = self.labels.iter().filter_map(|label| classes.binary_search(label).ok());
        Ok(Sample { path: file, labels: labels.collect(), place: Place::File })
    }
}

type Rows = Result<(Vec<Row>, bool), (usize, String)>;

fn csv_rows(text: &str) -> Rows {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| (1, error.to_string()))?;
    let multi_label = match header.iter().collect::<Vec<_>>()[..] {
        ["path", "label"] => false,
        ["path", "labels"] => true,
        _ => return Err((1, "the header is not `path,label` or `path,labels`".into())),
    };
    let row = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            (line as usize, error.to_string())
        })?;
        let line = record.position().map_or(0, csv::Position::line) as usize;
        let labels = record[1].split(';').map(|label| label.trim().to_owned());
        let labels: Vec<String> = if multi_label {
            labels.filter(|label| !label.is_empty()).collect()
        } else {
            vec![record[1].to_owned()]
        };
        if !multi_label && record[1].is_empty() {
            return Err((line, "the label is empty".into()));
        }
        Ok(Row { line, path: record[0].to_owned(), labels })
    };
    let rows = reader.records().map(row).collect::<Result<Vec<Row>, _>>()?;
    Ok((rows, multi_label))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRow {
    path: String,
    label: Option<String>,
    labels: Option<Vec<String>>,
}

fn json_rows(text: &str) -> Rows {
    let (mut rows, mut multi_label) = (Vec::new(), false);
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (line, text) in lines.map(|(index, text)| (index + 1, text)) {
        let row: JsonRow = serde_json::from_str(text).map_err(|error| (line, error.to_string()))?;
        let labels = match (row.label, row.labels) {
            (Some(label), None) => vec![label],
            (None, Some(labels)) => {
                multi_label = true;
                labels
            }
            _ => return Err((line, "expected either `label` or `labels`".into())),
        };
        rows.push(Row { line, path: row.path, labels });
    }
    Ok((rows, multi_label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(name: &str, text: &str) -> Result<ImageFolder, VisionError> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(dir.path().join("a")).expect("creates");
        for file in ["a/1.jpg", "a/2, two.jpg"] {
            fs::write(dir.path().join(file), "").expect("writes");
        }
        let path = dir.path().join(name);
        fs::write(&path, text).expect("writes");
        ImageFolder::from_list(path)
    }

    #[test]
    fn lists_are_read() {
        let csv =
            open("list.csv", "path,label\na/1.jpg,dog\n\"a/2, two.jpg\", cat\n").expect("reads");
        assert_eq!(csv.classes(), ["cat", "dog"]);
        assert_eq!(csv.samples().iter().map(Sample::class).collect::<Vec<_>>(), [1, 0]);
        assert!(!csv.is_multi_label() && csv.samples()[1].path.ends_with("a/2, two.jpg"));
        let csv =
            open("list.csv", "path,labels\na/1.jpg,dog; cat\n\"a/2, two.jpg\",\n").expect("reads");
        assert!(csv.is_multi_label());
        assert_eq!((&csv.samples()[0].labels, &csv.samples()[1].labels), (&vec![1, 0], &vec![]));
        let csv = open("list.csv", "\u{FEFF}path,label\r\na/1.jpg,dog\r\n\"a/2, two.jpg\",cat\r\n");
        assert_eq!(csv.expect("reads").classes(), ["cat", "dog"]);
        let json = "{\"path\": \"a/1.jpg\", \"label\": \"dog\"}\n\n{\"path\": \"a/2, two.jpg\", \"label\": \"cat\"}\n";
        let json = open("list.jsonl", json).expect("reads");
        assert_eq!(json.classes(), ["cat", "dog"]);
        assert_eq!(json.samples().iter().map(Sample::class).collect::<Vec<_>>(), [1, 0]);
        let json = "{\"path\": \"a/1.jpg\", \"labels\": [\"dog\", \"cat\"]}";
        assert!(open("list.jsonl", json).expect("reads").is_multi_label());
    }

    #[test]
    fn bad_lists_name_the_line() {
        for (name, text, expected) in [
            ("list.csv", "file,label\na/1.jpg,dog\n", "line 1: the header"),
            ("list.csv", "path,label\na/1.jpg,dog\na/9.jpg,cat\n", "line 3:"),
            ("list.csv", "path,label\na/1.jpg,dog\na/1.jpg\n", "line 3:"),
            ("list.csv", "path,label\na/1.jpg,\n", "line 2: the label is empty"),
            ("list.csv", "path,label\na/1.jpg,dog\n", "1 classes"),
            ("list.csv", "", "line 1"),
            ("list.jsonl", "{\"path\": \"a/1.jpg\"}", "line 1: expected either"),
            ("list.jsonl", "\n{\"path\": 3}", "line 2:"),
        ] {
            let error = open(name, text).expect_err(text).to_string();
            assert!(error.contains(expected) && error.contains(name), "{error}");
        }
    }
}
