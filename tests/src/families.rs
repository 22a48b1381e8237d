//! What Keras's own networks compute: tests/golden/networks is written by `tests/keras/networks.py`.

use std::collections::HashSet;
use std::rc::Rc;

use burn::tensor::backend::Backend;
use rekindle::nn::{Architecture, FAMILIES, Family, Features, Network};
use serde_json::Value;

use crate::{Formula, Golden, Tap, preprocessed_pictures, relative_difference, sample, size};

/// Networks with more parameters are left out where `REKINDLE_LARGE` is not set.
const LARGE: usize = 30_000_000;

/// One network of a family, and what Keras computes with it.
pub struct FamilyCase {
    golden: Rc<Golden>,
    key: String,
    formula: Formula,
    /// The network.
    pub architecture: Architecture,
    /// The layers whose outputs are there, the last one at the end.
    pub layers: Vec<String>,
    /// Whether there are gradients.
    pub has_gradients: bool,
}

/// The networks of every family that are compared with Keras's.
///
/// Those with more than 30 million parameters take minutes and gigabytes: they are there where `REKINDLE_LARGE` is set.
#[must_use]
pub fn cases() -> Vec<FamilyCase> {
    let with_large = std::env::var_os("REKINDLE_LARGE").is_some();
    let mut left_out = Vec::new();
    let mut cases = Vec::new();
    for family in FAMILIES {
        let all = FamilyCase::of(family);
        let variants: HashSet<String> = all
            .iter()
            .map(|case| case.architecture.with_size(224).with_top(None).to_string())
            .collect();
        assert_eq!(
            variants.len(),
            variants_of(family),
            "{} has a golden file of each",
            family.name
        );
        for case in all {
            let parameters = case.architecture.graph().expect("builds").summary().parameters;
            if with_large || parameters.total <= LARGE {
                cases.push(case);
            } else if !left_out.contains(&family.name) {
                left_out.push(family.name);
            }
        }
    }
    if !left_out.is_empty() {
        println!("left out, for REKINDLE_LARGE is not set: {}", left_out.join(", "));
    }
    cases
}

/// How many forms there are weights of; TF-Slim's, which are not Keras's, have one.
fn variants_of(family: &Family) -> usize {
    let all = Architecture::all().into_iter().filter(|known| known.family == family);
    all.filter(|known| (family.published)(&known.settings).is_some()).count().max(1)
}

impl FamilyCase {
    fn of(family: &'static Family) -> Vec<Self> {
        let golden = Rc::new(Golden::open(&format!("networks/{}.safetensors", family.name)));
        let cases: Vec<Value> = serde_json::from_str(&golden.metadata["cases"]).expect("JSON");
        let case = |case: Value| {
            let count = |name: &str| case[name].as_u64().map(|count| count as usize);
            let names = |name: &str| -> Vec<String> {
                serde_json::from_value(case[name].clone()).expect("names")
            };
            let text = |name: &str| case[name].as_str().expect("text").to_owned();
            let mut architecture = Architecture::new(family)
                .with_size(count("size").expect("a size"))
                .with_minimalistic(case["minimalistic"].as_bool().unwrap_or(false))
                .with_top(count("classes"));
            if let Some(alpha) = case["alpha"].as_f64() {
                architecture = architecture.with_alpha(alpha);
            }
            Self {
                golden: Rc::clone(&golden),
                key: text("key"),
                formula: Formula {
                    gain: case["gain"].as_f64().expect("a number"),
                    classifiers: vec![text("classifier")],
                    weak: names("weak"),
                    // Older golden files do not say it.
                    weak_gain: case["weak_gain"].as_f64().unwrap_or(0.5),
                },
                architecture,
                layers: names("layers"),
                has_gradients: case["gradients"].as_bool().expect("a flag"),
            }
        };
        cases.into_iter().map(case).collect()
    }

    /// The same for another size or top.
    #[must_use]
    pub fn network_as<B: Backend>(
        &self,
        architecture: Architecture,
        device: &B::Device,
    ) -> Network<B> {
        self.formula.network(architecture, device)
    }

    /// The network with the formula's weights.
    #[must_use]
    pub fn network<B: Backend>(&self, device: &B::Device) -> Network<B> {
        self.formula.network(self.architecture, device)
    }

    /// Two pictures as the network takes them.
    #[must_use]
    pub fn pictures(&self) -> Vec<f32> {
        let preprocessing = self.architecture.family.preprocessing.parse().expect("Keras's mode");
        preprocessed_pictures(size(&self.architecture), preprocessing)
    }

    /// Samples of a layer's output.
    #[must_use]
    pub fn output(&self, layer: &str) -> &[f32] {
        self.golden.values(&format!("{}/{layer}", self.key))
    }

    /// Samples of the last layer's output.
    #[must_use]
    pub fn last(&self) -> &[f32] {
        self.output(self.layers.last().expect("layers"))
    }

    /// Samples of a variable's gradient.
    #[must_use]
    pub fn gradient(&self, path: &str) -> &[f32] {
        self.golden.values(&format!("{}/gradient/{path}", self.key))
    }

    /// Runs a network on the pictures and compares the recorded layers that are `wanted`.
    pub fn compare<B: Backend>(
        &self,
        network: &Network<B>,
        device: &B::Device,
        tolerance: f32,
        wanted: impl Fn(&str) -> bool,
    ) {
        let architecture = &self.architecture;
        let images = Features::<B>::from_values(self.pictures(), network.graph().input(), device);
        let layers: Vec<String> =
            self.layers.iter().filter(|layer| wanted(layer)).cloned().collect();
        let mut tap = Tap::new(&layers);
        network.walk(&mut tap, images).expect("the pictures fit");
        for layer in &layers {
            let theirs = self.output(layer);
            let ours = sample(&tap.seen[layer], theirs);
            let difference = relative_difference(&ours, theirs);
            assert!(
                difference <= tolerance,
                "{architecture}: {layer}: relative difference {difference:e}"
            );
            if architecture.classes().is_some() && Some(layer) == self.layers.last() {
                let absolute =
                    ours.iter().zip(theirs).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
                assert!(
                    absolute <= tolerance / 10.0,
                    "{architecture}: {layer}: difference {absolute:e}"
                );
                // A network that has died gives every class the same.
                let classes = network.graph().classes().unwrap_or(1);
                assert!(theirs[theirs.len() - 1] > 2.0 / classes as f32, "{architecture}");
            }
        }
    }
}
