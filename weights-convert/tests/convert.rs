//! The `weights-convert` command as a user runs it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn unpack(name: &str, folder: &TempDir) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/checkpoints");
    let packed = std::fs::File::open(golden.join(format!("{name}.gz"))).expect("a golden file");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).expect("gzip");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("writes");
    path
}

fn convert(args: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weights-convert")).args(args).output().expect("starts")
}

fn json(args: &[&Path]) -> Value {
    let output = convert(args);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn error(args: &[&Path]) -> String {
    let output = convert(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[test]
fn tensors_are_listed_with_what_they_become() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = unpack("mobilenet_v2_keras3.weights.h5", &folder);
    let found = json(&["inspect".as_ref(), &file, "--json".as_ref()]);
    assert_eq!(found["network"], "mobilenet-v2 0.35, 224 x 224, 5 classes");
    let tensors = found["tensors"].as_array().expect("a list");
    let tensor =
        tensors.iter().find(|tensor| tensor["name"] == "depthwise_conv2d_1/0").expect("there");
    assert_eq!(
        (&tensor["layer"], &tensor["variable"]),
        (&"block_1_depthwise".into(), &"kernel".into())
    );
    assert_eq!(
        (&tensor["shape"], &tensor["dtype"]),
        (&serde_json::json!([3, 3, 48, 1]), &"f32".into())
    );
    assert!(tensors.iter().all(|tensor| tensor["used"] == true));

    // Weights say nothing of photos.
    let photos = |found: &Value, setting: &str| {
        let setting = &found["photos"][setting];
        format!("{} {} {}", setting["value"], setting["from"], setting["assumed"])
    };
    assert_eq!(photos(&found, "size"), r#""224 x 224" "network" true"#);
    assert_eq!(photos(&found, "preprocessing"), r#""tf" "network" true"#);
    assert_eq!(photos(&found, "resize"), r#""bilinear" "assumed" true"#);
    let whole = unpack("mobilenet_v2_keras3_sequential.keras", &folder);
    let found = json(&["inspect".as_ref(), &whole, "--json".as_ref()]);
    assert_eq!(photos(&found, "size"), r#""32 x 32" "file" false"#);
    let text = String::from_utf8(convert(&["inspect".as_ref(), &whole]).stdout).expect("UTF-8");
    let line = text.lines().find(|line| line.starts_with("photos: ")).expect("there");
    assert!(line.contains("size 32 x 32 (from the file), resize bilinear (assumed)"), "{line}");

    let file = unpack("bad_extra_layer.h5", &folder);
    let output = convert(&["inspect".as_ref(), &file]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let extra = text.lines().find(|line| line.starts_with("extra/kernel")).expect("there");
    assert!(extra.ends_with("(not part of the network)"), "{text}");
}

#[test]
fn converted_files_hold_the_same_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let verify = |a: &Path, b: &Path| json(&["verify".as_ref(), a, b, "--json".as_ref()]);
    for name in [
        "mobilenet_v2_keras2_sequential.h5",
        "mobilenet_v2_keras3_tutorial.keras",
        "mobilenet_v2_keras3_inlined.keras",
        "mobilenet_v2_keras2.onnx",
    ] {
        let (file, output) = (unpack(name, &folder), folder.path().join("out.safetensors"));
        let run = convert(&["convert".as_ref(), &file, &output]);
        assert!(run.status.success(), "{name}: {}", String::from_utf8_lossy(&run.stderr));
        let differences = verify(&file, &output);
        assert_eq!(differences["unmatched"], serde_json::json!([]), "{name}");
        let layers = differences["layers"].as_array().expect("a list");
        assert!(
            layers.len() > 100 && layers.iter().all(|layer| layer["absolute"] == 0.0),
            "{name}"
        );
        // Head and all.
        let head = |layer: &&Value| {
            layer["layer"].as_str().is_some_and(|name| name.to_lowercase().contains("dense"))
        };
        assert!(layers.iter().any(|layer| head(&layer)), "{name}");
    }

    let (file, halves) =
        (unpack("mobilenet_v2_keras2_sequential.h5", &folder), folder.path().join("halves"));
    let run = convert(&["convert".as_ref(), &file, &halves, "--dtype".as_ref(), "f16".as_ref()]);
    assert!(run.status.success());
    let message = error(&["verify".as_ref(), &file, &halves]);
    assert!(message.contains("the files differ by"), "{message}");
    let run =
        convert(&["verify".as_ref(), &file, &halves, "--tolerance".as_ref(), "5e-4".as_ref()]);
    assert!(run.status.success(), "f16 has 11 bits");

    let pack = folder.path().join("out.bpk");
    let run = convert(&["convert".as_ref(), &file, &pack]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let mut store = burn_store::BurnpackStore::from_file(&pack).allow_partial(true);
    let config = rekindle_nn::MobileNetV2Config::new().with_alpha(0.35).with_size(32);
    let backbone = config.init::<burn::backend::Flex>(&Default::default()).expect("valid");
    let mut network = rekindle_nn::Network::from(backbone);
    let applied =
        burn_store::ModuleSnapshot::load_from(&mut network, &mut store).expect("loads").applied;
    assert_eq!(applied.len(), 260);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mobile, output) =
        (unpack("mobilenet_v2_keras3.weights.h5", &folder), folder.path().join("out"));
    let arch = |name: &'static str| {
        error(&["convert".as_ref(), &mobile, &output, "--arch".as_ref(), name.as_ref()])
    };
    assert!(arch("inception-v3").contains("holds mobilenet-v2 0.35"), "another network");
    assert!(arch("resnet").contains("expected one of mobilenet"), "unknown");
    assert!(!output.exists());

    let wide = unpack("mobilenet_v2_keras2_sequential.h5", &folder);
    let message = error(&["verify".as_ref(), &mobile, &wide]);
    assert!(message.contains("are in one file only"), "{message}");
    let message = error(&["inspect".as_ref(), &folder.path().join("nowhere.h5")]);
    assert!(message.contains("nowhere.h5"), "{message}");
    let bad = unpack("bad_nan.h5", &folder);
    let message = error(&["convert".as_ref(), &bad, &output]);
    assert!(message.contains("`block_5_project_BN/") && message.contains("holds NaN"), "{message}");
    assert!(!output.exists());
}

#[test]
fn keras_s_files_are_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = unpack("mobilenet_v2_keras3.weights.h5", &folder);
    for (name, option) in [
        ("whole.keras", None),
        ("whole.h5", None),
        ("alone.weights.h5", None),
        ("alone.h5", Some("--weights-only")),
    ] {
        let out = folder.path().join(name);
        let mut args: Vec<&Path> = vec!["convert".as_ref(), &file, &out];
        args.extend(option.map(Path::new));
        let written = convert(&args);
        assert!(written.status.success(), "{name}: {}", String::from_utf8_lossy(&written.stderr));
        let found = json(&["verify".as_ref(), &file, &out, "--json".as_ref()]);
        assert_eq!(found["unmatched"], serde_json::json!([]), "{name}");
        let layers = found["layers"].as_array().expect("a list");
        assert!(layers.iter().all(|layer| layer["absolute"] == 0.0), "{name}");
    }
    let out = folder.path().join("half.keras");
    let args: [&Path; 5] = ["convert".as_ref(), &file, &out, "--dtype".as_ref(), "f16".as_ref()];
    assert!(error(&args).contains("only safetensors"));
    let out = folder.path().join("alone.safetensors");
    let args: [&Path; 4] = ["convert".as_ref(), &file, &out, "--weights-only".as_ref()];
    assert!(error(&args).contains("name it .h5"));
}
