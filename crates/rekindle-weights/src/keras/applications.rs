//! Every family against Keras's own: tests/golden/applications is written by tests/keras/applications.py.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use rekindle_nn::{Architecture, Base, Graph, Layer, Op, Size, Source};
use serde_json::Value;

use super::build::build;
use super::config::flatten;
use super::front::images;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/applications").join(name)
}

/// What `applications.json` says of a network.
fn known() -> BTreeMap<String, Value> {
    let bytes = std::fs::read(golden("applications.json")).expect("a golden file");
    let families: BTreeMap<String, Value> = serde_json::from_slice(&bytes).expect("JSON");
    let networks = families.into_values().flat_map(|family| {
        family["networks"]
            .as_array()
            .expect("a list")
            .clone()
            .into_iter()
            .map(|network| (network["key"].as_str().expect("a key").to_owned(), network))
    });
    networks.collect()
}

/// What the golden files call an architecture.
fn key(architecture: &Architecture) -> String {
    let mut key = architecture.name().to_owned();
    if let Some(alpha) = architecture.settings.alpha {
        key += &format!("-{alpha:?}");
    }
    if architecture.settings.minimalistic {
        key += "-minimalistic";
    }
    key
}

/// The architectures that Keras has weights of, and what is known of them.
fn all() -> Vec<(Architecture, Value)> {
    let mut known = known();
    let all = Architecture::all().into_iter().filter(|architecture| {
        // TF-Slim's networks have golden files of their own.
        architecture.family.source.starts_with("keras/")
            && (architecture.family.published)(&architecture.settings).is_some()
    });
    all.map(|architecture| {
        let key = key(&architecture);
        let found = known.remove(&key).unwrap_or_else(|| panic!("no golden file of {key}"));
        (architecture, found)
    })
    .collect()
}

/// Keras's network, read from its configuration; MobileNetV3's leaves the size of the images open.
fn keras_s(key: &str, size: Size) -> Graph {
    let file = std::fs::File::open(golden(&format!("{key}.json.gz"))).expect("a golden file");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("gzip");
    let config: Value = serde_json::from_str(&text).expect("JSON");
    let flat = flatten(&config, false).expect("reads");
    let shape = images(&flat, Some(size.pixels())).expect("reads").shape.expect("a size");
    build(&flat, shape, None).expect("builds").graph
}

#[test]
fn no_application_is_missing() {
    let all = all();
    let ours: Vec<&Value> = all.iter().map(|(_, known)| &known["key"]).collect();
    let missing: Vec<String> = known()
        .into_iter()
        .filter(|(_, known)| !ours.contains(&&known["key"]))
        .map(|(key, _)| key)
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The same layers, which the families add branch by branch, as Keras's configuration lists them.
fn in_keras_order(graph: &Graph) -> Graph {
    let order = graph.keras_order();
    let place = |source: Source| match source {
        Source::Input => Source::Input,
        Source::Layer(old) => {
            let new = order.iter().position(|&position| position == old);
            Source::Layer(new.expect("the output depends on every layer"))
        }
    };
    let layers = order.iter().map(|&position| {
        let Layer { name, op, inputs } = graph.layers()[position].clone();
        Layer { name, op, inputs: inputs.into_iter().map(place).collect() }
    });
    let (layers, output) = (layers.collect::<Vec<_>>(), place(graph.output()));
    let base = Base { layers: layers.len(), output, architecture: None };
    Graph::new(graph.input(), layers, output, base).expect("a graph")
}

/// Layer by layer: name, settings, and whose outputs it takes.
#[test]
fn every_application_is_keras_s() {
    for (architecture, _) in all() {
        let key = key(&architecture);
        let theirs = keras_s(&key, architecture.size());
        let ours = in_keras_order(&architecture.with_top(Some(1000)).graph().expect("builds"));
        for (ours, theirs) in ours.layers().iter().zip(theirs.layers()) {
            assert_eq!(ours, theirs, "{key}");
        }
        assert_eq!(ours.layers().len(), theirs.layers().len(), "{key}");
        assert_eq!(ours.output(), theirs.output(), "{key}");
        assert_eq!(ours.input(), theirs.input(), "{key}");
    }
}

/// Parameters with and without top, and which file holds them.
#[test]
fn counts_and_files_are_keras_s() {
    for (architecture, known) in all() {
        for (top, classes) in [("top", Some(1000)), ("no_top", None)] {
            let architecture = architecture.with_top(classes);
            let (key, known) = (key(&architecture), &known[top]);
            let parameters = architecture.graph().expect("builds").summary().parameters;
            assert_eq!(Some(parameters.total as u64), known["parameters"].as_u64(), "{key} {top}");
            assert_eq!(
                Some(parameters.trainable as u64),
                known["trainable"].as_u64(),
                "{key} {top}"
            );
            is_published(&architecture, known);
        }
        for file in known["files"].as_array().expect("a list") {
            let size = file["size"].as_u64().expect("a size") as usize;
            // Keras would ask for other sizes of MobileNetV2's two widest networks too, but there are no such files.
            if size != 224 && architecture.settings.alpha > Some(1.0) {
                continue;
            }
            let top = file["top"].as_bool().expect("a flag").then_some(1000);
            is_published(&architecture.with_size(size).with_top(top), file);
        }
    }
}

fn is_published(architecture: &Architecture, known: &Value) {
    let published = (architecture.family.published)(&architecture.settings).expect("published");
    let address = format!("/keras-applications/{}", published.address());
    let theirs = known["origin"].as_str().expect("an address");
    assert!(theirs.ends_with(&address), "{architecture}: {address} is not {theirs}");
    assert_eq!(published.hash, known["hash"].as_str(), "{architecture}");
    assert_eq!(Some(published.file.as_str()), known["file"].as_str(), "{architecture}");
}

/// A network that has layers of its own for photos' bytes takes them as they are.
#[test]
fn sizes_and_preprocessing_are_keras_s() {
    for (architecture, known) in all() {
        if let Some(size) = known["size"].as_u64() {
            assert_eq!(architecture.family.default_size as u64, size, "{architecture}");
        }
        let graph = architecture.graph().expect("builds");
        let begins = graph.layers().first().map(|layer| &layer.op);
        let takes_bytes = matches!(begins, Some(Op::Rescaling(_) | Op::Normalization(_)));
        assert_eq!(architecture.family.preprocessing == "none", takes_bytes, "{architecture}");
    }
}
