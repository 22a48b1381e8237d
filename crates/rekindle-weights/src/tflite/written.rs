//! What is written is read again with the same answer: every operation, every family, and networks that chance makes.
//!
//! With `REKINDLE_WRITE_TFLITE=FOLDER` the files stay there with inputs and answers, for `tests/keras/export_tflite.py`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use half::f16;
use prost::bytes::Bytes;
use rekindle_nn::{Network, Op};

use super::File;
use super::nodes::{constants, translated};
use crate::onnx::backend::network_of;
use crate::onnx::parsed;
use crate::onnx::written::cases::{cases, random};
use crate::onnx::written::{Case, Folder, answer, loaded};
use crate::{ExportOptions, variables_to_save};

/// Where files stay if somebody asks for them.
pub(super) const KEPT: &str = "REKINDLE_WRITE_TFLITE";

/// The same file without what only Rekindle knows.
pub(super) fn anonymous(path: &Path) -> PathBuf {
    let mut bytes = std::fs::read(path).expect("reads");
    let own = b"rekindle";
    for at in 0..bytes.len() - own.len() {
        if bytes[at..].starts_with(own) {
            bytes[at..at + own.len()].copy_from_slice(b"somebody");
        }
    }
    let other = path.with_extension("anonymous.tflite");
    std::fs::write(&other, bytes).expect("writes");
    other
}

/// The network that a file's operators are.
fn by_operators(bytes: Vec<u8>) -> Result<Network<Flex>, String> {
    let file = File::new(Bytes::from(bytes))?;
    let (constants, _) = constants(&file)?;
    let nodes = translated(&file, &constants, false)?;
    let (mut graph, _) = parsed(Path::new("model.tflite"), nodes.model)?;
    graph.is_channels_last(nodes.labels);
    network_of(&graph)
}

/// Sees that a file is read as the model that it was written of, to the bit; kernels of halves as halves.
fn is_the_same(case: &Case, path: &Path, half: bool) {
    let (card, network) = loaded(path);
    assert_eq!(card, case.card, "{}", case.name);
    let (tensors, values) = variables_to_save(&network);
    let (_, expected) = variables_to_save(&case.network);
    for ((info, values), expected) in tensors.iter().zip(values).zip(expected) {
        let is_half = half && info.variable.ends_with("kernel");
        let own = expected.iter().map(|&value| match is_half {
            true => f16::from_f32(value).to_f32(),
            false => value,
        });
        // Nothing depends on how many values a Normalization has seen.
        assert!(values.iter().copied().eq(own), "{}: {}", case.name, info.path());
    }
}

/// Sees that a model is written as halves, and read as these.
fn is_written_in_halves(case: &Case, path: &Path) {
    let path = path.with_extension("half.tflite");
    let options = ExportOptions { half: true, ..ExportOptions::default() };
    case.export(&path, options).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    is_the_same(case, &path, true);
}

#[test]
fn every_operation_is_written_and_read() {
    let folder = Folder::new(KEPT);
    let mut seen = BTreeSet::new();
    let (mut by_nodes, mut refused) = (0, BTreeMap::<String, usize>::new());
    let mut worst = 0.0_f32;
    for (place, (name, graph)) in cases().into_iter().chain(random()).enumerate() {
        seen.extend(graph.layers().iter().map(|layer| layer.op.name()));
        let case = Case::of_ops(name, graph);
        let path = folder.path.join(format!("op_{place}.tflite"));
        case.export(&path, ExportOptions::default())
            .unwrap_or_else(|error| panic!("{}: {error}", case.name));
        is_the_same(&case, &path, false);
        if !case.name.starts_with("random") {
            is_written_in_halves(&case, &path);
        }
        let bytes = std::fs::read(&path).expect("reads");
        match by_operators(bytes) {
            Ok(network) => {
                let off = case.off(&answer(&network, "none", &case.images));
                worst = worst.max(off);
                assert!(off <= 1e-5, "{}: by its operators {off:e}", case.name);
                by_nodes += 1;
            }
            Err(reason) => {
                assert!(reason.starts_with("operator "), "{}: {reason}", case.name);
                *refused.entry(reason).or_default() += 1;
            }
        }
        if folder.is_kept() {
            case.keep(&path, false);
        }
    }
    println!("{by_nodes} are read by their operators, at most {worst:e} off; others are refused:");
    refused.iter().for_each(|(reason, count)| println!("{count} {reason}"));
    let missing: Vec<_> = Op::NAMES.iter().filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty(), "operations without a case: {missing:?}");
}

/// Sees that a family's network is written and read; the names of those that are not known by their operators go to `unknown`.
pub(crate) fn family(case: &Case, unknown: &mut Vec<String>) {
    let folder = Folder::new(KEPT);
    let path = folder.path.join(format!("{}.tflite", case.name));
    case.export(&path, ExportOptions::default()).expect("writes");
    is_the_same(case, &path, false);
    let other = anonymous(&path);
    let (card, network) = loaded(&other);
    let off = case.off(&answer(&network, &card.preprocessing, &case.images));
    let found = card.architecture();
    println!("{}: by its operators {off:e}, {:?}", case.name, found.map(|known| known.to_string()));
    assert!(off <= 1e-5, "{}: by its operators {off:e}", case.name);
    assert_eq!(card.classes, case.card.classes, "{}", case.name);
    if found.map(|known| known.family.name) != Some(case.name.as_str()) {
        unknown.push(case.name.clone());
    }
    std::fs::remove_file(other).expect("removes");
    is_written_in_halves(case, &path);
    if folder.is_kept() {
        case.keep(&path, false);
    }
}
