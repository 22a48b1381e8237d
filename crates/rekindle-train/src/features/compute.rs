//! Features of photos: from the cache, or computed.

use std::collections::VecDeque;
use std::time::Duration;

use burn::tensor::backend::Backend;
use rekindle_infer::internal::{Change, Job, Started};
use rekindle_infer::{Event, Observer, Photos};
use rekindle_nn::Shape;
use rekindle_vision::{Augmentation, Sample, Skipped};

use super::cache::FeatureCache;
use super::prefix::Prefix;
use super::rows::Rows;
use super::store::FeatureStore;
use crate::error::TrainError;

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
        let known = cache.map(|cache| cache.open(prefix, &recipe.photos, samples));
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
                    Ok::<(), TrainError>(())
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
}
