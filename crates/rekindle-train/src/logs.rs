//! What happened, in files that other programs read: CSV, JSON lines, TensorBoard's events.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use serde::Serialize;

use crate::progress::{Event, Observer};
use crate::{Epoch, TrainError};

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

/// A file that is written line by line.
#[derive(Debug)]
struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    fn open(path: &Path, append: bool) -> Result<Self, TrainError> {
        let mut options = OpenOptions::new();
        options.create(true).write(true).append(append).truncate(!append);
        let wrong = |source| TrainError::Log { path: path.to_owned(), source };
        Ok(Self { path: path.to_owned(), file: options.open(path).map_err(wrong)? })
    }

    /// A log that cannot be written is no reason to lose a run.
    fn write(&mut self, bytes: &[u8]) {
        if let Err(error) = self.file.write_all(bytes).and_then(|()| self.file.flush()) {
            tracing::warn!("{}: {error}", self.path.display());
        }
    }
}

/// One line for each epoch, with Keras's columns (`keras/src/callbacks/csv_logger.py`).
#[derive(Debug)]
pub struct CsvLog(Log);

impl CsvLog {
    /// A new file, or, for a run that goes on, more lines of an old one.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: impl AsRef<Path>, append: bool) -> Result<Self, TrainError> {
        let mut log = Log::open(path.as_ref(), append)?;
        if log.file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            log.write(b"epoch,accuracy,learning_rate,loss,val_accuracy,val_loss\n");
        }
        Ok(Self(log))
    }
}

impl Observer for CsvLog {
    fn on_event(&mut self, event: &Event<'_>) {
        let Event::Epoch { epoch, result, .. } = event else { return };
        let cell = |value: Option<f32>| value.map(|value| value.to_string()).unwrap_or_default();
        let Epoch { loss, accuracy, val_loss, val_accuracy, learning_rate, .. } = result;
        let (val_accuracy, val_loss) = (cell(*val_accuracy), cell(*val_loss));
        // Keras counts from 0.
        let epoch = epoch - 1;
        let line = format!("{epoch},{accuracy},{learning_rate},{loss},{val_accuracy},{val_loss}\n");
        self.0.write(line.as_bytes());
    }
}

/// A JSON object in a line for each epoch.
#[derive(Debug)]
pub struct JsonLog(Log);

impl JsonLog {
    /// A new file, or, for a run that goes on, more lines of an old one.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: impl AsRef<Path>, append: bool) -> Result<Self, TrainError> {
        Ok(Self(Log::open(path.as_ref(), append)?))
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    epoch: usize,
    epochs: usize,
    #[serde(flatten)]
    result: &'a Epoch,
}

impl Observer for JsonLog {
    fn on_event(&mut self, event: &Event<'_>) {
        if let Event::Epoch { epoch, epochs, result } = *event
            && let Ok(mut line) = serde_json::to_string(&JsonLine { epoch, epochs, result })
        {
            line.push('\n');
            self.0.write(line.as_bytes());
        }
    }
}

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
    use super::*;

    fn events(observer: &mut dyn Observer) {
        let result = Epoch {
            loss: 0.5,
            accuracy: 0.25,
            val_loss: Some(0.75),
            val_accuracy: None,
            learning_rate: 1e-3,
            seconds: 2.0,
        };
        observer.on_event(&Event::Step {
            epoch: 1,
            epochs: 2,
            step: 1,
            steps: 1,
            loss: 0.5,
            photos: 4,
        });
        observer.on_event(&Event::Epoch { epoch: 1, epochs: 2, result: &result });
    }

    #[test]
    fn logs_have_a_line_for_each_epoch() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (csv, json) = (dir.path().join("log.csv"), dir.path().join("log.jsonl"));
        for append in [false, true] {
            events(&mut CsvLog::create(&csv, append).expect("makes"));
            events(&mut JsonLog::create(&json, append).expect("makes"));
        }
        let text = fs::read_to_string(&csv).expect("reads");
        assert_eq!(
            text,
            "epoch,accuracy,learning_rate,loss,val_accuracy,val_loss\n0,0.25,0.001,0.5,,0.75\n0,0.25,0.001,0.5,,0.75\n"
        );
        let text = fs::read_to_string(&json).expect("reads");
        let line: serde_json::Value =
            serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        assert_eq!((line["epoch"].as_u64(), line["val_loss"].as_f64()), (Some(1), Some(0.75)));
        assert!(CsvLog::create(dir.path().join("none/log.csv"), false).is_err());
    }

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
