//! The `rekindle` command as a user runs it.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

mod common;

use common::{rekindle, repository, text};

/// The standard output of a run that must succeed.
fn stdout(args: &[&str]) -> String {
    let output = rekindle(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn summary_prints_tables_totals_and_json() {
    let args = ["summary", "inception-v3", "--no-top", "--size", "160", "--frozen", "--compact"];
    let totals = stdout(&args);
    assert_eq!(
        totals,
        "Total params: 21,802,784\nTrainable params: 0\nNon-trainable params: 21,802,784\n"
    );
    let args = [
        "summary",
        "inception-v3",
        "--size",
        "160",
        "--frozen",
        "--head",
        "flatten-512",
        "--classes",
        "2",
        "--json",
    ];
    let json: Value = serde_json::from_str(&stdout(&args)).expect("JSON");
    assert_eq!(json["parameters"]["total"], 31_241_506);
    assert_eq!(json["parameters"]["trainable"], 9_438_722);
    let layers = json["layers"].as_array().expect("a list");
    let last = layers.last().expect("layers");
    assert_eq!(last["kind"], "Dense");
    assert_eq!(last["output_shape"], "(None, 2)");
    let table = stdout(&["summary", "mobilenet-v2"]);
    assert!(table.contains("block_13_expand (Conv2D)"), "{table}");
    assert!(table.contains("(None, 7, 7, 1280)"), "{table}");
    assert!(table.contains("Total params: 3,538,984"), "{table}");
}

#[test]
fn train_evaluate_and_predict() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let (model, report, curves) = (path("m.rekindle"), path("r.json"), path("c.png"));
    let photos = repository("demo/photos").to_str().expect("UTF-8").to_owned();
    let lines = stdout(&[
        "train",
        &photos,
        "--size",
        "64",
        "--epochs",
        "3",
        "--batch",
        "16",
        "--lr",
        "0.002",
        "--seed",
        "5",
        "--valid-split",
        "0.25",
        "--out",
        &model,
        "--report",
        &report,
        "--curves",
        &curves,
    ]);
    assert_eq!(lines.lines().count(), 3);
    assert!(lines.starts_with("Epoch 1/3 - loss: "), "{lines}");

    let report: Value =
        serde_json::from_slice(&std::fs::read(report).expect("written")).expect("JSON");
    let epochs = report["epochs"].as_array().expect("a list");
    assert_eq!(epochs.len(), 3);
    for key in ["loss", "accuracy", "val_loss", "val_accuracy", "seconds"] {
        assert!(epochs[2][key].is_number(), "{key}");
    }
    assert_eq!(report["classes"][0], "birds");
    assert_eq!(
        report["train_images"].as_u64().zip(report["valid_images"].as_u64()),
        Some((72, 24))
    );
    assert!(report["fit_seconds"].as_f64() >= report["feature_seconds"].as_f64());
    assert!(report["feature_seconds"].as_f64() > report["waiting_seconds"].as_f64());
    assert!(report["waiting_seconds"].as_f64() > Some(0.0));
    assert!(report["peak_rss_bytes"].as_u64() > Some(10_000_000));
    assert_eq!(report["parameters"]["non_trainable"], 2_257_984);
    assert!(std::fs::read(curves).expect("written").starts_with(b"\x89PNG"));

    let photo = repository("demo/photos/birds/drake.jpg").to_str().expect("UTF-8").to_owned();
    let json: Value =
        serde_json::from_str(&stdout(&["predict", &model, &photo, "--top", "3", "--json"]))
            .expect("JSON");
    assert_eq!(json[0]["image"], photo.as_str());
    let predictions = json[0]["predictions"].as_array().expect("a list");
    assert_eq!(predictions.len(), 3);
    assert!(predictions[0]["probability"].as_f64() >= predictions[1]["probability"].as_f64());
    assert!(predictions[0]["class"].is_string() && predictions[0]["index"].is_u64());
    let other = stdout(&[
        "predict",
        &model,
        &photo,
        "--size",
        "96",
        "--resize",
        "nearest",
        "--preprocess",
        "caffe",
    ]);
    assert!(other.contains('%'), "{other}");

    let json: Value =
        serde_json::from_str(&stdout(&["evaluate", &model, &photos, "--json"])).expect("JSON");
    assert_eq!(json["images"], 96);
    assert!(json["accuracy"].as_f64() > Some(0.4), "{json}");

    quantized(dir.path(), &model, [&photos, &photo], json["accuracy"].as_f64().expect("a number"));

    // What cannot be predicted is named, and the rest is predicted.
    let output = rekindle(&["predict", &model, "nowhere.jpg", &photo]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nowhere.jpg"));
    assert!(text(&output.stdout).contains("drake.jpg"));
}

/// A quarter of the size, nearly the same answers, and no way to train it further.
fn quantized(dir: &Path, model: &str, [photos, photo]: [&str; 2], accuracy: f64) {
    let path = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
    let small = path("m8.rekindle");
    let quantize = |out: &str, share: &str| -> Value {
        let args = ["quantize", model, photos, "--out", out, "--photos-by-layer", "1", "--json"];
        let args = [&args[..], &["--agreement", share]].concat();
        serde_json::from_str(&stdout(&args)).expect("JSON")
    };
    // A few of 96 photos near the edge of two classes: which ones depends on the processor's rounding.
    let report = quantize(&small, "0.9");
    assert_eq!(report["photos"], 96);
    assert!(report["agreement"].as_f64() > Some(0.9), "{report}");
    assert_eq!(report["accuracy"]["images"], 96);
    assert_eq!(report["accuracy"]["f32"].as_f64(), Some(accuracy));
    let kept = report["accuracy"]["int8"].as_f64().expect("a number");
    assert!((kept - accuracy).abs() < 0.05, "{kept} of {accuracy}");
    // Every convolution, and the head.
    assert_eq!(report["losses"].as_array().expect("a list").len(), 53);
    assert_eq!(report["kept"], serde_json::json!([]));
    let [before, after] = [0, 1].map(|file| report["bytes"][file].as_f64().expect("a size"));
    assert!(after < 0.35 * before, "{after} of {before}");
    // All photos keep their best class, or as many layers as may be are kept in f32 for it.
    let strict = quantize(&path("strict.rekindle"), "1");
    let layers = strict["kept"].as_array().expect("a list").len();
    assert!(strict["agreement"] == 1.0 || layers == 12, "{strict}");
    assert!(strict["agreement"].as_f64() >= report["agreement"].as_f64(), "{strict}");
    let args = ["quantize", model, photos, "--out", &path("x.rekindle"), "--keep", "nothing"];
    let refused = rekindle(&args);
    assert!(text(&refused.stderr).contains("`nothing`"), "{}", text(&refused.stderr));

    let json: Value =
        serde_json::from_str(&stdout(&["evaluate", &small, photos, "--json"])).expect("JSON");
    assert_eq!(json["accuracy"].as_f64(), Some(kept));
    let as_f32 = rekindle(&["predict", &small, photo, "--precision", "f32"]);
    assert!(as_f32.status.success());
    assert!(text(&as_f32.stderr).contains("its weights are taken as f32"));
    let not = rekindle(&["predict", model, photo, "--precision", "int8"]);
    assert!(text(&not.stderr).contains("`rekindle quantize`"), "{}", text(&not.stderr));
    let args =
        ["train", photos, "--weights", &small, "--epochs", "1", "--out", &path("y.rekindle")];
    let refused = rekindle(&args);
    assert!(
        text(&refused.stderr).contains("cannot be trained further"),
        "{}",
        text(&refused.stderr)
    );
    let again = rekindle(&["quantize", &small, photos, "--out", &path("z.rekindle")]);
    assert!(text(&again.stderr).contains("quantized already"), "{}", text(&again.stderr));
    exported(dir, model, &small, photo);
}

/// Other programs get bytes, which are not read again, or the numbers that they stand for.
fn exported(dir: &Path, model: &str, small: &str, photo: &str) {
    let path = |name: &str| dir.join(name).to_str().expect("UTF-8").to_owned();
    for format in ["onnx", "tflite"] {
        let (bytes, numbers) = (path(&format!("m8.{format}")), path(&format!("m8_f32.{format}")));
        stdout(&["export", small, &bytes]);
        stdout(&["export", small, &numbers, "--precision", "f32"]);
        assert!(stdout(&["predict", &numbers, photo]).contains('%'));
        let [small, large] =
            [&bytes, &numbers].map(|file| std::fs::metadata(file).expect("is there").len());
        assert!(small < large / 3, "{format}: {small} and {large} bytes");
        let refused = rekindle(&["predict", &bytes, photo]);
        assert_eq!(refused.status.code(), Some(1));
        let error = text(&refused.stderr);
        assert!(error.contains("quantised to integers"), "{error}");
        assert!(error.contains("`rekindle export --precision f32`"), "{error}");
        let not = rekindle(&["export", model, &bytes, "--precision", "int8"]);
        assert!(text(&not.stderr).contains("`rekindle quantize`"), "{}", text(&not.stderr));
    }
    let keras = path("m8.keras");
    let refused = rekindle(&["export", small, &keras, "--precision", "int8"]);
    assert!(text(&refused.stderr).contains(".onnx and .tflite"), "{}", text(&refused.stderr));
    let noted = rekindle(&["export", small, &keras]);
    assert!(text(&noted.stderr).contains("the numbers that its bytes stand for"));
}

#[test]
fn demo_writes_everything() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("demo");
    let printed = stdout(&["demo", "--epochs", "8", "--out", out.to_str().expect("UTF-8")]);
    assert!(printed.contains("validation accuracy: "), "{printed}");
    for file in ["model.rekindle", "curves.png", "report.json"] {
        assert!(out.join(file).is_file(), "{file}");
    }
}

#[test]
fn bench_times_every_layer() {
    let args = ["bench", "mobilenet-v2", "--size", "32", "--runs", "2", "--profile", "--json"];
    for batch in ["1", "5"] {
        let report: Value =
            serde_json::from_str(&stdout(&[&args[..], &["--batch", batch]].concat()))
                .expect("JSON");
        let layers = report["layers"].as_array().expect("a list");
        // 35 full and 17 depthwise convolutions, none of them large enough for strips, and the ends; all else is fused.
        assert_eq!(layers.len(), 54);
        assert_eq!(layers[0]["layer"], "input");
        assert_eq!(layers[2]["layer"], "expanded_conv_depthwise");
        assert_eq!(layers[2]["work"], "depthwise 3x3");
        assert_eq!(layers[2]["output"], serde_json::json!([16, 16, 32]));
        assert_eq!(layers[53]["layer"], "output");
        assert!(layers.iter().all(|layer| layer["milliseconds"].as_f64() > Some(0.0)));
        assert!(report["milliseconds"].as_f64() > Some(0.0));
    }
    assert!(
        stdout(&["bench", "mobilenet-v2", "--size", "64", "--runs", "1"]).contains("ms an image")
    );
    assert_eq!(rekindle(&["bench", "mobilenet-v2", "--batch", "0"]).status.code(), Some(1));
}

#[test]
fn keras_classifiers_predict_and_train_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let keras = dir.path().join("model.keras");
    let packed = repository("tests/golden/checkpoints/mobilenet_v2_keras3_sequential.keras.gz");
    let mut packed = flate2::read::GzDecoder::new(std::fs::File::open(packed).expect("opens"));
    std::io::copy(&mut packed, &mut std::fs::File::create(&keras).expect("creates")).expect("gzip");
    let (keras, photo) = (keras.display().to_string(), repository("demo/photos/birds/drake.jpg"));
    let photo = photo.display().to_string();
    let json = |args: &[&str]| -> Value { serde_json::from_str(&stdout(args)).expect("JSON") };
    let found = json(&["predict", &keras, &photo, "--json"]);
    let classes = found[0]["predictions"].as_array().expect("a list");
    assert_eq!(classes.len(), 3);
    assert!(
        classes
            .iter()
            .all(|class| ["0", "1", "2"].contains(&class["class"].as_str().expect("text")))
    );

    let labels = dir.path().join("labels.txt");
    std::fs::write(&labels, "mammals\nbirds\n\nhouses\n").expect("writes");
    let labels = labels.display().to_string();
    let named = json(&["predict", &keras, &photo, "--labels", &labels, "--json"]);
    for (named, found) in named[0]["predictions"].as_array().expect("a list").iter().zip(classes) {
        let index = found["index"].as_u64().expect("a number") as usize;
        assert_eq!(named["class"], ["mammals", "birds", "houses"][index]);
        assert_eq!(named["probability"], found["probability"]);
    }
    let other = json(&["predict", &keras, &photo, "--preprocess", "rescale:0.1:0", "--json"]);
    assert_ne!(other, found);

    // Trained further, on folders of its classes.
    let few = dir.path().join("photos");
    for class in ["birds", "houses", "mammals"] {
        std::fs::create_dir_all(few.join(class)).expect("creates");
        let photos = std::fs::read_dir(repository("demo/photos").join(class)).expect("lists");
        for file in photos.take(3) {
            let file = file.expect("lists");
            std::fs::copy(file.path(), few.join(class).join(file.file_name())).expect("copies");
        }
    }
    let (few, out) = (few.display().to_string(), dir.path().join("on.rekindle"));
    let out = out.display().to_string();
    stdout(&["train", &few, "--from", &keras, "--labels", &labels, "--epochs", "1", "--out", &out]);
    let on = json(&["predict", &out, &photo, "--json"]);
    assert!(on[0]["predictions"][0]["class"].as_str().is_some_and(|class| class.len() > 4));

    std::fs::write(&labels, "mammals\nbirds\n").expect("writes");
    let output = rekindle(&["predict", &keras, &photo, "--labels", &labels]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("labels.txt: found 2 class names"), "{message}");
}

