//! Who is told what happens during a run: bars on a terminal, files for other programs.

#[cfg(any(test, not(feature = "tensorboard")))]
mod absent;
mod bars;
mod logs;
#[cfg(feature = "tensorboard")]
mod tensorboard;

#[cfg(not(feature = "tensorboard"))]
pub use absent::TensorBoard;
pub use bars::Bars;
pub use logs::{CsvLog, JsonLog};
#[cfg(feature = "tensorboard")]
pub use tensorboard::TensorBoard;
