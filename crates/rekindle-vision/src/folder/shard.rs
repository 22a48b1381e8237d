use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// One of several equal parts of a data set: number `index` of `count`, counted from 0.
///
/// A photo's path decides which part it is in, so that one photo more or less moves no other.
///
/// ```
/// use rekindle_vision::Shard;
///
/// let shard: Shard = "0/8".parse()?;
/// assert_eq!((shard.index(), shard.count()), (0, 8));
/// assert_eq!(Shard::of("cats/1.jpg".as_ref(), 8), 4);
/// assert!(!shard.has("cats/1.jpg".as_ref()));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// All of a data set.
    pub const WHOLE: Self = Self { index: 0, count: 1 };
    /// The most parts.
    pub const MAX: usize = 100_000;

    /// Part `index` of `count`.
    ///
    /// # Errors
    /// When there is no such part, or there are more than [`Shard::MAX`].
    pub fn new(index: usize, count: usize) -> Result<Self, String> {
        if count == 0 || count > Self::MAX || index >= count {
            let last = count.saturating_sub(1);
            return Err(match count {
                0 => "0 shards, expected at least 1".to_owned(),
                count if count > Self::MAX => {
                    format!("{count} shards, expected at most {}", Self::MAX)
                }
                _ => format!("shard {index} of {count}: they are numbered 0 to {last}"),
            });
        }
        Ok(Self { index, count })
    }

    /// Which part of `count` a path is in: the first eight bytes of the SHA-256 of its names with `/` between them, as a
    /// big-endian number, modulo `count`.
    #[must_use]
    pub fn of(path: &Path, count: usize) -> usize {
        let mut hash = Sha256::new();
        let mut is_first = true;
        for part in path.components().filter(|part| *part != Component::CurDir) {
            // The root stands for itself.
            if !is_first {
                hash.update(b"/");
            }
            is_first = part == Component::RootDir;
            let part = if is_first { b"/" } else { part.as_os_str().as_encoded_bytes() };
            hash.update(part);
        }
        let first = hash.finalize().into_iter().take(8);
        let number = first.fold(0, |all: u64, byte| all << 8 | u64::from(byte));
        (number % count.max(1) as u64) as usize
    }

    /// Whether a path, relative to its data set, is in this part.
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        self.count == 1 || Self::of(path, self.count) == self.index
    }

    /// Its number, counted from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many parts there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<usize>().ok();
        let numbers = text.split_once('/').map(|(index, count)| (number(index), number(count)));
        match numbers {
            Some((Some(index), Some(count))) => Self::new(index, count),
            _ => Err(format!(
                "`{text}`, expected the shard's number from 0 and how many there are: 0/8"
            )),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_in_one_part_on_every_machine() {
        // hashlib.sha256(b"cats/1.jpg").digest()[:8], as a big-endian number.
        for (path, count, expected) in [("cats/1.jpg", 8, 4), ("./cats//1.jpg", 8, 4)] {
            assert_eq!(Shard::of(path.as_ref(), count), expected, "{path}");
        }
        let all = |index| Shard::new(index, 5).expect("there").has("a/b.png".as_ref());
        assert_eq!((0..5).filter(|&index| all(index)).count(), 1);
        assert_ne!(Shard::of("/a/b".as_ref(), 1 << 16), Shard::of("a/b".as_ref(), 1 << 16));
        assert!(Shard::WHOLE.has("x".as_ref()));
    }

    #[test]
    fn wrong_shards_say_what_is_expected() {
        for (text, said) in [
            ("8/8", "numbered 0 to 7"),
            ("1", "expected the shard's number"),
            ("a/3", "expected the shard's number"),
            ("0/0", "at least 1"),
            ("0/100001", "at most 100000"),
        ] {
            let error = text.parse::<Shard>().expect_err(text);
            assert!(error.contains(said), "{text}: {error}");
        }
        assert_eq!("3/8".parse::<Shard>().expect("is one").to_string(), "3/8");
    }
}
