//! Post-training quantization: weights as bytes, and between what values lie, found on photos.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use burn::tensor::backend::Backend;
use rekindle_kernels::{Calibration, Isa, lower, lower_quantized};
use rekindle_nn::{Network, Quantization, RoundedWeights, assign, floats, read};
use rekindle_vision::{Sample, Skipped};
use serde::Serialize;

use crate::error::InferError;
use crate::photos::{Images, Job};
use crate::prediction::best_class;
use crate::progress::{Event, Observer};
use crate::trained::TrainedModel;

/// How a model is quantized.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizeConfig {
    /// Layers whose products stay in `f32`.
    pub keep: Vec<String>,
    /// The share of photos whose best class has to stay. While fewer do, the layer that loses most is kept in `f32`.
    pub agreement: f64,
    /// The most layers that are kept for that.
    pub most_kept: usize,
    /// The most photos that are looked at, evenly spread over those that are given.
    pub most_photos: usize,
    /// How many photos each layer is computed with bytes for by itself, all others in `f32`, to see what it loses; 0 for none.
    pub photos_by_layer: usize,
    /// When that ends, whatever is left of the layers.
    pub longest: Duration,
}

impl Default for QuantizeConfig {
    fn default() -> Self {
        Self {
            keep: Vec::new(),
            agreement: 0.99,
            most_kept: 12,
            most_photos: 256,
            photos_by_layer: 4,
            longest: Duration::from_secs(60),
        }
    }
}

/// What a quantized model loses against the one that it was made of; prints as some lines.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct QuantizeReport {
    /// Photos that values were looked at for.
    pub photos: usize,
    /// The share of them whose best class stays.
    pub agreement: f64,
    /// The mean of what probabilities are off by, over photos and classes.
    pub off: f64,
    /// The most that a probability is off by.
    pub most_off: f64,
    /// Layers whose products are computed in `f32`, each with the reason.
    pub kept: Vec<(String, String)>,
    /// What each layer loses by itself, those that lose most first.
    pub losses: Vec<LayerLoss>,
    /// Layers that there was no time for.
    pub not_looked_at: usize,
    /// Files that were not used, each with its reason.
    pub skipped: Vec<Skipped>,
}

/// What a network loses if only this layer's products are of bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerLoss {
    /// Its name.
    pub layer: String,
    /// The mean of what probabilities are then off by, over photos and classes.
    pub off: f64,
}

/// Layers that are named in a report.
const NAMED: usize = 5;

impl fmt::Display for QuantizeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { photos, agreement, off, most_off, .. } = self;
        write!(
            f,
            "int8 against f32 on {photos} photos: the same best class on {:.2} %, probabilities off by {off:.5} on average, {most_off:.4} at most",
            agreement * 100.0
        )?;
        if !self.losses.is_empty() {
            write!(f, "\nlayers that lose most, each by itself:")?;
            for LayerLoss { layer, off } in self.losses.iter().take(NAMED) {
                write!(f, "\n  {layer}: {off:.6}")?;
            }
        }
        if self.not_looked_at > 0 {
            write!(
                f,
                "\n{} layers were not looked at by themselves, for lack of time",
                self.not_looked_at
            )?;
        }
        for (layer, why) in &self.kept {
            write!(f, "\n`{layer}` is computed in f32: {why}")?;
        }
        Ok(())
    }
}

