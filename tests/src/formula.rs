//! The formula that fills every variable, here and in `tests/keras/formula.py`.

use burn::tensor::backend::Backend;
use rekindle::nn::{Architecture, Network, Variable};
use rekindle::weights::{Checkpoint, Dtype, TensorInfo, load};

use crate::uniform;

/// What the formula gives some layers.
#[derive(Debug, Clone)]
pub struct Formula {
    /// How much wider than He's the classifier's kernel is.
    pub gain: f64,
    /// The layers that classify.
    pub classifiers: Vec<String>,
    /// Layers that end a branch of a sum.
    pub weak: Vec<String>,
    /// What those have of the others' gamma or kernel.
    pub weak_gain: f64,
}

impl Formula {
    /// What networks are filled with that have no golden file.
    #[must_use]
    pub fn of(architecture: &Architecture) -> Self {
        let gain = if architecture.name() == "inception-v3" { 10.0 } else { 2.0 };
        let classifiers = ["predictions", "conv_preds"].map(str::to_owned).to_vec();
        Self { gain, classifiers, weak: Vec::new(), weak_gain: 0.5 }
    }

    /// The value of one variable, in Keras's layout.
    fn values(&self, variable: &Variable) -> Vec<f32> {
        let (layer, shape) = (&variable.layer, &variable.spec.shape);
        let is_weak = layer.ends_with("_project_BN") || self.weak.contains(layer);
        let (centre, width) = match variable.spec.name {
            name @ ("kernel" | "depthwise_kernel" | "pointwise_kernel") => {
                let depthwise = name == "depthwise_kernel" || variable.kind == "DepthwiseConv2D";
                let inputs = if depthwise { 2 } else { shape.len() - 1 };
                let fan_in: usize = shape[..inputs].iter().product();
                let gain = if self.classifiers.contains(layer) { self.gain } else { 1.0 };
                let is_weak = self.weak.contains(layer) && name != "depthwise_kernel";
                let weak_gain = if is_weak { self.weak_gain } else { 1.0 };
                (0.0, gain * weak_gain * (6.0 / fan_in as f64).sqrt())
            }
            // Residual branches are weaker than what they are added to, as in trained networks.
            "gamma" if is_weak => (self.weak_gain, 0.2 * self.weak_gain),
            "gamma" => (1.0, 0.2),
            "beta" => (0.1, 0.2),
            "moving_mean" => (0.0, 0.2),
            "moving_variance" => (1.0, 0.5),
            "bias" => (0.0, 0.1),
            // Of Normalization, which sees pixels from 0 to 1.
            "mean" => (0.4, 0.1),
            "variance" => (0.06, 0.02),
            "count" => (0.0, 0.0),
            other => panic!("no formula for {other}"),
        };
        let values = uniform(&variable.path(), shape.iter().product());
        values.into_iter().map(|u| (centre + width * (u * 2.0 - 1.0)) as f32).collect()
    }

    /// The network with the formula's weights, through the importer that files go through.
    #[must_use]
    pub fn network<B: Backend>(
        &self,
        architecture: Architecture,
        device: &B::Device,
    ) -> Network<B> {
        let network = architecture.init::<B>(device).expect("valid settings");
        let tensors = network.variables().into_iter().map(|variable| {
            let values = self.values(&variable);
            let (layer, shape) = (variable.layer, variable.spec.shape);
            (
                TensorInfo { layer, variable: variable.spec.name.into(), shape, dtype: Dtype::F32 },
                values,
            )
        });
        let mut checkpoint = Checkpoint::from_tensors("formula", tensors.collect());
        load(network, "the formula's network", &mut checkpoint)
            .expect("every variable fits")
            .network
    }
}

/// A network with the formula's weights.
#[must_use]
pub fn formula_network<B: Backend>(architecture: Architecture, device: &B::Device) -> Network<B> {
    Formula::of(&architecture).network(architecture, device)
}
