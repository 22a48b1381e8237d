use rekindle_nn::Architecture;
use rekindle_nn::families::Published;

use crate::WeightsError;

/// The file of an architecture's ImageNet weights, with its top or without.
///
/// # Errors
/// When none are published for its number of classes.
pub(super) fn published(architecture: &Architecture) -> Result<Published, WeightsError> {
    if let Some(classes) = architecture.classes().filter(|&classes| classes != 1000) {
        return Err(WeightsError::Unavailable {
            architecture: architecture.to_string(),
            reason: format!(
                "ImageNet's weights have 1000 classes, not {classes}; take the network without its top"
            ),
        });
    }
    (architecture.family.published)(&architecture.settings).ok_or_else(|| {
        WeightsError::Unavailable {
            architecture: architecture.to_string(),
            reason: format!(
                "no ImageNet weights are published for these settings in {}",
                architecture.family.source
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use rekindle_nn::{InceptionV3Config, MobileNetV2Config};

    use super::*;

    #[test]
    fn names_are_keras_s() {
        let name = |architecture| published(&architecture).expect("published").file;
        let mobile = |alpha, size| {
            Architecture::from(MobileNetV2Config::new().with_alpha(alpha).with_size(size))
        };
        let prefix = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_";
        assert_eq!(name(mobile(1.0, 160)), format!("{prefix}1.0_160_no_top.h5"));
        assert_eq!(name(mobile(0.35, 100)), format!("{prefix}0.35_224_no_top.h5"));
        assert_eq!(name(mobile(1.4, 96)), format!("{prefix}1.4_224_no_top.h5"));
        assert_eq!(name(mobile(0.5, 96).with_top(Some(1000))), format!("{prefix}0.5_96.h5"));
        let inception = Architecture::from(InceptionV3Config::new());
        let found = published(&inception).expect("published");
        assert_eq!(found.file, "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5");
        assert_eq!(found.hash, Some("bcbd6486424b2319ff4ef7d526e38f63"));
        let error = published(&inception.with_top(Some(5))).expect_err("five classes");
        assert!(error.to_string().contains("1000 classes, not 5"), "{error}");
    }
}
