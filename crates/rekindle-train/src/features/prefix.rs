//! The frozen part of a network.

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::Module;
use burn::tensor::backend::Backend;
use rekindle_infer::Photos;
use rekindle_infer::internal::{BATCH, Frozen, Images, Started};
use rekindle_kernels::Precision;
use rekindle_nn::{Network, Shape};

use crate::engine::Place;
use crate::error::TrainError;

/// Runs the frozen part, or nothing where there is none; on several devices, batches take turns.
pub(crate) struct Prefix<'a, B: Backend> {
    model: &'a Network<B>,
    cut: Option<&'a str>,
    photos: Photos,
    pub(super) units: Vec<Unit<B>>,
    next: AtomicUsize,
    /// Photos in one pass.
    pub(super) at_once: usize,
}

/// The frozen part on one device.
pub(super) struct Unit<B: Backend> {
    model: Network<B>,
    frozen: Frozen<B>,
    device: B::Device,
}

impl<'a, B: Backend> Prefix<'a, B> {
    pub fn new(
        model: &'a Network<B>,
        cut: Option<&'a str>,
        photos: Photos,
        place: &Place<B::Device>,
    ) -> Result<Self, TrainError> {
        let unit = |(number, device): (usize, &B::Device)| {
            let model = match number {
                0 => model.clone(),
                _ => model.clone().to_device(device),
            };
            let frozen = Frozen::new(&model, cut, place.precision, device)?;
            Ok(Unit { model, frozen, device: device.clone() })
        };
        let devices = place.devices.iter().enumerate().filter(|_| cut.is_some());
        let units = devices.map(unit).collect::<Result<_, TrainError>>()?;
        Ok(Self { model, cut, photos, units, next: AtomicUsize::new(0), at_once: BATCH })
    }

    /// The network, and the frozen part's last layer; nothing for the photos themselves.
    pub fn parts(&self) -> (&Network<B>, Option<&str>) {
        (self.model, self.cut)
    }

    /// What its products are computed with.
    pub fn precision(&self) -> Precision {
        self.units.first().map_or(Precision::F32, |unit| unit.frozen.precision())
    }

    /// With as many photos in a pass as every device has memory for.
    pub fn rehearsed(mut self) -> Result<Self, TrainError> {
        for Unit { model, frozen, device } in &self.units {
            let own = frozen.photos_at_once(model, self.cut, &self.photos, device)?;
            self.at_once = self.at_once.min(own);
        }
        Ok(self)
    }

    /// Has the features of photos computed on the device whose turn it is.
    pub fn start(&self, images: Images) -> Result<Started<B>, TrainError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.units.len().max(1);
        match self.units.get(turn) {
            Some(Unit { model, frozen, device }) => {
                Ok(frozen.start(model, self.cut, images, &self.photos, device)?)
            }
            None => {
                let shape = self.photos.shape();
                Ok(Started::Done(images.into_values(&self.photos), shape))
            }
        }
    }

    /// The features of photos, and the shape of each.
    pub fn run(&self, images: Images) -> Result<(Vec<f32>, Shape), TrainError> {
        let (mut all, mut shape) = (Vec::new(), Shape::Flat(0));
        for part in images.parts(self.at_once * self.photos.shape().count()) {
            let (values, own) = self.start(part)?.finish()?;
            shape = own;
            match all.is_empty() {
                true => all = values,
                false => all.extend(values),
            }
        }
        Ok((all, shape))
    }
}
