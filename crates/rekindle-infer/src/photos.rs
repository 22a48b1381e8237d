use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use image::RgbImage;
use rayon::prelude::*;
use rekindle_nn::Shape;
use rekindle_nn::ops::Resizing;
use rekindle_vision::Middle;
use rekindle_vision::{
    Augmentation, Channels, Decoding, Orientation, Photo, Pixels, Place, Preprocessing, Resize,
    Sample, Skipped, Transparency, VisionError, read_elsewhere,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::InferError;

/// How photos become a network's input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Photos {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// 3 for red, green and blue; 1 for grey; 4 with opacity: Keras's `color_mode`.
    pub channels: usize,
    /// How they are brought there.
    pub resize: Resize,
    /// How they are brought there where a Keras model says it with more settings; instead of `resize`.
    pub resizing: Option<Resizing>,
    /// The middle that is taken of them, where they are not stretched.
    pub middle: Option<Middle>,
    /// Keras's mode of `preprocess_input`.
    pub preprocessing: Preprocessing,
    /// What becomes of transparency, where opacity is no channel.
    pub transparency: Transparency,
    /// What becomes of EXIF's orientation.
    pub orientation: Orientation,
    /// Whether large JPEGs are decoded at a half, quarter or eighth of their size: faster, with slightly other pixels.
    pub fast_decode: bool,
}

/// A photo to decode, and how it is changed.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The photo.
    pub sample: &'a Sample,
    /// Nothing for the photo as it is.
    pub change: Option<Change<'a>>,
    /// Whether its content's hash is wanted.
    pub hashed: bool,
}

/// A photo's file that was read ahead, or why it could not be.
type File = Result<Vec<u8>, VisionError>;

/// What is known of a photo that was read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// SHA-256 of its content, where that is wanted.
    pub hash: Option<[u8; 32]>,
    /// Whether it has an EXIF orientation that is ignored.
    pub is_askew: bool,
}

/// One view of a photo.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    /// The random changes.
    pub augmentation: &'a Augmentation,
    /// Of the run.
    pub seed: u64,
    /// The photo's number among all.
    pub number: usize,
    /// Each epoch has other changes.
    pub epoch: usize,
}

/// What goes into a network.
#[derive(Debug)]
pub enum Images {
    /// `[photos, channels, height, width]`, preprocessed.
    Values(Vec<f32>),
    /// `[photos, height, width, channels]`, from 0 to 255.
    Bytes(Vec<u8>),
}

impl Images {
    fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Values(all), Self::Values(more)) => all.extend_from_slice(&more),
            (Self::Bytes(all), Self::Bytes(more)) => all.extend_from_slice(&more),
            _ => unreachable!("the photos of a batch are all changed, or none of them"),
        }
    }

    /// In parts of `values` values; the last one may be shorter.
    pub fn parts(self, values: usize) -> Vec<Self> {
        match self {
            Self::Values(all) if all.len() <= values => vec![Self::Values(all)],
            Self::Bytes(all) if all.len() <= values => vec![Self::Bytes(all)],
            Self::Values(all) => all.chunks(values).map(|part| Self::Values(part.into())).collect(),
            Self::Bytes(all) => all.chunks(values).map(|part| Self::Bytes(part.into())).collect(),
        }
    }

    /// All of them preprocessed.
    pub fn into_values(self, photos: &Photos) -> Vec<f32> {
        match self {
            Self::Values(values) => values,
            Self::Bytes(bytes) => {
                let Photos { height, width, channels, .. } = *photos;
                let of = |photo: &[u8]| {
                    let values = photo.iter().map(|&byte| f32::from(byte)).collect();
                    photos.preprocessing.apply(&Pixels { width, height, values })
                };
                bytes.chunks_exact(height * width * channels).flat_map(of).collect()
            }
        }
    }
}

/// Decoded photos, in the order of their jobs.
pub struct PhotoBatch {
    /// Those that could be decoded.
    pub images: Images,
    /// The numbers of their jobs, in the whole list.
    pub rows: Vec<usize>,
    /// What is known of the photo of each row.
    pub facts: Vec<Facts>,
    /// The jobs that could not be done.
    pub skipped: Vec<(usize, Skipped)>,
    /// The hash of each of these photos, where it is wanted and the file can be read.
    pub skipped_hashes: Vec<Option<[u8; 32]>>,
    /// How many photos have an EXIF orientation that is ignored.
    pub askew: usize,
}

