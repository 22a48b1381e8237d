//! What a network does to an image's values before its first weights. Exporters make one scale and one offset of it.

use rekindle_nn::ops::{Normalization, Rescaling, Statistics};
use rekindle_nn::{Graph, Op, Source};

use super::super::constant::Constant;

/// Scale and offset of each channel.
type Affine = Vec<(f64, f64)>;

/// Two numbers of which each was rounded a few times differ by less than this share.
const ROUNDING: f64 = 1e-6;
/// The least deviation that Keras divides by.
const LEAST_DEVIATION: f64 = 1e-7;

/// The layers in front of a family's network that scale values and move them, one behind the other.
pub(super) fn front(graph: &Graph) -> Vec<Op> {
    let mut front = Vec::new();
    let mut source = Source::Input;
    while let Some(position) = only_reader(graph, source) {
        let op = &graph.layers()[position].op;
        let is_front = match op {
            Op::Rescaling(_) => true,
            Op::Normalization(norm) => norm.axes == [-1] && !norm.invert,
            _ => false,
        };
        if !is_front {
            break;
        }
        front.push(op.clone());
        source = Source::Layer(position);
    }
    front
}

/// The last layer before the first weights that scales values.
pub(super) fn last_scale(graph: &Graph) -> Option<usize> {
    let mut last = None;
    let mut source = Source::Input;
    while let Some(position) = only_reader(graph, source) {
        let layer = &graph.layers()[position];
        if layer.inputs.len() != 1 || !graph.variables(position).is_empty() {
            break;
        }
        if matches!(layer.op, Op::Rescaling(_)) {
            last = Some(position);
        }
        source = Source::Layer(position);
    }
    last
}

fn only_reader(graph: &Graph, source: Source) -> Option<usize> {
    let layers = graph.layers().iter().enumerate();
    let mut readers = layers.filter(|(_, layer)| layer.inputs.contains(&source));
    let (position, _) = readers.next()?;
    readers.next().is_none().then_some(position)
}

/// The values of the variables of each of a family's layers in front, so that together they do what `found` does; nothing
/// where they cannot.
pub(super) fn values(
    front: &[Op],
    found: &Rescaling,
    channels: usize,
) -> Option<Vec<Vec<Constant>>> {
    let found = found.by_channel(channels);
    let is_variable = |op: &Op| matches!(op, Op::Normalization(Normalization { given: None, .. }));
    let Some(place) = front.iter().position(is_variable) else {
        let all = composed(front, channels)?;
        return is_close(&all, &found).then(|| vec![Vec::new(); front.len()]);
    };
    let (before, behind) =
        (composed(&front[..place], channels)?, composed(&front[place + 1..], channels)?);
    // scale * x + offset = by * ((times * x + plus) - mean) / deviation + more
    let mut statistics = (Vec::new(), Vec::new());
    for (((times, plus), (by, more)), (scale, offset)) in before.iter().zip(&behind).zip(&found) {
        let deviation = by * times / scale;
        let mean = plus - (offset - more) * deviation / by;
        let variance = (deviation * deviation) as f32;
        if !(deviation > LEAST_DEVIATION && variance.is_normal() && (mean as f32).is_finite()) {
            return None;
        }
        statistics.0.push(mean as f32);
        statistics.1.push(variance);
    }
    let mut values = vec![Vec::new(); front.len()];
    values[place] = vec![
        Constant::given(statistics.0),
        Constant::given(statistics.1),
        Constant::full(0.0, Vec::new()),
    ];
    // What was rounded is what was found.
    let given = Statistics { mean: read(&values[place][0])?, variance: read(&values[place][1])? };
    let mut settled = front.to_vec();
    settled[place] = Normalization { given: Some(given), ..Normalization::new() }.into();
    is_close(&composed(&settled, channels)?, &found).then_some(values)
}

