//! TensorFlow Lite's metadata, as Android's task library reads it (`metadata_schema.fbs`, file identifier `M001`): a buffer
//! `TFLITE_METADATA` that says how photos become the input, and files in a zip behind the model, the classes' names.

use std::io::{Cursor, Read};

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use rekindle_pixels::Linear;

use super::file::File;
use super::tables::{Tables, limits};
use super::write::Table;

/// The name of its buffer.
pub(super) const NAME: &str = "TFLITE_METADATA";
/// The classes' names in the zip.
pub(super) const LABELS: &str = "labels.txt";
/// The metadata's mark.
const IDENTIFIER: &str = "M001";
/// Its parts that are used are there since the first version.
const PARSER: &str = "1.0.0";

/// `AssociatedFileType`: one label for each place of the last axis.
const AXIS_LABELS: i8 = 2;
/// The same for values.
const VALUE_LABELS: i8 = 3;
/// `ProcessUnitOptions`: `(x - mean) / std`.
const NORMALIZATION: u8 = 1;
/// `ContentProperties`.
const FEATURES: u8 = 1;
const IMAGE: u8 = 2;
/// Labels of any classifier.
const LONGEST: u64 = 1 << 24;

/// What metadata says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Said {
    /// Mean and deviation of each channel, or one for all: what images become before the network takes them.
    pub normalization: Option<(Vec<f32>, Vec<f32>)>,
    /// The names of the classes.
    pub classes: Vec<String>,
}

/// What is to be said of a model.
pub(super) struct Facts<'a> {
    pub name: &'a str,
    pub description: &'a str,
    pub licence: &'a str,
    /// Names of the tensors.
    pub input: &'a str,
    pub output: &'a str,
    /// Height, width and channels of its images.
    pub image: [usize; 3],
    /// What is left to do to RGB from 0 to 255.
    pub linear: Linear,
    pub is_probability: bool,
    pub has_labels: bool,
}

/// The metadata of a model.
///
/// # Errors
/// When it has no words for how photos become the input.
pub(super) fn written(facts: &Facts<'_>) -> Result<Vec<u8>, String> {
    let Linear { source, scale, offset } = &facts.linear;
    if !source.iter().copied().eq(0..source.len()) {
        return Err("TensorFlow Lite's metadata has no words for channels in another order (BGR): write the model with its preprocessing inside".into());
    }
    // (x - mean) / std is x * scale + offset.
    let one = |values: Vec<f32>| match values.split_first() {
        Some((first, rest)) if rest.iter().all(|value| value == first) => vec![*first],
        _ => values,
    };
    let pairs = || scale.iter().zip(offset);
    let std = one(scale.iter().map(|scale| (1.0 / scale) as f32).collect());
    let mean = one(pairs().map(|(scale, offset)| (-offset / scale) as f32).collect());
    let least = one(offset.iter().map(|&offset| offset as f32).collect());
    let most = one(pairs().map(|(scale, offset)| (255.0 * scale + offset) as f32).collect());

    let mut builder = FlatBufferBuilder::new();
    let to = &mut builder;
    let [height, width, channels] = facts.image;
    let size = Table::new().unsigned(0, width as u32).unsigned(1, height as u32).end(to);
    let color = match channels {
        3 => 1,
        1 => 2,
        _ => 0,
    };
    let image = Table::new().byte(0, color).offset(1, size).end(to);
    let content = Table::new().union(0, IMAGE, 1, image).end(to);
    let (mean, std) = (to.create_vector(&mean), to.create_vector(&std));
    let normalization = Table::new().offset(0, mean).offset(1, std).end(to);
    let unit = Table::new().union(0, NORMALIZATION, 1, normalization).end(to);
    let units = to.create_vector(&[unit]);
    let (most, least) = (to.create_vector(&most), to.create_vector(&least));
    let stats = Table::new().offset(0, most).offset(1, least).end(to);
    let name = to.create_string(facts.input);
    let text = to.create_string("The photo that is to be classified.");
    let input = Table::new()
        .offset(0, name)
        .offset(1, text)
        .offset(3, content)
        .offset(4, units)
        .offset(5, stats)
        .end(to);

    let features = Table::new().end(to);
    let content = Table::new().union(0, FEATURES, 1, features).end(to);
    let mut output = Table::new().offset(3, content);
    if facts.is_probability {
        let (most, least) = (to.create_vector(&[1.0_f32]), to.create_vector(&[0.0_f32]));
        output = output.offset(5, Table::new().offset(0, most).offset(1, least).end(to));
    }
    if facts.has_labels {
        let name = to.create_string(LABELS);
        let text = to.create_string("The names of the classes, in the order of the outputs.");
        let labels = Table::new().offset(0, name).offset(1, text).byte(2, AXIS_LABELS).end(to);
        output = output.offset(6, to.create_vector(&[labels]));
    }
    let name = to.create_string(facts.output);
    let text = to.create_string(if facts.is_probability {
        "The probability of each class."
    } else {
        "What the network computes."
    });
    let output = output.offset(0, name).offset(1, text).end(to);

    let (inputs, outputs) = (to.create_vector(&[input]), to.create_vector(&[output]));
    let subgraph = Table::new().offset(2, inputs).offset(3, outputs).end(to);
    let subgraphs = to.create_vector(&[subgraph]);
    let mut model = Table::new().offset(3, subgraphs);
    for (field, text) in
        [(0, facts.name), (1, facts.description), (4, "Rekindle"), (5, facts.licence), (7, PARSER)]
    {
        if !text.is_empty() {
            model = model.offset(field, to.create_string(text));
        }
    }
    let model: WIPOffset<_> = model.end(to);
    builder.finish(model, Some(IDENTIFIER));
    Ok(builder.finished_data().to_vec())
}

