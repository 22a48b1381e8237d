//! PyTorch's networks, by timm's and torchvision's names, answer as these programs do.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use rekindle_pixels::Middle;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{answer, golden, open_for, refused, same};

/// A network of another program: its tensors, and what it answers.
#[derive(Deserialize)]
pub struct Golden {
    name: String,
    size: usize,
    tensors: BTreeMap<String, Vec<usize>>,
    /// What the logits are multiplied by, so that probabilities differ; 0 where the answer is maps.
    gain: f64,
    top: Vec<usize>,
    probabilities: Vec<f32>,
    /// Of a folder of Hugging Face's.
    config: Option<Value>,
    preprocessor: Option<Value>,
}

impl Golden {
    /// All of them, by the file's name.
    fn all() -> BTreeMap<String, Self> {
        let files = std::fs::read_dir(golden("torch")).expect("golden files");
        let read = |path: PathBuf| {
            let mut text = Vec::new();
            let packed = std::fs::File::open(&path).expect("a golden file");
            flate2::read::GzDecoder::new(packed).read_to_end(&mut text).expect("gzip");
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, serde_json::from_slice(&text).expect("JSON"))
        };
        files.map(|file| read(file.expect("a file").path())).collect()
    }

    fn of(file: &str) -> Self {
        Self::all().remove(&format!("{file}.json.gz")).unwrap_or_else(|| panic!("no {file}"))
    }

    /// Writes its tensors, as `change` leaves them.
    fn write(
        &self,
        folder: &Path,
        file: &str,
        change: impl Fn(&mut BTreeMap<String, Vec<usize>>),
    ) -> PathBuf {
        let mut tensors = self.tensors.clone();
        change(&mut tensors);
        let values: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
            .into_iter()
            .map(|(name, shape)| {
                let bytes = values(&name, &shape).into_iter().flat_map(f32::to_le_bytes).collect();
                (name, shape, bytes)
            })
            .collect();
        let counter = 7_i64.to_le_bytes();
        let mut views: Vec<(&str, TensorView<'_>)> = values
            .iter()
            .map(|(name, shape, bytes)| {
                let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("a tensor");
                (name.as_str(), view)
            })
            .collect();
        let view = TensorView::new(Dtype::I64, vec![], &counter).expect("a tensor");
        views.push(("bn1.num_batches_tracked", view));
        let path = folder.join(file);
        safetensors::serialize_to_file(views, None, &path).expect("writes");
        path
    }

    /// Writes a folder as Hugging Face has it.
    fn folder(&self, folder: &Path) -> PathBuf {
        let write = |name: &str, value: &Option<Value>| match value {
            Some(value) => std::fs::write(folder.join(name), value.to_string()).expect("writes"),
            None => drop(std::fs::remove_file(folder.join(name))),
        };
        write("config.json", &self.config);
        write("preprocessor_config.json", &self.preprocessor);
        self.write(folder, "model.safetensors", |_| {});
        folder.to_owned()
    }

    /// The most probable classes as the golden file has them.
    fn answer(&self, path: &Path) -> Vec<f32> {
        let model = open_for(path, Some([self.size, self.size]));
        if self.gain == 0.0 {
            // Maps.
            let maps = answer(&model);
            return self.top.iter().map(|&place| maps[place]).collect();
        }
        let logits: Vec<f64> =
            answer(&model).into_iter().map(|p| f64::from(p).ln() * self.gain).collect();
        let largest = logits.iter().copied().fold(f64::MIN, f64::max);
        let all: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        self.top.iter().map(|&class| ((logits[class] - largest).exp() / all) as f32).collect()
    }
}

