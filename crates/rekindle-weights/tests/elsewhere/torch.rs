//! PyTorch's networks, by timm's and torchvision's names, answer as these programs do.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
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
