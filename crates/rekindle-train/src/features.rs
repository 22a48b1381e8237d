use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use burn::module::Module;
use burn::tensor::backend::Backend;
use rekindle_kernels::Precision;
use rekindle_nn::{Network, Shape};
use rekindle_vision::{Augmentation, Place as PhotoPlace, Sample, Skipped};

use crate::cache::FeatureCache;
use crate::engine::Place;
use crate::frozen::{Frozen, Started};
use crate::photos::{Change, Images, Job};
use crate::progress::{Event, Observer};
use crate::rows::Rows;
use crate::{FeatureSource, Photos, TrainError};

/// Photos in one pass through the frozen part.
pub(crate) const BATCH: usize = 32;

/// What the frozen part of a model computed for each photo, in memory or, past a limit, in a temporary
/// safetensors file that is mapped into memory.
///
/// Nothing in that part changes while the rest trains, so that one pass serves every epoch. With augmentation a
/// photo has several views, and each epoch takes the next.
#[derive(Debug, Clone)]
pub struct FeatureStore {
    shape: Shape,
    /// View after view, in each photo after photo.
    rows: Rows,
    labels: Vec<Vec<usize>>,
    views: usize,
    cached: usize,
    waited: Duration,
    /// How many photos have an EXIF orientation that is ignored.
    askew: usize,
}

/// A source, and rows of it.
type Given<'a> = (&'a Arc<dyn FeatureSource>, &'a Arc<[usize]>);

/// How a [`FeatureStore`] is made.
pub(crate) struct Recipe<'a, B: Backend> {
    pub prefix: &'a Prefix<'a, B>,
    pub photos: Photos,
    /// Several views of each photo.
    pub views: Option<Views<'a>>,
    /// Whether a file that is not an image stops.
    pub strict: bool,
    /// Whether all photos of a class may be damaged: not of those to train on.
    pub may_lack_classes: bool,
    /// Bytes that may be in memory.
    pub limit: u64,
    pub cache: Option<&'a FeatureCache>,
}

/// Several views of each photo.
#[derive(Clone, Copy)]
pub(crate) struct Views<'a> {
    pub augmentation: &'a Augmentation,
    pub count: usize,
    pub seed: u64,
}

/// Runs the frozen part, or nothing where there is none; on several devices, batches take turns.
pub(crate) struct Prefix<'a, B: Backend> {
    model: &'a Network<B>,
    cut: Option<&'a str>,
    photos: Photos,
    units: Vec<Unit<B>>,
    next: AtomicUsize,
    /// Photos in one pass.
    at_once: usize,
}

/// The frozen part on one device.
struct Unit<B: Backend> {
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
                frozen.start(model, self.cut, images, &self.photos, device)
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

impl FeatureStore {
    /// Computes the features of `samples`, which are of these classes.
    ///
    /// # Errors
    /// When the network cannot take the photos, all photos of a class are damaged where that must not be, or one is
    /// and that is to stop.
    pub(crate) fn compute<B: Backend>(
        recipe: &Recipe<'_, B>,
        samples: &[Sample],
        classes: &[String],
        observer: &mut dyn Observer,
    ) -> Result<(Self, Vec<Skipped>), TrainError> {
        let prefix = recipe.prefix;
        let (shape, rows) = (Shape::Flat(0), Rows::default());
        let (labels, waited) = (Vec::new(), Duration::ZERO);
        let mut store = Self { shape, rows, labels, views: 1, cached: 0, waited, askew: 0 };
        let mut skipped = Vec::new();
        let mut kept: Vec<(usize, &Sample)> = samples.iter().enumerate().collect();
        store.views = recipe.views.map_or(1, |views| views.count.max(1));
        let total = kept.len() * store.views;
        let cache = recipe.cache.filter(|_| recipe.views.is_none());
        let known = cache.map(|cache| cache.open(recipe, samples));
        let mut done = 0;
        for view in 0..store.views {
            let change = |number: usize| {
                let Views { augmentation, seed, .. } = recipe.views?;
                Some(Change { augmentation, seed, number, epoch: view })
            };
            let mut damaged = Vec::new();
            let mut fresh: Vec<(usize, &Sample)> = Vec::new();
            // What the cache has comes first, since rows are added in order.
            let mut ordered = Vec::new();
            for &(number, sample) in &kept {
                match known.as_ref().and_then(|known| known.row(number)) {
                    Some(row) => {
                        let (values, shape) = row?;
                        store.shape = shape;
                        store.rows.extend(&values, shape.count(), recipe.limit)?;
                        ordered.push((number, sample));
                        store.cached += 1;
                        done += 1;
                    }
                    None => fresh.push((number, sample)),
                }
            }
            let jobs: Vec<Job<'_>> = fresh
                .iter()
                .map(|&(number, sample)| Job { sample, change: change(number), hashed: false })
                .collect();
            // Each device has a batch to work on while the one before it is read.
            let mut started = VecDeque::new();
            let keep = |store: &mut Self, started: Started<B>| {
                let (values, shape) = started.finish()?;
                store.shape = shape;
                store.rows.extend(&values, shape.count(), recipe.limit)
            };
            let waited =
                recipe.photos.for_each_batch(&jobs, prefix.at_once, recipe.strict, |batch| {
                    done += batch.rows.len() + batch.skipped.len();
                    // All views are of the same photos.
                    store.askew += if view == 0 { batch.askew } else { 0 };
                    if !batch.rows.is_empty() {
                        started.push_back(prefix.start(batch.images)?);
                        if started.len() > prefix.units.len()
                            && let Some(first) = started.pop_front()
                        {
                            keep(&mut store, first)?;
                        }
                        ordered.extend(batch.rows.iter().map(|&row| fresh[row]));
                    }
                    for (row, file) in batch.skipped {
                        observer.on_event(&Event::Skipped(&file));
                        damaged.push((fresh[row].1, file));
                    }
                    observer.on_event(&Event::Features { done, total });
                    Ok(())
                })?;
            started.into_iter().try_for_each(|started| keep(&mut store, started))?;
            store.waited += waited;
            if let (0, true) = (jobs.len(), done > 0) {
                observer.on_event(&Event::Features { done, total });
            }
            // Later views are of the photos that could be decoded, in one order.
            kept = ordered;
            let is_gone = |(sample, _): &&(&Sample, Skipped)| {
                !recipe.may_lack_classes
                    && !kept.iter().any(|(_, kept)| kept.class() == sample.class())
            };
            if let Some((sample, file)) = damaged.iter().find(is_gone) {
                let reason = format!("{}: {}", file.path.display(), file.reason);
                let class = classes.get(sample.class()).cloned().unwrap_or_default();
                return Err(TrainError::NoPhotos { class, reason });
            }
            skipped.extend(damaged.into_iter().map(|(_, file)| file));
        }
        if let (Some(known), false) = (known, kept.is_empty()) {
            let numbers: Vec<usize> = kept.iter().map(|&(number, _)| number).collect();
            known.save(&numbers, &store)?;
        }
        store.labels = kept.iter().map(|(_, sample)| sample.labels.clone()).collect();
        Ok((store, skipped))
    }