impl Photos {
    /// For a network that takes images of this shape.
    ///
    /// # Errors
    /// When photos cannot be made to have it: it is a vector, or of other channels than photos have.
    pub fn new(
        input: Shape,
        resize: Resize,
        preprocessing: Preprocessing,
    ) -> Result<Self, InferError> {
        let wrong = |setting, found: String, expected| {
            Err(InferError::Setting { setting, found, expected })
        };
        let Shape::Map { height, width, channels } = input else {
            return wrong("network", format!("one that takes {input}"), "one that takes images");
        };
        match (channels, preprocessing) {
            (1 | 4, Preprocessing::Caffe | Preprocessing::Torch) => {
                let found = format!("{} for images of {channels} channels", preprocessing.name());
                return wrong("preprocessing", found, "tf, none or rescale:SCALE:OFFSET");
            }
            (1 | 3 | 4, _) => {}
            _ => {
                let found = format!("one that takes images of {channels} channels");
                return wrong("network", found, "3 channels, 1 for grey, or 4 with opacity");
            }
        }
        Ok(Self {
            height,
            width,
            channels,
            resize,
            resizing: None,
            middle: None,
            preprocessing,
            transparency: Transparency::default(),
            orientation: Orientation::default(),
            fast_decode: false,
        })
    }

    /// How files are decoded for it: by the decoder that Keras uses with the resize.
    #[must_use]
    pub fn decoding(&self) -> Decoding {
        let channels = match self.channels {
            1 => Channels::Grey,
            4 => Channels::Rgba,
            _ => Channels::Rgb,
        };
        Decoding::of(self.resize)
            .with_channels(channels)
            .with_transparency(self.transparency)
            .with_orientation(self.orientation)
            .with_fast(self.fast_decode.then_some([self.width, self.height]))
    }

