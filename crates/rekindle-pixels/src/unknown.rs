/// A text that is the name of none of the values that there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{found}`, expected {expected}")]
#[non_exhaustive]
pub struct UnknownName {
    /// What was to be named.
    pub what: &'static str,
    /// The text.
    pub found: String,
    /// The names that there are.
    pub expected: String,
}

impl UnknownName {
    /// With the names that there are, separated by commas.
    #[must_use]
    pub fn new(what: &'static str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { what, found: found.into(), expected: expected.into() }
    }
}

impl From<UnknownName> for String {
    fn from(error: UnknownName) -> Self {
        error.to_string()
    }
}
