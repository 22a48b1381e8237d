use burn::optim::{LearningRate, SimpleOptimizer};
use burn::record::Record;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, ops::Device};

/// Keras's Adam (`keras/src/optimizers/adam.py`). Burn's scales epsilon by the bias correction, as in
/// PyTorch; Keras's does not, which shows in the first steps.
#[derive(Debug, Clone)]
pub(crate) struct Adam {
    beta_1: f64,
    beta_2: f64,
    epsilon: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 }
    }
}

/// The moments of one parameter.
#[derive(Record, Clone)]
pub(crate) struct AdamState<B: Backend, const D: usize> {
    /// How many steps there were.
    pub time: usize,
    /// Moving mean of the gradients.
    pub mean: Tensor<B, D>,
    /// Moving mean of their squares.
    pub square: Tensor<B, D>,
}

impl<B: Backend> SimpleOptimizer<B> for Adam {
    type State<const D: usize> = AdamState<B, D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<B, D>,
        grad: Tensor<B, D>,
        state: Option<AdamState<B, D>>,
    ) -> (Tensor<B, D>, Option<AdamState<B, D>>) {
        let new_mean = grad.clone() * (1.0 - self.beta_1);
        let new_square = grad.square() * (1.0 - self.beta_2);
        let state = match state {
            None => AdamState { time: 1, mean: new_mean, square: new_square },
            Some(state) => AdamState {
                time: state.time + 1,
                mean: state.mean * self.beta_1 + new_mean,
                square: state.square * self.beta_2 + new_square,
            },
        };
        let time = state.time as f64;
        let rate = lr * (1.0 - self.beta_2.powf(time)).sqrt() / (1.0 - self.beta_1.powf(time));
        let root = state.square.clone().sqrt() + self.epsilon;
        let tensor = tensor - state.mean.clone() * rate / root;
        (tensor, Some(state))
    }

    fn to_device<const D: usize>(state: AdamState<B, D>, device: &Device<B>) -> AdamState<B, D> {
        let AdamState { time, mean, square } = state;
        AdamState { time, mean: mean.to_device(device), square: square.to_device(device) }
    }
}

impl Adam {
    /// The optimizer of a module.
    pub fn init<B: AutodiffBackend, M: burn::module::AutodiffModule<B>>(
        self,
    ) -> burn::optim::adaptor::OptimizerAdaptor<Self, M, B> {
        self.into()
    }
}
