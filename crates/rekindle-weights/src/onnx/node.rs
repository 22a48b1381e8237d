//! One node of a file's graph, and its attributes.

use super::graph::Value;
use super::integers::Integer;
use super::proto::{AttributeProto, TensorProto};
use super::weight::integers;

/// An attribute.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Attribute {
    Float(f32),
    Int(i64),
    Text(String),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    /// A tensor of one number.
    Single(Single),
    /// A graph, a tensor or the like.
    Other,
}

/// The only value of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Single {
    Number(f32),
    Integer(i64),
}

impl Single {
    fn new(tensor: &TensorProto) -> Option<Self> {
        if let Ok(Some((_, values))) = integers(tensor) {
            return match values.as_slice() {
                &[value] => Some(Self::Integer(value)),
                _ => None,
            };
        }
        let raw = &tensor.raw_data[..];
        match (tensor.data_type, tensor.float_data.as_slice(), <[u8; 4]>::try_from(raw)) {
            (1, &[value], _) => Some(Self::Number(value)),
            (1, [], Ok(bytes)) => Some(Self::Number(f32::from_le_bytes(bytes))),
            _ => None,
        }
    }
}

impl Attribute {
    pub fn new(attribute: AttributeProto) -> Self {
        match attribute.r#type {
            1 => Self::Float(attribute.f),
            2 => Self::Int(attribute.i),
            3 => Self::Text(String::from_utf8_lossy(&attribute.s).into_owned()),
            6 => Self::Floats(attribute.floats),
            7 => Self::Ints(attribute.ints),
            0 | 4 if attribute.t.is_some() => {
                attribute.t.as_ref().and_then(Single::new).map_or(Self::Other, Self::Single)
            }
            // Files of the first version do not say.
            0 if !attribute.ints.is_empty() => Self::Ints(attribute.ints),
            0 if !attribute.floats.is_empty() => Self::Floats(attribute.floats),
            0 if !attribute.s.is_empty() => {
                Self::Text(String::from_utf8_lossy(&attribute.s).into_owned())
            }
            0 if attribute.f != 0.0 => Self::Float(attribute.f),
            0 => Self::Int(attribute.i),
            _ => Self::Other,
        }
    }
}

/// What a message says of a value that was found.
pub(super) trait Shown {
    fn shown(&self) -> String;
}

macro_rules! shown_as_is {
    ($($number:ty),+) => {
        $(impl Shown for $number {
            fn shown(&self) -> String {
                self.to_string()
            }
        })+
    };
}

shown_as_is!(i32, i64, usize, f32, f64);

impl Shown for str {
    fn shown(&self) -> String {
        format!("`{self}`")
    }
}

impl<T: Shown + ?Sized> Shown for &T {
    fn shown(&self) -> String {
        (**self).shown()
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> String {
        self.as_ref().map_or("left out".into(), Shown::shown)
    }
}

impl<T: Shown> Shown for [T] {
    fn shown(&self) -> String {
        let all: Vec<String> = self.iter().map(Shown::shown).collect();
        format!("[{}]", all.join(", "))
    }
}

impl<T: Shown> Shown for Vec<T> {
    fn shown(&self) -> String {
        self[..].shown()
    }
}

impl<T: Shown, const N: usize> Shown for [T; N] {
    fn shown(&self) -> String {
        self[..].shown()
    }
}

impl Shown for Integer {
    fn shown(&self) -> String {
        match self {
            Self::Known(value) => value.to_string(),
            Self::Batch => "samples".to_owned(),
        }
    }
}

impl Shown for Single {
    fn shown(&self) -> String {
        match self {
            Self::Number(value) => value.shown(),
            Self::Integer(value) => value.shown(),
        }
    }
}

impl Shown for Attribute {
    fn shown(&self) -> String {
        match self {
            Self::Float(value) => value.shown(),
            Self::Int(value) => value.shown(),
            Self::Text(value) => value.as_str().shown(),
            Self::Floats(values) => values.shown(),
            Self::Ints(values) => values.shown(),
            Self::Single(value) => value.shown(),
            Self::Other => "neither a number nor text".to_owned(),
        }
    }
}

/// One node.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub op: String,
    pub domain: String,
    pub name: String,
    /// Left-out inputs are nothing.
    pub inputs: Vec<Option<Value>>,
    pub outputs: Vec<Option<Value>>,
    pub attributes: Vec<(String, Attribute)>,
    /// What it is called in messages, where it is a part of another format's operator.
    pub label: Option<String>,
}

