//! Models of Hugging Face's hub: `hf:OWNER/NAME`, or `hf:OWNER/NAME@REVISION`.
//!
//! Of a repository only what is read here is fetched: `config.json`, `preprocessor_config.json`, and `model.safetensors` or the
//! parts that its index names. The files of one commit are in one folder of the cache; which commit a revision is, is in a
//! file that is written last.
//!
//! The hub's own crate, hf-hub 1.0, compiles C with CMake (aws-lc, by reqwest's rustls, also without its default features).

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use rekindle_pixels::variable;
use serde_json::Value;

use super::Downloader;
use super::fetch::Wanted;
use super::http::{Address, Said, asked};
use crate::hugging_face::{CONFIG, PREPROCESSOR, WEIGHTS};
use crate::{WeightsError, write_atomic};

/// What a path of the hub begins with.
pub(crate) const PREFIX: &str = "hf:";
/// Where the hub is.
const ENDPOINT: &str = "https://huggingface.co";
/// The revision where none is said.
const MAIN: &str = "main";
/// Configurations are some kB, an index of parts some hundred.
const LARGEST_TEXT: u64 = 10_000_000;
/// More parts are no image classifier's.
const MOST_PARTS: usize = 1000;
/// More redirections within the hub are a circle.
const MOST_MOVES: usize = 5;

/// Finds models of Hugging Face's hub on the disk, or downloads them there.
///
/// `HF_ENDPOINT` is the address of a mirror, `HF_TOKEN` the user's token for private and gated repositories,
/// `HF_HUB_OFFLINE` forbids requests. The hub's own cache, in `HF_HUB_CACHE` or `HF_HOME`, is looked into first.
#[derive(Clone)]
pub struct Hub {
    /// The address of the hub.
    pub endpoint: String,
    /// The user's token; it goes to the endpoint alone, and in no message.
    pub token: Option<String>,
    /// The hub's own cache.
    pub theirs: Option<PathBuf>,
    /// How files are downloaded, and where they are put.
    pub downloader: Downloader,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the token.
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("theirs", &self.theirs)
            .field("downloader", &self.downloader)
            .finish_non_exhaustive()
    }
}

impl Default for Hub {
    fn default() -> Self {
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let is_on = |value: String| {
            ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())
        };
        let home = variable("HF_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(std::env::home_dir()?.join(".cache/huggingface")));
        let theirs = variable("HF_HUB_CACHE").map(PathBuf::from);
        Self {
            endpoint: text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into()),
            token: text("HF_TOKEN").map(|token| token.trim().to_owned()),
            theirs: theirs.or_else(|| home.map(|home| home.join("hub"))),
            downloader: Downloader {
                offline: text("HF_HUB_OFFLINE").is_some_and(is_on),
                ..Downloader::default()
            },
        }
    }
}

/// A repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Repository {
    owner: String,
    name: String,
    revision: String,
}

impl Repository {
    /// The one that a path of the hub names.
    fn of(path: &str) -> Result<Self, String> {
        let rest = path.strip_prefix(PREFIX).unwrap_or(path);
        let (repository, revision) = rest.split_once('@').unwrap_or((rest, MAIN));
        let parts = repository.split_once('/').filter(|(owner, name)| {
            is_plain(owner) && is_plain(name) && revision.split('/').all(is_plain)
        });
        let (owner, name) = parts.ok_or_else(|| {
            format!(
                "`{path}` is no model of the hub, expected hf:OWNER/NAME or hf:OWNER/NAME@REVISION"
            )
        })?;
        Ok(Self { owner: owner.into(), name: name.into(), revision: revision.into() })
    }