impl<B: Backend> TrainedModel<B> {
    /// Quantizes the model to int8: weights become bytes with a step for each output, and values bytes between what they lie on
    /// these photos. Some hundred photos as the model will see do; labels are not needed. The result predicts with
    /// [`Precision::Int8`](crate::Precision::Int8) on the CPU, and its file has a quarter of the size.
    ///
    /// # Errors
    /// When no photo can be decoded, a layer to keep is none, the model is quantized already, the engine cannot run it, or this
    /// processor has no products of bytes.
    pub fn quantize(
        &self,
        files: &[PathBuf],
        config: &QuantizeConfig,
        observer: &mut dyn Observer,
    ) -> Result<(Self, QuantizeReport), InferError> {
        let setting =
            |setting, found: String, expected| InferError::Setting { setting, found, expected };
        if self.quantization().is_some() {
            let expected = "one that is not; take the model that it was made of";
            return Err(setting("the model", "quantized already".into(), expected));
        }
        if files.is_empty() || config.most_photos == 0 {
            return Err(setting("the number of photos", "0".into(), "some hundred"));
        }
        let graph = self.model().graph();
        let is_layer = |name: &&String| graph.layers().iter().all(|layer| layer.name != **name);
        if let Some(unknown) = config.keep.iter().find(is_layer) {
            let expected = "the name of one of the model's layers";
            return Err(setting("a layer to keep", format!("`{unknown}`"), expected));
        }
        if !(0.0..=1.0).contains(&config.agreement) {
            return Err(setting("the agreement", config.agreement.to_string(), "from 0 to 1"));
        }
        let count = files.len().min(config.most_photos);
        let samples: Vec<Sample> = (0..count)
            .map(|index| Sample::file(files[index * files.len() / count].clone(), 0))
            .collect();
        let seen = self.look(&samples, config, observer)?;
        let mut quantization = seen.calibration.quantization();
        quantization.kept = config.keep.iter().cloned().collect();
        let (mut model, mut kept) = self.with_bytes(&quantization)?;
        let mut asked = quantization.clone();
        asked.kept.extend(kept.iter().map(|(layer, _)| layer.clone()));
        let (losses, not_looked_at) = losses(self.model(), &asked, &seen, config)?;
        let mut worst = losses.iter().map(|loss| loss.layer.clone()).take(config.most_kept);
        let mut chosen = Vec::new();
        loop {
            let compared = model.compared(&samples, &seen, observer)?;
            if compared.agreement < config.agreement
                && !observer.stops()
                && let Some(layer) = worst.next()
            {
                quantization.kept.insert(layer.clone());
                chosen.push(layer);
                (model, kept) = self.with_bytes(&quantization)?;
                continue;
            }
            let lost_most = "without it fewer photos would keep their best class";
            for (_, reason) in kept.iter_mut().filter(|(layer, _)| chosen.contains(layer)) {
                lost_most.clone_into(reason);
            }
            let Compared { photos, agreement, off, most_off } = compared;
            let skipped = seen.skipped;
            let report = QuantizeReport {
                photos,
                agreement,
                off,
                most_off,
                kept,
                losses,
                not_looked_at,
                skipped,
            };
            return Ok((model, report));
        }
    }

    /// The model with weights of bytes but for what is kept, and what the engine computes in f32, each with the reason.
    fn with_bytes(
        &self,
        quantization: &Quantization,
    ) -> Result<(Self, Vec<(String, String)>), InferError> {
        let plan = lower_quantized(self.model(), None, Isa::detect()?, quantization)?;
        let (kept, mut quantization) = (plan.kept().to_vec(), quantization.clone());
        // What the engine does not compute with bytes keeps its weights.
        quantization.kept.extend(kept.iter().map(|(layer, _)| layer.clone()));
        let network = rounded(self.model(), &quantization);
        Ok((self.clone().with_quantization(network, quantization), kept))
    }

    /// This model's answers beside those that were seen.
    fn compared(
        &self,
        samples: &[Sample],
        seen: &Seen,
        observer: &mut dyn Observer,
    ) -> Result<Compared, InferError> {
        let mut found = Compared::default();
        self.each_photo(samples, false, observer, |row, answer| {
            if let (Ok(answer), Some(before)) = (answer, seen.probabilities.get(&row)) {
                found.photos += 1;
                found.agreement += f64::from(u8::from(best_class(answer) == best_class(before)));
                let off = answer.iter().zip(before).map(|(a, b)| f64::from((a - b).abs()));
                found.off += off.clone().sum::<f64>() / answer.len() as f64;
                found.most_off = off.fold(found.most_off, f64::max);
            }
            ControlFlow::Continue(())
        })?;
        found.agreement /= found.photos.max(1) as f64;
        found.off /= found.photos.max(1) as f64;
        Ok(found)
    }

