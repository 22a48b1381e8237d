//! Files in every layout that Keras and its exporters write give what Keras gave.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use burn::backend::{Autodiff, Flex};
use image::RgbImage;
use rekindle::prelude::*;
use rekindle::weights::{Checkpoint, Dtype, ModelCard, load, load_partial, save};
use rekindle_tests::{Golden, picture, repository};
use tempfile::TempDir;

/// Unpacks a file of `tests/golden/checkpoints`.
fn unpack(name: &str, folder: &TempDir) -> PathBuf {
    let packed =
        std::fs::File::open(repository("tests/golden/checkpoints").join(format!("{name}.gz")));
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed.expect("a golden file"))
        .read_to_end(&mut bytes)
        .expect("gzip");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("writes");
    path
}

fn size(name: &str) -> usize {
    match name {
        "mobilenet_v2_keras3_flatten.onnx" => 64,
        // The smallest that Keras 2.0 takes.
        _ if name.starts_with("old_2.0.8_inception") => 139,
        _ if name.starts_with("inception") => 75,
        _ => 32,
    }
}

/// The golden pictures as images.
fn pictures(size: usize) -> Vec<RgbImage> {
    let picture = |number| {
        let values = picture(&format!("image/{size}/{number}"), size);
        let bytes = values.into_iter().map(|value| value as u8).collect();
        RgbImage::from_raw(size as u32, size as u32, bytes).expect("three bytes a pixel")
    };
    (0..2).map(picture).collect()
}

/// The largest difference from Keras's probabilities.
fn difference(model: &TrainedModel<Flex>, golden: &[f32], size: usize) -> f32 {
    let predictions = pictures(size)
        .into_iter()
        .flat_map(|image| model.predict_image(&image).expect("predicts").probabilities().to_vec());
    let ours: Vec<f32> = predictions.collect();
    assert_eq!(ours.len(), golden.len());
    ours.iter().zip(golden).fold(0.0, |most, (a, b)| f32::max(most, (a - b).abs()))
}

/// Each file of `tests/golden/checkpoints`, and Keras's probabilities for both pictures.
fn all_cases() -> Vec<(String, Vec<f32>)> {
    let (golden, names) = all_names();
    let mut cases: Vec<(String, Vec<f32>)> =
        names.into_iter().map(|name| (name.clone(), golden.values(&name).to_vec())).collect();
    for version in ["2.0.8", "2.2.4", "2.3.0", "2.12.0", "2.14.0"] {
        let path = repository("tests/golden/checkpoints").join(format!("old_{version}.json"));
        let text = std::fs::read_to_string(path).expect("a golden file");
        let old: std::collections::BTreeMap<String, Vec<Vec<f32>>> =
            serde_json::from_str(&text).expect("outputs by name");
        cases.extend(old.into_iter().map(|(name, outputs)| (name, outputs.concat())));
    }
    cases
}

fn all_names() -> (Golden, Vec<String>) {
    let golden = Golden::open("checkpoints/outputs.safetensors");
    let names = serde_json::from_str(&golden.metadata["cases"]).expect("a list of names");
    (golden, names)
}

#[test]
fn every_layout_predicts_as_keras_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = all_cases();
    assert_eq!(cases.len(), 36);
    let mut worst: HashMap<String, f32> = HashMap::new();
    for (name, golden) in cases {
        let path = unpack(&name, &folder);
        let model = TrainedModel::<Flex>::load(&path, &Default::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        // Files of weights do not say which images they are for.
        let model = model.with_size(size(&name)).expect("a size that the network takes");
        let difference = difference(&model, &golden, size(&name));
        assert!(difference <= 1e-5, "{name}: {difference:e} from Keras");
        // Saved as ours it predicts the same.
        let saved = folder.path().join("saved.rekindle");
        model.save(&saved).expect("saves");
        let again = TrainedModel::<Flex>::load(&saved, &Default::default()).expect("loads");
        let image = &pictures(size(&name))[0];
        let (a, b) = (model.predict_image(image), again.predict_image(image));
        assert_eq!(a.expect("predicts"), b.expect("predicts"), "{name}");
        std::fs::remove_file(path).expect("removes");
        worst.insert(name, difference);
    }
    println!("{worst:?}");
}

