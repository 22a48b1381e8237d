use super::attempt;

/// The weights of the golden models, so that a changed model.json gets as far as its tensors.
const WEIGHTS: &[u8] = include_bytes!("../../tests/golden/tfjs/teachable/weights.bin");

/// The first byte says how much of the rest is metadata.json; what is behind it is model.json.
pub fn run(data: &[u8]) {
    let [at, rest @ ..] = data else { return };
    let (metadata, model) = rest.split_at((usize::from(*at) * 4).min(rest.len()));
    let mut files = vec![
        ("model.json", model),
        ("weights.bin", WEIGHTS),
        ("group1-shard1of1.bin", &WEIGHTS[..380]),
    ];
    if !metadata.is_empty() {
        files.push(("metadata.json", metadata));
    }
    attempt::attempt_folder(&files, "model.json");
}
