//! Rows of a source, read before they are needed: the next ones while the device works on those before.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use rekindle_infer::InferError;

use super::source::FeatureSource;
use crate::error::TrainError;

/// Numbers that are read ahead at once, of which there are three at a time: 8 MiB.
const AHEAD: usize = 2 << 20;

/// Rows that are asked for at the same time: a disk is faster when it has more to do.
const READERS: usize = 16;

/// Hands the rows of each batch of `order` to `consume`, with the batch's number and its part of `order`.
pub(crate) fn read_ahead(
    source: &Arc<dyn FeatureSource>,
    rows: &Arc<[usize]>,
    count: usize,
    order: &[usize],
    batch_size: usize,
    mut consume: impl FnMut(usize, &[usize], Vec<f32>) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    // Whole batches.
    let at_once = (AHEAD / count.max(1)).max(1).next_multiple_of(batch_size);
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(1);
        let reader = scope.spawn(move || {
            for part in order.chunks(at_once) {
                let read = read(source, rows, count, part);
                let failed = read.is_err();
                // The receiver is gone once `consume` has failed.
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        });
        let mut batches = order.chunks(batch_size).enumerate();
        // Moved in, so that an early return ends the reader's wait.
        for part in receiver {
            let part = part?;
            let rows = part.chunks(batch_size * count.max(1));
            for (rows, (number, indices)) in rows.zip(batches.by_ref()) {
                consume(number, indices, rows.to_vec())?;
            }
        }
        reader.join().map_err(|_| InferError::DecoderStopped.into())
    })
}

/// The rows of some samples, by several readers.
fn read(
    source: &Arc<dyn FeatureSource>,
    rows: &[usize],
    count: usize,
    order: &[usize],
) -> Result<Vec<f32>, TrainError> {
    let mut values = vec![0.0; order.len() * count];
    let share = order.len().div_ceil(READERS).max(1);
    thread::scope(|scope| {
        let places = values.chunks_mut(share * count.max(1)).zip(order.chunks(share));
        let readers: Vec<_> = places
            .map(|(places, order)| {
                scope.spawn(move || {
                    let mut places = places.chunks_mut(count.max(1)).zip(order);
                    places.try_for_each(|(place, &index)| source.read(rows[index], place))
                })
            })
            .collect();
        readers
            .into_iter()
            .try_for_each(|reader| reader.join().map_err(|_| InferError::DecoderStopped)?)
    })?;
    Ok(values)
}
