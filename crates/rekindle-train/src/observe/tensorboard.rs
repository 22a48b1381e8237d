//! TensorBoard's events.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use rekindle_infer::{Event, Observer};

use super::logs::Log;
use crate::error::TrainError;

/// TensorBoard's event file: `tensorboard --logdir FOLDER` shows the curves, with Keras's names.
#[derive(Debug)]
pub struct TensorBoard {
    log: Log,
    steps: u64,
}

/// `tensorflow/core/util/event.proto`.
#[derive(Clone, PartialEq, Message)]
struct TfEvent {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<TfSummary>,
}

/// `tensorflow/core/framework/summary.proto`.
#[derive(Clone, PartialEq, Message)]
struct TfSummary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<TfValue>,
}

#[derive(Clone, PartialEq, Message)]
struct TfValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

impl TensorBoard {
    /// A new event file in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(folder: impl AsRef<Path>) -> Result<Self, TrainError> {
        let folder = folder.as_ref();
        let wrong = |source| TrainError::Log { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(wrong)?;
        let seconds = seconds();
        let name = format!("events.out.tfevents.{seconds:.0}.rekindle.{}", std::process::id());
        let mut board = Self { log: Log::open(&folder.join(name), false)?, steps: 0 };
        let file_version = Some("brain.Event:2".to_owned());
        board.write(&TfEvent { wall_time: seconds, step: 0, file_version, summary: None });
        Ok(board)
    }

    fn write(&mut self, event: &TfEvent) {
        let record = record(&event.encode_to_vec());
        self.log.write(&record);
    }

    fn scalars(&mut self, step: u64, values: Vec<(&str, f32)>) {
        let value = |(tag, simple_value): (&str, f32)| TfValue { tag: tag.into(), simple_value };
        let summary = Some(TfSummary { value: values.into_iter().map(value).collect() });
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        self.write(&TfEvent { wall_time: seconds(), step, file_version: None, summary });
    }
}

impl Observer for TensorBoard {
    fn on_event(&mut self, event: &Event<'_>) {
        match *event {
            Event::Step { loss, .. } => {
                self.steps += 1;
                self.scalars(self.steps, vec![("batch_loss", loss)]);
            }
            Event::Epoch { epoch, result, .. } => {
                let mut values = vec![
                    ("epoch_loss", result.loss),
                    ("epoch_accuracy", result.accuracy),
                    ("epoch_learning_rate", result.learning_rate as f32),
                ];
                values.extend(result.val_loss.map(|loss| ("epoch_val_loss", loss)));
                values.extend(result.val_accuracy.map(|accuracy| ("epoch_val_accuracy", accuracy)));
                self.scalars(epoch as u64, values);
            }
            _ => {}
        }
    }
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// `tensorflow/core/lib/io/record_writer.cc`: length, its checksum, data, its checksum.
fn record(data: &[u8]) -> Vec<u8> {
    let masked = |bytes: &[u8]| {
        crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
    };
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked(&length));
    record.extend(data);
    record.extend(masked(data));
    record
}

#[cfg(test)]
mod tests {
    use super::super::logs::tests::events;
    use super::*;

    #[test]
    fn tensorboard_reads_the_records() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        events(&mut TensorBoard::create(dir.path().join("runs")).expect("makes"));
        let file = fs::read_dir(dir.path().join("runs")).expect("lists").next().expect("one");
        let mut bytes = fs::read(file.expect("reads").path()).expect("reads").into_iter();
        let mut found = Vec::new();
        while bytes.len() > 0 {
            let length: Vec<u8> = bytes.by_ref().take(8).collect();
            let count = u64::from_le_bytes(length.clone().try_into().expect("8 bytes")) as usize;
            let sum: Vec<u8> = bytes.by_ref().take(4).collect();
            let data: Vec<u8> = bytes.by_ref().take(count).collect();
            let data_sum: Vec<u8> = bytes.by_ref().take(4).collect();
            assert_eq!([length, sum, data.clone(), data_sum].concat(), record(&data));
            found.push(TfEvent::decode(data.as_slice()).expect("an event"));
        }
        assert_eq!(found[0].file_version.as_deref(), Some("brain.Event:2"));
        let tags: Vec<&str> = found[2]
            .summary
            .as_ref()
            .expect("values")
            .value
            .iter()
            .map(|v| v.tag.as_str())
            .collect();
        assert_eq!(tags, ["epoch_loss", "epoch_accuracy", "epoch_learning_rate", "epoch_val_loss"]);
        // `tf.io.TFRecordWriter` writes b"abc" so.
        assert_eq!(record(b"abc")[8..12], [0xb0, 0x99, 0x49, 0x0e]);
        assert_eq!(record(b"abc")[15..], [0x6e, 0x57, 0xf1, 0x21]);
    }
}
