use std::io;
use std::path::{Path, PathBuf};

use rekindle_vision::VisionError;

/// What can be wrong with objects.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloudError {
    /// An address that is none, or that cannot be used for this.
    #[error("{address}: {reason}")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// A store that does not do what it is asked for.
    #[error("{address}: {reason}")]
    Store {
        /// Of the object.
        address: String,
        /// What happened, and what to do.
        reason: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// A file on this machine that cannot be read or written.
    #[error("{}: cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What the photos of an object are.
    #[error(transparent)]
    Photos(#[from] VisionError),
}

impl CloudError {
    pub(crate) fn address(address: &str, reason: impl Into<String>) -> Self {
        Self::Address { address: address.to_owned(), reason: reason.into() }
    }

    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// What a store's error means for a user.
    pub(crate) fn store(address: &str, source: object_store::Error) -> Self {
        use object_store::Error as E;
        let text = source.to_string();
        let expired = ["ExpiredToken", "RequestExpired", "TokenRefreshRequired"];
        let reason = match &source {
            _ if expired.iter().any(|code| text.contains(code)) => {
                "the credentials have expired: renew them, and run this again"
            }
            E::NotFound { .. } => "there is no such object",
            E::Precondition { .. } => "it changed since it was listed: run this again",
            E::PermissionDenied { .. } => {
                "the credentials do not allow it: see that they are those of this store, and may list and read it"
            }
            E::Unauthenticated { .. } => {
                "the credentials are not accepted: see that they are set, and those of this store"
            }
            _ => "the store does not answer as it should, however often it is asked",
        };
        Self::Store { address: address.to_owned(), reason: reason.to_owned(), source }
    }
}