#[test]
fn backbones_start_from_every_layout() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in [
        "mobilenet_v2_keras2_weights.h5",
        "mobilenet_v2_keras3.weights.h5",
        "mobilenet_v2_keras3_tutorial.keras",
        "mobilenet_v2_keras3_inlined.h5",
        "mobilenet_v2_keras2.onnx",
    ] {
        let weights = Weights::File(unpack(name, &folder));
        let architecture = Architecture::from(MobileNetV2Config::new());
        let device = Default::default();
        let backbone = weights.backbone::<Flex>(architecture, Some(64), &device).expect(name);
        // The file's own width, not the one that was asked for.
        let found = backbone.architecture().expect("a known network");
        assert_eq!(found.to_string(), "mobilenet-v2 0.35, 64 x 64, no top", "{name}");
        let wrong = Architecture::from(InceptionV3Config::new());
        let error = weights.backbone::<Flex>(wrong, None, &device).expect_err("another network");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("expected inception-v3"), "{text}");
    }
}

#[test]
fn cards_say_what_the_files_hold() {
    let folder = tempfile::tempdir().expect("a folder");
    let card = |name: &str| -> ModelCard {
        let checkpoint = Checkpoint::open(unpack(name, &folder)).expect(name);
        let resolved = checkpoint.resolve().expect(name);
        resolved.card().expect(name).clone()
    };
    let tutorial = card("mobilenet_v2_keras2_tutorial.keras");
    assert_eq!((tutorial.preprocessing.as_str(), tutorial.graph.classes()), ("tf", Some(2)));
    assert!(tutorial.assumed.iter().any(|said| said.contains("a sigmoid was added")));
    let inlined = card("mobilenet_v2_keras3_inlined.h5");
    // The softmax is a layer of its own, as in the file.
    assert_eq!(inlined.graph.head().len(), 11);
    assert!(!inlined.folded);
    assert!(card("mobilenet_v2_keras3_tutorial.onnx").folded);
    assert!(card("inception_v3_keras3.onnx").folded);
    let weights = card("inception_v3_keras2_weights.h5");
    let architecture = weights.architecture().expect("a known network").to_string();
    assert_eq!(architecture, "inception-v3, 299 x 299, no top");
    assert_eq!(weights.graph.classes(), Some(5));
    assert!(!weights.assumed.is_empty(), "weights say nothing of what stands between them");
}

/// A checkpoint's variables, under the network's names.
fn values(path: &Path) -> HashMap<String, Vec<f32>> {
    let checkpoint = Checkpoint::open(path).expect("opens");
    let mut checkpoint = checkpoint.resolve().expect("resolves");
    let paths: Vec<String> = checkpoint.tensors().iter().map(|tensor| tensor.path()).collect();
    let read = paths.into_iter().enumerate();
    read.map(|(index, path)| (path, checkpoint.read(index).expect("reads"))).collect()
}

#[test]
fn names_of_any_session_are_matched_by_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let by_name = values(&unpack("inception_v3_keras3_sequential.h5", &folder));
    // Its convolutions are conv2d_3 to conv2d_96; the class of each variable has the same table.
    let path = unpack("inception_v3_keras2_weights.h5", &folder);
    let raw = Checkpoint::open(&path).expect("opens");
    let layers: Vec<&str> = raw.tensors().iter().map(|tensor| tensor.layer.as_str()).collect();
    assert!(layers.contains(&"conv2d_96") && !layers.contains(&"conv2d_2"), "{layers:?}");
    let by_order = values(&path);
    let family = Architecture::from(InceptionV3Config::new()).graph().expect("valid");
    let mut compared = 0;
    for (path, values) in &by_name {
        // The heads are other ones.
        if path.rsplit_once('/').is_some_and(|(layer, _)| family.position(layer).is_ok()) {
            assert!(by_order.get(path) == Some(values), "{path}");
            compared += 1;
        }
    }
    assert_eq!(compared, 94 * 4);
}

