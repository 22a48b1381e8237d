//! Writes networks as ONNX, and has burn-onnx generate Burn code of them.

use std::fs;
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use burn_onnx::ModelGen;
use rekindle_nn::{Activation, Architecture, Eager, Features, Graph, HeadConfig, Network, floats};
use rekindle_weights::{
    Checkpoint, ExportOptions, ModelCard, TensorInfo, export, load, variables_to_save,
};

/// Classes of every network.
const CLASSES: usize = 5;

fn known(name: &str, size: usize) -> Architecture {
    Architecture::by_name(name).unwrap_or_else(|| panic!("no {name}")).with_size(size)
}

fn networks() -> Vec<(&'static str, Graph)> {
    let whole = |known: Architecture| known.with_top(Some(CLASSES)).graph().expect("builds");
    let narrow = known("mobilenet-v2", 96).with_alpha(0.35);
    let head = HeadConfig::flatten().dense(32, Activation::Relu).dropout(0.5);
    let base = narrow.graph().expect("builds");
    vec![
        ("mobilenet_v2", whole(narrow)),
        ("resnet_50", whole(known("resnet-50", 64))),
        ("efficientnet_b0", whole(known("efficientnet-b0", 64))),
        ("convnext_tiny", whole(known("convnext-tiny", 64))),
        ("head", head.graph(&base, CLASSES).expect("a head")),
    ]
}

/// Variables as a trained network may have them: none is only 0 or 1.
fn variables(graph: &Graph) -> (Vec<TensorInfo>, Vec<Vec<f32>>) {
    let network = Network::<Flex>::init(graph.clone(), 7, &Default::default());
    let (tensors, mut values) = variables_to_save(&network);
    for (tensor, values) in tensors.iter().zip(&mut values) {
        let is_kernel = tensor.variable.contains("kernel");
        for (place, value) in values.iter_mut().enumerate().filter(|_| !is_kernel) {
            let noise = ((place * 7919) % 211) as f32 / 211.0;
            *value = match tensor.variable.as_str() {
                "gamma" | "moving_variance" | "variance" => 0.75 + 0.5 * noise,
                _ => 0.2 * noise - 0.1,
            };
        }
    }
    (tensors, values)
}

/// The picture whose byte `i` is `37 i mod 256`, as the network's input, `[channels, height, width]`.
fn input(graph: &Graph) -> Vec<f32> {
    let [height, width, channels] = graph.input().as_map().expect("images");
    let byte = |channel: usize, pixel: usize| ((pixel * channels + channel) * 37 % 256) as f32;
    let plane = |channel: usize| (0..height * width).map(move |pixel| byte(channel, pixel));
    (0..channels).flat_map(plane).collect()
}

fn write(path: PathBuf, values: &[f32]) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    fs::write(path, bytes).expect("writes");
}

fn main() {
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("OUT_DIR"));
    let mut generator = ModelGen::new();
    for (name, graph) in networks() {
        let (tensors, values) = variables(&graph);
        let mut card = ModelCard::new(graph.clone());
        card.preprocessing = "none".into();
        let path = folder.join(format!("{name}.onnx"));
        let mut options = ExportOptions::default();
        options.channels_first = true;
        export(&path, &card, &tensors, values.clone(), options).expect("exports");
        let network = Network::<Flex>::init(graph.clone(), 1, &Default::default());
        let pairs = tensors.into_iter().zip(values).collect();
        let mut checkpoint = Checkpoint::from_tensors(Path::new("memory"), pairs);
        let network = load(network, "it", &mut checkpoint).expect("loads").network;
        let image = input(&graph);
        let features = Features::from_values(image.clone(), graph.input(), &Default::default());
        let output = network.walk(&mut Eager::inference(), features).expect("runs");
        write(folder.join(format!("{name}.input")), &image);
        write(folder.join(format!("{name}.output")), &floats(output.into_data()));
        generator.input(path.to_str().expect("a path"));
    }
    generator.out_dir("model/").run_from_script();
    println!("cargo:rerun-if-changed=build.rs");
}