    /// Features of a source: those of the samples that have any.
    pub(crate) fn given(source: &Arc<dyn FeatureSource>, samples: &[Sample]) -> Self {
        let row = |sample: &Sample| match sample.place {
            PhotoPlace::Row(Some(row)) => Some((row, sample.labels.clone())),
            _ => None,
        };
        let (rows, labels): (Vec<usize>, _) = samples.iter().filter_map(row).unzip();
        let (cached, waited) = (rows.len(), Duration::ZERO);
        let shape = source.provenance().shape();
        let rows = Rows::Given(source.clone(), rows.into());
        Self { shape, rows, labels, views: 1, cached, waited, askew: 0 }
    }

    /// The source and the rows of it, where these are features of a source.
    pub(crate) fn source(&self) -> Option<Given<'_>> {
        match &self.rows {
            Rows::Given(source, rows) => Some((source, rows)),
            _ => None,
        }
    }

    /// Features that were computed elsewhere: photo after photo, `[channels, height, width]` or flat.
    #[must_use]
    pub fn from_values(shape: Shape, values: Vec<f32>, classes: Vec<usize>) -> Self {
        let labels = classes.into_iter().map(|class| vec![class]).collect();
        let (rows, waited) = (Rows::Memory(values), Duration::ZERO);
        Self { shape, rows, labels, views: 1, cached: 0, waited, askew: 0 }
    }

    /// How many photos there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of memory that they take.
    pub(crate) fn memory(&self) -> u64 {
        self.rows.memory()
    }

    /// How many photos have an EXIF orientation that is ignored.
    pub(crate) fn askew(&self) -> usize {
        self.askew
    }

    /// How long the frozen part waited for photos to be decoded.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// How many of them were in a [`FeatureCache`](crate::FeatureCache).
    #[must_use]
    pub fn cached(&self) -> usize {
        self.cached
    }

    /// The shape of one photo's features.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The classes of each photo.
    #[must_use]
    pub fn labels(&self) -> &[Vec<usize>] {
        &self.labels
    }

    /// The features of the photos with these indices, as they are in an epoch: `[photos, channels, height, width]` or
    /// `[photos, features]`.
    ///
    /// # Errors
    /// When they are in a file that cannot be read any more.
    pub fn values(&self, indices: &[usize], epoch: usize) -> Result<Vec<f32>, TrainError> {
        let count = self.shape.count();
        let mut values = Vec::with_capacity(indices.len() * count);
        // The view of an epoch counted from 1.
        let first = (epoch.max(1) - 1) % self.views * (self.rows.len() / count.max(1) / self.views);
        for &index in indices {
            self.rows.read(first + index, count, &mut values)?;
        }
        Ok(values)
    }
}
