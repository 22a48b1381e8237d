use std::ffi::c_int;

use cudarc::driver::{DriverError, result, sys};
use cudarc::{nccl, nvrtc};

use super::{Gpu, GpuKind};

/// The first driver of CUDA 12, whose functions Burn calls.
const OLDEST: c_int = 12_000;

/// NVIDIA's GPUs.
///
/// # Errors
/// The reason why there is none, or why they cannot be used.
pub fn cuda_gpus() -> Result<Vec<Gpu>, String> {
    // SAFETY: opens NVIDIA's libraries by name and closes them; their initializers ask nothing of the caller.
    let (has_driver, has_compiler) =
        unsafe { (sys::is_culib_present(), nvrtc::sys::is_culib_present()) };
    if !has_driver {
        return Err("no NVIDIA driver: libcuda cannot be loaded".to_owned());
    }
    let error = |error: DriverError| match error.error_string() {
        Ok(reason) => format!("the NVIDIA driver does not start: {}", reason.to_string_lossy()),
        Err(_) => format!("the NVIDIA driver does not start: error {}", error.0 as u32),
    };
    result::init().map_err(error)?;
    let mut version: c_int = 0;
    // SAFETY: writes one integer, to a place that lives; works also before the driver is initialized.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(error)?;
    let driver = format!("CUDA {}.{}", version / 1000, version % 1000 / 10);
    if version < OLDEST {
        return Err(format!(
            "the NVIDIA driver is too old: it is of {driver}, needed is CUDA 12.0"
        ));
    }
    if !has_compiler {
        return Err("libnvrtc cannot be loaded: install CUDA's run-time compiler (NVIDIA's package cuda-nvrtc), and have LD_LIBRARY_PATH name its folder if it is not found then".to_owned());
    }
    // Burn compiles its kernels with them. It panics where there is no folder, and where only those for tensor cores are
    // missing, it goes without tensor cores and says nothing.
    let folder = cubecl::cuda::install::cuda_path().unwrap_or_else(|| "/usr/local/cuda".into());
    let is_missing = |header: &&str| !folder.join("include").join(header).exists();
    if let Some(header) = ["cuda_runtime.h", "crt/mma.h"].into_iter().find(is_missing) {
        return Err(format!(
            "CUDA's headers are not in {}/include, or not all: there is no {header}; install the CUDA toolkit, and have CUDA_PATH name its folder if it is elsewhere",
            folder.display()
        ));
    }
    let count = result::device::get_count().map_err(error)?;
    let gpu = |index: c_int| {
        let device = result::device::get(index).map_err(error)?;
        let name = result::device::get_name(device).map_err(error)?;
        let index = index.unsigned_abs() as usize;
        Ok(Gpu { kind: GpuKind::Discrete, index, name, driver: driver.clone() })
    };
    match count {
        0 => Err("the NVIDIA driver finds no GPU (CUDA_VISIBLE_DEVICES may hide them)".to_owned()),
        count => (0..count).map(gpu).collect(),
    }
}

/// Whether NCCL is there, by the names that Burn's CUDA backend looks for.
pub(super) fn has_nccl() -> bool {
    // SAFETY: opens NVIDIA's library by name and closes it; its initializers ask nothing of the caller.
    unsafe { nccl::sys::is_culib_present() }
}

#[cfg(test)]
mod tests {
    /// Without a driver there is a reason, with one there are GPUs; nothing panics.
    #[test]
    fn what_is_missing_is_said() {
        match super::cuda_gpus() {
            Ok(gpus) => assert!(!gpus.is_empty() && gpus.iter().all(|gpu| !gpu.name.is_empty())),
            Err(reason) => {
                assert!(
                    ["NVIDIA", "libnvrtc", "CUDA_PATH"].iter().any(|part| reason.contains(part)),
                    "{reason}"
                )
            }
        }
    }
}