fn read(constant: &Constant) -> Option<Vec<f64>> {
    let values = constant.read(&mut super::FileTensors(std::sync::Arc::default())).ok()?;
    Some(values.into_iter().map(f64::from).collect())
}

/// Layers one behind the other, as one scale and offset of each channel.
fn composed(front: &[Op], channels: usize) -> Option<Affine> {
    let mut all = vec![(1.0, 0.0); channels];
    for op in front {
        let own = match op {
            Op::Rescaling(rescaling) => rescaling.by_channel(channels),
            Op::Normalization(Normalization { given: Some(given), .. }) => {
                let scale = given
                    .variance
                    .iter()
                    .map(|variance| 1.0 / variance.sqrt().max(LEAST_DEVIATION));
                let scale: Vec<f64> = scale.collect();
                let mean = Rescaling { scale: vec![1.0], offset: given.mean.clone() };
                let scale = Rescaling { scale, offset: vec![0.0] };
                let both = mean.by_channel(channels).into_iter().zip(scale.by_channel(channels));
                both.map(|((_, mean), (scale, _))| (scale, -mean * scale)).collect()
            }
            _ => return None,
        };
        for ((scale, offset), (by, plus)) in all.iter_mut().zip(own) {
            *scale *= by;
            *offset = *offset * by + plus;
        }
    }
    Some(all)
}

/// Whether two scales and offsets are the same but for the rounding of 32 bits.
fn is_close(a: &[(f64, f64)], b: &[(f64, f64)]) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= ROUNDING * a.abs().max(b.abs());
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .all(|((scale, offset), (by, plus))| near(*scale, *by) && near(*offset, *plus))
}

#[cfg(test)]
mod tests {
    use rekindle_nn::{
        Architecture, ConvNextTinyConfig, EfficientNetB0Config, EfficientNetV2B0Config,
    };

    use super::*;

    fn of(known: impl Into<Architecture>) -> Vec<Op> {
        front(&known.into().graph().expect("valid"))
    }

    /// ImageNet's mean and deviation of values from 0 to 1, as one scale and offset of bytes.
    fn imagenet() -> Rescaling {
        let (mean, deviation) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        let offset = mean.iter().zip(&deviation).map(|(mean, by)| -mean / by).collect();
        Rescaling { scale: deviation.map(|by: f64| 1.0 / 255.0 / by).to_vec(), offset }
    }

    #[test]
    fn numbers_in_front_are_compared() {
        for front in [of(ConvNextTinyConfig::new()), of(EfficientNetV2B0Config::new())] {
            assert!(values(&front, &imagenet(), 3).is_some());
            for channel in 0..3 {
                let mut other = imagenet();
                other.scale[channel] *= 1.00001;
                assert!(values(&front, &other, 3).is_none());
                let mut other = imagenet();
                other.offset[channel] *= 1.00001;
                assert!(values(&front, &other, 3).is_none());
            }
            assert!(values(&front, &Rescaling::new(1.0 / 255.0, 0.0), 3).is_none());
        }
    }

    #[test]
    fn variables_in_front_do_what_was_found() {
        let front = of(EfficientNetB0Config::new());
        assert_eq!(front.len(), 3);
        let values = values(&front, &imagenet(), 3).expect("statistics");
        let [mean, variance, count] = values[1].as_slice() else { panic!("three variables") };
        // The last layer divides by the root of the deviation: the variance has it once more.
        let expected = [0.485, 0.456, 0.406].into_iter().zip([0.229_f64, 0.224, 0.225]);
        for (((wanted, by), mean), variance) in
            expected.zip(read(mean).expect("reads")).zip(read(variance).expect("reads"))
        {
            assert!((mean - wanted).abs() < 1e-7, "{mean}");
            assert!((variance - by).abs() < 1e-7, "{variance}");
        }
        assert_eq!(count.count(), 1);
        for wrong in [0.0, -1.0, 1e12] {
            assert!(super::values(&front, &Rescaling::new(wrong, 0.0), 3).is_none(), "{wrong}");
        }
    }
}