    /// Runs photos in f32 and looks at all values.
    fn look(
        &self,
        samples: &[Sample],
        config: &QuantizeConfig,
        observer: &mut dyn Observer,
    ) -> Result<Seen, InferError> {
        let jobs: Vec<Job<'_>> =
            samples.iter().map(|sample| Job { sample, change: None, hashed: false }).collect();
        let mut seen = Seen {
            calibration: Calibration::new(self.model())?,
            probabilities: HashMap::new(),
            few: Vec::new(),
            skipped: Vec::new(),
        };
        let photos = self.photos();
        let (classes, length) = (self.classes().len(), photos.shape().count());
        let mut done = 0;
        photos.for_each_batch(&jobs, BATCH, false, |batch| {
            done += batch.rows.len() + batch.skipped.len();
            seen.skipped.extend(batch.skipped.into_iter().map(|(_, file)| file));
            if !batch.rows.is_empty() {
                let images: Images = batch.images;
                let images = images.into_values(photos);
                let outputs = seen.calibration.observe(&images)?;
                let each = batch.rows.iter().zip(outputs.chunks_exact(classes.max(1)));
                seen.probabilities.extend(each.map(|(row, output)| (*row, output.to_vec())));
                let few = config.photos_by_layer * length;
                if seen.few.len() < few {
                    let some = images.len().min(few - seen.few.len());
                    seen.few.extend_from_slice(&images[..some]);
                }
            }
            observer.on_event(&Event::Predicted { done, total: samples.len() });
            Ok::<(), InferError>(())
        })?;
        match (seen.calibration.images(), seen.skipped.last()) {
            (0, Some(Skipped { path, reason, .. })) => Err(InferError::NoneUsable {
                folder: path.parent().unwrap_or(path).to_owned(),
                path: path.clone(),
                reason: reason.clone(),
            }),
            _ => Ok(seen),
        }
    }
}

/// What answers are off by.
#[derive(Default)]
struct Compared {
    photos: usize,
    agreement: f64,
    off: f64,
    most_off: f64,
}

/// Photos that are decoded and run at once.
const BATCH: usize = 32;

/// What was seen in f32.
struct Seen {
    calibration: Calibration,
    /// By the number of the photo.
    probabilities: HashMap<usize, Vec<f32>>,
    /// Some photos, preprocessed.
    few: Vec<f32>,
    skipped: Vec<Skipped>,
}

/// The network with the numbers that its bytes stand for.
fn rounded<B: Backend>(network: &Network<B>, quantization: &Quantization) -> Network<B> {
    let ops: HashMap<&str, _> =
        network.graph().layers().iter().map(|layer| (layer.name.as_str(), &layer.op)).collect();
    let mut values = read(network);
    for variable in network.variables() {
        let (spec, layer) = (&variable.spec, variable.layer.as_str());
        let steps =
            ops.get(layer).and_then(|op| quantization.steps(layer, op, spec.name, &spec.shape));
        if let (Some(steps), Some(data)) = (steps, values.remove(&variable.id)) {
            let weights = spec.from_burn(floats(data));
            let weights = RoundedWeights::of(&weights, steps.max(1)).weights();
            values.insert(variable.id, spec.to_burn(weights));
        }
    }
    assign(network.clone(), values)
}

/// What each layer loses by itself, and how many there was no time for.
fn losses<B: Backend>(
    network: &Network<B>,
    quantization: &Quantization,
    seen: &Seen,
    config: &QuantizeConfig,
) -> Result<(Vec<LayerLoss>, usize), InferError> {
    if seen.few.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let isa = Isa::detect()?;
    let layers: BTreeSet<&str> = network
        .variables()
        .iter()
        .filter_map(|variable| {
            network.graph().layers().iter().find(|layer| layer.name == variable.layer)
        })
        .filter(|layer| quantization.values.contains_key(&layer.name))
        .filter(|layer| !quantization.kept.contains(&layer.name))
        .map(|layer| layer.name.as_str())
        .collect();
    let exact = lower(network, None, isa)?.run(&seen.few)?;
    let (start, mut losses) = (Instant::now(), Vec::new());
    for &layer in &layers {
        if start.elapsed() > config.longest {
            break;
        }
        let mut alone = quantization.clone();
        alone.kept =
            layers.iter().filter(|other| **other != layer).map(|&other| other.into()).collect();
        let found = lower_quantized(network, None, isa, &alone)?.run(&seen.few)?;
        let off = found.iter().zip(&exact).map(|(a, b)| f64::from((a - b).abs()));
        losses.push(LayerLoss { layer: layer.into(), off: off.sum::<f64>() / exact.len() as f64 });
    }
    let left = layers.len() - losses.len();
    losses.sort_by(|a, b| b.off.total_cmp(&a.off));
    Ok((losses, left))
}
