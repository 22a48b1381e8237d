//! What happened, in files that other programs read: CSV and JSON lines.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rekindle_infer::{Epoch, Event, Observer};
use serde::Serialize;

use crate::error::TrainError;

/// A file that is written line by line.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    pub(super) fn open(path: &Path, append: bool) -> Result<Self, TrainError> {
        let mut options = OpenOptions::new();
        options.create(true).write(true).append(append).truncate(!append);
        let wrong = |source| TrainError::Log { path: path.to_owned(), source };
        Ok(Self { path: path.to_owned(), file: options.open(path).map_err(wrong)? })
    }

    /// A log that cannot be written is no reason to lose a run.
    pub(super) fn write(&mut self, bytes: &[u8]) {
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

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use super::*;

    pub(crate) fn events(observer: &mut dyn Observer) {
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
}