#[test]
fn sharded_safetensors_are_one_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = unpack("mobilenet_v2_keras3.weights.h5", &folder);
    let mut whole = Checkpoint::open(&path).expect("opens").resolve().expect("known");
    let card = whole.card().expect("known").clone();
    let names: Vec<String> = whole.tensors().iter().map(|tensor| tensor.path()).collect();
    let mut map = serde_json::Map::new();
    for (shard, file) in ["a.safetensors", "b.safetensors"].iter().enumerate() {
        let indices: Vec<usize> = (0..names.len()).filter(|index| index % 2 == shard).collect();
        let mut tensors: Vec<_> = indices.iter().map(|&i| whole.tensors()[i].clone()).collect();
        tensors.iter_mut().for_each(|tensor| tensor.dtype = Dtype::F32);
        let target = folder.path().join(file);
        save(&target, &card, &tensors, &mut |index| whole.read(indices[index])).expect("saves");
        for index in indices {
            map.insert(names[index].clone(), (*file).into());
        }
    }
    let index = folder.path().join("model.safetensors.index.json");
    let write = |map: &serde_json::Map<String, serde_json::Value>| {
        let json = serde_json::json!({"metadata": {}, "weight_map": map});
        std::fs::write(&index, json.to_string()).expect("writes");
    };
    write(&map);
    let device = Default::default();
    let mut shards = Checkpoint::open(&index).expect("opens").resolve().expect("known");
    let network = Network::<Flex>::init(card.graph, 0, &device);
    let expected = network.variables().len();
    let loaded = load(network, "mobilenet-v2", &mut shards).expect("every variable is there");
    assert_eq!((loaded.unused.len(), shards.tensors().len()), (0, expected));

    let wrong = [
        ("Conv1/kernel", "../a.safetensors", "expected a file in its own folder"),
        ("Conv1/kernel", "/etc/passwd", "expected a file in its own folder"),
        ("Conv9/kernel", "a.safetensors", "but it does not"),
        ("Conv1/kernel", "c.safetensors", "c.safetensors"),
    ];
    for (name, file, message) in wrong {
        let mut map = map.clone();
        map.insert(name.into(), file.into());
        write(&map);
        let error = Checkpoint::open(&index).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let folder = tempfile::tempdir().expect("a folder");
    let device = Default::default();
    let mut flipped = 0;
    for name in [
        "mobilenet_v2_keras2_weights.h5",
        "mobilenet_v2_keras3.weights.h5",
        "mobilenet_v2_keras3_tutorial.keras",
        "mobilenet_v2_keras2.onnx",
    ] {
        let bytes = std::fs::read(unpack(name, &folder)).expect("reads");
        let path = folder.path().join(format!("damaged_{name}"));
        let attempt = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("writes");
            TrainedModel::<Flex>::load(&path, &device)
        };
        for part in [0, 1, 7, 8, 9, 100, 5000] {
            let cut = bytes.len() * part / 5001;
            let error = attempt(&bytes[..cut.max(part.min(9))]).expect_err("a part of a file");
            assert!(error.to_string().contains("damaged_"), "{name}: {error}");
        }
        // Where a flipped bit is in a weight, the file is as good as another; elsewhere it is an error.
        for index in 0..60_usize {
            let mut bytes = bytes.clone();
            // Many near the start and the end, where the headers are.
            let at = match index % 3 {
                0 => index * 37 % 4096,
                1 => bytes.len() - 1 - index * 53 % 8192,
                _ => index * 15_485_863 % bytes.len(),
            };
            bytes[at] ^= 1 << (index % 8);
            if let Err(error) = attempt(&bytes) {
                flipped += 1;
                assert!(error.to_string().contains("damaged_"), "{name}, byte {at}: {error}");
            }
        }
    }
    assert!(flipped > 20, "{flipped} of 240 flipped bits were noticed");
}

