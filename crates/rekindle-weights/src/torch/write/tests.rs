//! What is written has the programs' own names, and is read again as the same model.

use std::collections::BTreeMap;
use std::path::Path;

use burn::backend::Flex;
use rekindle_nn::{
    Activation, Architecture, Base, Eager, FAMILIES, Family, Features, HeadConfig, Network, floats,
};
use sha2::{Digest, Sha256};

use super::*;
use crate::{
    Checkpoint, ExportOptions, ModelCard, TensorInfo, export, load, save, variables_to_save,
};

const PROGRAMS: [Names; 2] = [Names::Timm, Names::Torchvision];

/// Networks with more parameters are left out where `REKINDLE_LARGE` is not set.
const LARGE: usize = 6_000_000;

/// The program's network for seven classes, as a file of it is read.
fn network(dialect: &Dialect, model: &Model) -> ModelCard {
    let plain = model.architecture().expect("known");
    // VGG's classifier is for the maps of one size.
    let size = if dialect.maps.is_some() { 224 } else { plain.family.least_size.max(40) };
    let known = plain.with_images(size, size, 3).with_top(Some(7));
    let graph = adapted(&known.graph().expect("valid"), dialect.otherwise).expect("adapts");
    let base = Base { architecture: None, ..graph.base() };
    let graph = Graph::new(graph.input(), graph.layers().to_vec(), graph.output(), base);
    let mut card = ModelCard::new(graph.expect("valid"));
    card.preprocessing = dialect.preprocessing.into();
    card
}

/// A model with something in what a card has.
fn with_card(card: ModelCard) -> ModelCard {
    let classes = card.graph.classes().unwrap_or(0);
    ModelCard {
        classes: (0..classes).map(|class| format!("class {class}, \u{e4}")).collect(),
        resize: Some("tf-bilinear".into()),
        transparency: Some("black".into()),
        description: "a test's".into(),
        ..card
    }
}

fn parameters(graph: &Graph) -> usize {
    graph.summary().parameters.total
}

