//! What files are that hold no weights that can be read, by their content; and what to do about them.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use flate2::read::GzDecoder;
use zip::ZipArchive;

use crate::hugging_face::CONVERT;

/// As much of a file as tells what it is.
const START: u64 = 1 << 10;

const KERAS: &str =
    "convert it with Keras, `model.save(\"name.keras\")`, or have tf2onnx write an ONNX file";
const TORCH: &str = "make it an ONNX file, in Python: `torch.onnx.export(model.eval(), torch.zeros(1, 3, 224, 224), \"name.onnx\")`";

/// Why a file is not one of weights that can be read, and what to do; nothing for one that may be.
pub(crate) fn refusal(path: &Path) -> std::io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut start = Vec::new();
    file.by_ref().take(START).read_to_end(&mut start)?;
    let is = |what: &str, how: &str| Some(format!("this is {what}: {how}"));
    let starts = |magic: &[u8]| start.starts_with(magic);
    let at = |place: usize, magic: &[u8]| start.get(place..).is_some_and(|b| b.starts_with(magic));
    let r = |what: &str| {
        is(what, "save the model there with `keras::save_model(model, \"name.keras\")`")
    };
    let text = String::from_utf8_lossy(&start).to_ascii_lowercase();
    let text = text.trim_start_matches('\u{FEFF}').trim_start();
    Ok(if starts(b"PK\x03\x04") {
        zipped(file)
    } else if starts(b"\x89HDF\r\n\x1a\n") {
        hdf5_end(&start).filter(|&end| end > length).map(|end| truncated(length, end))
    } else if starts(b"version https://git-lfs.github.com/spec/") {
        is("Git LFS's pointer to the file, and not the file", "fetch it with `git lfs pull`")
    } else if text.starts_with("<!doctype html")
        || text.starts_with("<html")
        || text.starts_with("<head")
    {
        is(
            "a web page, and not the file that was to be downloaded",
            "open it in a browser to see what it says, and download the file itself (on GitHub that is `Raw`; for Google Drive \
             there is `gdown`)",
        )
    } else if text.starts_with("<?xml") && text.contains("<net ") {
        is("OpenVINO's description of a network", KERAS)
    } else if text.starts_with("<?xml") {
        is(
            "an XML text, as servers answer that cannot give a file",
            "look at what it says, and download the file again",
        )
    } else if at(4, b"ORTM") {
        is("ONNX Runtime's own format", "use the .onnx file that it was made of")
    } else if starts(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19") {
        is("a PyTorch file", &torch())
    } else if matches!(start.as_slice(), [0x80, 2..=5, ..]) {
        is(
            "a Python pickle, which may run any code when it is read",
            "save the model as `.keras` or `.onnx` there",
        )
    } else if starts(b"MATLAB ") {
        is("a Matlab file", "write the network there with `exportONNXNetwork(net, \"name.onnx\")`")
    } else if starts(b"RDX") || starts(b"RDA") || starts(b"X\n\0\0\0") {
        r("an R file")
    } else if starts(b"\x1F\x8B") {
        let mut inner = Vec::new();
        // What cannot be unpacked is a gzip all the same.
        let _ = GzDecoder::new(start.as_slice()).take(START).read_to_end(&mut inner);
        match inner.as_slice() {
            [b'R', b'D', b'X' | b'A', ..] | [b'X', b'\n', 0, 0, 0, ..] => r("an R file"),
            _ if is_tar(&inner) => {
                is("an archive", "unpack it with `tar xzf`, and name the file in it")
            }
            _ => is("compressed", "unpack it with `gunzip`"),
        }
    } else if starts(b"BZh")
        || starts(b"\xFD7zXZ\0")
        || starts(b"7z\xBC\xAF\x27\x1C")
        || starts(b"Rar!")
    {
        is("compressed", "unpack it, and name the file in it")
    } else if is_tar(&start) {
        is("an archive", "unpack it with `tar xf`, and name the file in it")
    } else if starts(b"\x93NUMPY") {
        is(
            "an array of NumPy's",
            "give the `.npz` of all arrays, or save the whole model as `.keras`",
        )
    } else if starts(b"GGUF") {
        is("a GGUF file, which holds language models", "use the image network's Keras or ONNX file")
    } else if starts(b"\xFF\xD8\xFF") || starts(b"\x89PNG\r\n") {
        is("a photo", "the model is named before the photos")
    } else {
        by_extension(path).or_else(|| {
            let is_onnx = path.extension().is_some_and(|extension| extension == "onnx");
            let end = is_onnx.then(|| message_end(&mut file, length)).flatten();
            end.map(|end| truncated(length, end))
        })
    })
}

fn truncated(length: u64, end: u64) -> String {
    format!(
        "the file has {length} bytes of at least {end}: the download is not whole, get it again"
    )
}

