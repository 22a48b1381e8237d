//! Checkpoints of a run: all that it takes to go on as if it had never stopped.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::backend::AutodiffBackend;
use rekindle_infer::History;
use serde::{Deserialize, Serialize};

use crate::archive::{self, Archive, Entry};
use crate::engine::{Engine, Variable};
use crate::error::TrainError;
use crate::settings::Plateau;

/// Where a phase is. Random numbers are drawn from seed, epoch and step, so that these are all that they need.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Epochs that have ended.
    pub epoch: usize,
    /// Batches of the next epoch that are done.
    pub batch: usize,
    /// Steps of the optimizer.
    pub time: u64,
    pub loss_sum: f64,
    pub right: f64,
    pub seen: usize,
    pub plateau: Plateau,
    pub stopping: Plateau,
    pub stopped: bool,
    /// The values of the best epoch, by variable; in the file among the numbers.
    #[serde(skip)]
    pub best: HashMap<String, Vec<f32>>,
}

/// What a checkpoint says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    format: u32,
    /// What has to be the same for the run to go on: settings, network, photos.
    run: String,
    phase: usize,
    position: Position,
    history: History,
}

/// In format 1, runs were described in another way.
const FORMAT: u32 = 2;

/// A checkpoint that has been read.
#[derive(Debug)]
pub(crate) struct Progress {
    pub phase: usize,
    pub history: History,
    position: Position,
    state: Vec<Variable>,
}

impl Progress {
    /// Puts the engine where the checkpoint was made.
    pub fn restore<B: AutodiffBackend>(
        self,
        engine: &mut dyn Engine<B>,
    ) -> Result<Position, TrainError> {
        engine.restore(self.state)?;
        Ok(self.position)
    }
}

/// Where a run's checkpoint goes, and what the run is.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    path: PathBuf,
    run: String,
}

impl Snapshot {
    /// `run` describes all that has to be the same.
    pub fn new(path: PathBuf, run: String) -> Self {
        Self { path, run }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a checkpoint over the last one, atomically.
    pub fn save<B: AutodiffBackend>(
        &self,
        phase: usize,
        position: &Position,
        engine: &dyn Engine<B>,
        history: &History,
    ) -> Result<(), TrainError> {
        let about = About {
            format: FORMAT,
            run: self.run.clone(),
            phase,
            position: position.clone(),
            history: history.clone(),
        };
        let about =
            serde_json::to_string(&about).map_err(|error| TrainError::Resume(error.to_string()))?;
        let state = engine.state();
        let mut entries = Vec::new();
        for Variable { name, shape, values, slots } in &state {
            entries.push(Entry::values(format!("value/{name}"), shape.clone(), values));
            for (number, slot) in slots.iter().enumerate() {
                entries.push(Entry::values(format!("slot {number}/{name}"), shape.clone(), slot));
            }
            if let Some(best) = position.best.get(name) {
                entries.push(Entry::values(format!("best/{name}"), shape.clone(), best));
            }
        }
        Ok(archive::write(&self.path, &about, entries)?)
    }

    /// The last checkpoint, if there is one.
    pub fn load(&self) -> Result<Option<Progress>, TrainError> {
        if !self.path.exists() {
            return Ok(None);
        }
        let wrong = |reason: String| {
            let path = self.path.display();
            TrainError::Resume(format!("{path}: {reason}; without it the run starts anew"))
        };
        let archive = Archive::open(&self.path).map_err(wrong)?;
        let about: About =
            serde_json::from_str(&archive.about).map_err(|error| wrong(error.to_string()))?;
        if about.format != FORMAT {
            return Err(wrong(format!("format {}, expected {FORMAT}", about.format)));
        }
        if about.run != self.run {
            let (found, expected) = difference(&about.run, &self.run);
            return Err(wrong(format!("is of another run: it has {found}, this one {expected}")));
        }
        let mut position = about.position;
        let mut state: HashMap<String, Variable> = HashMap::new();
        let mut slots: Vec<(usize, String, Vec<f32>)> = Vec::new();
        for (entry, shape) in archive.entries() {
            let values = archive.read(entry).map_err(|error| wrong(error.to_string()))?;
            let Some((kind, name)) = entry.split_once('/') else { continue };
            let name = name.to_owned();
            match kind.strip_prefix("slot ").map(str::parse) {
                Some(Ok(number)) => slots.push((number, name, values)),
                _ if kind == "best" => drop(position.best.insert(name, values)),
                _ => {
                    let (key, shape) = (name.clone(), shape.to_vec());
                    state.insert(key, Variable { name, shape, values, slots: Vec::new() });
                }
            }
        }
        slots.sort_by_key(|(number, ..)| *number);
        for (_, name, values) in slots {
            if let Some(variable) = state.get_mut(&name) {
                variable.slots.push(values);
            }
        }
        let state = state.into_values().collect();
        Ok(Some(Progress { phase: about.phase, history: about.history, position, state }))
    }
}

/// The first lines in which two descriptions differ.
fn difference(found: &str, expected: &str) -> (String, String) {
    let lines = found.lines().zip(expected.lines());
    let line = lines.into_iter().find(|(found, expected)| found != expected);
    line.map_or_else(
        || ("fewer or more settings".to_owned(), "others".to_owned()),
        |(found, expected)| (format!("`{found}`"), format!("`{expected}`")),
    )
}
