//! What addresses mean.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};

use crate::store::Limits;
use crate::{CloudError, credentials, crypto};

/// What addresses begin with; `http://` is for servers of one's own on the same machine.
const SCHEMES: [&str; 5] = ["s3://", "gs://", "az://", "https://", "http://"];

/// An address in its parts: `s3://`, the bucket, the key.
pub(crate) struct Address<'a> {
    whole: &'a str,
    scheme: &'static str,
    pub bucket: &'a str,
    pub key: &'a str,
}

impl<'a> Address<'a> {
    pub fn parse(path: &'a Path) -> Result<Self, CloudError> {
        let wrong = |reason: &str| CloudError::address(&path.to_string_lossy(), reason);
        let whole = path.to_str().ok_or_else(|| wrong("an address that is no UTF-8"))?;
        // Before anything is said of it, since there may be a password in it.
        if whole.starts_with("http") && whole.contains(['?', '#', '@']) {
            let reason =
                "an address with a query, a fragment or a password, which is not supported";
            return Err(CloudError::address("https://", reason));
        }
        if whole.starts_with("http://") && !is_loopback(whole) {
            return Err(wrong("http:// is not encrypted: name the same place with https://"));
        }
        let scheme = SCHEMES.into_iter().find(|scheme| whole.starts_with(scheme));
        let scheme =
            scheme.ok_or_else(|| wrong("no address: expected s3://, gs://, az:// or https://"))?;
        let rest = &whole[scheme.len()..];
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(wrong("the bucket's name is missing"));
        }
        Ok(Self { whole, scheme, bucket, key: key.trim_end_matches('/') })
    }

    /// Whether what is there can be listed.
    pub fn can_list(&self) -> bool {
        !self.scheme.starts_with("http")
    }

    /// The address up to its key.
    pub fn root(&self) -> String {
        format!("{}{}", self.scheme, self.bucket)
    }

    /// The store, with the credentials of the environment.
    pub fn store(&self, limits: &Limits) -> Result<Arc<dyn ObjectStore>, CloudError> {
        let wrong = |error| CloudError::store(self.whole, error);
        let options = limits.options();
        let options = match self.scheme {
            "s3://" => limits.with_environment(options, "AWS"),
            "gs://" => limits.with_environment(options, "GOOGLE"),
            "az://" => limits.with_environment(options, "AZURE"),
            scheme => options.with_allow_http(scheme == "http://"),
        };
        // Of builders without a type in common.
        macro_rules! built {
            ($builder:expr) => {{
                let builder = $builder.with_retry(limits.retry()).with_client_options(options);
                Arc::new(builder.build().map_err(wrong)?)
            }};
        }
        let crypto = Arc::new(crypto::Rust);
        Ok(match self.scheme {
            "s3://" => {
                let builder = credentials::from_files(self.whole, AmazonS3Builder::from_env())?;
                built!(builder.with_bucket_name(self.bucket).with_crypto_provider(crypto))
            }
            "gs://" => {
                let builder = GoogleCloudStorageBuilder::from_env();
                built!(builder.with_bucket_name(self.bucket).with_crypto_provider(crypto))
            }
            "az://" => {
                let builder = MicrosoftAzureBuilder::from_env();
                built!(builder.with_container_name(self.bucket).with_crypto_provider(crypto))
            }
            _ => built!(HttpBuilder::new().with_url(self.root())),
        })
    }
}

/// For servers of one's own on the same machine.
fn is_loopback(address: &str) -> bool {
    ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|own| {
        address
            .strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    })
}

impl Limits {
    pub(crate) fn retry(&self) -> RetryConfig {
        RetryConfig {
            // The next wait is drawn between the first and three times the last one.
            backoff: BackoffConfig {
                init_backoff: self.wait,
                max_backoff: self.wait * 100,
                base: 3.0,
            },
            max_retries: self.attempts.saturating_sub(1),
            retry_timeout: Duration::from_secs(180),
        }
    }

    pub(crate) fn options(&self) -> ClientOptions {
        ClientOptions::new()
            .with_timeout(self.timeout)
            .with_read_timeout(self.timeout / 2)
            .with_connect_timeout(self.timeout.min(Duration::from_secs(10)))
    }

    /// With what a store's variables say of requests, as `AWS_PROXY_URL`, which the options that are given here would take
    /// back.
    fn with_environment(&self, options: ClientOptions, store: &str) -> ClientOptions {
        std::env::vars_os().fold(options, |options, (name, value)| {
            let name = name.to_str().and_then(|name| name.strip_prefix(store)?.strip_prefix('_'));
            let key =
                name.and_then(|name| name.to_ascii_lowercase().parse::<ClientConfigKey>().ok());
            match (key, value.to_str()) {
                (Some(key), Some(value)) => options.with_config(key, value),
                _ => options,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_bucket_and_a_key() {
        let of = |text: &'static str| {
            let address = Address::parse(Path::new(text));
            address.map(|address| (address.root(), address.key.to_owned()))
        };
        let found = |text| of(text).expect("an address");
        assert_eq!(found("s3://b/a/{0..1}.tar"), ("s3://b".into(), "a/{0..1}.tar".into()));
        assert_eq!(found("gs://b/"), ("gs://b".into(), String::new()));
        assert_eq!(found("az://b"), ("az://b".into(), String::new()));
        assert_eq!(found("http://127.0.0.1:80/x").0, "http://127.0.0.1:80");
        for (text, said) in [
            ("s3:///x", "the bucket's name is missing"),
            ("http://example.org/x", "not encrypted"),
            ("http://127.0.0.1.example.org/x", "not encrypted"),
            ("https://user:secret@example.org/x", "which is not supported"),
            ("ftp://b/x", "expected s3://"),
        ] {
            let error = of(text).expect_err(text).to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
