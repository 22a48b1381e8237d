use burn::tensor::backend::{Backend, ExecutionError};
use burn::tensor::{DType, ElementConversion, FloatDType, Int, Tensor, TensorData};
use rekindle_kernels::gpu::{self, ChannelScale, device_failure, watch_devices};
use rekindle_kernels::{
    ByteScale, Folded, Isa, Plan, PlanConfig, PlanError, Precision, lower, lower_quantized, serves,
};
use rekindle_nn::{Eager, Features, Network, Quantization, Shape, floats};

use crate::error::InferError;
use crate::photos::{Images, Photos};

/// Photos in one pass through a network.
pub const BATCH: usize = 32;

/// A model, up to a layer or to its end, for inference: a plan of the CPU engine where the backend's
/// tensors are in the CPU's memory, Burn's tensors elsewhere.
#[derive(Debug)]
pub enum Frozen<B: Backend> {
    /// Of the CPU engine.
    Plan(Box<Plan>),
    /// Tensors on a device, and what its products are computed with.
    Folded(Folded<B>, Precision),
    /// The network itself, by Burn.
    Eager,
}

impl<B: Backend> Frozen<B> {
    /// Compiles a plan, if the backend is one of the CPU's, or else folds the network; what neither knows is left to Burn.
    ///
    /// # Errors
    /// When the network cannot take photos of this size, `REKINDLE_ISA` cannot be used, or there are no products of this
    /// precision.
    pub fn new(
        model: &Network<B>,
        until: Option<&str>,
        precision: Precision,
        device: &B::Device,
    ) -> Result<Self, InferError> {
        let made = if serves::<B>(device) {
            lower(model, until, PlanConfig::detect(precision)?).map(Box::new).map(Self::Plan)
        } else {
            watch_devices();
            let dtype = float_type::<B>(precision, device)?;
            let folded = Folded::new(model, until, dtype, device);
            folded.map(|folded| Self::Folded(folded, precision))
        };
        match made {
            Err(error @ PlanError::Unsupported { .. }) if precision == Precision::F32 => {
                tracing::warn!("{error}; the network is computed with Burn, which is slower");
                Ok(Self::Eager)
            }
            made => Ok(made?),
        }
    }

    /// Whether products of bytes can be computed on this device.
    pub fn has_int8(device: &B::Device) -> bool {
        serves::<B>(device) && PlanConfig::detect(Precision::Int8).is_ok()
    }

    /// A plan of a quantized network with its end.
    ///
    /// # Errors
    /// When the device is not the CPU, or the quantization is not this network's.
    pub fn quantized(
        model: &Network<B>,
        quantization: &Quantization,
        device: &B::Device,
    ) -> Result<Self, InferError> {
        if !serves::<B>(device) {
            float_type::<B>(Precision::Int8, device)?;
        }
        let plan = lower_quantized(model, None, Isa::detect()?, quantization)?;
        Ok(Self::Plan(Box::new(plan)))
    }

    /// What its products are computed with.
    pub fn precision(&self) -> Precision {
        match self {
            Self::Plan(plan) => plan.precision(),
            Self::Folded(_, precision) => *precision,
            Self::Eager => Precision::F32,
        }
    }

    /// How many photos, at most [`BATCH`], the device has memory for: as many as a trial shows.
    ///
    /// # Errors
    /// When it has none for a single one.
    pub fn photos_at_once(
        &self,
        model: &Network<B>,
        until: Option<&str>,
        photos: &Photos,
        device: &B::Device,
    ) -> Result<usize, InferError> {
        if matches!(self, Self::Plan(_)) {
            return Ok(BATCH);
        }
        let is_memory = |error: &InferError| matches!(error, InferError::Device(_));
        most_at_once(BATCH, is_memory, |count| {
            let images = Images::Bytes(vec![0; count * photos.shape().count()]);
            let tried = self.start(model, until, images, photos, device).and_then(Started::finish);
            if tried.is_err() {
                // What was too large is not to be in the way of what comes next.
                B::memory_cleanup(device);
            }
            tried.map(drop)
        })
    }

