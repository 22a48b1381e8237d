//! Models as Keras reads them: `.keras`, a whole `.h5`, and weights alone.
//!
//! `plain.rs` makes of the graph one whose every operation is a layer of Keras, `config.rs` writes that down by the
//! operations' own configurations, `hdf5.rs` the weights in Keras's two layouts. Weights alone are those of the graph as it
//! is: they go into a network that somebody else builds.

mod config;
mod functions;
mod hdf5;
mod plain;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use rekindle_nn::Graph;
use serde_json::json;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use self::hdf5::Entry;
use self::plain::{Dialect, Plain, plain};
use super::Exported;
use crate::record::{self, Record};
use crate::{WeightsError, write_atomic};

/// The Keras whose archive is written.
const KERAS: &str = "3.15.1";
/// The Keras whose HDF5 is written.
const OLD_KERAS: &str = "2.15.0";
/// There is no clock in a file: the same model is the same bytes.
const DATE: &str = "1980-01-01@00:00:00";

/// Writes Keras 3's archive.
pub(super) fn archive(path: &Path, model: Exported, record: Record) -> Result<(), WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let name = model_name(&model.card.graph);
    let (parts, record) = whole(model, record, Dialect::Keras3).map_err(wrong)?;
    let metadata = json!({ "keras_version": KERAS, "date_saved": DATE, record::NAME: record });
    let config = config::model(&parts.graph, &name, &parts.input, Dialect::Keras3);
    write_atomic(path, |temporary| {
        let io = |error: std::io::Error| WeightsError::io(path, error);
        let zip_error = |error: zip::result::ZipError| match error {
            zip::result::ZipError::Io(error) => WeightsError::io(path, error),
            other => WeightsError::format(path, format!("cannot be written: {other}")),
        };
        let mut archive = ZipWriter::new(BufWriter::new(File::create(temporary).map_err(io)?));
        // Keras stores: weights do not shrink, and can then be read where they are.
        let stored = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default());
        let texts = [("metadata.json", metadata.to_string()), ("config.json", config.to_string())];
        for (member, text) in texts {
            archive.start_file(member, stored).map_err(zip_error)?;
            archive.write_all(text.as_bytes()).map_err(io)?;
        }
        let is_large = parts.bytes > u64::from(u32::MAX) / 2;
        archive.start_file("model.weights.h5", stored.large_file(is_large)).map_err(zip_error)?;
        hdf5::numbered(&name, parts.entries, &mut archive)
            .map_err(|error| hdf5_error(path, error))?;
        archive.finish().map_err(zip_error)?.flush().map_err(io)
    })
}

/// Writes a whole model as HDF5, for Keras 3 and Keras 2.
pub(super) fn whole_hdf5(path: &Path, model: Exported, record: Record) -> Result<(), WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let name = model_name(&model.card.graph);
    let (parts, record) = whole(model, record, Dialect::Both).map_err(wrong)?;
    let record = record.text().map_err(wrong)?;
    let config = config::model(&parts.graph, &name, &parts.input, Dialect::Both);
    written(path, |file| {
        let texts = vec![(record::NAME, record)];
        hdf5::legacy(parts.entries, Some(config.to_string()), texts, file)
    })
}

/// Writes the weights alone: in Keras 3's layout where the name ends in `.weights.h5`, or else as Keras 2 did, and as Keras's
/// published weights are.
pub(super) fn weights(path: &Path, model: Exported) -> Result<(), WeightsError> {
    let wrong = |reason: String| WeightsError::format(path, reason);
    let graph = &model.card.graph;
    let own: Vec<&str> = graph.layers().iter().map(|layer| layer.name.as_str()).collect();
    let names = plain::written_names(&own);
    let input = input_name(&names);
    let entries = hdf5::entries(graph, &input, &names, model.variables).map_err(wrong)?;
    let entries = in_models(graph, entries);
    let name = model_name(graph);
    written(path, |file| {
        if is_numbered(path) {
            hdf5::numbered(&name, entries, file)
        } else {
            hdf5::legacy(entries, None, Vec::new(), file)
        }
    })
}

/// Whether a path's name is Keras 3's for weights alone.
pub(super) fn is_numbered(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase());
    name.is_some_and(|name| name.ends_with(".weights.h5"))
}

fn written(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), hdf5_pure::Error>,
) -> Result<(), WeightsError> {
    write_atomic(path, |temporary| {
        let io = |error| WeightsError::io(path, error);
        let mut file = BufWriter::new(File::create(temporary).map_err(io)?);
        write(&mut file).map_err(|error| hdf5_error(path, error))?;
        file.flush().map_err(io)
    })
}

fn hdf5_error(path: &Path, error: hdf5_pure::Error) -> WeightsError {
    match error {
        hdf5_pure::Error::Io(error) => WeightsError::io(path, error),
        other => WeightsError::format(path, format!("cannot be written as HDF5: {other}")),
    }
}

/// What a whole model's file is made of.
struct Parts {
    graph: Graph,
    /// The name of Keras's InputLayer.
    input: String,
    entries: Vec<Entry>,
    /// How large the values are.
    bytes: u64,
}

/// A model in Keras's layers, and its record.
fn whole(model: Exported, record: Record, dialect: Dialect) -> Result<(Parts, Record), String> {
    let Plain { graph, variables, names } = plain(model, dialect)?;
    let record = record.with_names(names, &graph);
    let written: Vec<String> = graph.layers().iter().map(|layer| layer.name.clone()).collect();
    let input = input_name(&written);
    let count: u64 = variables.values().map(|(_, values)| values.len() as u64).sum();
    let entries = hdf5::entries(&graph, &input, &written, variables)?;
    Ok((Parts { graph, input, entries, bytes: 4 * count }, record))
}

/// A name for Keras's InputLayer that no layer has.
fn input_name(names: &[String]) -> String {
    let mut used = names.iter().cloned().collect();
    crate::recognise::unique("input_layer", &mut used)
}

/// What the model is called: as its network is, in letters that TensorFlow takes.
fn model_name(graph: &Graph) -> String {
    graph.base().architecture.map_or("model", |known| known.name()).replace('-', "_")
}

/// The layers of weights alone, where Keras has some of them in models in the model.
fn in_models(graph: &Graph, entries: Vec<Entry>) -> Vec<Entry> {
    let Some(architecture) = graph.base().architecture else { return entries };
    let mut grouped: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(model) = architecture.family.model_of(&entry.name) else {
            grouped.push(entry);
            continue;
        };
        match grouped.last_mut() {
            Some(last) if last.name == model => last.inner.push(entry),
            _ => grouped.push(Entry {
                name: model,
                class: "Sequential",
                variables: Vec::new(),
                inner: vec![entry],
            }),
        }
    }
    grouped
}
