//! Rows as text.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::manifest::Content;
use crate::{Format, ScaleError, ShardFile};

/// Where that is kept which a file of text has no place for: hashes, settings, and all digits.
pub(crate) fn state(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".state");
    name.into()
}

#[derive(Serialize)]
struct Ranked<'a> {
    class: &'a str,
    index: usize,
    probability: f32,
}

#[derive(Serialize)]
struct Line<'a> {
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    predictions: Option<Vec<Ranked<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probabilities: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn failed(image: &'a str, error: &'a str) -> Self {
        let (predictions, probabilities, features) = (None, None, None);
        Self { image, predictions, probabilities, features, error: Some(error) }
    }
}

/// Writes all rows of a file as text: photos in their order, then what is no photo.
pub(crate) fn write(path: &Path, format: Format, rows: &ShardFile) -> Result<(), ScaleError> {
    let io = ScaleError::io(path);
    let file = BufWriter::new(File::create(path).map_err(&io)?);
    match format {
        Format::Csv => write_csv(file, rows).map_err(|error| match error {
            Failure::Rows(error) => error,
            Failure::Csv(error) => io(io::Error::other(error)),
        }),
        _ => write_lines(file, rows).map_err(|error| match error {
            Failure::Rows(error) => error,
            Failure::Csv(error) => io(error),
        }),
    }
}

/// What fails: the rows, or the text.
enum Failure<E> {
    Rows(ScaleError),
    Csv(E),
}

impl From<csv::Error> for Failure<csv::Error> {
    fn from(error: csv::Error) -> Self {
        Self::Csv(error)
    }
}

impl From<io::Error> for Failure<csv::Error> {
    fn from(error: io::Error) -> Self {
        Self::Csv(error.into())
    }
}

impl From<io::Error> for Failure<io::Error> {
    fn from(error: io::Error) -> Self {
        Self::Csv(error)
    }
}

/// The best classes of a row of numbers and probabilities.
fn ranked<'a>(rows: &'a ShardFile, values: &'a [f32]) -> impl Iterator<Item = Ranked<'a>> {
    values.as_chunks::<2>().0.iter().map(|&[class, probability]| {
        let index = class as usize;
        let class = rows.manifest().classes.get(index).map_or("", String::as_str);
        Ranked { class, index, probability }
    })
}

fn write_csv(file: BufWriter<File>, rows: &ShardFile) -> Result<(), Failure<csv::Error>> {
    let manifest = rows.manifest();
    let width = manifest.width();
    let mut writer = csv::Writer::from_writer(file);
    writer.write_field("image")?;
    match manifest.content {
        Content::Top(_) => {
            for rank in 1..=width / 2 {
                writer.write_field(format!("class_{rank}"))?;
                writer.write_field(format!("probability_{rank}"))?;
            }
        }
        Content::Probabilities => {
            manifest.classes.iter().try_for_each(|class| writer.write_field(class))?;
        }
        Content::Features => {
            (0..width).try_for_each(|number| writer.write_field(format!("feature_{number}")))?;
        }
    }
    writer.write_record(Some("error"))?;
    let failed = |writer: &mut csv::Writer<_>, path: &Path, reason: &str| {
        writer.write_field(path.as_os_str().as_encoded_bytes())?;
        (0..width).try_for_each(|_| writer.write_field(""))?;
        writer.write_record(Some(reason))
    };
    let (mut row, mut values) = (0, vec![0.0; width]);
    for entry in rows.entries() {
        if let Some(reason) = &entry.lost {
            failed(&mut writer, &entry.path, reason)?;
            continue;
        }
        rows.read(row, &mut values).map_err(Failure::Rows)?;
        row += 1;
        // As the file system has it, whatever its bytes are.
        writer.write_field(entry.path.as_os_str().as_encoded_bytes())?;
        match manifest.content {
            Content::Top(_) => {
                for Ranked { class, probability, .. } in ranked(rows, &values) {
                    writer.write_field(class)?;
                    writer.write_field(probability.to_string())?;
                }
            }
            _ => values.iter().try_for_each(|value| writer.write_field(value.to_string()))?,
        }
        writer.write_record(Some(""))?;
    }
    for other in rows.skipped() {
        failed(&mut writer, &other.path, &other.reason)?;
    }
    Ok(writer.flush()?)
}

fn write_lines(mut file: BufWriter<File>, rows: &ShardFile) -> Result<(), Failure<io::Error>> {
    let manifest = rows.manifest();
    let mut put = |line: &Line<'_>| -> io::Result<()> {
        serde_json::to_writer(&mut file, line)?;
        file.write_all(b"\n")
    };
    let (mut row, mut values) = (0, vec![0.0; manifest.width()]);
    for entry in rows.entries() {
        let image = entry.path.to_string_lossy();
        if let Some(reason) = &entry.lost {
            put(&Line::failed(&image, reason))?;
            continue;
        }
        rows.read(row, &mut values).map_err(Failure::Rows)?;
        row += 1;
        let (mut predictions, mut probabilities, mut features) = (None, None, None);
        match manifest.content {
            Content::Top(_) => predictions = Some(ranked(rows, &values).collect()),
            Content::Probabilities => probabilities = Some(values.as_slice()),
            Content::Features => features = Some(values.as_slice()),
        }
        put(&Line { image: &image, predictions, probabilities, features, error: None })?;
    }
    for other in rows.skipped() {
        put(&Line::failed(&other.path.to_string_lossy(), &other.reason))?;
    }
    Ok(file.flush()?)
}

/// Whether two files have the same bytes; not where the second is not there.
pub(crate) fn same(a: &Path, b: &Path) -> Result<bool, ScaleError> {
    let open = |path: &Path| File::open(path);
    let one = open(a).map_err(ScaleError::io(a))?;
    let other = match open(b) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(ScaleError::io(b))?,
    };
    let length = |file: &File| file.metadata().map(|data| data.len());
    if length(&one).map_err(ScaleError::io(a))? != length(&other).map_err(ScaleError::io(b))? {
        return Ok(false);
    }
    let (mut one, mut other) = (BufReader::new(one).bytes(), BufReader::new(other).bytes());
    loop {
        let (a, b) = match (one.next(), other.next()) {
            (None, None) => return Ok(true),
            (Some(one), Some(other)) => {
                (one.map_err(ScaleError::io(a))?, other.map_err(ScaleError::io(b))?)
            }
            _ => return Ok(false),
        };
        if a != b {
            return Ok(false);
        }
    }
}