/// `uniform` of tests/keras/formula.py.
fn uniform(name: &str, count: usize) -> impl Iterator<Item = f64> {
    let mut crc = flate2::Crc::new();
    crc.update(name.as_bytes());
    let start = crc.sum();
    (0..count as u32).map(move |index| {
        let mut x = index.wrapping_add(start);
        x ^= x >> 16;
        x = x.wrapping_mul(0x7feb_352d);
        x ^= x >> 15;
        x = x.wrapping_mul(0x846c_a68b);
        x ^= x >> 16;
        f64::from(x >> 8) / f64::from(1 << 24)
    })
}

/// `value` of tests/keras/torch_networks.py.
fn values(name: &str, shape: &[usize]) -> Vec<f32> {
    let (centre, width) = if matches!(shape.len(), 2 | 4) {
        let inputs: usize = shape[1..].iter().product();
        let wide = if name.contains("pw") { 3.0 } else { 4.0 };
        (0.0, (wide / inputs as f64).sqrt())
    } else if name.ends_with("running_var") {
        (1.0, 0.5)
    } else if name.ends_with("running_mean") || name.ends_with("bias") {
        (0.05, 0.1)
    } else {
        (0.8, 0.2)
    };
    uniform(name, shape.iter().product())
        .map(|x| (centre + width * (x * 2.0 - 1.0)) as f32)
        .collect()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn every_network_answers_as_its_own_program_does() {
    let folder = folder();
    for (file, golden) in Golden::all() {
        if golden.config.is_some() {
            let path = golden.folder(folder.path());
            same(&file, &golden.answer(&path), &golden.probabilities, 1e-5);
            continue;
        }
        let path = golden.write(folder.path(), &format!("{}.safetensors", golden.name), |_| {});
        same(&file, &golden.answer(&path), &golden.probabilities, 1e-5);
        std::fs::remove_file(path).expect("removes");
    }
}

#[test]
fn networks_of_the_same_tensors_are_told_apart_by_the_file_s_name() {
    let folder = folder();
    let golden = Golden::of("timm_efficientnet_b0");
    for name in ["model.safetensors", "efficientnet_b01.safetensors"] {
        let path = golden.write(folder.path(), name, |_| {});
        let error = refused(&path);
        for word in ["efficientnet_b0 or of tf_efficientnet_b0", "call the file", "config.json"] {
            assert!(error.contains(word), "{error}");
        }
    }
    // The other one's padding and epsilon give other answers: the comparison would see it.
    let path = golden.write(folder.path(), "tf_efficientnet_b0.ns_jft_in1k.safetensors", |_| {});
    let other = golden.answer(&path);
    let most = other.iter().zip(&golden.probabilities).map(|(a, b)| (a - b).abs());
    assert!(most.fold(0.0, f32::max) > 1e-3, "{other:?}");
}

#[test]
fn tensors_of_other_networks_are_errors_that_name_them() {
    type Change = fn(&mut BTreeMap<String, Vec<usize>>);
    let folder = folder();
    let golden = Golden::of("timm_resnet50");
    let changes: [(Change, &[&str]); 4] = [
        (
            |tensors| drop(tensors.remove("layer3.2.bn1.running_mean")),
            &["`layer3.2.bn1.running_mean` is missing", "conv4_block3_1_bn"],
        ),
        (
            |tensors| drop(tensors.insert("layer1.0.se.fc1.weight".into(), vec![4, 4, 1, 1])),
            &["`layer1.0.se.fc1.weight` is none of its variables"],
        ),
        (
            |tensors| drop(tensors.insert("layer1.0.conv2.weight".into(), vec![64, 32, 3, 3])),
            &["`layer1.0.conv2.weight` has the shape [64, 32, 3, 3]", "[3, 3, 64, 64]"],
        ),
        (
            |tensors| tensors.retain(|name, _| name.starts_with("layer4")),
            &["of no network that is supported", "mobilenetv2_100"],
        ),
    ];
    for (change, expected) in changes {
        let path = golden.write(folder.path(), "resnet50.safetensors", change);
        let error = refused(&path);
        for word in expected {
            assert!(error.contains(word), "{error}");
        }
    }
}

#[test]
fn a_network_without_a_classifier_or_with_one_output_is_taken() {
    let folder = folder();
    let golden = Golden::of("timm_resnet50");
    let path = golden.write(folder.path(), "resnet50.safetensors", |tensors| {
        tensors.retain(|name, _| !name.starts_with("fc."));
    });
    let (card, _) = open_for(&path, Some([64, 64]));
    assert_eq!(card.graph.classes(), None);
    assert!(card.graph.head().is_empty());
    let path = golden.write(folder.path(), "resnet50.safetensors", |tensors| {
        tensors.insert("fc.weight".into(), vec![1, 2048]);
        tensors.insert("fc.bias".into(), vec![1]);
    });
    let model = open_for(&path, Some([64, 64]));
    assert_eq!(model.0.graph.classes(), Some(2));
    assert!(model.0.assumed.iter().any(|line| line.contains("sigmoid")), "{:?}", model.0.assumed);
    let both = answer(&model);
    assert!((both[0] + both[1] - 1.0).abs() < 1e-6 && both[0] != both[1], "{both:?}");
    assert_eq!(model.0.preprocessing, "torch");
}

#[test]
fn folders_say_classes_sizes_and_preprocessing() {
    let folder = folder();
    let expected: Vec<String> = (0..5).map(|number| format!("kind {number}")).collect();
    for (file, size, preprocessing, resize, shorter) in [
        // 240 / 0.882.
        ("timm_tf_efficientnet_b1", 240, "torch", "bicubic", Some(272)),
        ("transformers_resnet", 224, "none", "bicubic", Some(256)),
        ("transformers_convnext", 224, "none", "bicubic", Some(256)),
        ("transformers_mobilenet_v2", 224, "none", "bilinear", Some(256)),
        // Stretched.
        ("transformers_efficientnet", 224, "none", "bicubic", None),
    ] {
        Golden::of(file).folder(folder.path());
        let (card, _) = open_for(folder.path(), None);
        assert_eq!(card.classes, expected, "{file}");
        assert_eq!(card.graph.input().as_map(), Some([size, size, 3]), "{file}");
        assert_eq!(card.preprocessing, preprocessing, "{file}");
        assert_eq!(card.resize.as_deref(), Some(resize), "{file}");
        let middle = shorter.map(|shorter| Middle { shorter, kept: size });
        assert_eq!(card.photo_middle, middle, "{file}");
        assert!(card.assumed.is_empty(), "{file}: {:?}", card.assumed);
    }
}

#[test]
fn what_a_folder_says_is_honoured_or_refused() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change, &[&str]); 20] = [
        (
            "timm_tf_efficientnet_b1",
            |c| c["architecture"] = json!("resnetblur50"),
            &["`resnetblur50`", "not supported", "resnet50"],
        ),
        (
            "timm_tf_efficientnet_b1",
            |c| c["model_args"]["output_stride"] = json!(16),
            &["`model_args` has `output_stride` 16"],
        ),
        (
            "timm_tf_efficientnet_b1",
            |c| c["global_pool"] = json!("max"),
            &["`global_pool` is \"max\"", "avg"],
        ),
        (
            "timm_tf_efficientnet_b1",
            |c| c["pretrained_cfg"]["mean"] = json!([0.5, "x", 1]),
            &["the mean is"],
        ),
        (
            "timm_tf_efficientnet_b1",
            |c| c["pretrained_cfg"]["std"] = json!([0, 0, 0]),
            &["the deviation"],
        ),
        (
            "timm_tf_efficientnet_b1",
            |c| c["pretrained_cfg"]["mean"] = json!([0.1]),
            &["1 means and 3 deviations"],
        ),
        (
            "timm_tf_efficientnet_b1",
            |c| c["pretrained_cfg"]["input_size"] = json!([3, 0, 9]),
            &["a size of 0"],
        ),
        (
            "timm_tf_efficientnet_b1",
            |c| c["label_names"] = json!(["a", "b"]),
            &["names 2 classes, but the model has 5"],
        ),
        (
            "timm_tf_efficientnet_b1",
            |c| c["pretrained_cfg"]["crop_pct"] = json!(2),
            &["`crop_pct` is 2", "0.05 to 1"],
        ),
        (
            "timm_tf_efficientnet_b1",
            |c| c["model_args"] = json!({ "pad_type": "same", "bn_eps": 0.001 }),
            &["`model_args` has `", "not be honoured"],
        ),
        (
            "transformers_mobilenet_v2",
            |c| c["output_stride"] = json!(16),
            &["`output_stride` is 16, expected 32"],
        ),
        (
            "transformers_mobilenet_v2",
            |c| c["first_layer_is_expansion"] = json!(false),
            &["`first_layer_is_expansion` is false"],
        ),
        (
            "transformers_efficientnet",
            |c| c["pooling_type"] = json!("max"),
            &["`pooling_type` is \"max\"", "mean"],
        ),
        (
            "transformers_efficientnet",
            |c| c["strides"] = json!([1, 1, 2, 2, 1, 2, 1]),
            &["`strides` is [1,1,2", "expected [1,2,2"],
        ),
        (
            "transformers_efficientnet",
            |c| c["depthwise_padding"] = json!(["x"]),
            &["`depthwise_padding` is [\"x\"]"],
        ),
        (
            "transformers_resnet",
            |c| c["layer_type"] = json!("basic"),
            &["`layer_type` is \"basic\"", "bottleneck"],
        ),
        (
            "transformers_resnet",
            |c| c["downsample_in_bottleneck"] = json!(true),
            &["`downsample_in_bottleneck` is true"],
        ),
        (
            "transformers_resnet",
            |c| c["model_type"] = json!("vit"),
            &["`transformers:vit`, which is not supported"],
        ),
        (
            "transformers_resnet",
            |c| drop(c["id2label"].as_object_mut().expect("labels").remove("2")),
            &["none for 2"],
        ),
        (
            "transformers_convnext",
            |c| c["layer_norm_eps"] = json!("tiny"),
            &["`layer_norm_eps` is \"tiny\""],
        ),
    ];
    let folder = folder();
    let mut last = "";
    for (file, change, expected) in changes {
        let golden = Golden::of(file);
        if file != last {
            golden.folder(folder.path());
            last = file;
        }
        let mut config = golden.config.clone().expect("a configuration");
        change(&mut config);
        std::fs::write(folder.path().join("config.json"), config.to_string()).expect("writes");
        let error = refused(folder.path());
        for word in expected {
            assert!(error.contains(word), "{file}: {error}");
        }
    }
    std::fs::write(folder.path().join("config.json"), "{}").expect("writes");
    assert!(refused(folder.path()).contains("neither timm's `architecture`"));
    let golden = Golden::of("transformers_resnet");
    golden.folder(folder.path());
    let path = folder.path().join("preprocessor_config.json");
    for (setting, value, expected) in [
        ("rescale_factor", json!(1), "`rescale_factor` is 1"),
        ("do_rescale", json!(false), "`do_rescale` is false"),
        ("resample", json!(9), "`resample` is 9"),
        ("size", json!("big"), "`size` is \"big\""),
        ("do_resize", json!(false), "`do_resize` is false"),
    ] {
        let mut settings = golden.preprocessor.clone().expect("settings");
        settings[setting] = value;
        std::fs::write(&path, settings.to_string()).expect("writes");
        assert!(refused(folder.path()).contains(expected), "{}", refused(folder.path()));
    }
    std::fs::rename(
        folder.path().join("model.safetensors"),
        folder.path().join("pytorch_model.bin"),
    )
    .expect("renames");
    std::fs::remove_file(path).expect("removes");
    assert!(refused(folder.path()).contains("import torch, safetensors.torch"));
}