#[test]
fn models_that_are_not_supported_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = unpack("mobilenet_v2_keras3_tutorial.keras", &folder);
    let mut archive =
        zip::ZipArchive::new(std::fs::File::open(&path).expect("opens")).expect("a zip");
    let mut config = String::new();
    archive.by_name("config.json").expect("there").read_to_string(&mut config).expect("reads");
    let mut weights = Vec::new();
    archive.by_name("model.weights.h5").expect("there").read_to_end(&mut weights).expect("reads");
    let write = |config: &str, deflated: bool| {
        let mut target = zip::ZipWriter::new(std::fs::File::create(&path).expect("creates"));
        let method = match deflated {
            true => zip::CompressionMethod::Deflated,
            false => zip::CompressionMethod::Stored,
        };
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        for (name, bytes) in [("config.json", config.as_bytes()), ("model.weights.h5", &weights)] {
            target.start_file(name, options).expect("starts");
            std::io::Write::write_all(&mut target, bytes).expect("writes");
        }
        target.finish().expect("finishes");
    };
    let device = Default::default();
    let attempt = || TrainedModel::<Flex>::load(&path, &device);
    for (old, new, message) in [
        (
            "\"GlobalAveragePooling2D\"",
            "\"SpatialDropout2D\"",
            "(SpatialDropout2D): `keepdims` is false, expected only settings that Rekindle knows",
        ),
        ("\"TrueDivide\"", "\"Lambda\"", "(Lambda) is not supported"),
        ("\"strides\": [2, 2]", "\"strides\": [0, 2]", "`strides` is [0,2], expected"),
        ("\"Conv2D\"", "\"SeparableConv2D\"", "layer `Conv1` (SeparableConv2D)"),
        ("\"units\": 1,", "\"units\": 7,", "of shape [1280, 1], expected [1280, 7]"),
    ] {
        let changed = config.replace(old, new);
        assert_ne!(changed, config, "{old}");
        write(&changed, false);
        let error = attempt().expect_err(message).to_string();
        assert!(error.contains(message) && error.contains("tutorial.keras"), "{error}");
    }
    // These weights are periodic: 1.6 MB in 80 kB, as no trained network's are.
    write(&config, true);
    let error = attempt().expect_err("a bomb").to_string();
    assert!(error.contains("more than 20 times"), "{error}");
}

#[test]
fn a_keras_classifier_is_trained_further() {
    let folder = tempfile::tempdir().expect("a folder");
    let device = Default::default();
    for name in ["mobilenet_v2_keras3_sequential.keras", "mobilenet_v2_keras3_inlined.keras"] {
        let model = TrainedModel::<Flex>::load(unpack(name, &folder), &device).expect("loads");
        assert!(model.clone().with_classes(vec!["one".into()]).is_err());
        let all = ImageFolder::open(repository("demo/photos")).expect("the demo photos");
        let count = model.classes().len();
        let names: Vec<String> = all.classes()[1..=count].iter().rev().cloned().collect();
        let model = model.with_classes(names.clone()).expect("a name for each");
        let learner = || TransferLearner::<Autodiff<Flex>>::from_trained(&model).observer(());
        let error = learner().data(all).fit().expect_err("another class").to_string();
        assert!(error.contains("birds"), "{error}");

        // Its classes, in another order than the folder's.
        let few = folder.path().join(format!("photos of {name}"));
        for class in &names {
            std::fs::create_dir_all(few.join(class)).expect("creates");
            let photos = std::fs::read_dir(repository("demo/photos").join(class)).expect("lists");
            for file in photos.take(8) {
                let file = file.expect("lists");
                std::fs::copy(file.path(), few.join(class).join(file.file_name())).expect("copies");
            }
        }
        let photos = ImageFolder::open(&few).expect("its classes").valid_split(0.0);
        let before = model.evaluate(&photos).expect("evaluates");
        // Small batches, so that the head's moving statistics have steps to follow in.
        let trained = learner().data(photos.clone()).epochs(30).batch_size(8).fit().expect("fits");
        assert_eq!(trained.classes(), names);
        let after = trained.evaluate(&photos).expect("evaluates");
        assert!(after.loss < 0.95 * before.loss, "{name}: {after} after {before}");
        // The network is as it was.
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        model.save(&old).expect("saves");
        trained.save(&new).expect("saves");
        let card = Checkpoint::open(&old).expect("opens").card().expect("ours").clone();
        let head: Vec<String> =
            card.graph.head().iter().map(|layer| format!("{}/", layer.name)).collect();
        let (old, new) = (values(&old), values(&new));
        for (path, values) in &old {
            // All of the head learns, its normalization's statistics too.
            let is_head = head.iter().any(|layer| path.starts_with(layer));
            assert_eq!(new[path] != *values, is_head, "{path}");
        }
    }
}

