//! What the public interface promises to programs that use it.

use burn::backend::{Autodiff, Flex};
use rekindle::devices::DeviceError;
use rekindle::infer::InferError;
use rekindle::kernels::PlanError;
use rekindle::nn::NetworkError;
use rekindle::prelude::*;
use rekindle::train::TrainError;
use rekindle::vision::VisionError;
use rekindle::weights::WeightsError;

/// Compiles only where it holds.
#[test]
fn learners_models_and_errors_go_to_other_threads() {
    fn is_send<T: Send + 'static>() {}
    fn is_error<T: std::error::Error + Send + Sync + 'static>() {}
    is_send::<TransferLearner<Autodiff<Flex>>>();
    is_send::<TrainedModel<Flex>>();
    is_send::<Network<Autodiff<Flex>>>();
    is_error::<TrainError>();
    is_error::<InferError>();
    is_error::<WeightsError>();
    is_error::<VisionError>();
    is_error::<NetworkError>();
    is_error::<PlanError>();
    is_error::<DeviceError>();
}
