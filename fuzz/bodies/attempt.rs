use std::io::Write;
use std::path::Path;

use rekindle_weights::Checkpoint;

/// Opens a file of these bytes, finds out what it holds, and reads every tensor. Errors are fine.
#[allow(dead_code, reason = "targets of folders do not need it")]
pub fn attempt(data: &[u8], ending: &str) {
    let mut file = tempfile::Builder::new().suffix(ending).tempfile().expect("a file");
    file.write_all(data).expect("writes");
    open(file.path());
}

/// The same with a folder of these files, or with one of them.
#[allow(dead_code, reason = "targets of files do not need it")]
pub fn attempt_folder(files: &[(&str, &[u8])], opened: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("creates");
        std::fs::write(path, bytes).expect("writes");
    }
    open(&folder.path().join(opened));
}

fn open(path: &Path) {
    let Ok(checkpoint) = Checkpoint::open(path) else { return };
    let Ok(mut checkpoint) = checkpoint.resolve() else { return };
    for index in 0..checkpoint.tensors().len() {
        // The largest that a file can claim is a thousand times its size; a fuzzer's memory is less.
        if checkpoint.tensors()[index].count() < 1 << 22 {
            let _ = checkpoint.read(index);
        }
    }
}
