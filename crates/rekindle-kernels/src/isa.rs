use std::fmt;

use half::bf16;
use rekindle_nn::UnknownName;

use crate::PlanError;
use crate::depthwise::{self, Depthwise};
use crate::gemm::{self, Tile};
use crate::int8::{self, tile};
use crate::ir::Element;
use crate::pool::{self, PoolRow};
use crate::rates;
use crate::simd::bf16::Narrow;
use crate::simd::int8::Sums;
use crate::simd::{self, CHANNEL_BLOCK};
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
                rows: 12,
                columns: 32,
                has_halves: true,
                tile: gemm::tile_avx512,
                depthwise: depthwise::rows_avx512,
                pool: pool::row_avx512,
                winograd: winograd::avx512(),
                bf16: is_x86_feature_detected!("avx512bf16").then_some(Bf16 {
                    tile: gemm::tile_avx512_bf16,
                    tile_to_bf16: gemm::tile_avx512_bf16_to_bf16,
                    narrow: simd::bf16::narrow_avx512,
                    winograd: winograd::avx512_bf16(),
                }),
                int8: self.int8().first().copied(),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Kernels {
                rows: 6,
                columns: 16,
                has_halves: false,
                tile: gemm::tile_avx2,
                depthwise: depthwise::rows_avx2,
                pool: pool::row_avx2,
                winograd: winograd::avx2(),
                bf16: None,
                int8: self.int8().first().copied(),
            },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Kernels {
                rows: 8,
                columns: 8,
                has_halves: false,
                tile: gemm::tile_neon,
                depthwise: depthwise::rows_neon,
                pool: pool::row_neon,
                winograd: winograd::neon(),
                bf16: None,
                int8: self.int8().first().copied(),
            },
            _ => Kernels {
                rows: 4,
                columns: 16,
                has_halves: false,
                tile: gemm::tile_portable,
                depthwise: depthwise::rows_portable,
                pool: pool::row_portable,
                winograd: winograd::portable(),
                bf16: Some(Bf16 {
                    tile: gemm::tile_portable_bf16,
                    tile_to_bf16: gemm::tile_portable_bf16_to_bf16,
                    narrow: simd::bf16::narrow_portable,
                    winograd: winograd::portable_bf16(),
                }),
                int8: self.int8().first().copied(),
            },
        }
    }

    /// The kernels of bytes that this machine can run, the fastest first.
    pub(crate) fn int8(self) -> Vec<Int8> {
        let mut found = Vec::new();
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                if is_x86_feature_detected!("avx512bw") {
                    if is_x86_feature_detected!("avx512vnni") {
                        found.push(Int8 {
                            name: "avx512vnni",
                            shift: simd::int8::Vnni512::SHIFT,
                            tile: tile::tile_vnni512,
                            tile_to_f32: tile::tile_vnni512_to_f32,
                            depthwise: int8::depthwise::rows_vnni512,
                            depthwise_to_f32: int8::depthwise::rows_vnni512_to_f32,
                        });
                    }
                    found.push(Int8 {
                        name: "avx512bw",
                        shift: simd::int8::Madd512::SHIFT,
                        tile: tile::tile_madd512,
                        tile_to_f32: tile::tile_madd512_to_f32,
                        depthwise: int8::depthwise::rows_madd512,
                        depthwise_to_f32: int8::depthwise::rows_madd512_to_f32,
                    });
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                if is_x86_feature_detected!("avxvnni") {
                    found.push(Int8 {
                        name: "avxvnni",
                        shift: simd::int8::Vnni256::SHIFT,
                        tile: tile::tile_vnni256,
                        tile_to_f32: tile::tile_vnni256_to_f32,
                        depthwise: int8::depthwise::rows_vnni256,
                        depthwise_to_f32: int8::depthwise::rows_vnni256_to_f32,
                    });
                }
                found.push(Int8 {
                    name: "avx2",
                    shift: simd::int8::Madd256::SHIFT,
                    tile: tile::tile_madd256,
                    tile_to_f32: tile::tile_madd256_to_f32,
                    depthwise: int8::depthwise::rows_madd256,
                    depthwise_to_f32: int8::depthwise::rows_madd256_to_f32,
                });
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => {
                if std::arch::is_aarch64_feature_detected!("dotprod") {
                    found.push(Int8 {
                        name: "neon dotprod",
                        shift: simd::int8::Dot128::SHIFT,
                        tile: tile::tile_dot128,
                        tile_to_f32: tile::tile_dot128_to_f32,
                        depthwise: int8::depthwise::rows_dot128,
                        depthwise_to_f32: int8::depthwise::rows_dot128_to_f32,
                    });
                }
                found.push(Int8 {
                    name: "neon",
                    shift: simd::int8::Wide128::SHIFT,
                    tile: tile::tile_wide128,
                    tile_to_f32: tile::tile_wide128_to_f32,
                    depthwise: int8::depthwise::rows_wide128,
                    depthwise_to_f32: int8::depthwise::rows_wide128_to_f32,
                });
            }
            _ => found.push(Int8 {
                name: "portable",
                shift: simd::int8::Quads::SHIFT,
                tile: tile::tile_portable,
                tile_to_f32: tile::tile_portable_to_f32,
                depthwise: int8::depthwise::rows_portable,
                depthwise_to_f32: int8::depthwise::rows_portable_to_f32,
            }),
        }
        found
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
    /// Whether the tile of f32 may end with half of a block of channels.
    pub has_halves: bool,
    pub tile: Tile<f32, f32>,
    pub depthwise: Depthwise,
    pub pool: PoolRow,
    pub winograd: Transforms<f32>,
    /// Those of bf16, where there are some.
    pub bf16: Option<Bf16>,
    /// Those of bytes, where there are some.
    pub int8: Option<Int8>,
}

