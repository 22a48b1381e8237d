use std::path::Path;
use std::sync::Arc;

use cubecl::config::cache::CacheConfig;
use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

/// Has what is tuned and compiled for GPUs kept in a folder from run to run: Burn's own place is the `target` folder of whatever
/// project the program is run in, and nowhere for compiled kernels. Where a `burn.toml` or `cubecl.toml` names places,
/// or a GPU is in use already, nothing changes.
pub fn keep_kernels(folder: &Path) {
    let mut kept = CubeClRuntimeConfig::storage().lock();
    // Burn panics where there is no current folder.
    if kept.is_some() || std::env::current_dir().is_err() {
        return;
    }
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    if matches!(config.autotune.cache, CacheConfig::Target) {
        config.autotune.cache = CacheConfig::File(folder.to_owned());
    }
    config.compilation.cache.get_or_insert_with(|| CacheConfig::File(folder.to_owned()));
    *kept = Some(Arc::new(config));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_is_kept() {
        keep_kernels(Path::new("/first"));
        keep_kernels(Path::new("/second"));
        let config = CubeClRuntimeConfig::get();
        assert!(
            matches!(&config.autotune.cache, CacheConfig::File(path) if path == Path::new("/first"))
        );
        assert!(
            matches!(&config.compilation.cache, Some(CacheConfig::File(path)) if path == Path::new("/first"))
        );
    }
}
