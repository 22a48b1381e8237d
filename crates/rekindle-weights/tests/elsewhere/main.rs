//! Models of other programs than Keras answer as those do.

mod pieces;
mod saved_model;
mod tfjs;
mod tflite;
mod torch;

use std::path::{Path, PathBuf};

use burn::backend::Flex;
use rekindle_nn::{Features, Network};
use rekindle_vision::Preprocessing;
use rekindle_weights::{Checkpoint, ModelCard, load};
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// The file's network, with the weights that it holds.
fn open(path: &Path) -> (ModelCard, Network<Flex>) {
    open_for(path, None)
}

/// The same for images of this size.
fn open_for(path: &Path, size: Option<[usize; 2]>) -> (ModelCard, Network<Flex>) {
    let checkpoint = Checkpoint::open(path).expect("opens");
    let mut checkpoint = checkpoint.resolve_for(size).expect("resolves");
    let card = checkpoint.card().cloned();
    let card = card.unwrap_or_else(|| panic!("{}: {:?}", path.display(), checkpoint.problem()));
    let network = Network::<Flex>::init(card.graph.clone(), 0, &Default::default());
    let loaded = load(network, "the network", &mut checkpoint).expect("loads");
    assert!(loaded.unused.is_empty(), "{}: {:?}", path.display(), loaded.unused);
    (card, loaded.network)
}

/// What an open model makes of the picture whose byte `i` is `37 i mod 256`.
fn answer((card, network): &(ModelCard, Network<Flex>)) -> Vec<f32> {
    let [height, width, channels] = card.graph.input().as_map().expect("images");
    let preprocessing: Preprocessing = card.preprocessing.parse().expect("known");
    let (mean, deviation) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    let mut planes = vec![0.0; height * width * channels];
    for pixel in 0..height * width {
        for channel in 0..channels {
            let value = ((pixel * channels + channel) * 37 % 256) as f32;
            planes[channel * height * width + pixel] = match preprocessing {
                Preprocessing::Tf => value / 127.5 - 1.0,
                Preprocessing::None => value,
                Preprocessing::Torch => (value / 255.0 - mean[channel]) / deviation[channel],
                Preprocessing::Rescale { scale, offset } => value * scale + offset,
                other => panic!("{other:?}"),
            };
        }
    }
    let input = Features::from_values(planes, card.graph.input(), &Default::default());
    let mut eager = rekindle_nn::Eager::inference();
    let output = network.walk(&mut eager, input).expect("runs");
    rekindle_nn::floats(output.into_data())
}

/// Compares an answer with what another program gave.
fn same(name: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{name}: {worst:e}");
    assert!(worst <= tolerance, "{name}: {worst:e} off: {ours:?}, {theirs:?}");
}

/// Why a file is not taken: as damaged, or as a model that is not supported.
fn refused(path: &Path) -> String {
    match Checkpoint::open(path).and_then(Checkpoint::resolve) {
        Err(error) => error.to_string(),
        Ok(mut checkpoint) if checkpoint.card().is_some() => {
            let all = 0..checkpoint.tensors().len();
            let errors = all.filter_map(|index| checkpoint.read(index).err()).next();
            errors.unwrap_or_else(|| panic!("{} is taken", path.display())).to_string()
        }
        Ok(checkpoint) => checkpoint.problem().expect("a problem").to_owned(),
    }
}

/// A copy of a golden folder, to be damaged.
fn copied(folder: &TempDir, name: &str) {
    let mut open = vec![(golden(name), folder.path().to_owned())];
    while let Some((from, to)) = open.pop() {
        for file in std::fs::read_dir(from).expect("a folder") {
            let file = file.expect("a file");
            let to = to.join(file.file_name());
            if file.path().is_dir() {
                std::fs::create_dir(&to).expect("creates");
                open.push((file.path(), to));
            } else {
                std::fs::copy(file.path(), to).expect("copies");
            }
        }
    }
}