#[test]
fn bad_files_are_errors_that_name_the_object() {
    let folder = tempfile::tempdir().expect("a folder");
    let device = Default::default();
    for (name, message) in [
        (
            "bad_missing_layer.h5",
            "1 of the 260 variables of mobilenet-v2 0.35, 224 x 224, no top are missing, first `block_5_project/kernel`",
        ),
        ("bad_nan.h5", "`block_5_project_BN/gamma` holds NaN at position 3"),
        ("bad_cyclic.weights.h5", "damaged"),
        ("bad_absurd.h5", "`Conv1/kernel`: a shape of [1099511627776, 1048576, 8] is more than"),
        ("bad_cyclic.onnx", "is made of itself: the file is damaged"),
        ("bad_cyclic_concat.onnx", "is made of itself: the file is damaged"),
        ("bad_cyclic_join.onnx", "is made of itself: the file is damaged"),
        ("bad_cyclic_dense.onnx", "is made of itself: the file is damaged"),
        ("bad_cyclic_bias.onnx", "is made of itself: the file is damaged"),
        (
            "bad_external.onnx",
            "external data in `../../etc/passwd`, expected a file in the model's folder",
        ),
        ("bad_absurd.onnx", "is more than a file can hold"),
    ] {
        let path = unpack(name, &folder);
        let weights = Weights::File(path.clone());
        let architecture = Architecture::from(MobileNetV2Config::new().with_alpha(0.35));
        let error = weights.backbone::<Flex>(architecture, None, &device).expect_err(message);
        let text = error.to_string();
        assert!(text.contains(message) && text.contains(name), "{text}");
    }
    // What is not asked for is reported, and no reason to stop.
    let path = unpack("bad_extra_layer.h5", &folder);
    let mut checkpoint = Checkpoint::open(path).expect("opens").resolve().expect("resolves");
    let graph = checkpoint.card().expect("known").graph.clone();
    let network = Network::<Flex>::init(graph.clone(), 0, &device);
    let loaded = load(network, "mobilenet-v2", &mut checkpoint).expect("loads");
    assert_eq!(loaded.unused, ["extra/kernel"]);
    assert!(loaded.missing.is_empty());
    // What is missing is left as it is, if asked.
    let path = unpack("bad_missing_layer.h5", &folder);
    let mut checkpoint = Checkpoint::open(path).expect("opens");
    let network = Network::<Flex>::init(graph, 0, &device);
    let loaded = load_partial(network, &mut checkpoint).expect("loads the rest");
    assert_eq!(loaded.missing, ["block_5_project/kernel"]);
}

#[test]
fn weights_beside_an_onnx_file_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, data) = (unpack("external.onnx", &folder), unpack("external.bin", &folder));
    let model = TrainedModel::<Flex>::load(&path, &Default::default()).expect("loads");
    let golden = Golden::open("checkpoints/outputs.safetensors");
    let difference = difference(&model, golden.values("mobilenet_v2_keras2.onnx"), 32);
    assert!(difference <= 1e-5, "{difference:e} from Keras");
    let bytes = std::fs::read(&data).expect("reads");
    std::fs::write(&data, &bytes[..bytes.len() / 2]).expect("writes");
    let error = Checkpoint::open(&path).expect_err("half of it is missing").to_string();
    assert!(error.contains("external.bin: found") && error.contains("from byte"), "{error}");
    std::fs::remove_file(&data).expect("removes");
    let error = Checkpoint::open(&path).expect_err("all of it is missing").to_string();
    assert!(error.contains("external.bin"), "{error}");
}