impl Kernels {
    /// Columns that a product of such factors with this many outputs computes: those that fill its last tile.
    pub fn padded(&self, outputs: usize, factors: Element) -> usize {
        let whole = outputs.next_multiple_of(CHANNEL_BLOCK);
        let half = whole - CHANNEL_BLOCK / 2;
        let is_half = self.has_halves && factors == Element::F32 && outputs <= half;
        if is_half { half } else { whole }
    }
}

/// The kernels that multiply pairs of bf16.
#[derive(Clone, Copy)]
pub(crate) struct Bf16 {
    /// Of the same rows and columns as the tile of f32.
    pub tile: Tile<bf16, f32>,
    /// As `tile`, with outputs that are bf16.
    pub tile_to_bf16: Tile<bf16, bf16>,
    pub narrow: Narrow,
    pub winograd: Transforms<bf16>,
}

/// The kernels that multiply bytes.
#[derive(Clone, Copy)]
pub(crate) struct Int8 {
    /// What they take of the instruction set.
    pub name: &'static str,
    /// What they take off each byte.
    pub shift: i32,
    /// Of the same rows and columns as the tile of f32.
    pub tile: Tile<u8, u8>,
    pub tile_to_f32: Tile<u8, f32>,
    pub depthwise: int8::depthwise::Depthwise<u8>,
    pub depthwise_to_f32: int8::depthwise::Depthwise<f32>,
}

/// What products are computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// As Keras does.
    #[default]
    F32,
    /// On the CPU, factors of most convolutions rounded to bf16 and sums in f32, within 2 % of the largest output; faster
    /// where the processor has AVX-512 BF16 at a higher rate than f32's ([`PlanConfig::detect`] measures it). On a GPU, all
    /// values.
    Bf16,
    /// All values in f16: for GPUs that have it and no bf16.
    F16,
    /// On the CPU, products of bytes in networks that were quantized: by [`lower_quantized`](crate::lower_quantized).
    Int8,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        })
    }
}

impl std::str::FromStr for Precision {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "f16" => Ok(Self::F16),
            "int8" => Ok(Self::Int8),
            other => Err(UnknownName::new("precision", other, "f32, bf16, f16 or int8")),
        }
    }
}

/// How a plan is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanConfig {
    /// The instruction set of its kernels.
    pub isa: Isa,
    /// What its products are computed with.
    pub precision: Precision,
}

impl From<Isa> for PlanConfig {
    fn from(isa: Isa) -> Self {
        Self { isa, precision: Precision::F32 }
    }
}

impl PlanConfig {
    /// This machine's [`Isa::detect`], with a precision. [`Precision::Bf16`] becomes [`Precision::F32`], with a warning, on
    /// processors whose products of bf16 take no less time than those of f32, which is measured once for a process.
    ///
    /// # Errors
    /// When `REKINDLE_ISA` cannot be used, or the instruction set has no such products.
    pub fn detect(precision: Precision) -> Result<Self, PlanError> {
        let config = Self { isa: Isa::detect()?, precision }.checked()?;
        if precision == Precision::Bf16 && !rates::bf16_gains(config.isa) {
            let share = rates::bf16_share(config.isa).unwrap_or(f64::INFINITY);
            tracing::warn!(
                "precision bf16: this processor's products of bf16 take {share:.1} times as long as those of f32; f32 is computed"
            );
            return Ok(Self { precision: Precision::F32, ..config });
        }
        Ok(config)
    }

    pub(crate) fn checked(self) -> Result<Self, PlanError> {
        let Self { isa, precision } = self;
        let is_there = match precision {
            Precision::F32 => true,
            Precision::Bf16 => isa.kernels().bf16.is_some(),
            Precision::F16 => false,
            Precision::Int8 => isa.kernels().int8.is_some(),
        };
        if is_there { Ok(self) } else { Err(PlanError::Precision { precision, isa }) }
    }
}
