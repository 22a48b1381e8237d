//! Files that name a model's classes, as they are found beside models.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::VisionError;

/// The longest file that is read.
const MAX_BYTES: u64 = 1 << 26;

/// Reads the names of classes, in the order of a model's outputs:
///
/// - a name on each line; blank lines, a byte order mark and Windows' line ends do not matter;
/// - Teachable Machine's `0 ape` on each line, numbered from 0 in any order;
/// - JSON: a list of names; an object with such a list as `labels`, as Teachable Machine's `metadata.json`; an object of
///   names by number or of numbers by name, as Keras's `class_indices`.
///
/// # Errors
/// When the file cannot be read, is no text, has no names, or numbers them otherwise than from 0 without a gap.
pub fn read_class_names(path: impl AsRef<Path>) -> Result<Vec<String>, VisionError> {
    let path = path.as_ref();
    let io = |error| VisionError::io(path, error);
    let wrong = |reason: String| VisionError::Labels { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(io)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(wrong(format!("over {MAX_BYTES} bytes; names of classes are a line each")));
    }
    parse(&bytes).map_err(wrong)
}

fn parse(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = text(bytes)?;
    let start = text.trim_start();
    let is_json = start.starts_with(['[', '{']);
    let names = match serde_json::from_str::<Value>(&text) {
        Ok(value) if is_json => from_json(value)?,
        // A line may begin like that, too.
        Err(error) if is_json && !start.contains('\n') => return Err(format!("no JSON: {error}")),
        Err(error) if start.starts_with('{') => return Err(format!("no JSON: {error}")),
        _ => from_lines(&text)?,
    };
    match names.iter().any(|name| name.trim().is_empty()) {
        _ if names.is_empty() => Err("there are no names in it".into()),
        true => Err("a name is empty".into()),
        false => Ok(names),
    }
}

fn text(bytes: &[u8]) -> Result<String, String> {
    let wide = |bytes: &[u8], of: fn([u8; 2]) -> u16| {
        let (pairs, _) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|&pair| of(pair)).collect();
        String::from_utf16(&units).map_err(|error| format!("no UTF-16: {error}"))
    };
    match bytes {
        [0xFF, 0xFE, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => wide(rest, u16::from_be_bytes),
        _ => {
            let rest = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
            let text = std::str::from_utf8(rest);
            let text =
                text.map_err(|error| format!("no UTF-8 text ({error}): save it as UTF-8"))?;
            match text.contains('\0') {
                true => Err("no text: names of classes are a line each".into()),
                false => Ok(text.to_owned()),
            }
        }
    }
}

fn from_lines(text: &str) -> Result<Vec<String>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<&str> = lines.collect();
    let numbered = |line: &&str| {
        let (number, name) = line.split_once(char::is_whitespace)?;
        Some((number.parse::<usize>().ok()?, name.trim().to_owned()))
    };
    let all: Option<Vec<(usize, String)>> = lines.iter().map(numbered).collect();
    match all {
        Some(all) if !all.is_empty() => match in_order(all.clone()) {
            Ok(names) => Ok(names),
            // Names may begin with a number: `7 up`, `101 dalmatians`; but not all of them from 0 on.
            Err(_) if !all.iter().any(|(number, _)| *number == 0) => {
                Ok(lines.into_iter().map(str::to_owned).collect())
            }
            Err(reason) => Err(reason),
        },
        _ => Ok(lines.into_iter().map(str::to_owned).collect()),
    }
}

fn from_json(value: Value) -> Result<Vec<String>, String> {
    const EXPECTED: &str =
        "expected a list of names, an object with one as `labels`, or names by number";
    let name = |value: &Value| match value {
        Value::String(name) => Some(name.clone()),
        // ImageNet's `["n01440764", "tench"]`.
        Value::Array(parts) => match parts.as_slice() {
            [Value::String(id), Value::String(name)] => Some(format!("{id} {name}")),
            _ => None,
        },
        _ => None,
    };
    let wrong = || EXPECTED.to_owned();
    match value {
        Value::Array(names) => {
            { names.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<_>>() }
                .ok_or_else(wrong)
        }
        Value::Object(mut object) => {
            if let Some(labels @ Value::Array(_)) = object.remove("labels") {
                return from_json(labels);
            }
            let by_number =
                object.iter().map(|(key, value)| Some((key.parse().ok()?, name(value)?)));
            let by_name = object
                .iter()
                .map(|(key, value)| Some((usize::try_from(value.as_u64()?).ok()?, key.clone())));
            let all = by_number.collect::<Option<Vec<_>>>().or_else(|| by_name.collect());
            in_order(all.ok_or_else(wrong)?)
        }
        _ => Err(wrong()),
    }
}

