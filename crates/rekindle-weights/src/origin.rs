use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Origin {
    /// The file says it.
    #[default]
    File,
    /// The file does not say it; it is what the network's family takes.
    Network,
    /// The file does not say it, and nothing else does.
    Assumed,
    /// What Rekindle takes where nobody says anything: of a network that begins anew.
    Default,
    /// The user.
    User,
}

impl Origin {
    /// Whether it may be wrong: the file does not say it.
    #[must_use]
    pub fn is_assumed(self) -> bool {
        matches!(self, Self::Network | Self::Assumed)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "from the file",
            Self::Network => "the network's own",
            Self::Assumed => "assumed",
            Self::Default => "the default",
            Self::User => "as asked",
        })
    }
}

/// Where what is known of a network's photos comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Origins {
    /// Their height and width.
    pub size: Origin,
    /// How they are brought there.
    pub resize: Origin,
    /// How pixels become the network's input.
    pub preprocessing: Origin,
    /// What becomes of transparency.
    pub transparency: Origin,
    /// What becomes of EXIF's orientation.
    pub orientation: Origin,
}

impl Origins {
    /// The same, where it is one for all of them.
    #[must_use]
    pub fn of(origin: Origin) -> Self {
        Self {
            size: origin,
            resize: origin,
            preprocessing: origin,
            transparency: origin,
            orientation: origin,
        }
    }

    /// Whether the file says all of it.
    #[must_use]
    pub fn is_file(&self) -> bool {
        *self == Self::of(Origin::File)
    }
}
