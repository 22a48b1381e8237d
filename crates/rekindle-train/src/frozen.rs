use burn::tensor::backend::Backend;
use rekindle_kernels::{Isa, Plan, PlanError, lower, serves};
use rekindle_nn::{Eager, Features, Model, Network, Section, Shape};

use crate::TrainError;

/// A model, up to a layer or to its end, for inference: a plan of the CPU engine where the backend's
/// tensors are in the CPU's memory, Burn's tensors elsewhere.
#[derive(Debug)]
pub(crate) enum Frozen {
    Plan(Box<Plan>),
    Eager,
}

impl Frozen {
    /// Compiles a plan, if the backend is one of the CPU's and the engine knows every layer.
    ///
    /// # Errors
    /// When the network cannot take such images, or `REKINDLE_ISA` cannot be used.
    pub fn new<B: Backend>(
        model: &Model<B>,
        until: Option<&str>,
        input: Shape,
        device: &B::Device,
    ) -> Result<Self, TrainError> {
        if !serves::<B>(device) {
            return Ok(Self::Eager);
        }
        match lower(model, until, input, Isa::detect()?) {
            Ok(plan) => Ok(Self::Plan(Box::new(plan))),
            Err(error @ PlanError::Unsupported { .. }) => {
                tracing::debug!("computing with Burn: {error}");
                Ok(Self::Eager)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The outputs for preprocessed images, `[batch, 3, height, width]`, and the shape of each.
    pub fn run<B: Backend>(
        &self,
        model: &Model<B>,
        until: Option<&str>,
        images: Vec<f32>,
        input: Shape,
        device: &B::Device,
    ) -> Result<(Vec<f32>, Shape), TrainError> {
        if let Self::Plan(plan) = self {
            return Ok((plan.run(&images)?, plan.output_shape()));
        }
        let images = Features::from_values(images, input, device);
        let outputs = match until {
            Some(layer) => Section::until(model, Eager::inference(), layer, images)?,
            None => model.walk(&mut Eager::inference(), images)?,
        };
        let shape = outputs.shape();
        // The conversion makes it f32, whatever the backend computes with.
        let values = outputs.into_data().convert::<f32>().into_vec().unwrap_or_default();
        Ok((values, shape))
    }
}
