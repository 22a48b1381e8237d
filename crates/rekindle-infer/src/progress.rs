//! What happens, as it happens.

use rekindle_vision::Skipped;

use crate::history::Epoch;
use crate::start::Start;

/// What happens while a model is trained, or predicts many photos, as it happens.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Photos and network are known; nothing is computed yet.
    Started(&'a Start),
    /// The frozen part has been computed for `done` of `total` photos.
    Features {
        /// So far, skipped photos included.
        done: usize,
        /// Of this many.
        total: usize,
    },
    /// How many photos of a list have been predicted.
    Predicted {
        /// So far, skipped photos included.
        done: usize,
        /// Of this many.
        total: usize,
    },
    /// A file is not used.
    Skipped(&'a Skipped),
    /// A step of an epoch has ended.
    Step {
        /// Counted from 1.
        epoch: usize,
        /// Of this many.
        epochs: usize,
        /// Counted from 1.
        step: usize,
        /// Of this many.
        steps: usize,
        /// The epoch's mean loss so far.
        loss: f32,
        /// Photos of this step.
        photos: usize,
    },
    /// An epoch has ended.
    Epoch {
        /// Counted from 1.
        epoch: usize,
        /// Of this many.
        epochs: usize,
        /// Its results.
        result: &'a Epoch,
    },
}

/// Is told what happens during `fit`, which may run on any thread.
pub trait Observer: Send {
    /// One event.
    fn on_event(&mut self, event: &Event<'_>);

    /// Whether the run is to stop after this step; asked after each. A checkpoint is then written, if there is to be
    /// one, and `fit` ends with `TrainError::Interrupted`.
    fn stops(&mut self) -> bool {
        false
    }
}

/// Says nothing.
impl Observer for () {
    fn on_event(&mut self, _: &Event<'_>) {}
}

/// Several observers, told in order; each may stop the run.
impl Observer for Vec<Box<dyn Observer>> {
    fn on_event(&mut self, event: &Event<'_>) {
        self.iter_mut().for_each(|observer| observer.on_event(event));
    }

    fn stops(&mut self) -> bool {
        // All are asked, so that each may count.
        self.iter_mut().fold(false, |stops, observer| observer.stops() | stops)
    }
}