/// Numbers from -1 to 1 without a pattern.
fn noise(name: &str, count: usize) -> impl Iterator<Item = f32> + use<> {
    let seed =
        name.bytes().fold(17_u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    (0..count as u32).map(move |index| {
        let mut x = index.wrapping_add(seed);
        for factor in [0x7feb_352d_u32, 0x846c_a68b] {
            x = (x ^ (x >> 16)).wrapping_mul(factor);
        }
        (x >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// Variables as a trained network may have them: none is only 0 or 1, and kernels keep the size of values, so that an answer
/// depends on every layer. `gain` is what normalizations multiply by.
fn variables(graph: &Graph, gain: f32) -> (Vec<TensorInfo>, Vec<Vec<f32>>) {
    let network = Network::<Flex>::init(graph.clone(), 7, &Default::default());
    let (tensors, values) = variables_to_save(&network);
    let made = tensors.iter().zip(values).map(|(tensor, values)| {
        let taps = tensor.shape.get(..2).map_or(1, |taps| taps.iter().product());
        let inputs: usize = match (tensor.variable.as_str(), tensor.shape.as_slice()) {
            ("depthwise_kernel", _) => taps,
            ("kernel", &[_, _, channels, outputs]) if outputs == 1 && channels > 1 => taps,
            (_, shape) => shape.split_last().map_or(1, |(_, inputs)| inputs.iter().product()),
        };
        let (centre, width) = match tensor.variable.as_str() {
            name if name.ends_with("kernel") => (0.0, (4.0 / inputs as f32).sqrt()),
            "gamma" if tensor.shape.len() == 1 && tensor.layer.ends_with("layer_scale") => {
                (0.3, 0.1)
            }
            "gamma" => (gain, 0.25),
            "moving_variance" | "variance" => (1.0, 0.25),
            "count" => (3.0, 0.0),
            _ => (0.0, 0.1),
        };
        noise(&tensor.path(), values.len()).map(|one| centre + width * one).collect()
    });
    let values = made.collect();
    (tensors, values)
}

fn exported(path: &Path, card: &ModelCard, names: Names) -> Result<Vec<String>, WeightsError> {
    exported_with(path, card, names, 1.0)
}

fn exported_with(
    path: &Path,
    card: &ModelCard,
    names: Names,
    gain: f32,
) -> Result<Vec<String>, WeightsError> {
    let (tensors, values) = variables(&card.graph, gain);
    let options = ExportOptions { names, ..ExportOptions::default() };
    export(path, card, &tensors, values, options)
}

/// What a file holds: its card, and its network.
fn opened(path: &Path) -> (ModelCard, Network<Flex>) {
    let mut checkpoint = Checkpoint::open(path).expect("opens").resolve().expect("resolves");
    let card = checkpoint.card().cloned();
    let card = card.unwrap_or_else(|| panic!("{}: {:?}", path.display(), checkpoint.problem()));
    let network = Network::<Flex>::init(card.graph.clone(), 1, &Default::default());
    let loaded = load(network, "it", &mut checkpoint).expect("loads");
    assert!(loaded.unused.is_empty(), "{:?}", loaded.unused);
    (card, loaded.network)
}

/// The picture whose byte `i` is `37 i mod 256`.
fn picture(input: Shape) -> Vec<f32> {
    let [height, width, channels] = input.as_map().expect("images");
    (0..height * width * channels).map(|place| (place * 37 % 256) as f32).collect()
}

/// What a network makes of it, before the last activation.
fn logits(card: &ModelCard, network: &Network<Flex>) -> Vec<f32> {
    logits_of(card, network, &picture(card.graph.input()))
}

fn logits_of(card: &ModelCard, network: &Network<Flex>, picture: &[f32]) -> Vec<f32> {
    let [height, width, channels] = card.graph.input().as_map().expect("images");
    let mode: rekindle_pixels::Preprocessing = card.preprocessing.parse().expect("known");
    let rekindle_pixels::Linear { source, scale, offset } = mode.linear(channels);
    let mut planes = Vec::new();
    for channel in 0..channels {
        planes.extend((0..height * width).map(|pixel| {
            let value = f64::from(picture[pixel * channels + source[channel]]);
            (value * scale[channel] + offset[channel]) as f32
        }));
    }
    let input = Features::from_values(planes, card.graph.input(), &Default::default());
    let mut eager = Eager::logits();
    floats(network.walk(&mut eager, input).expect("runs").into_data())
}

/// A model's answer, and a gain of its normalizations with which it depends on the picture.
fn its_logits(card: &ModelCard) -> (Vec<f32>, f32) {
    // Gates of squeeze-and-excite halve values; the least gain that shows, since a larger one makes them grow without bounds.
    for gain in (0..16).map(|step| 1.0 + 0.04 * step as f32) {
        let (tensors, values) = variables(&card.graph, gain);
        let network = Network::<Flex>::init(card.graph.clone(), 1, &Default::default());
        let tensors = tensors.into_iter().zip(values).collect();
        let mut checkpoint = Checkpoint::from_tensors("memory", tensors);
        let network = load(network, "it", &mut checkpoint).expect("loads").network;
        let answer = logits(card, &network);
        let black = logits_of(card, &network, &vec![0.0; card.graph.input().count()]);
        let far = answer.iter().zip(&black).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        if far > 0.05 * largest(&answer) {
            return (answer, gain);
        }
    }
    panic!("its answer does not depend on the picture")
}

/// The largest of an answer's numbers, or 1.
fn largest(answer: &[f32]) -> f32 {
    answer.iter().fold(1.0, |most, value| most.max(value.abs()))
}

fn golden() -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/torch_names.json");
    serde_json::from_slice(&std::fs::read(path).expect("reads")).expect("JSON")
}

/// The SHA-256 of all names and shapes, as tests/keras/torch_names.py makes it.
#[test]
fn names_and_shapes_are_the_programs_own() {
    let golden = golden();
    let mut seen = 0;
    for names in PROGRAMS {
        for (dialect, model) in models(names) {
            let card = network(dialect, model);
            let graph = &card.graph;
            let mut lines = Vec::new();
            for (position, layer) in graph.layers().iter().enumerate() {
                for spec in graph.variables(position) {
                    let module = module(dialect, graph, layer, names).expect("a module");
                    let shape = values::shape(graph, position, &spec, module.axes).expect("fits");
                    let name = values::tensor(&module.path, layer, spec.name);
                    lines.push(format!("{name} {shape:?}\n"));
                }
            }
            lines.sort();
            let width = model.alpha.filter(|alpha| *alpha != 1.0 && names == Names::Torchvision);
            let width = width.map_or(String::new(), |width| format!(" {width}"));
            let name = format!("{names} {}{width}", model.names[0]);
            let hash: String =
                Sha256::digest(lines.concat()).iter().map(|byte| format!("{byte:02x}")).collect();
            let first: String = lines.iter().take(400).cloned().collect();
            assert_eq!(golden.get(&name), Some(&hash), "{name}: {first}");
            seen += 1;
        }
    }
    assert!(seen > 90, "{seen}");
}

/// For a network of each dialect that is not large, with all of its variables.
#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let is_large = std::env::var_os("REKINDLE_LARGE").is_some();
    let mut seen = 0;
    for names in PROGRAMS {
        for (dialect, model) in models(names) {
            let card = with_card(network(dialect, model));
            if parameters(&card.graph) > LARGE && !is_large {
                continue;
            }
            // Not the network's name.
            let path = folder.path().join("out.safetensors");
            exported(&path, &card, names).unwrap_or_else(|error| panic!("{error}"));
            let (found, network) = opened(&path);
            let name = model.names[0];
            for (found, expected) in found.graph.layers().iter().zip(card.graph.layers()) {
                assert_eq!(found, expected, "{names} {name}");
            }
            let card = ModelCard { published_as: Some(name.to_owned()), ..card };
            assert_eq!(found, card, "{names} {name}");
            let (tensors, values) = variables(&card.graph, 1.0);
            let (again, found) = variables_to_save(&network);
            assert_eq!(again, tensors);
            let is_same = values.iter().flatten().zip(found.iter().flatten());
            assert!(is_same.into_iter().all(|(a, b)| a.to_bits() == b.to_bits()), "{names} {name}");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

/// A family's network of Keras's, its narrowest one.
fn of_keras(family: &'static Family, top: Option<usize>) -> Graph {
    let plain = Architecture::new(family);
    let least = family.alphas.iter().copied().min_by(f64::total_cmp);
    let plain = least.map_or(plain, |alpha| plain.with_alpha(alpha));
    let size = if family.name.starts_with("vgg") { 224 } else { family.least_size.max(96) };
    plain.with_size(size).with_top(top).graph().expect("builds")
}

/// Which network of a program computes what a family of Keras's does; or a part of why none does.
fn expected(family: &str, names: Names) -> Result<String, &'static str> {
    let is_timm = names == Names::Timm;
    let other_pads = "padding: [[0, 1], [0, 1]] here, [[1, 1], [1, 1]] there";
    let underscored = family.replace('-', "_");
    match family {
        "mobilenet-v2" if is_timm => Ok("mobilenetv2_035".into()),
        "mobilenet-v3-large" if is_timm => Ok("tf_mobilenetv3_large_075".into()),
        "mobilenet-v3-small" if is_timm => Ok("tf_mobilenetv3_small_075".into()),
        "mobilenet-v2" => Err(other_pads),
        // It has one width.
        "mobilenet-v3-large" | "mobilenet-v3-small" => Err("none of its networks"),
        "densenet-121" | "densenet-169" | "densenet-201" | "vgg-16" | "vgg-19" => {
            Ok(family.replace('-', ""))
        }
        "inception-v4" if is_timm => Ok("inception_v4".into()),
        "inception-v3" => Err("zeros around the maps: do not count here, count there"),
        "resnet-50" | "resnet-101" | "resnet-152" => {
            Err("`conv3_block1_1_conv`: stride: [2, 2] here, [1, 1] there")
        }
        "xception" if is_timm => Err("`block4_pool`: padding"),
        "convnext-xlarge" if !is_timm => Err("none of its networks"),
        _ if family.starts_with("convnext") => Ok(underscored),
        _ if family.starts_with("efficientnet") && is_timm => {
            Ok(format!("tf_{}", underscored.replace("net_v2", "netv2")))
        }
        "efficientnet-v2-b0" | "efficientnet-v2-b1" | "efficientnet-v2-b2"
        | "efficientnet-v2-b3" => Err("none of its networks"),
        _ if family.starts_with("efficientnet") => Err(other_pads),
        _ => Err("none of its networks"),
    }
}

#[test]
fn families_of_keras_are_written_as_what_computes_the_same_or_refused() {
    for family in FAMILIES {
        let mut card = ModelCard::new(of_keras(family, Some(7)));
        let (tensors, values) = match card.graph.position("normalization") {
            // The statistics in front are variables.
            Ok(_) => {
                let network = Network::<Flex>::init(of_keras(family, None), 7, &Default::default());
                variables_to_save(&network)
            }
            Err(_) => (Vec::new(), Vec::new()),
        };
        let small = tensors.iter().zip(values).filter(|(info, _)| info.layer == "normalization");
        let small = small.map(|(info, values)| {
            ((info.layer.clone(), info.variable.clone()), (info.shape.clone(), values))
        });
        let variables: Variables = small.collect();
        card.graph = Photos::of(&card, &variables).expect("scales").graph;
        let ours = bare(&card.graph).expect("bare");
        for names in PROGRAMS {
            match (chosen(&ours, names), expected(family.name, names)) {
                (Ok(choice), Ok(expected)) => assert_eq!(choice.name(), expected, "{names}"),
                (Err(found), Err(expected)) => {
                    assert!(found.contains(expected), "{names}: {}: {found}", family.name);
                }
                (found, expected) => panic!(
                    "{names}: {}: {:?}, expected {expected:?}",
                    family.name,
                    found.map(|choice| choice.name())
                ),
            }
        }
    }
}

/// What Keras's networks have otherwise goes into numbers, and the file read again answers the same.
#[test]
fn networks_of_keras_answer_the_same_when_they_are_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    for (family, preprocessing, expected) in [
        ("mobilenet-v2", "tf", &["pad_type=\"same\", bn_eps=0.001"][..]),
        (
            "densenet-121",
            "torch",
            &["timm.create_model(\"densenet121\", num_classes=7)", "variances"],
        ),
        // Blue first: the first kernel is turned.
        ("densenet-121", "caffe", &["mean=(0.48502, 0.457957, 0.407604)"]),
        ("mobilenet-v3-small", "none", &["tf_mobilenetv3_small_075"]),
        ("efficientnet-b0", "none", &["timm.create_model(\"tf_efficientnet_b0\", num_classes=7)"]),
    ] {
        let family = Family::by_name(family).expect("known");
        let mut card = with_card(ModelCard::new(of_keras(family, Some(7))));
        card.preprocessing = preprocessing.into();
        let path = folder.path().join("out.safetensors");
        let (ours, gain) = its_logits(&card);
        let exported = || exported_with(&path, &card, Names::Timm, gain);
        let sentences = exported().expect("exports").join("\n");
        for word in expected {
            assert!(sentences.contains(word), "{}: {sentences}", family.name);
        }
        let (found, network) = opened(&path);
        assert_eq!(found.classes, card.classes);
        assert_eq!(found.resize, card.resize);
        let again = logits(&found, &network);
        let spread = largest(&ours);
        for (a, b) in ours.iter().zip(&again) {
            assert!((a - b).abs() <= 1e-5 * spread, "{}: {ours:?} {again:?}", family.name);
        }
        // The same model is the same bytes.
        let bytes = std::fs::read(&path).expect("reads");
        exported().expect("exports");
        assert_eq!(std::fs::read(&path).expect("reads"), bytes);
    }
}

#[test]
fn what_a_program_s_network_has_not_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.safetensors");
    let known = |name: &str| {
        let architecture = Architecture::by_name(name).expect("known");
        architecture.with_size(96).graph().expect("builds")
    };
    let two = HeadConfig::default().dense(16, Activation::Relu);
    let small = HeadConfig::default();
    let head = |config: &HeadConfig, name: &str| config.graph(&known(name), 3).expect("a head");
    let shifted = ModelCard {
        preprocessing: "rescale:-1:255".into(),
        ..ModelCard::new(head(&small, "densenet-121"))
    };
    for (card, names, words) in [
        (
            ModelCard::new(head(&two, "densenet-121")),
            Names::Timm,
            &["densenet121", "behind the base it has", "(Dense), `", "`predictions` (Dense)"][..],
        ),
        (
            ModelCard::new(head(&small, "mobilenet-v3-small")),
            Names::Timm,
            &["mobilenetv3_small_100", "`conv_2` (Conv2D), `logits`"],
        ),
        (
            ModelCard::new(head(&small, "resnet-50-v2")),
            Names::Torchvision,
            &["ResNet50V2 is none of its networks", "densenet121, densenet169"],
        ),
        (shifted, Names::Timm, &["multiplied by -1", "more than 0"]),
    ] {
        let error = exported(&path, &card, names).expect_err("refused").to_string();
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert!(!path.exists());
    }
    let card = ModelCard::new(head(&small, "densenet-121"));
    let options = ExportOptions { names: Names::Timm, ..ExportOptions::default() };
    let error = export(&folder.path().join("out.onnx"), &card, &[], Vec::new(), options);
    assert!(error.expect_err("refused").to_string().contains("name it .safetensors"));
}

#[test]
fn a_network_without_a_classifier_is_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.safetensors");
    let family = Family::by_name("mobilenet-v2").expect("known");
    let card = ModelCard::new(of_keras(family, None));
    let sentences = exported(&path, &card, Names::Timm).expect("exports").join("\n");
    assert!(sentences.contains("num_classes=0, global_pool=\"\""), "{sentences}");
    let (found, _) = opened(&path);
    assert_eq!(found.graph.output_shape(), card.graph.output_shape());
    assert!(found.graph.head().is_empty());
}

/// VGG's classifier is for maps of 7 x 7; torchvision makes others so by means, timm by a larger kernel.
#[test]
fn a_classifier_of_other_maps_is_refused() {
    let known = Architecture::by_name("vgg-16").expect("known");
    for (size, is_there) in [(224, true), (96, false)] {
        let graph = known.with_size(size).with_top(Some(7)).graph().expect("builds");
        let found = chosen(&bare(&graph).expect("bare"), Names::Torchvision).map(|_| ());
        match found {
            Ok(()) => assert!(is_there),
            Err(error) => {
                assert!(!is_there && error.contains("`fc1`: the size of the maps"), "{error}")
            }
        }
    }
}

/// Leaves what tests/keras/torch_export.py loads in timm and torchvision in the folder `REKINDLE_EXPORT_DIR`.
#[test]
#[ignore = "writes gigabytes for tests/keras/torch_export.py"]
fn writes_files_for_torch() {
    let folder = std::env::var_os("REKINDLE_EXPORT_DIR").expect("REKINDLE_EXPORT_DIR is a folder");
    let folder = Path::new(&folder);
    let own = PROGRAMS.into_iter().flat_map(|names| {
        models(names).map(move |(dialect, model)| {
            let told = if dialect.arguments.is_empty() { "" } else { "_told" };
            let width = model.alpha.map_or(String::new(), |alpha| format!("_{alpha}"));
            let name = format!("{names}_{}{width}{told}", model.names[0]);
            (name, names, with_card(network(dialect, model)))
        })
    });
    let keras = PROGRAMS.into_iter().flat_map(|names| {
        let written = FAMILIES.iter().filter(move |family| expected(family.name, names).is_ok());
        written.map(move |family| {
            let card = with_card(ModelCard::new(of_keras(family, Some(7))));
            (format!("keras_{names}_{}", family.name), names, card)
        })
    });
    let mut answers: Vec<(TensorInfo, Vec<f32>)> = Vec::new();
    let mut note = |name: &str, what: &str, shape: Vec<usize>, values: Vec<f32>| {
        let (layer, variable) = (name.to_owned(), what.to_owned());
        answers.push((TensorInfo { layer, variable, shape, dtype: Dtype::F32 }, values));
    };
    let mut cases = Vec::new();
    for (name, names, card) in own.chain(keras) {
        if parameters(&card.graph) > 5 * LARGE && std::env::var_os("REKINDLE_LARGE").is_none() {
            continue;
        }
        let path = folder.join(format!("{name}.safetensors"));
        let (answer, gain) = its_logits(&card);
        let sentences = exported_with(&path, &card, names, gain).expect("exports");
        let [height, width, channels] = card.graph.input().as_map().expect("images");
        note(&name, "input", vec![1, height, width, channels], picture(card.graph.input()));
        note(&name, "output", vec![1, answer.len()], answer);
        cases.push(json!({ "name": name, "program": names.to_string(), "said": sentences }));
    }
    let (tensors, values): (Vec<TensorInfo>, Vec<Vec<f32>>) = answers.into_iter().unzip();
    // Any card will do: the file is read by another program.
    let card = ModelCard::new(of_keras(FAMILIES[0], None));
    save(&folder.join("answers.safetensors"), &card, &tensors, &mut |index| {
        Ok(values[index].clone())
    })
    .expect("writes");
    std::fs::write(folder.join("cases.json"), json!(cases).to_string()).expect("writes");
}