    /// The shape of one photo.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape::map(self.height, self.width, self.channels)
    }

    /// Decodes, resizes and preprocesses a file: `[channels, height, width]`.
    ///
    /// # Errors
    /// When the file is not an image that can be decoded.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<Vec<f32>, VisionError> {
        Ok(self.preprocessing.apply(&self.resized(&self.decoding().open(path)?)?))
    }

    /// Resizes and preprocesses a decoded image: `[channels, height, width]`.
    ///
    /// # Errors
    /// When the image is empty.
    pub fn prepare(&self, image: &RgbImage) -> Result<Vec<f32>, VisionError> {
        Ok(self.preprocessing.apply(&self.resized(&self.of_rgb(image))?))
    }

    /// A decoded image with the channels that the network takes.
    pub(crate) fn of_rgb(&self, image: &RgbImage) -> Photo {
        Photo::of_rgb(image, self.decoding().channels)
    }

    /// At the network's size.
    fn resized(&self, photo: &Photo) -> Result<Pixels, VisionError> {
        if let Some(middle) = self.middle {
            let from = [photo.height(), photo.width()];
            let cut = middle.cut(from, [self.height, self.width]);
            let cut = cut.ok_or_else(|| VisionError::Resize {
                reason: format!("no middle can be taken of {} x {} pixels", from[0], from[1]),
            })?;
            let whole = photo.resize(cut.size[1], cut.size[0], self.resize)?;
            return Ok(whole.part(cut.start, self.height, self.width));
        }
        let Some(resizing) = self.resizing else {
            return photo.resize(self.width, self.height, self.resize);
        };
        let values: Vec<f32> = photo.bytes().iter().map(|&value| f32::from(value)).collect();
        let values = resizing
            .resize(&values, [photo.height(), photo.width(), self.channels])
            .map_err(|error| VisionError::Resize { reason: error.to_string() })?;
        Ok(Pixels { width: self.width, height: self.height, values })
    }

    /// Whether pixels stay whole numbers.
    fn is_whole(&self) -> bool {
        self.resizing.is_none() && self.resize.is_whole()
    }

    /// The same at another height and width.
    pub(crate) fn with_images(self, height: usize, width: usize) -> Self {
        let resizing = self.resizing.map(|own| Resizing { height, width, ..own });
        Self { height, width, resizing, ..self }
    }

    /// One photo as a network's input.
    pub(crate) fn input(&self, photo: &Photo) -> Result<Images, VisionError> {
        let pixels = self.resized(photo)?;
        Ok(match self.is_whole() {
            // Without loss: the values are whole.
            true => Images::Bytes(pixels.values.into_iter().map(|value| value as u8).collect()),
            false => Images::Values(self.preprocessing.apply(&pixels)),
        })
    }

    /// A job's input, and what is known of its photo; that also where there is no input. `file` is what was read ahead.
    fn view(&self, job: &Job<'_>, file: Option<File>) -> (Result<Images, VisionError>, Facts) {
        let mut facts = Facts::default();
        let photo = match (job.hashed, &job.sample.place) {
            (true, Place::Image(_)) => job.sample.content_hash().and_then(|hash| {
                facts.hash = Some(hash);
                job.sample.decode(&self.decoding())
            }),
            (true, _) => file.unwrap_or_else(|| job.sample.bytes()).and_then(|bytes| {
                // Read once, so that the hash is of what is decoded.
                facts.hash = Some(Sha256::digest(&bytes).into());
                self.decoding().decode(&bytes, &job.sample.path)
            }),
            (false, _) => match file {
                Some(file) => {
                    file.and_then(|bytes| self.decoding().decode(&bytes, &job.sample.path))
                }
                None => job.sample.decode(&self.decoding()),
            },
        };
        let images = photo.and_then(|photo| {
            facts.is_askew = photo.is_askew();
            self.changed(&photo, job)
        });
        (images, facts)
    }

    fn changed(&self, photo: &Photo, job: &Job<'_>) -> Result<Images, VisionError> {
        let Some(change) = job.change else { return self.input(photo) };
        let mut pixels = self.resized(photo)?;
        let Change { augmentation, seed, number, epoch } = change;
        // Augmentation is of three channels; grey is the same in all of them.
        if self.channels == 1 {
            pixels.values = pixels.values.into_iter().flat_map(|value| [value; 3]).collect();
        }
        let mut pixels = augmentation.apply(pixels, seed, number as u64, epoch as u64);
        if self.channels == 1 {
            pixels.values = pixels.values.into_iter().step_by(3).collect();
        }
        Ok(Images::Values(self.preprocessing.apply(&pixels)))
    }

    /// Decodes photos on all cores, `batch_size` at a time and two batches ahead, and hands each
    /// batch to `consume` on this thread. Gives the time in which `consume` had nothing to do but wait for photos.
    #[doc(hidden)]
    pub fn for_each_batch<E: From<InferError>>(
        &self,
        jobs: &[Job<'_>],
        batch_size: usize,
        strict: bool,
        mut consume: impl FnMut(PhotoBatch) -> Result<(), E>,
    ) -> Result<Duration, E> {
        let is_elsewhere = |job: &Job<'_>| matches!(job.sample.place, Place::Elsewhere(_));
        let reads_ahead = jobs.iter().any(is_elsewhere);
        thread::scope(|scope| {
            // Files of one batch wait while those of the one before are decoded, and those of the next are read.
            let (read, files) = sync_channel(1);
            if reads_ahead {
                scope.spawn(move || {
                    for jobs in jobs.chunks(batch_size) {
                        let samples: Vec<&Sample> = jobs.iter().map(|job| job.sample).collect();
                        // The receiver is gone once decoding has ended.
                        if read.send(read_elsewhere(&samples)).is_err() {
                            return;
                        }
                    }
                });
            }
            let (sender, receiver) = sync_channel(2);
            let decoder = scope.spawn(move || {
                for (number, jobs) in jobs.chunks(batch_size).enumerate() {
                    let files = match reads_ahead.then(|| files.recv()) {
                        None => Vec::new(),
                        Some(Ok(files)) => files,
                        // It has panicked, which leaving the scope passes on.
                        Some(Err(_)) => return,
                    };
                    let batch = self.decode(jobs, files, number * batch_size, strict);
                    let failed = batch.is_err();
                    // The receiver is gone once `consume` has failed.
                    if sender.send(batch).is_err() || failed {
                        return;
                    }
                }
            });
            let mut waited = Duration::ZERO;
            // Moved in, so that an early return ends the decoder's wait.
            let mut batches = receiver.into_iter();
            loop {
                let start = Instant::now();
                let batch = batches.next();
                waited += start.elapsed();
                let Some(batch) = batch else { break };
                consume(batch.map_err(InferError::from)?)?;
            }
            decoder.join().map_err(|_| InferError::DecoderStopped)?;
            Ok(waited)
        })
    }

    fn decode(
        &self,
        jobs: &[Job<'_>],
        mut files: Vec<Option<File>>,
        first: usize,
        strict: bool,
    ) -> Result<PhotoBatch, VisionError> {
        files.resize_with(jobs.len(), || None);
        let decoded: Vec<_> =
            jobs.par_iter().zip(files).map(|(job, file)| self.view(job, file)).collect();
        let count = jobs.len() * self.shape().count();
        let is_whole = self.is_whole() && jobs.iter().all(|job| job.change.is_none());
        let mut batch = PhotoBatch {
            images: match is_whole {
                true => Images::Bytes(Vec::with_capacity(count)),
                false => Images::Values(Vec::with_capacity(count)),
            },
            rows: Vec::with_capacity(jobs.len()),
            facts: Vec::with_capacity(jobs.len()),
            skipped: Vec::new(),
            skipped_hashes: Vec::new(),
            askew: 0,
        };
        for (row, (job, (decoded, facts))) in jobs.iter().zip(decoded).enumerate() {
            match decoded {
                Ok(image) => {
                    batch.askew += usize::from(facts.is_askew);
                    batch.facts.push(facts);
                    batch.images.append(image);
                    batch.rows.push(first + row);
                }
                Err(error) if strict || is_of_place(&error, job.sample) => return Err(error),
                Err(error) => {
                    let reason = match error {
                        VisionError::Image { reason, .. } => reason,
                        VisionError::Io { source, .. } => source.to_string(),
                        other => other.to_string(),
                    };
                    let skipped = Skipped { path: job.sample.path.clone(), reason };
                    batch.skipped.push((first + row, skipped));
                    batch.skipped_hashes.push(facts.hash);
                }
            }
        }
        Ok(batch)
    }
}

/// Whether it is not the photo that is wrong, but the place that many photos lie in: a store, or an archive that is gone.
fn is_of_place(error: &VisionError, sample: &Sample) -> bool {
    match error {
        VisionError::Elsewhere { .. } => true,
        VisionError::Io { .. } => matches!(sample.place, Place::Within { .. }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage};

    use super::*;

    /// What tests/keras/torch_photos.py has written.
    #[derive(serde::Deserialize)]
    struct Golden {
        photo: [usize; 2],
        size: usize,
        crop_pct: f64,
        crop_mode: String,
        interpolation: String,
        pixels: Vec<f32>,
    }

    #[test]
    fn middles_are_timm_s() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/torch_photos.json");
        let text = std::fs::read(path).expect("reads");
        let golden: Vec<Golden> = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(golden.len(), 6);
        for Golden { photo, size, crop_pct, crop_mode, interpolation, pixels } in golden {
            let [height, width] = photo;
            let byte = |i: u64| (i * i / 7 % 256) as u8;
            let bytes = (0..(height * width * 3) as u64).map(byte).collect();
            let image = RgbImage::from_raw(width as u32, height as u32, bytes).expect("fits");
            let middle = (crop_mode == "center")
                .then(|| Middle { shorter: (size as f64 / crop_pct).floor() as usize, kept: size });
            let resize = interpolation.parse().expect("a resize");
            let input = Shape::map(size, size, 3);
            let photos = Photos::new(input, resize, Preprocessing::None).expect("fits");
            let found = Photos { middle, ..photos }.prepare(&image).expect("resizes");
            for (place, expected) in pixels.into_iter().enumerate() {
                let (pixel, channel) = (place / 3, place % 3);
                let found = found[channel * size * size + pixel];
                assert!((found - expected).abs() < 0.5, "{photo:?} {place}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn channels_and_transparency_are_the_photo_s() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("half.png");
        RgbaImage::from_pixel(2, 2, Rgba([100, 50, 200, 0])).save(&path).expect("writes");
        let of = |channels, transparency| {
            let input = Shape::map(2, 2, channels);
            let photos = Photos::new(input, Resize::Bilinear, Preprocessing::None).expect("fits");
            let values = Photos { transparency, ..photos }.open(&path).expect("decodes");
            assert_eq!(values.len(), channels * 4);
            values.into_iter().step_by(4).collect::<Vec<f32>>()
        };
        assert_eq!(of(3, Transparency::White), [255.0; 3]);
        assert_eq!(of(3, Transparency::Black), [0.0; 3]);
        assert_eq!(of(3, Transparency::Drop), [100.0, 50.0, 200.0]);
        // Opacity is a channel then, and what is below it stays.
        assert_eq!(of(4, Transparency::White), [100.0, 50.0, 200.0, 0.0]);
        // Pillow's weights of 299, 587 and 114 thousandths.
        assert_eq!(of(1, Transparency::Drop), [82.0]);
        for (channels, preprocessing) in [(4, Preprocessing::Caffe), (1, Preprocessing::Torch)] {
            let input = Shape::map(2, 2, channels);
            assert!(Photos::new(input, Resize::Bilinear, preprocessing).is_err());
        }
    }
}
