//! What of some photos will hardly train well, and what to do about it.

use rekindle_infer::internal::{FEW, named};
use rekindle_vision::{Sample, Split};

use crate::settings::ClassWeights;

/// Classes that differ by more are not learned alike.
const UNEVEN: usize = 20;

/// How many photos of each class there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    pub train: Vec<usize>,
    pub valid: Vec<usize>,
}

impl Counts {
    pub fn of(train: &[Sample], valid: &[Sample], classes: usize) -> Self {
        let labels = |samples: &[Sample]| {
            let mut counts = vec![0; classes];
            samples.iter().flat_map(|sample| &sample.labels).for_each(|&label| counts[label] += 1);
            counts
        };
        Self { train: labels(train), valid: labels(valid) }
    }

    pub fn all(&self, class: usize) -> usize {
        self.train[class] + self.valid[class]
    }
}

/// One sentence for each thing that a user should know before waiting for a result.
pub(crate) fn warnings(
    classes: &[String],
    counts: &Counts,
    split: &Split,
    weights: &ClassWeights,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let those = |is_meant: &dyn Fn(usize) -> bool| -> Vec<usize> {
        (0..classes.len()).filter(|&class| is_meant(class)).collect()
    };
    let few = those(&|class| counts.all(class) < FEW);
    if !few.is_empty() {
        warnings.push(format!(
            "fewer than {FEW} photos of {}: take more, or show those that there are in several ways (--augment standard)",
            named(&few, |class| format!("`{}` ({})", classes[class], counts.all(class)))
        ));
    }
    if let Split::Fraction(share) = split {
        let is_more =
            |class: usize| counts.valid[class] as f64 > 2.0 * share * counts.all(class) as f64;
        let much = those(&is_more);
        if !much.is_empty() {
            warnings.push(format!(
                "validation takes one photo of {}, more than the share of {:.0} %: --valid-split 0 trains on all photos, \
                 --valid-dir takes others to validate on",
                named(&much, |class| format!("`{}` (of {})", classes[class], counts.all(class))),
                share * 100.0
            ));
        }
    }
    let is_validated = counts.valid.iter().any(|&count| count > 0);
    let lacking = those(&|class| counts.valid[class] == 0);
    if !is_validated && *split != Split::None {
        warnings.push(
            "no photos are left to validate on, so that nothing tells how good the model is: take more photos, or others to validate on (--valid-dir)".into(),
        );
    } else if is_validated && !lacking.is_empty() {
        warnings.push(format!(
            "no photos to validate on of {}, so that the validation says nothing of them: add some of each",
            named(&lacking, |class| format!("`{}`", classes[class]))
        ));
    }
    let by_count = |&class: &usize| counts.train[class];
    let trained = || (0..classes.len()).filter(|&class| counts.train[class] > 0);
    if let (Some(most), Some(least), ClassWeights::Even) =
        (trained().max_by_key(by_count), trained().min_by_key(by_count), weights)
        && counts.train[most] > UNEVEN * counts.train[least]
    {
        warnings.push(format!(
            "{} photos of `{}` to train on and {} of `{}`, more than {UNEVEN} to 1: have rare classes count more \
             (--balance, ClassWeights::Balanced), or take more photos of them",
            counts.train[most], classes[most], counts.train[least], classes[least]
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(train: &[usize], valid: &[usize], split: Split, weights: ClassWeights) -> Vec<String> {
        let classes: Vec<String> = (0..train.len()).map(|class| format!("c{class}")).collect();
        let counts = Counts { train: train.into(), valid: valid.into() };
        warnings(&classes, &counts, &split, &weights)
    }

    #[test]
    fn what_will_hardly_train_is_said_with_what_to_do() {
        let (share, even) = (Split::Fraction(0.2), ClassWeights::Even);
        let none: Vec<String> = Vec::new();
        assert_eq!(said(&[8, 160], &[2, 40], share.clone(), even.clone()), none);
        let all = said(&[8, 1, 1, 200], &[2, 1, 0, 50], share.clone(), even.clone());
        let [few, half, lacking, uneven] = &all[..] else { panic!("{all:?}") };
        assert!(few.starts_with("fewer than 10 photos of `c1` (2), `c2` (1): "), "{few}");
        assert!(
            half.contains("takes one photo of `c1` (of 2), more than the share of 20 %: "),
            "{half}"
        );
        assert!(lacking.starts_with("no photos to validate on of `c2`, so that"), "{lacking}");
        assert!(uneven.starts_with("200 photos of `c3` to train on and 1 of `c1`, "), "{uneven}");
        // Each is said only where it is so.
        let balanced = said(&[10, 400], &[5, 5], share.clone(), ClassWeights::Balanced);
        assert_eq!(balanced, none);
        assert_eq!(said(&[10, 201], &[5, 5], share.clone(), even.clone()).len(), 1);
        assert_eq!(said(&[10, 200], &[5, 5], share.clone(), even.clone()), none);
        assert_eq!(said(&[10, 10], &[0, 0], Split::None, even.clone()), none);
        let one = said(&[1, 1], &[0, 0], share, even.clone());
        assert!(
            one.len() == 2 && one[1].starts_with("no photos are left to validate on"),
            "{one:?}"
        );
        // Somebody else's validation photos may be more than those to train on.
        assert_eq!(said(&[10, 10], &[50, 50], Split::Folder("x".into()), even.clone()), none);
        let many = said(&[1; 20], &[1; 20], Split::Folder("x".into()), even);
        assert!(many[0].contains("`c7` (2), and 12 more"), "{many:?}");
    }
}