    /// Has the outputs for photos computed, and waits for a device other than the CPU only when they are read.
    pub fn start(
        &self,
        model: &Network<B>,
        until: Option<&str>,
        images: Images,
        photos: &Photos,
        device: &B::Device,
    ) -> Result<Started<B>, InferError> {
        let shape = photos.shape();
        if let Self::Plan(plan) = self {
            let images = match images {
                // Bytes are looked up for three channels.
                Images::Bytes(_) if photos.channels != 3 => {
                    Images::Values(images.into_values(photos))
                }
                images => images,
            };
            let outputs = match images {
                Images::Values(values) => plan.run(&values)?,
                Images::Bytes(bytes) => {
                    let count = bytes.len() / shape.count() * plan.output_shape().count();
                    let mut outputs = vec![0.0; count];
                    plan.run_bytes(&bytes, &byte_scale(photos), &mut outputs)?;
                    outputs
                }
            };
            return Ok(Started::Done(outputs, plan.output_shape()));
        }
        let images = match images {
            Images::Values(values) => Features::from_values(values, shape, device),
            Images::Bytes(bytes) => Features::Map(preprocessed(bytes, photos, device)),
        };
        let mut eager = Eager::inference();
        let outputs = match (self, until, images) {
            (Self::Folded(folded, _), _, Features::Map(images)) => folded.run(images),
            (_, Some(layer), images) => model.walk_until(layer, &mut eager, images)?,
            (_, None, images) => model.walk(&mut eager, images)?,
        };
        Ok(Started::Running(outputs))
    }
}

/// Outputs that may still be computed.
pub enum Started<B: Backend> {
    /// They are there, and the shape of each.
    Done(Vec<f32>, Shape),
    /// The device may still be at it.
    Running(Features<B>),
}

impl<B: Backend> Started<B> {
    /// The outputs, and the shape of each.
    pub fn finish(self) -> Result<(Vec<f32>, Shape), InferError> {
        match self {
            Self::Done(values, shape) => Ok((values, shape)),
            Self::Running(outputs) => {
                let shape = outputs.shape();
                Ok((floats(read(outputs)?), shape))
            }
        }
    }
}

/// The largest of `count`, half of it and so on that can be tried without the device's memory ending.
///
/// # Errors
/// When it ends for one, and those of the trial that are of anything else.
pub fn most_at_once<E: std::fmt::Display>(
    count: usize,
    is_memory: impl Fn(&E) -> bool,
    mut trial: impl FnMut(usize) -> Result<(), E>,
) -> Result<usize, E> {
    let mut at_once = count;
    while let Err(error) = trial(at_once) {
        if !is_memory(&error) || at_once <= 1 {
            return Err(error);
        }
        tracing::warn!("{at_once} photos at once are too many, taking half: {error}");
        at_once = at_once.div_ceil(2);
    }
    Ok(at_once)
}

/// The values of a tensor, on the host.
pub fn host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    floats(tensor.into_data())
}

/// The values, or what the device said when it computed them.
pub fn read<B: Backend>(outputs: Features<B>) -> Result<TensorData, InferError> {
    match outputs {
        Features::Map(x) => checked::<B, _>(&x.device(), x.try_into_data()),
        Features::Flat(x) => checked::<B, _>(&x.device(), x.try_into_data()),
    }
}

/// Burn does not tell when a device had no memory for something, which then is zeros.
fn checked<B: Backend, T>(
    device: &B::Device,
    data: Result<T, ExecutionError>,
) -> Result<T, InferError> {
    let data = data.map_err(|error| InferError::Device(error.to_string()))?;
    device_failure::<B>(device).map_or(Ok(data), |failure| Err(InferError::Device(failure)))
}

/// Waits for all that a device has to do, and for what it says to that.
pub fn settle<B: Backend>(device: &B::Device) -> Result<(), InferError> {
    checked::<B, _>(device, B::sync(device))
}

/// Waits for the device to compute something, and for what it says to that.
pub fn wait<B: Backend>(value: Tensor<B, 1>) -> Result<(), InferError> {
    checked::<B, _>(&value.device(), value.try_into_data()).map(drop)
}

/// The type that a backend other than the CPU's computes with.
///
/// # Errors
/// When the device has no such type.
pub fn float_type<B: Backend>(
    precision: Precision,
    device: &B::Device,
) -> Result<FloatDType, InferError> {
    let (dtype, found) = match precision {
        Precision::F32 => return Ok(FloatDType::F32),
        Precision::Bf16 => (FloatDType::BF16, DType::BF16),
        Precision::F16 => (FloatDType::F16, DType::F16),
        Precision::Int8 => {
            let found = "int8, which products of the CPU's engine have only".into();
            let expected = "f32, bf16 or f16";
            return Err(InferError::Setting { setting: "precision", found, expected });
        }
    };
    if B::supports_dtype(device, found) {
        return Ok(dtype);
    }
    let found = format!("{precision}, which {} on this device has not", B::name(device));
    Err(InferError::Setting { setting: "precision", found, expected: "f32, bf16 on CUDA, or f16" })
}

