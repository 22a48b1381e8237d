use super::attempt;

const INDEX: &[u8] =
    include_bytes!("../../tests/golden/saved_model/keras2/variables/variables.index");
const DATA: &[u8] =
    include_bytes!("../../tests/golden/saved_model/keras2/variables/variables.data-00000-of-00001");

/// The first byte says which of the two files that may hold a configuration the rest is.
pub fn run(data: &[u8]) {
    let [kind, rest @ ..] = data else { return };
    let mut files = vec![
        ("variables/variables.index", INDEX),
        ("variables/variables.data-00000-of-00001", DATA),
        ("saved_model.pb", rest),
    ];
    if *kind != 0 {
        files.push(("keras_metadata.pb", rest));
    }
    attempt::attempt_folder(&files, "");
}