/// Names by their numbers, which have to be from 0 on without a gap.
fn in_order(all: Vec<(usize, String)>) -> Result<Vec<String>, String> {
    let count = all.len();
    let names: BTreeMap<usize, String> = all.into_iter().collect();
    match (names.len() == count, names.last_key_value()) {
        (true, Some((&last, _))) if last + 1 == count => Ok(names.into_values().collect()),
        (true, None) => Ok(Vec::new()),
        _ => Err(format!(
            "the {count} names are not numbered from 0 to {}, each number once",
            count.saturating_sub(1)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(bytes: &[u8]) -> Vec<String> {
        parse(bytes).unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(bytes)))
    }

    #[test]
    fn every_form_of_names_is_read() {
        let wide = |text: &str, of: fn(u16) -> [u8; 2]| {
            let units = "\u{FEFF}".encode_utf16().chain(text.encode_utf16());
            units.flat_map(of).collect::<Vec<u8>>()
        };
        for bytes in [
            &b"ape\nbig bear\ncat\n"[..],
            b"\xEF\xBB\xBFape\r\n\r\n big bear \r\ncat",
            b"0 ape\n1 big bear\n2 cat\n",
            b"2 cat\r\n0 ape\r\n1  big bear\r\n",
            br#"["ape", "big bear", "cat"]"#,
            b"\xEF\xBB\xBF[\"ape\",\n\"big bear\", \"cat\"]\n",
            br#"{"tfjsVersion": "1.3.1", "labels": ["ape", "big bear", "cat"], "imageSize": 224}"#,
            br#"{"0": "ape", "2": "cat", "1": "big bear"}"#,
            br#"{"cat": 2, "ape": 0, "big bear": 1}"#,
            &wide("ape\r\nbig bear\r\ncat\r\n", u16::to_le_bytes),
            &wide("ape\nbig bear\ncat", u16::to_be_bytes),
        ] {
            assert_eq!(
                names(bytes),
                ["ape", "big bear", "cat"],
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
        assert_eq!(names(br#"{"0": ["n01440764", "tench"], "1": "x"}"#), ["n01440764 tench", "x"]);
        // Names that only look so.
        assert_eq!(names(b"7 up\n101 dalmatians"), ["7 up", "101 dalmatians"]);
        assert_eq!(names(b"0\n1\n2"), ["0", "1", "2"]);
        assert_eq!(names(b"0 ape\nbear"), ["0 ape", "bear"]);
        assert_eq!(names(b"[unknown]\nape"), ["[unknown]", "ape"]);
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for (bytes, message) in [
            (&b""[..], "no names"),
            (b"\n \r\n", "no names"),
            (b"[]", "no names"),
            (b"[\"a\", \" \"]", "empty"),
            (b"0 a\n2 b", "not numbered from 0 to 1"),
            (b"0 a\n0 b", "not numbered"),
            (br#"{"a": 1, "b": 2}"#, "not numbered"),
            (br#"{"a": "b"}"#, "expected a list"),
            (br#"{"classes": {"a": 1}}"#, "expected a list"),
            (b"[1, 2]", "expected a list"),
            (b"{\"a\"", "no JSON"),
            (b"caf\xE9\n", "no UTF-8"),
            (b"\x89PNG\r\n\x1A\n\0\0", "no UTF-8"),
            (b"ab\0cd", "no text"),
        ] {
            let error = parse(bytes).expect_err("names nothing");
            assert!(error.contains(message), "{bytes:?}: {error}");
        }
        let error = read_class_names("/nonexistent").expect_err("not there").to_string();
        assert!(error.contains("/nonexistent"), "{error}");
    }
}