fn byte_scale(photos: &Photos) -> ByteScale {
    let preprocessing = photos.preprocessing;
    let of = |channel: usize| std::array::from_fn(|byte| preprocessing.scale(channel, byte as f32));
    ByteScale {
        values: std::array::from_fn(of),
        source: std::array::from_fn(|channel| preprocessing.source(channel)),
    }
}

/// Photos, `[photos, height, width, channels]`, preprocessed on the device: `[photos, channels, height, width]`. Four
/// bytes travel as one number, since not every device has numbers of one byte.
fn preprocessed<B: Backend>(
    mut bytes: Vec<u8>,
    photos: &Photos,
    device: &B::Device,
) -> Tensor<B, 4> {
    let Photos { height, width, channels, preprocessing, .. } = *photos;
    let count = bytes.len();
    bytes.resize(count.next_multiple_of(4), 0);
    let packed: Vec<i32> =
        bytes.as_chunks::<4>().0.iter().map(|four| i32::from_le_bytes(*four)).collect();
    let length = packed.len();
    let mut packed = TensorData::new(packed, [length]);
    // CUDA then copies from pinned memory, while it computes the batch before.
    B::staging(std::iter::once(&mut packed), device);
    let packed = Tensor::<B, 1, Int>::from_data(packed, device);
    let photos = count / (height * width * channels);
    // Every mode is linear in each channel.
    let scale = ChannelScale {
        source: std::array::from_fn(|channel| preprocessing.source(channel)),
        scale: std::array::from_fn(|channel| {
            (preprocessing.scale(channel, 255.0) - preprocessing.scale(channel, 0.0)) / 255.0
        }),
        offset: std::array::from_fn(|channel| preprocessing.scale(channel, 0.0)),
    };
    // The kernel is for three channels.
    if channels == 3
        && let Some(pixels) = gpu::photos(&packed, count / 3, scale)
    {
        return pixels.reshape([photos, height, width, 3]).permute([0, 3, 1, 2]);
    }
    let packed = packed.unsqueeze_dim::<2>(1);
    let byte = |index: i32| {
        packed.clone().bitwise_right_shift_scalar((8 * index).elem()).bitwise_and_scalar(255.elem())
    };
    let bytes = Tensor::cat((0..4).map(byte).collect(), 1).reshape([length * 4]);
    let pixels = bytes.narrow(0, 0, count).reshape([photos, height, width, channels]);
    let pixels = pixels.permute([0, 3, 1, 2]).float();
    let channel = |channel: usize| {
        let source = scale.source[channel];
        let plane = pixels.clone().slice([0..photos, source..source + 1]);
        plane.mul_scalar(scale.scale[channel]).add_scalar(scale.offset[channel])
    };
    Tensor::cat((0..channels).map(channel).collect(), 1)
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use rekindle_vision::{Pixels, Preprocessing, Resize};

    use super::*;

    /// Bytes become what the CPU's preprocessing makes of them, in every mode, also where they do not fill whole numbers.
    #[test]
    fn bytes_are_preprocessed_on_the_device() {
        let rescale = Preprocessing::Rescale { scale: 0.01, offset: -0.5 };
        for size in [3, 4] {
            let bytes: Vec<u8> = (0..2 * size * size * 3).map(|i| (i * 83 % 256) as u8).collect();
            for mode in [
                Preprocessing::Tf,
                Preprocessing::Caffe,
                Preprocessing::Torch,
                Preprocessing::None,
                rescale,
            ] {
                let expected: Vec<f32> = bytes
                    .chunks(size * size * 3)
                    .flat_map(|photo| {
                        let values = photo.iter().map(|&byte| f32::from(byte)).collect();
                        mode.apply(&Pixels { width: size, height: size, values })
                    })
                    .collect();
                let photos = Photos::new(Shape::image(size), Resize::Bilinear, mode).expect("RGB");
                let found = preprocessed::<Flex>(bytes.clone(), &photos, &Default::default());
                assert_eq!(found.dims(), [2, 3, size, size]);
                let found = found.into_data().into_vec::<f32>().expect("f32");
                let scale = byte_scale(&photos);
                for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    assert!(
                        (found - expected).abs() <= 2e-5 * expected.abs().max(1.0),
                        "{mode:?}: {found} {expected}"
                    );
                    let (channel, pixel) = (index / (size * size) % 3, index % (size * size));
                    let photo = index / (3 * size * size);
                    let byte = bytes[(photo * size * size + pixel) * 3 + scale.source[channel]];
                    assert_eq!(scale.values[channel][usize::from(byte)], *expected);
                }
            }
        }
    }
}
