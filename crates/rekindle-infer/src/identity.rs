//! How settings and contents are told apart.

use serde::Serialize;

/// Settings as the JSON that tells two of them apart. It has the names that files have, and not Rust's, so that it stays as it is
/// when code is changed that means the same.
pub fn serialized(settings: &impl Serialize) -> String {
    serde_json::to_string(settings)
        .unwrap_or_else(|error| unreachable!("settings are numbers and names: {error}"))
}

/// Bytes as text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