/// A zip is Keras's, unless one of its members says otherwise.
fn zipped(file: File) -> Option<String> {
    let is = |what: &str, how: &str| Some(format!("this is {what}: {how}"));
    let Ok(archive) = ZipArchive::new(file) else {
        return Some(
            "a zip (as .keras and PyTorch's files are) whose end is missing: the download is not whole, get it again"
                .into(),
        );
    };
    let has = |end: &str| archive.file_names().flatten().any(|name| name.ends_with(end));
    if has("/constants.pkl") || has("/code/__torch__.py") {
        is("a TorchScript file", TORCH)
    } else if has("/data.pkl") || has("data.pkl") {
        is("a PyTorch file", &torch())
    } else if has(".mlmodel") {
        is("a Core ML package", KERAS)
    } else {
        None
    }
}

/// What to do with a pickle of PyTorch's.
fn torch() -> String {
    format!("{CONVERT}; or {TORCH}")
}

fn is_tar(bytes: &[u8]) -> bool {
    bytes.get(257..).is_some_and(|rest| rest.starts_with(b"ustar"))
}

/// Formats that have no mark of their own.
fn by_extension(path: &Path) -> Option<String> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    let what = match extension.as_str() {
        "mlmodel" => "a Core ML model",
        "caffemodel" | "prototxt" => "one of Caffe's files",
        "params" => "one of MXNet's files",
        "pdparams" | "pdmodel" | "pdiparams" => "one of Paddle's files",
        "crdownload" | "part" | "partial" | "download" => {
            return Some("an unfinished download: wait for its end, or get it again".into());
        }
        _ => return None,
    };
    Some(format!("this is {what}: {KERAS}"))
}

/// Where an HDF5 file ends, as its superblock says.
fn hdf5_end(start: &[u8]) -> Option<u64> {
    let place = match start.get(8)? {
        0 => 40,
        1 => 44,
        2 | 3 => 28,
        _ => return None,
    };
    // Bytes of an offset.
    let width = start.get(if place == 28 { 9 } else { 13 })?;
    let end = start.get(place..)?.first_chunk::<8>()?;
    (*width == 8).then(|| u64::from_le_bytes(*end))
}

/// Where the first field of a protocol buffer's message ends that is not whole; nothing where all are.
fn message_end(file: &mut File, length: u64) -> Option<u64> {
    /// A model has a dozen.
    const MOST: usize = 1 << 12;
    let mut at = 0;
    for _ in 0..MOST {
        if at >= length {
            return None;
        }
        let mut head = Vec::new();
        file.seek(SeekFrom::Start(at)).ok()?;
        file.by_ref().take(20).read_to_end(&mut head).ok()?;
        let (key, key_bytes) = varint(&head)?;
        let (value, value_bytes) = varint(head.get(key_bytes..)?)?;
        let end = match key & 7 {
            0 => at + (key_bytes + value_bytes) as u64,
            1 => at + key_bytes as u64 + 8,
            2 => at.checked_add((key_bytes + value_bytes) as u64)?.checked_add(value)?,
            5 => at + key_bytes as u64 + 4,
            _ => return None,
        };
        if end > length {
            return Some(end);
        }
        at = end;
    }
    None
}

fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (position, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7F).checked_shl(7 * position as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, position + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;
    use crate::Checkpoint;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        packer.write_all(bytes).expect("packs");
        packer.finish().expect("packs")
    }

    fn zip_of(names: &[&str]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for name in names {
            writer.start_file(*name, SimpleFileOptions::default()).expect("begins");
            writer.write_all(b"some bytes").expect("writes");
        }
        writer.finish().expect("ends").into_inner()
    }

    /// A tar of nothing in particular.
    fn tar() -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[257..262].copy_from_slice(b"ustar");
        bytes
    }

    /// The beginning of an HDF5 file, of the superblock's version, that says it has so many bytes.
    fn hdf5(version: u8, end: u64) -> Vec<u8> {
        let mut bytes = b"\x89HDF\r\n\x1a\n".to_vec();
        bytes.resize(96, 0);
        bytes[8] = version;
        let (width, place) = match version {
            0 => (13, 40),
            1 => (13, 44),
            _ => (9, 28),
        };
        bytes[width] = 8;
        bytes[place..place + 8].copy_from_slice(&end.to_le_bytes());
        bytes
    }

    #[test]
    fn foreign_files_are_named_with_what_to_do() {
        let torch = zip_of(&["archive/data.pkl", "archive/data/0", "archive/version"]);
        let torch_script = zip_of(&["net/data.pkl", "net/constants.pkl", "net/code/__torch__.py"]);
        let keras = zip_of(&["config.json", "metadata.json", "model.weights.h5"]);
        // Fields 1 (a number), 2 (text) and 7 (the graph, of which most is missing).
        let onnx = [&b"\x08\x08\x12\x05torch\x3a\xe8\x07"[..], &[0; 50]].concat();
        for (name, bytes, said, how) in [
            (
                "m.h5",
                &b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"[..],
                "Git LFS",
                "git lfs pull",
            ),
            (
                "m.onnx",
                b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
                "Git LFS",
                "git lfs pull",
            ),
            ("m.keras", b"\n<!DOCTYPE html>\n<html lang=\"en\">", "a web page", "download"),
            ("m.h5", b"<html><head>", "a web page", "download"),
            (
                "m.onnx",
                b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code>",
                "an XML text",
                "download",
            ),
            (
                "m.xml",
                b"<?xml version=\"1.0\"?>\n<net name=\"m\" version=\"11\">",
                "OpenVINO",
                "tf2onnx",
            ),
            ("m.ort", b"\x1c\0\0\0ORTM\x14\0\x20\0", "ONNX Runtime", ".onnx file"),
            (
                "m.pt",
                b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M",
                "a PyTorch file",
                "torch.onnx.export",
            ),
            ("m.pth", &torch, "a PyTorch file", "safetensors.torch.save_file"),
            ("m.keras", &torch, "a PyTorch file", "torch.onnx.export"),
            ("m.pt", &torch_script, "a TorchScript file", "torch.onnx.export"),
            ("m.pkl", b"\x80\x04\x95\x10\0\0\0\0\0\0\0", "a Python pickle", ".onnx"),
            (
                "m.mat",
                b"MATLAB 5.0 MAT-file, Platform: GLNXA64",
                "a Matlab file",
                "exportONNXNetwork",
            ),
            (
                "m.mat",
                b"MATLAB 7.3 MAT-file, Platform: GLNXA64",
                "a Matlab file",
                "exportONNXNetwork",
            ),
            ("m.rds", &packed(b"X\n\0\0\0\x03\0\x04\x02\x01"), "an R file", "save_model"),
            ("m.RData", &packed(b"RDX3\nX\n\0\0\0\x03"), "an R file", "save_model"),
            ("m.rds", b"X\n\0\0\0\x03\0\x04\x02\x01", "an R file", "save_model"),
            ("m.tar.gz", &packed(&tar()), "an archive", "tar xzf"),
            ("m.tar", &tar(), "an archive", "tar xf"),
            ("m.h5.gz", &packed(b"\x89HDF"), "compressed", "gunzip"),
            ("m.7z", b"7z\xBC\xAF\x27\x1C\0\x04", "compressed", "unpack"),
            ("m.npy", b"\x93NUMPY\x01\0v\0{", "NumPy", ".keras"),
            ("m.gguf", b"GGUF\x03\0\0\0", "GGUF", "ONNX"),
            ("m.mlmodel", b"\x08\x04\x12\x10", "Core ML", "tf2onnx"),
            ("m.caffemodel", b"\x0a\x04net", "Caffe", "tf2onnx"),
            ("m.jpg", b"\xFF\xD8\xFF\xE0", "a photo", "before the photos"),
            ("m.h5.crdownload", b"\0\0\0\0", "unfinished download", "again"),
            ("m.keras", &keras[..keras.len() / 2], "end is missing", "get it again"),
            ("m.h5", &hdf5(0, 5000), "96 bytes of at least 5000", "get it again"),
            ("m.h5", &hdf5(1, 5000), "96 bytes of at least 5000", "get it again"),
            ("m.h5", &hdf5(3, 5000), "96 bytes of at least 5000", "get it again"),
            ("m.onnx", &onnx, "62 bytes of at least 1012", "get it again"),
        ] {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).expect("writes");
            let error = Checkpoint::open(&path).expect_err(said).to_string();
            assert!(error.contains(name) && error.contains(said) && error.contains(how), "{error}");
        }
    }

    #[test]
    fn what_may_be_read_is_not_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let of = |bytes: &[u8], name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).expect("writes");
            refusal(&path).expect("reads")
        };
        for version in [0, 1, 2, 3, 200] {
            assert_eq!(of(&hdf5(version, 96), "m.h5"), None);
        }
        let keras = zip_of(&["config.json", "metadata.json", "model.weights.h5"]);
        assert_eq!(of(&keras, "m.keras"), None);
        assert_eq!(of(b"\x08\x08\x12\x05torch\x3a\x02\0\0", "m.onnx"), None);
        // Every beginning of these is looked at without a panic.
        for bytes in [&keras, &hdf5(0, 96), &tar(), &packed(&tar())] {
            for end in 0..bytes.len() {
                let _ = of(&bytes[..end], "m.onnx");
            }
        }
    }
}