/// What an exporter has folded trains on in the convolutions and their biases, which are the normalizations' betas here.
#[test]
fn a_folded_network_can_be_fine_tuned() {
    let folder = tempfile::tempdir().expect("a folder");
    let weights = Weights::File(unpack("mobilenet_v2_keras3.onnx", &folder));
    let architecture = Architecture::from(MobileNetV2Config::new());
    let device = Default::default();
    let base = weights.backbone::<Autodiff<Flex>>(architecture, Some(32), &device).expect("loads");
    let before = rekindle::nn::read(&base);
    let photos = ImageFolder::open(repository("demo/photos")).expect("the demo photos");
    let learner = TransferLearner::new(base.clone()).data(photos).epochs(3).unfreeze_last(12);
    let trained = learner.observer(()).fit().expect("fits");
    let epochs = &trained.history().epochs;
    assert!(epochs[2].loss < epochs[0].loss, "{}", trained.history());
    let after = rekindle::nn::read(trained.model());
    for (layer, name) in
        [("Conv_1", "kernel"), ("Conv_1_bn", "beta"), ("block_16_project", "kernel")]
    {
        let mut all = base.variables().into_iter();
        let variable = all.find(|v| v.layer == layer && v.spec.name == name).expect("a variable");
        assert_ne!(before[&variable.id], after[&variable.id], "{layer}/{name}");
    }
}

/// Keras counts what a Normalization was adapted to in whole numbers of 64 bits; a grey photo is Pillow's, at a height and a
/// width of its own (`tests/keras/small_models.py`).
#[test]
fn small_models_of_users_predict_as_keras_does() {
    for (name, keras) in [
        ("counted.keras", [0.395_901_17, 0.265_796_3, 0.338_302_6]),
        ("grey.keras", [0.294_859_35, 0.345_033_05, 0.360_107_63]),
    ] {
        let cases = repository("tests/golden/cases");
        let model = TrainedModel::<Flex>::load(cases.join(name), &Default::default());
        let found = model.expect("loads").predict(cases.join("photo96.png")).expect("predicts");
        for (ours, keras) in found.probabilities().iter().zip(keras) {
            assert!((ours - keras).abs() < 1e-6, "{name}: {ours} {keras}");
        }
    }
}

/// Where a model names no classes folders are taken in Keras's order, and there have to be as many as outputs.
#[test]
fn unnamed_classes_are_folders_in_keras_s_order() {
    let cases = repository("tests/golden/cases");
    let model = TrainedModel::<Flex>::load(cases.join("counted.keras"), &Default::default());
    let model = model.expect("loads");
    assert!(!model.is_named());
    let folder = tempfile::tempdir().expect("a folder");
    for class in ["0", "1", "10", "2"] {
        let to = folder.path().join(class);
        std::fs::create_dir(&to).expect("creates");
        std::fs::copy(cases.join("photo96.png"), to.join("a.png")).expect("copies");
    }
    let photos = ImageFolder::labelled(folder.path()).expect("opens");
    let error = model.evaluate(&photos).expect_err("four classes").to_string();
    assert!(error.contains("has 4 classes, and the model 3"), "{error}");
    std::fs::remove_dir_all(folder.path().join("0")).expect("removes");
    let photos = ImageFolder::labelled(folder.path()).expect("opens");
    let evaluation = model.evaluate(&photos).expect("evaluates");
    // `1` is the first of `1`, `10`, `2`, and the first output is the highest.
    let right: Vec<bool> = evaluation.judged.iter().map(|photo| photo.is_right()).collect();
    assert_eq!(right.iter().filter(|right| **right).count(), 1);
    assert!(evaluation.judged.iter().any(|photo| photo.is_right() && photo.labels == [0]));
}
