use super::attempt;

/// The first two bytes say how long config.json and preprocessor_config.json are; the rest is model.safetensors, which is
/// also opened for itself.
pub fn run(data: &[u8]) {
    let [config, preprocessor, rest @ ..] = data else { return };
    let (config, rest) = rest.split_at((usize::from(*config) * 8).min(rest.len()));
    let (preprocessor, weights) = rest.split_at((usize::from(*preprocessor) * 4).min(rest.len()));
    let mut files = vec![("config.json", config), ("model.safetensors", weights)];
    if !preprocessor.is_empty() {
        files.push(("preprocessor_config.json", preprocessor));
    }
    attempt::attempt_folder(&files, "");
    attempt::attempt_folder(&files[1..2], "model.safetensors");
}
