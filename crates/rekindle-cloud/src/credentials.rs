//! The files in which Amazon's own programs keep credentials: object_store reads the environment, and not these. Those of
//! Google's and Azure's it reads itself.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use object_store::aws::AmazonS3Builder;
use rekindle_pixels::variable;

use crate::CloudError;

/// A value of a section of a file of `key = value` lines.
fn value(text: &str, section: &str, key: &str) -> Option<String> {
    let mut is_in = false;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_in = name.trim() == section;
        } else if let Some((name, value)) = line.split_once('=').filter(|_| is_in)
            && name.trim() == key
        {
            return Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        }
    }
    None
}

fn file(name: &str, usual: &str) -> Option<PathBuf> {
    let named = variable(name).map(PathBuf::from);
    named.or_else(|| std::env::home_dir().map(|home| home.join(".aws").join(usual)))
}

/// A file's text; none, where it is not there.
fn read(path: Option<&Path>) -> Result<String, CloudError> {
    let Some(path) = path else { return Ok(String::new()) };
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(CloudError::io(path)),
    }
}

/// With what the files say and the environment does not.
pub(crate) fn from_files(
    address: &str,
    mut builder: AmazonS3Builder,
) -> Result<AmazonS3Builder, CloudError> {
    let profile = variable("AWS_PROFILE").map(|name| name.to_string_lossy().into_owned());
    let (is_named, profile) = (profile.is_some(), profile.unwrap_or_else(|| "default".to_owned()));
    if variable("AWS_ACCESS_KEY_ID").is_none() {
        let path = file("AWS_SHARED_CREDENTIALS_FILE", "credentials");
        let text = read(path.as_deref())?;
        let of = |key: &str| value(&text, &profile, key);
        match (of("aws_access_key_id"), of("aws_secret_access_key")) {
            (Some(id), Some(secret)) => {
                builder = builder.with_access_key_id(id).with_secret_access_key(secret);
                if let Some(token) = of("aws_session_token") {
                    builder = builder.with_token(token);
                }
            }
            _ if is_named => {
                let path = path.as_deref().unwrap_or(Path::new("~/.aws/credentials")).display();
                let reason = format!(
                    "AWS_PROFILE is `{profile}`, which has no aws_access_key_id and aws_secret_access_key in {path}"
                );
                return Err(CloudError::address(address, reason));
            }
            _ => {}
        }
    }
    if variable("AWS_REGION").is_none() && variable("AWS_DEFAULT_REGION").is_none() {
        let text = read(file("AWS_CONFIG_FILE", "config").as_deref())?;
        let section = match profile.as_str() {
            "default" => profile.clone(),
            name => format!("profile {name}"),
        };
        if let Some(region) = value(&text, &section, "region") {
            builder = builder.with_region(region);
        }
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_their_section() {
        let text = "[default]\nkey = a\n[profile other]\n# key = x\nkey=b\nempty =\n";
        assert_eq!(value(text, "default", "key").as_deref(), Some("a"));
        assert_eq!(value(text, "profile other", "key").as_deref(), Some("b"));
        assert_eq!(value(text, "profile other", "empty"), None);
        assert_eq!(value(text, "none", "key"), None);
    }

    /// A folder in the place of the file cannot be read, which is not the same as no file.
    #[test]
    fn files_that_cannot_be_read_are_errors() {
        let dir = tempfile::tempdir().expect("a folder");
        let error = read(Some(dir.path())).expect_err("a folder").to_string();
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
        assert_eq!(read(Some(&dir.path().join("none"))).expect("is not there"), "");
    }
}
