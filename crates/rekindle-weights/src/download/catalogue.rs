use rekindle_nn::Architecture;

use crate::WeightsError;

/// A file of Keras's published weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Between the base address and the name; ends in a slash.
    pub folder: &'static str,
    /// The file's name, on the server as on the disk.
    pub name: String,
    /// Its MD5, where Keras says it.
    pub md5: Option<&'static str>,
}

impl Published {
    /// The ImageNet weights of an architecture, with its top or without.
    ///
    /// # Errors
    /// When none are published for its number of classes.
    pub fn of(architecture: &Architecture) -> Result<Self, WeightsError> {
        if let Some(classes) = architecture.classes().filter(|&classes| classes != 1000) {
            return Err(WeightsError::Unavailable {
                architecture: architecture.to_string(),
                reason: format!(
                    "ImageNet's weights have 1000 classes, not {classes}; take the network without its top"
                ),
            });
        }
        let found = (architecture.family.published)(&architecture.settings);
        Ok(Self { folder: found.folder, name: found.file, md5: found.md5 })
    }
}

#[cfg(test)]
mod tests {
    use rekindle_nn::{InceptionV3Config, MobileNetV2Config};

    use super::*;

    #[test]
    fn names_are_keras_s() {
        let name = |architecture| Published::of(&architecture).expect("published").name;
        let mobile = |alpha, size| {
            Architecture::from(MobileNetV2Config::new().with_alpha(alpha).with_size(size))
        };
        let prefix = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_";
        assert_eq!(name(mobile(1.0, 160)), format!("{prefix}1.0_160_no_top.h5"));
        assert_eq!(name(mobile(0.35, 100)), format!("{prefix}0.35_224_no_top.h5"));
        assert_eq!(name(mobile(1.4, 96)), format!("{prefix}1.4_224_no_top.h5"));
        assert_eq!(name(mobile(0.5, 96).with_top(Some(1000))), format!("{prefix}0.5_96.h5"));
        let inception = Architecture::from(InceptionV3Config::new());
        let found = Published::of(&inception).expect("published");
        assert_eq!(found.name, "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5");
        assert_eq!(found.md5, Some("bcbd6486424b2319ff4ef7d526e38f63"));
        let error = Published::of(&inception.with_top(Some(5))).expect_err("five classes");
        assert!(error.to_string().contains("1000 classes, not 5"), "{error}");
    }
}