#[test]
fn imagenet_s_weights_are_found_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
        // Nobody listens there: what is not on the disk cannot be had.
        command.env("REKINDLE_WEIGHTS_URL", "http://127.0.0.1:9/").env("HOME", dir.path());
        command.env("REKINDLE_CACHE", dir.path().join("cache")).args(args).output().expect("starts")
    };
    let (photos, out) = (repository("demo/photos"), dir.path().join("out.rekindle"));
    let (photos, out) = (photos.display().to_string(), out.display().to_string());
    let args =
        ["train", &photos, "--weights", "imagenet", "--size", "96", "--epochs", "1", "--out", &out];
    let name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5";
    let output = run(&args);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(message.contains(&format!("http://127.0.0.1:9/mobilenet_v2/{name}")), "{message}");
    let place = dir.path().join("cache").join(name);
    assert!(message.contains(&format!("put the file at {}", place.display())), "{message}");

    // A file of Keras's layout, there by hand; its network is narrower than the published one.
    let packed = repository("tests/golden/checkpoints/mobilenet_v2_keras2_weights.h5.gz");
    let mut packed = flate2::read::GzDecoder::new(std::fs::File::open(packed).expect("opens"));
    std::io::copy(&mut packed, &mut std::fs::File::create(&place).expect("creates")).expect("gzip");
    let output = run(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let photo = repository("demo/photos/birds/drake.jpg").display().to_string();
    assert!(run(&["predict", &out, &photo]).status.success());

    let message = text(&run(&["predict", "inception-v3", &photo]).stderr);
    assert!(message.contains("inception_v3_weights_tf_dim_ordering_tf_kernels.h5"), "{message}");
}

