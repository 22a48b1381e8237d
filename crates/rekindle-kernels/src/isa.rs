use std::fmt;

use crate::PlanError;
use crate::depthwise::{self, Depthwise};
use crate::gemm::{self, Tile};
use crate::winograd::{self, Transforms};

/// An instruction set that there are kernels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512F.
    Avx512,
    /// AVX2 and FMA.
    Avx2,
    /// NEON.
    Neon,
    /// Plain Rust.
    Portable,
}

impl Isa {
    /// Those that this machine can run, the fastest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                found.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Self::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        found.push(Self::Neon);
        found.push(Self::Portable);
        found
    }

    /// The one that `REKINDLE_ISA` names, or else the fastest of this machine.
    ///
    /// # Errors
    /// When `REKINDLE_ISA` names one that this machine cannot run, or none at all.
    pub fn detect() -> Result<Self, PlanError> {
        let available = Self::available();
        let Ok(wanted) = std::env::var("REKINDLE_ISA") else {
            return Ok(available[0]);
        };
        let named = available.iter().find(|isa| isa.to_string() == wanted).copied();
        named.ok_or_else(|| {
            let available: Vec<String> = available.iter().map(Self::to_string).collect();
            PlanError::Isa { wanted, available: available.join(", ") }
        })
    }

    /// Its kernels.
    pub(crate) fn kernels(self) -> Kernels {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Kernels {
                rows: 8,
                columns: 32,
                tile: gemm::tile_avx512,
                depthwise: depthwise::row_avx512,
                winograd: winograd::avx512(),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Kernels {
                rows: 6,
                columns: 16,
                tile: gemm::tile_avx2,
                depthwise: depthwise::row_avx2,
                winograd: winograd::avx2(),
            },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Kernels {
                rows: 8,
                columns: 8,
                tile: gemm::tile_neon,
                depthwise: depthwise::row_neon,
                winograd: winograd::neon(),
            },
            _ => Kernels {
                rows: 4,
                columns: 16,
                tile: gemm::tile_portable,
                depthwise: depthwise::row_portable,
                winograd: winograd::portable(),
            },
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Portable => "portable",
        })
    }
}

/// The kernels of one instruction set.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    /// Most rows of a GEMM tile.
    pub rows: usize,
    /// Columns of a full GEMM tile, and of a packed panel of weights.
    pub columns: usize,
    pub tile: Tile,
    pub depthwise: Depthwise,
    pub winograd: Transforms,
}
