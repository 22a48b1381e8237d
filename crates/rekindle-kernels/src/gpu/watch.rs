//! What goes wrong on a device's own thread. Burn 0.21 computes on one for each GPU, where memory that cannot be had is a panic
//! (`initialize_memory` in cubecl's servers) that is caught there and told nobody: what would have been computed is then
//! zeros, without an error.

use std::panic::{set_hook, take_hook};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use burn::prelude::DeviceOps;
use burn::tensor::backend::Backend;

/// The name of each thread that panicked, and what it said.
static FAILURES: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

/// Failures that are kept while nobody asks.
const MOST_FAILURES: usize = 64;

/// Whether the program keeps its panic hook.
static IS_UNWATCHED: AtomicBool = AtomicBool::new(false);

/// Leaves the program's panic hook alone: [`watch_devices`] does nothing from now on. To be called before anything is computed
/// on a GPU. Without the hook nobody hears of memory that a device has not got: results are then zeros, and what Burn
/// prints of it on standard error is all that there is.
pub fn leave_devices_unwatched() {
    IS_UNWATCHED.store(true, Ordering::Relaxed);
}

/// From now on, what goes wrong on devices' threads is kept for [`device_failure`] instead of being printed. Other threads'
/// panics go to the hook that was there before. Networks call it before they compute on a GPU, never elsewhere;
/// [`leave_devices_unwatched`] forbids it.
pub fn watch_devices() {
    static ONCE: Once = Once::new();
    if IS_UNWATCHED.load(Ordering::Relaxed) {
        return;
    }
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let Some(name) = thread.name().filter(|name| is_device_thread(name)) else {
                return before(info);
            };
            let what = error_of(info.payload_as_str().unwrap_or("it panicked")).to_owned();
            let mut failures = FAILURES.lock().unwrap_or_else(PoisonError::into_inner);
            if failures.len() < MOST_FAILURES {
                failures.push((name.to_owned(), what));
            }
        }));
    });
}

/// The first thing that went wrong on a device's thread since the last call, once [`watch_devices`] was called. What was
/// computed meanwhile is not to be used. To be asked when a value has been read, so that everything before it has run.
pub fn device_failure<B: Backend>(device: &B::Device) -> Option<String> {
    let id = device.to_id();
    let own = format!("-{}-{}", id.type_id, id.index_id);
    let mut failures = FAILURES.lock().unwrap_or_else(PoisonError::into_inner);
    let (mine, others) = failures.drain(..).partition(|(name, _)| name[3..] == own);
    *failures = others;
    Vec::into_iter(mine).next().map(|(_, what): (String, String)| what)
}

/// The error of a result that was unwrapped, without the backtrace behind it.
fn error_of(panic: &str) -> &str {
    let error = panic.split_once("on an `Err` value: ").map_or(panic, |(_, error)| error);
    error.lines().next().unwrap_or(error)
}

/// `DSD-0-1`: cubecl's name for the thread of device 1 of type 0; `DSU`, where fusion puts operations together.
fn is_device_thread(name: &str) -> bool {
    name.starts_with("DSD-") || name.starts_with("DSU-")
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;

    #[test]
    fn only_the_device_s_own_panics_are_its_failures() {
        watch_devices();
        let panics = |name: &str| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            let unwrap = || {
                panic!(
                    "called `Result::unwrap()` on an `Err` value: there is no memory\nNo backtrace"
                )
            };
            let joined = thread.spawn(unwrap).expect("starts").join();
            assert!(joined.is_err());
        };
        let device = Default::default();
        let id = DeviceOps::to_id(&device);
        panics(&format!("DSD-{}-{}", id.type_id, id.index_id + 1));
        panics("other");
        assert_eq!(device_failure::<Flex>(&device), None);
        panics(&format!("DSU-{}-{}", id.type_id, id.index_id));
        panics(&format!("DSD-{}-{}", id.type_id, id.index_id));
        assert_eq!(device_failure::<Flex>(&device).as_deref(), Some("there is no memory"));
        assert_eq!(device_failure::<Flex>(&device), None);
    }
}