/// The largest extent of a window, a padding, a step: far more than any network has.
const MOST: i64 = 1 << 20;

/// The number that was meant: 0.1 as f32 is 0.10000000149 as f64.
pub(super) fn exact(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

impl Node {
    /// What is wrong with an attribute or an input.
    pub fn wrong(&self, what: &str, found: impl Shown, expected: &str) -> String {
        self.refused(&format!("`{what}` is {}, expected {expected}", found.shown()))
    }

    /// Why the node cannot be read.
    pub fn refused(&self, why: &str) -> String {
        match self {
            Self { label: Some(label), .. } => format!("{label}: {why}"),
            Self { name, op, .. } => format!("node `{name}` ({op}): {why}"),
        }
    }

    /// Sees that there are no attributes but these, and at most so many inputs.
    ///
    /// # Errors
    /// When there are.
    pub fn only(&self, attributes: &[&str], inputs: usize) -> Result<(), String> {
        let unknown = self.attributes.iter().find(|(name, _)| !attributes.contains(&name.as_str()));
        if let Some((name, found)) = unknown {
            let known = if attributes.is_empty() { "none".into() } else { attributes.join(", ") };
            return Err(self.refused(&format!(
                "attribute `{name}` is {}, which would not be honoured; known are: {known}",
                found.shown()
            )));
        }
        let given = self.inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if given > inputs {
            return Err(self.refused(&format!("found {given} inputs, expected at most {inputs}")));
        }
        Ok(())
    }

    /// An input that is there.
    pub fn input(&self, number: usize) -> Option<Value> {
        self.inputs.get(number).copied().flatten()
    }

    /// An input that has to be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn needed(&self, number: usize) -> Result<Value, String> {
        self.input(number).ok_or_else(|| self.refused(&format!("input {number} is missing")))
    }

    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, attribute)| attribute)
    }

    pub fn int(&self, name: &str) -> Result<Option<i64>, String> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Int(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong(name, other, "an integer")),
        }
    }

    /// An integer that is 0 or 1.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, String> {
        match self.int(name)? {
            None => Ok(None),
            Some(0) => Ok(Some(false)),
            Some(1) => Ok(Some(true)),
            Some(other) => Err(self.wrong(name, other, "0 or 1")),
        }
    }

    pub fn float(&self, name: &str) -> Result<Option<f64>, String> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Float(value)) if value.is_nan() => {
                Err(self.wrong(name, value, "a number"))
            }
            Some(Attribute::Float(value)) => Ok(Some(exact(*value))),
            // Files that do not say their types: 0.
            Some(Attribute::Int(0)) => Ok(Some(0.0)),
            Some(other) => Err(self.wrong(name, other, "a number")),
        }
    }

    pub fn text(&self, name: &str) -> Result<Option<&str>, String> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Text(value)) => Ok(Some(value)),
            Some(other) => Err(self.wrong(name, other, "text")),
        }
    }

    pub fn ints(&self, name: &str) -> Result<Option<&[i64]>, String> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(other) => Err(self.wrong(name, other, "integers")),
        }
    }

    pub fn floats(&self, name: &str) -> Result<Option<&[f32]>, String> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Floats(values)) => Ok(Some(values)),
            Some(other) => Err(self.wrong(name, other, "numbers")),
        }
    }

    /// A tensor of one number.
    pub fn tensor(&self, name: &str) -> Result<Option<Single>, String> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Single(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong(name, other, "a tensor of one float32 or integer")),
        }
    }

    /// Rows and columns, each from 1.
    pub fn pair(&self, name: &str) -> Result<Option<[usize; 2]>, String> {
        let Some(found) = self.ints(name)? else { return Ok(None) };
        match found {
            &[rows, columns] if (1..=MOST).contains(&rows) && (1..=MOST).contains(&columns) => {
                Ok(Some([rows as usize, columns as usize]))
            }
            _ => Err(self.wrong(name, found, "two integers from 1, of rows and of columns")),
        }
    }

    /// Rows above and below, columns left and right.
    pub fn edges(&self, name: &str) -> Result<Option<[[usize; 2]; 2]>, String> {
        let Some(found) = self.ints(name)? else { return Ok(None) };
        match found {
            &[top, left, bottom, right] if found.iter().all(|edge| (0..=MOST).contains(edge)) => {
                let [top, left, bottom, right] =
                    [top, left, bottom, right].map(|edge| edge as usize);
                Ok(Some([[top, bottom], [left, right]]))
            }
            _ => Err(self.wrong(name, found, "four integers from 0")),
        }
    }
}