/// What a file's metadata says.
///
/// # Errors
/// When it is damaged.
pub(super) fn read(file: &File) -> Result<Said, String> {
    let Some(bytes) = file.metadata(NAME) else { return Ok(Said::default()) };
    tables(file, bytes).map_err(|reason| format!("`{NAME}`: {reason}"))
}

fn tables(file: &File, bytes: &[u8]) -> Result<Said, String> {
    let limits = limits(bytes.len());
    let mut tables = Tables::new(bytes, &limits);
    let root = tables.root()?;
    let [_, _, _, subgraphs] = tables.fields(root)?;
    let subgraphs = tables.tables(subgraphs)?;
    let Some(&subgraph) = subgraphs.first() else { return Ok(Said::default()) };
    let [_, _, inputs, outputs] = tables.fields(subgraph)?;
    let mut said = Said::default();
    if let [input] = tables.tables(inputs)?[..] {
        let [_, _, _, _, units] = tables.fields(input)?;
        for unit in tables.tables(units)? {
            let [kind, options] = tables.fields(unit)?;
            let kind = tables.byte(kind)?;
            let Some(options) = options else { continue };
            if kind != NORMALIZATION {
                return Err(format!(
                    "the input is processed in a way (number {kind}) that is not for images"
                ));
            }
            let options = tables.follow(options)?;
            let [mean, std] = tables.fields(options)?;
            let (mean, std) = (tables.floats(mean)?, tables.floats(std)?);
            let is_number = |value: &f32| value.is_finite();
            if !mean.iter().chain(&std).all(is_number) || std.contains(&0.0) {
                return Err(format!("means {mean:?} and deviations {std:?} are no normalization"));
            }
            if said.normalization.is_some() {
                return Err("the input has two normalizations, expected one".into());
            }
            if !mean.is_empty() || !std.is_empty() {
                said.normalization = Some((mean, std));
            }
        }
    }
    if let [output] = tables.tables(outputs)?[..] {
        let [_, _, _, _, _, _, files] = tables.fields(output)?;
        for associated in tables.tables(files)? {
            let [name, _, kind, locale] = tables.fields(associated)?;
            let (name, kind) = (tables.text(name)?, tables.byte(kind)?.cast_signed());
            // Translations name the same classes.
            let is_other = !tables.text(locale)?.is_empty() && !said.classes.is_empty();
            if !matches!(kind, AXIS_LABELS | VALUE_LABELS) || is_other {
                continue;
            }
            said.classes = labels(file, &name)?;
        }
    }
    Ok(said)
}

/// The lines of a file in the zip behind the model.
fn labels(file: &File, name: &str) -> Result<Vec<String>, String> {
    let wrong = |error: String| format!("`{name}`, which it names, cannot be read: {error}");
    let archive = zip::ZipArchive::new(Cursor::new(&file.bytes[..]));
    let mut archive = archive.map_err(|error| wrong(error.to_string()))?;
    let entry = archive.by_name(name).map_err(|error| wrong(error.to_string()))?;
    let mut text = Vec::new();
    entry.take(LONGEST).read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
    let text = String::from_utf8(text).map_err(|error| wrong(error.to_string()))?;
    Ok(text.lines().map(str::to_owned).collect())
}
