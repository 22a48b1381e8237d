use burn::tensor::backend::Backend;

use crate::{Family, Network, NetworkError};

/// A Burn module that is always of one family: `MobileNetV2<B>`, ...
pub trait TypedNetwork<B: Backend>:
    TryFrom<Network<B>, Error = NetworkError> + Into<Network<B>>
{
    /// The family.
    const FAMILY: &'static Family;
}

/// A Burn module of its own for a family: a thin cover of [`Network`](crate::Network), generic over the backend, with
/// typed settings.
macro_rules! typed_network {
    ($(#[$doc:meta])* $name:ident, $config:ident, $family:expr $(, $alpha:ident $(, $minimalistic:ident)?)?) => {
        #[doc = concat!("The settings of [`", stringify!($name), "`].")]
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $config {
            $(
                /// Width multiplier, one of the family's.
                pub $alpha: f64,
                $(
                    /// Without squeeze-and-excite blocks, hard swishes and 5x5 kernels.
                    pub $minimalistic: bool,
                )?
            )?
            /// Height and width of the images in pixels.
            pub size: usize,
            /// Classes of the top; none leaves the top off.
            pub classes: Option<usize>,
        }

        impl Default for $config {
            fn default() -> Self {
                Self {
                    $($alpha: $family.alphas[0], $($minimalistic: false,)?)?
                    size: $family.default_size,
                    classes: None,
                }
            }
        }

        impl $config {
            /// Keras's default settings, no top.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }

            $(
                /// Width multiplier, one of the family's.
                #[must_use]
                pub fn with_alpha(self, $alpha: f64) -> Self {
                    Self { $alpha, ..self }
                }

                $(
                    /// The form without squeeze-and-excite blocks, hard swishes and 5x5 kernels.
                    #[must_use]
                    pub fn with_minimalistic(self, $minimalistic: bool) -> Self {
                        Self { $minimalistic, ..self }
                    }
                )?
            )?

            /// Height and width of the images in pixels.
            #[must_use]
            pub fn with_size(self, size: usize) -> Self {
                Self { size, ..self }
            }

            /// With a top of this many classes (1000 for ImageNet).
            #[must_use]
            pub fn with_classes(self, classes: usize) -> Self {
                Self { classes: Some(classes), ..self }
            }

            /// The network, with random weights until others are loaded.
            ///
            /// # Errors
            /// When a setting is outside of what Keras allows.
            pub fn init<B: burn::tensor::backend::Backend>(
                self,
                device: &B::Device,
            ) -> Result<$name<B>, $crate::NetworkError> {
                Ok($name($crate::Architecture::from(self).init(device)?))
            }
        }

        impl From<$config> for $crate::Architecture {
            fn from(config: $config) -> Self {
                let plain = Self::new(&$family).with_size(config.size).with_top(config.classes);
                $(
                    let plain = plain.with_alpha(config.$alpha);
                    $(let plain = plain.with_minimalistic(config.$minimalistic);)?
                )?
                plain
            }
        }

        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name<B: burn::tensor::backend::Backend>($crate::Network<B>);

        impl<B: burn::tensor::backend::Backend> $name<B> {
            /// The same for square images of this many pixels a side: no weight depends on it.
            ///
            /// # Errors
            /// When it is less than the family allows.
            pub fn with_size(self, size: usize) -> Result<Self, $crate::NetworkError> {
                Ok(Self(self.0.with_size(size)?))
            }
        }

        impl<B: burn::tensor::backend::Backend> std::ops::Deref for $name<B> {
            type Target = $crate::Network<B>;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }

        impl<B: burn::tensor::backend::Backend> From<$name<B>> for $crate::Network<B> {
            fn from(network: $name<B>) -> Self {
                network.0
            }
        }

        impl<B: burn::tensor::backend::Backend> TryFrom<$crate::Network<B>> for $name<B> {
            type Error = $crate::NetworkError;

            /// The network, where it is one of this family.
            fn try_from(network: $crate::Network<B>) -> Result<Self, Self::Error> {
                match network.architecture() {
                    Some(known) if known.family.name == $family.name => Ok(Self(network)),
                    other => Err($crate::NetworkError::Setting {
                        architecture: $family.name,
                        setting: "family",
                        found: other.map_or("another network".into(), |other| other.to_string()),
                        expected: $family.name.into(),
                    }),
                }
            }
        }

        impl<B: burn::tensor::backend::Backend> $crate::TypedNetwork<B> for $name<B> {
            const FAMILY: &'static $crate::Family = &$family;
        }

        impl<B: burn::tensor::backend::Backend> burn::module::Module<B> for $name<B> {
            type Record = <$crate::Network<B> as burn::module::Module<B>>::Record;

            fn collect_devices(
                &self,
                devices: burn::module::Devices<B>,
            ) -> burn::module::Devices<B> {
                self.0.collect_devices(devices)
            }

            fn fork(self, device: &B::Device) -> Self {
                Self(self.0.fork(device))
            }

            fn to_device(self, device: &B::Device) -> Self {
                Self(self.0.to_device(device))
            }

            fn visit<V: burn::module::ModuleVisitor<B>>(&self, visitor: &mut V) {
                self.0.visit(visitor);
            }

            fn map<M: burn::module::ModuleMapper<B>>(self, mapper: &mut M) -> Self {
                Self(self.0.map(mapper))
            }

            fn load_record(self, record: Self::Record) -> Self {
                Self(self.0.load_record(record))
            }

            fn into_record(self) -> Self::Record {
                self.0.into_record()
            }
        }

        impl<B: burn::tensor::backend::AutodiffBackend> burn::module::AutodiffModule<B>
            for $name<B>
        {
            type InnerModule = $name<B::InnerBackend>;

            fn valid(&self) -> Self::InnerModule {
                $name(self.0.valid())
            }

            fn from_inner(module: Self::InnerModule) -> Self {
                Self(burn::module::AutodiffModule::from_inner(module.0))
            }
        }

        impl<B: burn::tensor::backend::AutodiffBackend> burn::module::HasAutodiffModule<B>
            for $name<B::InnerBackend>
        {
            type TrainModule = $name<B>;
        }

        impl<B: burn::tensor::backend::Backend> burn::module::ModuleDisplayDefault for $name<B> {
            fn content(&self, content: burn::module::Content) -> Option<burn::module::Content> {
                self.0.content(content)
            }

            fn num_params(&self) -> usize {
                burn::module::Module::num_params(&self.0)
            }
        }

        impl<B: burn::tensor::backend::Backend> burn::module::ModuleDisplay for $name<B> {}
    };
}

pub(crate) use typed_network;