#[test]
fn failures_have_a_status_and_a_message() {
    for (args, status, message) in [
        (&["train", "nowhere"][..], 1, "nowhere"),
        (&["train", ".", "--base", "inception-v3"], 1, "class"),
        (&["predict", "nowhere.rekindle", "x.jpg"], 1, "nowhere.rekindle"),
        (&["summary", "inception-v3", "--size", "20"], 1, "at least 75"),
        (&["summary", "resnet"], 2, "resnet"),
        (&["train"], 2, "DIR"),
        #[cfg(not(feature = "cloud"))]
        (&["features", "s3://b/photos", "--out", "x"], 1, "the feature `cloud`"),
        #[cfg(not(feature = "cloud"))]
        (&["predict", "s3://b/m.rekindle", "x.jpg"], 1, "the feature `cloud`"),
        (&["train", ".", "--valid-dir", "s3://b/valid"], 1, "not an address"),
        (&["train", ".", "--valid-split", "0.1", "--valid-dir", "x"], 2, "cannot be used with"),
        (&["predict", "m", "x.jpg", "--resize", "cubic"], 2, "cubic"),
        (&[], 2, "Usage"),
    ] {
        let output = rekindle(args);
        assert_eq!(output.status.code(), Some(status), "{args:?}");
        assert!(text(&output.stderr).contains(message), "{args:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

/// Every kind of device is listed, with its name or with the reason why it is not there; and what is not there is an error
/// that says so, not a panic.
#[test]
fn devices_are_listed_and_missing_ones_named() {
    let json: Value = serde_json::from_str(&stdout(&["devices", "--json"])).expect("JSON");
    let rows = json.as_array().expect("a list");
    assert_eq!(rows[0]["device"], "cpu");
    for kind in ["cuda", "wgpu"] {
        let of_kind =
            |row: &&Value| row["device"].as_str().is_some_and(|name| name.starts_with(kind));
        let row = rows.iter().find(of_kind).expect(kind);
        assert!(row["name"].is_string() != row["problem"].is_string(), "{row}");
    }
    for device in ["cuda:77", "wgpu:virtual:77"] {
        let output = rekindle(&["demo", "--device", device, "--out", "never-written"]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(&format!("device `{device}`: ")), "{error}");
        assert!(!Path::new("never-written").exists());
    }
    // What is for GPUs, on the CPU.
    let photos = repository("demo/photos").display().to_string();
    for (words, message) in [
        (&["--devices", "0,1"][..], "--devices 1: there is 1 device of the kind of cpu"),
        (&["--gradient-checkpointing"], "--micro-batch takes less memory"),
        (&["--precision", "f16"], "f16"),
    ] {
        let output = rekindle(&[&["train", &photos][..], words].concat());
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains(message), "{error}");
    }
    let output = rekindle(&["demo", "--device", "tpu"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("expected cpu, cuda[:N]"), "{}", text(&output.stderr));
}

#[test]
fn models_are_listed() {
    let rows: serde_json::Value =
        serde_json::from_str(&stdout(&["models", "--json", "--sort", "parameters"])).expect("JSON");
    let rows = rows.as_array().expect("a list");
    assert_eq!(rows.len(), 43);
    let vgg = rows.iter().find(|row| row["name"] == "vgg-16").expect("VGG16");
    assert_eq!((&vgg["parameters"], &vgg["size"]), (&138_357_544.into(), &224.into()));
    assert_eq!(rows[42]["name"], "convnext-xlarge");
    assert!(stdout(&["models", "--all"]).contains("mobilenet-v3-small --minimalistic"));
    let error = rekindle(&["models", "--sort", "time"]);
    assert_eq!(error.status.code(), Some(1));
}

/// The lines of a guide's page that call the program, run where its files are.
#[test]
fn the_guide_s_commands_for_other_programs_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let few = dir.path().join("photos");
    for class in ["birds", "houses"] {
        std::fs::create_dir_all(few.join(class)).expect("creates");
        let photos = std::fs::read_dir(repository("demo/photos").join(class)).expect("lists");
        for file in photos.take(3) {
            let file = file.expect("lists");
            std::fs::copy(file.path(), few.join(class).join(file.file_name())).expect("copies");
        }
    }
    std::fs::copy(repository("demo/photos/birds/drake.jpg"), dir.path().join("cat.jpg"))
        .expect("copies");
    let (few, model) = (few.display().to_string(), dir.path().join("pets.rekindle"));
    let model = model.display().to_string();
    stdout(&["train", &few, "--size", "64", "--epochs", "1", "--out", &model]);

    let page = |name| std::fs::read_to_string(repository(name)).expect("a page");
    let pages = page("docs/guide/src/out.md") + &page("docs/guide/src/beyond.md");
    let mut count = 0;
    for block in pages.split("```sh\n").skip(1) {
        for line in block.split("```").next().unwrap_or_default().lines() {
            let mut words = line.split_whitespace();
            assert_eq!(words.next(), Some("rekindle"), "{line}");
            let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
            let output = command.args(words).current_dir(dir.path()).output().expect("starts");
            assert!(output.status.success(), "{line}: {}", text(&output.stderr));
            count += 1;
        }
    }
    assert!(count >= 12, "{count}");
    // What was written predicts the same.
    let predict = |name: &str| {
        let (path, photo) = (dir.path().join(name), dir.path().join("cat.jpg"));
        let (path, photo) = (path.display().to_string(), photo.display().to_string());
        let json: Value =
            serde_json::from_str(&stdout(&["predict", &path, &photo, "--json"])).expect("JSON");
        json[0]["predictions"].clone()
    };
    for file in [
        "pets.onnx",
        "pets.tflite",
        "pets.keras",
        "pets.h5",
        "pets.safetensors",
        "pets_timm.safetensors",
    ] {
        assert_eq!(predict(file), predict("pets.rekindle"), "{file}");
    }
    let other = dir.path().join("other.safetensors").display().to_string();
    let output = rekindle(&["export", &model, &other, "--names", "torchvision"]);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("`mobilenet_v2` has its layers, but computes otherwise"), "{error}");
    let output = rekindle(&["export", &model, "pets.pb"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("nothing is exported as `.pb`"),
        "{}",
        text(&output.stderr)
    );
}
