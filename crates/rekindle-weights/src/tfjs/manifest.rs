//! `weightsManifest`: groups of weights, each group the bytes of some files one behind the other.

use serde::Deserialize;
use serde_json::Value;

use crate::checkpoint::ReadTensor;
use crate::files::{Bytes, Files};
use crate::safetensors::decode;
use crate::{Dtype, teachable::shown};

/// Networks have some hundreds.
const MOST_FILES: usize = 100_000;

#[derive(Deserialize)]
struct Group {
    paths: Vec<String>,
    weights: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    name: String,
    shape: Vec<u64>,
    dtype: String,
    #[serde(default)]
    quantization: Option<Value>,
}

/// How the numbers of a weight are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// As f32.
    Float,
    /// As IEEE halves.
    Half,
    /// As i32.
    Integer,
    /// As codes of this many bytes, each of which means `code * scale + min`.
    Codes { bytes: usize, scale: f64, min: f64, rounded: bool },
}

impl Kind {
    /// Bytes of one number.
    fn size(self) -> usize {
        match self {
            Self::Float | Self::Integer => 4,
            Self::Half => 2,
            Self::Codes { bytes, .. } => bytes,
        }
    }
}

/// One weight.
#[derive(Debug)]
pub(super) struct Weight {
    pub name: String,
    pub shape: Vec<usize>,
    pub kind: Kind,
    group: usize,
    /// In the group's bytes.
    start: u64,
    /// In bytes.
    length: usize,
}

/// All groups of a manifest.
pub(super) struct Groups {
    weights: Vec<Weight>,
    /// The files of each group, and where in the group each begins.
    files: Vec<Vec<(u64, Bytes)>>,
}

impl Groups {
    /// Reads the list, and finds its files; every length is compared with what is there.
    pub fn read(manifest: Value, files: &mut Files<'_>) -> Result<Self, String> {
        let list: Vec<Group> = serde_json::from_value(manifest)
            .map_err(|error| format!("`weightsManifest` is damaged: {error}"))?;
        let (mut weights, mut all) = (Vec::new(), Vec::new());
        for (number, Group { paths, weights: listed }) in list.into_iter().enumerate() {
            if all.len() + paths.len() > MOST_FILES {
                return Err(format!("`weightsManifest` lists more than {MOST_FILES} files"));
            }
            let (mut group, mut there) = (Vec::with_capacity(paths.len()), 0_u64);
            for path in &paths {
                let bytes = files.bytes(path)?;
                let length = bytes.length();
                group.push((there, bytes));
                there = there.saturating_add(length);
            }
            let mut start = 0_u64;
            for Listed { name, shape, dtype, quantization } in listed {
                let wrong = |reason: String| format!("`{name}`: {reason}");
                let kind = kind(&dtype, quantization.as_ref()).map_err(wrong)?;
                let counted = shape
                    .iter()
                    .try_fold(kind.size() as u64, |all, &extent| all.checked_mul(extent));
                let end = counted.and_then(|length| start.checked_add(length));
                let (Some(length), Some(end)) = (counted, end.filter(|end| *end <= there)) else {
                    return Err(wrong(format!(
                        "a shape of {shape:?} ends behind the {there} bytes of {}: a file is truncated, or of another model",
                        named(&paths)
                    )));
                };
                let convert = |extent: &u64| usize::try_from(*extent).ok();
                let shape: Option<Vec<usize>> = shape.iter().map(convert).collect();
                let (Some(shape), Ok(length)) = (shape, usize::try_from(length)) else {
                    return Err(wrong("is larger than this machine's memory".into()));
                };
                weights.push(Weight { name, shape, kind, group: number, start, length });
                start = end;
            }
            if start != there {
                return Err(format!(
                    "{} have {there} bytes, expected {start}: a file was altered, or is of another model",
                    named(&paths)
                ));
            }
            all.push(group);
        }
        Ok(Self { weights, files: all })
    }

    pub fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// The bytes of a weight.
    fn bytes(&self, weight: &Weight) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; weight.length];
        let end = weight.start + weight.length as u64;
        for (begin, file) in self.files.get(weight.group).map_or(&[][..], Vec::as_slice) {
            let from = weight.start.max(*begin);
            let to = end.min(begin + file.length());
            if from >= to {
                continue;
            }
            let place = |at: u64| usize::try_from(at - weight.start).map_err(|e| e.to_string());
            file.read(from - begin, &mut bytes[place(from)?..place(to)?])?;
        }
        Ok(bytes)
    }

    fn values(&self, weight: &Weight) -> Result<Vec<f32>, String> {
        let bytes = self.bytes(weight)?;
        Ok(match weight.kind {
            Kind::Float => decode(&bytes, Dtype::F32),
            Kind::Half => decode(&bytes, Dtype::F16),
            Kind::Integer => decode(&bytes, Dtype::I32),
            // In f64, and then to f32: so TF.js has it.
            Kind::Codes { bytes: size, scale, min, rounded } => {
                let value = |code: u16| {
                    let value = f64::from(code) * scale + min;
                    (if rounded { value.round() } else { value }) as f32
                };
                match size {
                    1 => bytes.iter().map(|&code| value(u16::from(code))).collect(),
                    _ => {
                        let pairs = bytes.as_chunks::<2>().0.iter();
                        pairs.map(|&pair| value(u16::from_le_bytes(pair))).collect()
                    }
                }
            }
        })
    }
}

/// The files of a group, for messages.
fn named(paths: &[String]) -> String {
    match paths {
        [] => "no files".into(),
        [one] => format!("`{one}`"),
        [first, .., last] => format!("`{first}` to `{last}`"),
    }
}

fn kind(dtype: &str, quantization: Option<&Value>) -> Result<Kind, String> {
    let Some(quantization) = quantization.filter(|value| !value.is_null()) else {
        return match dtype {
            "float32" => Ok(Kind::Float),
            "float16" => Ok(Kind::Half),
            "int32" => Ok(Kind::Integer),
            other => Err(format!("found {other} values, expected float32 or int32")),
        };
    };
    let rounded = match dtype {
        "float32" => false,
        "int32" => true,
        other => return Err(format!("found quantized {other} values, expected float32 or int32")),
    };
    let stored = quantization["dtype"].as_str().unwrap_or_default();
    let bytes = match stored {
        "float16" if !rounded => return Ok(Kind::Half),
        "uint8" => 1,
        "uint16" => 2,
        _ => {
            return Err(format!(
                "is quantized to {}, expected uint8, uint16 or float16",
                shown(&quantization["dtype"])
            ));
        }
    };
    let number = |setting: &str| match quantization[setting].as_f64() {
        Some(number) if number.is_finite() => Ok(number),
        _ => Err(format!(
            "`quantization` has a {setting} of {}, expected a number",
            shown(&quantization[setting])
        )),
    };
    Ok(Kind::Codes { bytes, scale: number("scale")?, min: number("min")?, rounded })
}

/// Reads the weights that are kept.
pub(super) struct Reader {
    pub groups: Groups,
    /// Their numbers among all.
    pub kept: Vec<usize>,
}

impl ReadTensor for Reader {
    fn read(&mut self, index: usize) -> Result<Vec<f32>, String> {
        let weight = self.kept.get(index).and_then(|&index| self.groups.weights.get(index));
        self.groups.values(weight.ok_or("no such weight")?)
    }
}