    /// As a folder is called.
    fn folder(&self) -> String {
        format!("models--{}--{}", self.owner, self.name)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// Whether a text is nothing but a name, which no path leads out of.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Whether it is the name of a commit.
fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether all that is read of a repository is in a folder.
fn is_whole(folder: &Path) -> bool {
    let [weights, index] = WEIGHTS.map(|name| folder.join(name));
    let has_parts =
        || parts(&index).is_ok_and(|all| all.iter().all(|part| folder.join(part).is_file()));
    folder.join(CONFIG).is_file() && (weights.is_file() || index.is_file() && has_parts())
}

/// The names of the files that an index of parts names.
fn parts(index: &Path) -> Result<BTreeSet<String>, WeightsError> {
    let wrong = |reason: String| WeightsError::format(index, reason);
    let text = std::fs::read(index).map_err(|error| WeightsError::io(index, error))?;
    let value: Value =
        serde_json::from_slice(&text).map_err(|error| wrong(format!("damaged JSON: {error}")))?;
    let map = value["weight_map"].as_object();
    let map =
        map.ok_or_else(|| wrong("has no `weight_map`, which says where tensors are".into()))?;
    let mut names = BTreeSet::new();
    for value in map.values() {
        let name = value.as_str().unwrap_or_default();
        if !(name.ends_with(".safetensors") && is_plain(name)) {
            return Err(wrong(format!(
                "`weight_map` has {value}, expected names of .safetensors files"
            )));
        }
        names.insert(name.to_owned());
    }
    if names.len() > MOST_PARTS {
        return Err(wrong(format!("{} parts, expected at most {MOST_PARTS}", names.len())));
    }
    Ok(names)
}

impl Hub {
    /// The folder with the files of a model, `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`, downloaded if they are not on the
    /// disk yet. A revision is a branch, a tag or a commit; a branch stays the commit that it was when it was downloaded.
    ///
    /// # Errors
    /// When there is no such model, it is private or gated, has no safetensors, or cannot be downloaded.
    pub fn model(&self, path: &str) -> Result<PathBuf, WeightsError> {
        let repository =
            Repository::of(path).map_err(|reason| WeightsError::format(path.as_ref(), reason))?;
        if let Some(folder) = self.in_their_cache(&repository) {
            return Ok(folder);
        }
        let unreachable = |reason: &str, by_hand: String| WeightsError::Download {
            url: self.url(&repository, &repository.revision, CONFIG),
            reason: reason.into(),
            by_hand,
        };
        let Some(cache) = &self.downloader.cache else {
            return Err(unreachable(
                "no folder for downloads is known",
                "set REKINDLE_CACHE to a folder".into(),
            ));
        };
        let home = cache.join("hub").join(repository.folder());
        let link = home.join("refs").join(repository.revision.replace('/', "--"));
        if let Ok(commit) = std::fs::read_to_string(&link)
            && let commit = commit.trim()
            && is_plain(commit)
            && is_whole(&home.join(commit))
        {
            return self.checked(home.join(commit));
        }
        if self.downloader.offline {
            return Err(unreachable(
                "HF_HUB_OFFLINE forbids requests, and the model is not on the disk",
                format!(
                    "unset it, or put {CONFIG} and {} into a folder, and give the folder",
                    WEIGHTS[0]
                ),
            ));
        }
        let (commit, folder) = self.downloaded(&repository, &home)?;
        let links = home.join("refs");
        std::fs::create_dir_all(&links).map_err(|error| WeightsError::io(&links, error))?;
        write_atomic(&link, |temporary| {
            std::fs::write(temporary, &commit).map_err(|error| WeightsError::io(temporary, error))
        })?;
        Ok(folder)
    }

    /// The model in the folder of the hub's own programs.
    fn in_their_cache(&self, repository: &Repository) -> Option<PathBuf> {
        let home = self.theirs.as_ref()?.join(repository.folder());
        let commit = match is_commit(&repository.revision) {
            true => repository.revision.clone(),
            false => {
                let link = std::fs::read_to_string(home.join("refs").join(&repository.revision));
                link.ok()
                    .map(|commit| commit.trim().to_owned())
                    .filter(|commit| is_commit(commit))?
            }
        };
        let folder = home.join("snapshots").join(commit);
        is_whole(&folder).then_some(folder)
    }

    /// A folder of the cache whose files are as they were downloaded.
    fn checked(&self, folder: PathBuf) -> Result<PathBuf, WeightsError> {
        let index = folder.join(WEIGHTS[1]);
        let mut names: BTreeSet<String> =
            [CONFIG, PREPROCESSOR, WEIGHTS[0], WEIGHTS[1]].map(str::to_owned).into();
        if index.is_file() {
            names.extend(parts(&index)?);
        }
        for path in names.iter().map(|name| folder.join(name)).filter(|path| path.is_file()) {
            self.downloader.is_good(&Wanted { path: &path, url: "", token: None, hash: None })?;
        }
        Ok(folder)
    }

    /// The commit, and the folder with its files.
    fn downloaded(
        &self,
        repository: &Repository,
        home: &Path,
    ) -> Result<(String, PathBuf), WeightsError> {
        let asked = self.asked(repository, &repository.revision, CONFIG)?;
        let Some((first, url)) = asked else {
            return Err(self.refused(
                repository,
                CONFIG,
                format!("has no {CONFIG}: it is no model of timm's or of transformers"),
            ));
        };
        // A mirror may not say it.
        let commit = first.header("x-repo-commit").filter(|commit| is_commit(commit));
        let commit = commit.unwrap_or(&repository.revision).replace('/', "--");
        let revision = if is_commit(&commit) { &commit } else { &repository.revision };
        let folder = home.join(&commit);
        self.file(&folder, CONFIG, &first, &url)?;
        if let Some((said, url)) = self.asked(repository, revision, PREPROCESSOR)? {
            self.file(&folder, PREPROCESSOR, &said, &url)?;
        }
        if let Some((said, url)) = self.asked(repository, revision, WEIGHTS[0])? {
            self.file(&folder, WEIGHTS[0], &said, &url)?;
            return Ok((commit, folder));
        }
        let Some((said, url)) = self.asked(repository, revision, WEIGHTS[1])? else {
            return Err(self.refused(
                repository,
                WEIGHTS[0],
                format!("has no {}: pickles are not read", WEIGHTS[0]),
            ));
        };
        self.file(&folder, WEIGHTS[1], &said, &url)?;
        for part in parts(&folder.join(WEIGHTS[1]))? {
            let Some((said, url)) = self.asked(repository, revision, &part)? else {
                return Err(self.refused(
                    repository,
                    &part,
                    format!("has no {part}, which its index names"),
                ));
            };
            self.file(&folder, &part, &said, &url)?;
        }
        Ok((commit, folder))
    }

    /// What the hub says of a file, and where it is; nothing, where the repository has none of that name.
    fn asked(
        &self,
        repository: &Repository,
        revision: &str,
        file: &str,
    ) -> Result<Option<(Said, String)>, WeightsError> {
        let mut url = self.url(repository, revision, file);
        let wrong = |reason: String| self.refused(repository, file, reason);
        for _ in 0..MOST_MOVES {
            let address = Address { url: &url, token: self.token.as_deref() };
            let said = asked(&self.downloader, address).map_err(wrong)?;
            let code = said.header("x-error-code").unwrap_or_default();
            match said.status {
                200 => return Ok(Some((said, url))),
                301 | 302 | 303 | 307 | 308 => {
                    // Moved within the hub: the token goes there, too. Elsewhere are the large files.
                    match said.header("location").filter(|to| to.starts_with('/')) {
                        Some(to) if !to.starts_with("//") => {
                            url = format!("{}{to}", self.endpoint.trim_end_matches('/'));
                        }
                        _ => return Ok(Some((said, url))),
                    }
                }
                404 if code == "RevisionNotFound" => {
                    return Err(wrong(format!("it has no revision `{revision}`")));
                }
                404 if code == "RepoNotFound" => {
                    return Err(wrong("status 404: the hub has no such model".into()));
                }
                404 => return Ok(None),
                401 | 403 => {
                    let token = match self.token {
                        Some(_) => "the token in HF_TOKEN may not read it",
                        None => "no token is given",
                    };
                    return Err(wrong(format!(
                        "status {}: there is no such model, or it is private or gated, and {token}",
                        said.status
                    )));
                }
                status => return Err(wrong(format!("status {status}, expected 200"))),
            }
        }
        Err(wrong(format!("redirected more than {MOST_MOVES} times")))
    }

    /// Downloads a file into a folder.
    fn file(&self, folder: &Path, name: &str, said: &Said, url: &str) -> Result<(), WeightsError> {
        // Of large files the hub's tag is their SHA-256.
        let tag = said.header("x-linked-etag").map(|tag| tag.trim_matches('"'));
        let is_hash = |tag: &&str| tag.len() == 64 && tag.bytes().all(|b| b.is_ascii_hexdigit());
        let hash = tag.filter(is_hash).map(str::to_ascii_lowercase);
        let path = folder.join(name);
        let mut downloader = self.downloader.clone();
        if !name.ends_with(".safetensors") {
            downloader.largest = LARGEST_TEXT;
        }
        let token = self.token.as_deref();
        downloader.wanted(&Wanted { path: &path, url, token, hash: hash.as_deref() })
    }

    fn url(&self, repository: &Repository, revision: &str, file: &str) -> String {
        let revision = revision.replace('/', "%2F");
        format!("{}/{repository}/resolve/{revision}/{file}", self.endpoint.trim_end_matches('/'))
    }

    fn refused(&self, repository: &Repository, file: &str, reason: String) -> WeightsError {
        let endpoint = self.endpoint.trim_end_matches('/');
        WeightsError::Download {
            url: self.url(repository, &repository.revision, file),
            reason,
            by_hand: format!(
                "look at {endpoint}/{repository}, accept its terms where it has any, and set HF_TOKEN to a token of yours; or download it and give its folder"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
