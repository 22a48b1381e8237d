use std::sync::LazyLock;

use crate::VisionError;

/// One of ImageNet's classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The WordNet id: `n01440764`.
    pub id: &'static str,
    /// Keras's name: `tench`. Two pairs of classes share one (`crane`, `maillot`).
    pub name: &'static str,
}

static LABELS: LazyLock<Vec<Label>> = LazyLock::new(|| {
    let lines = include_str!("imagenet_labels.txt").lines();
    lines.filter_map(|line| line.split_once(' ')).map(|(id, name)| Label { id, name }).collect()
});

/// The 1000 classes of ILSVRC 2012, in the order of Keras's networks.
#[must_use]
pub fn imagenet_labels() -> &'static [Label] {
    &LABELS
}

/// The best `count` of one image's probabilities, best first: class and probability.
#[must_use]
pub fn top(probabilities: &[f32], count: usize) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = probabilities.iter().copied().enumerate().collect();
    // Stable: equal probabilities stay in the order of their classes. NaN goes last.
    ranked.sort_by(|a, b| (a.1.is_nan().cmp(&b.1.is_nan())).then(b.1.total_cmp(&a.1)));
    ranked.truncate(count);
    ranked
}

/// Keras's `decode_predictions`: the best `count` of ImageNet's classes, best first.
///
/// # Errors
/// When there are not 1000 probabilities.
pub fn decode_predictions(
    probabilities: &[f32],
    count: usize,
) -> Result<Vec<(Label, f32)>, VisionError> {
    if probabilities.len() != LABELS.len() {
        return Err(VisionError::Classes { found: probabilities.len() });
    }
    Ok(top(probabilities, count).into_iter().map(|(class, p)| (LABELS[class], p)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_keras_s() {
        // From Keras's imagenet_class_index.json.
        assert_eq!(LABELS.len(), 1000);
        for (class, id, name) in [
            (0, "n01440764", "tench"),
            (134, "n02012849", "crane"),
            (281, "n02123045", "tabby"),
            (388, "n02510455", "giant_panda"),
            (517, "n03126707", "crane"),
            (999, "n15075141", "toilet_tissue"),
        ] {
            assert_eq!(LABELS[class], Label { id, name });
        }
        let mut ids: Vec<_> = LABELS.iter().map(|label| label.id).collect();
        ids.dedup();
        assert_eq!(ids.len(), 1000);
        assert!(ids.is_sorted());
    }

    #[test]
    fn decode_predictions_ranks() {
        let mut probabilities = vec![0.0; 1000];
        (probabilities[7], probabilities[3], probabilities[9]) = (0.5, 0.3, f32::NAN);
        let best = decode_predictions(&probabilities, 2).expect("1000 classes");
        assert_eq!(best[0], (LABELS[7], 0.5));
        assert_eq!(best[1], (LABELS[3], 0.3));
        assert!(decode_predictions(&[1.0], 1).is_err());
    }
}
