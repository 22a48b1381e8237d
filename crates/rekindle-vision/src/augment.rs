use std::fmt;

use rand::{Rng, RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution};
use serde::{Deserialize, Serialize};

use crate::{Pixels, VisionError};

/// One random change of a photo, with the semantics of Keras's `Random*` layers: a factor `f` draws from `-f` to `f`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Augment {
    /// Mirrors left and right, half of the time.
    FlipHorizontal,
    /// Mirrors top and bottom, half of the time.
    FlipVertical,
    /// Turns by up to this share of a whole turn (`RandomRotation`).
    Rotation(f32),
    /// Shows up to this share more or less of the picture (`RandomZoom`).
    Zoom(f32),
    /// Moves by up to this share of the picture's size (`RandomTranslation`).
    Translation(f32),
    /// Shows a window of at least this share of each side.
    Crop(f32),
    /// Spreads values around each channel's mean (`RandomContrast`).
    Contrast(f32),
    /// Adds up to this share of white or black (`RandomBrightness`).
    Brightness(f32),
    /// Makes colors stronger or paler.
    Saturation(f32),
    /// Turns the color circle by up to this share of a whole turn.
    Hue(f32),
    /// Covers a square of up to this share of each side with grey (DeVries and Taylor 2017).
    Cutout(f32),
}

/// Mixes photos of a batch with each other, and their labels likewise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Mix {
    /// Weighted sums, the weight from `Beta(alpha, alpha)` (Zhang et al. 2018; Keras's `MixUp`).
    MixUp(f64),
    /// A window of the other photo, its area from `Beta(alpha, alpha)` (Yun et al. 2019; Keras's `CutMix`).
    CutMix(f64),
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FlipHorizontal => f.write_str("flip"),
            Self::FlipVertical => f.write_str("flip-vertical"),
            Self::Rotation(factor) => write!(f, "rotation={factor}"),
            Self::Zoom(factor) => write!(f, "zoom={factor}"),
            Self::Translation(factor) => write!(f, "translation={factor}"),
            Self::Crop(share) => write!(f, "crop={share}"),
            Self::Contrast(factor) => write!(f, "contrast={factor}"),
            Self::Brightness(factor) => write!(f, "brightness={factor}"),
            Self::Saturation(factor) => write!(f, "saturation={factor}"),
            Self::Hue(factor) => write!(f, "hue={factor}"),
            Self::Cutout(factor) => write!(f, "cutout={factor}"),
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MixUp(alpha) => write!(f, "mixup={alpha}"),
            Self::CutMix(alpha) => write!(f, "cutmix={alpha}"),
        }
    }
}

/// Random changes of photos while training.
///
/// What is drawn depends on the seed, the photo and the epoch only, so that a run is the same on any number of threads.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// In order; those that move pixels are one resampling together.
    pub steps: Vec<Augment>,
    /// What is done to whole batches then.
    pub mix: Option<Mix>,
}

impl Augmentation {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What suits photos of things: mirrored, turned by up to 18 degrees, zoomed by up to a tenth, contrast and
    /// brightness by up to a fifth.
    #[must_use]
    pub fn standard() -> Self {
        Self::new()
            .with(Augment::FlipHorizontal)
            .with(Augment::Rotation(0.05))
            .with(Augment::Zoom(0.1))
            .with(Augment::Contrast(0.2))
            .with(Augment::Brightness(0.2))
    }

    /// Adds a change.
    #[must_use]
    pub fn with(mut self, step: Augment) -> Self {
        self.steps.push(step);
        self
    }

    /// Mixes photos of a batch.
    #[must_use]
    pub fn mix(self, mix: Mix) -> Self {
        Self { mix: Some(mix), ..self }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.mix.is_none()
    }

    /// Whether every factor is one that makes sense.
    ///
    /// # Errors
    /// When one is not; the error names it.
    pub fn check(&self) -> Result<(), VisionError> {
        let wrong = |what: String| Err(VisionError::Augmentation { what });
        for step in &self.steps {
            let fits = match *step {
                Augment::FlipHorizontal | Augment::FlipVertical => true,
                Augment::Crop(share) => share > 0.0 && share <= 1.0,
                Augment::Zoom(factor) => (0.0..1.0).contains(&factor),
                Augment::Rotation(factor)
                | Augment::Translation(factor)
                | Augment::Contrast(factor)
                | Augment::Brightness(factor)
                | Augment::Saturation(factor)
                | Augment::Hue(factor)
                | Augment::Cutout(factor) => (0.0..=1.0).contains(&factor),
            };
            if !fits {
                return wrong(step.to_string());
            }
        }
        match self.mix {
            Some(mix @ (Mix::MixUp(alpha) | Mix::CutMix(alpha)))
                if !(alpha > 0.0 && alpha.is_finite()) =>
            {
                wrong(mix.to_string())
            }
            _ => Ok(()),
        }
    }

    /// The photo as it is in `epoch`, where it has this number among all photos.
    #[must_use]
    pub fn apply(&self, pixels: Pixels, seed: u64, number: u64, epoch: u64) -> Pixels {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x6175_676d_656e_7400);
        rng.set_stream(number);
        rng.set_word_pos(u128::from(epoch) << 32);
        let mut moves = Affine::identity();
        let mut changes = Vec::new();
        let (width, height) = (pixels.width as f32, pixels.height as f32);
        for step in &self.steps {
            match *step {
                Augment::FlipHorizontal if rng.random::<bool>() => {
                    moves = moves.then(Affine { xx: -1.0, x: width - 1.0, ..Affine::identity() });
                }
                Augment::FlipVertical if rng.random::<bool>() => {
                    moves = moves.then(Affine { yy: -1.0, y: height - 1.0, ..Affine::identity() });
                }
                Augment::FlipHorizontal | Augment::FlipVertical => {}
                Augment::Rotation(factor) => {
                    let angle = std::f32::consts::TAU * within(&mut rng, factor);
                    moves = moves.then(Affine::about_centre(angle, [1.0, 1.0], [width, height]));
                }
                Augment::Zoom(factor) => {
                    let zoom = 1.0 + within(&mut rng, factor);
                    moves = moves.then(Affine::about_centre(0.0, [zoom, zoom], [width, height]));
                }
                Augment::Translation(factor) => {
                    let (x, y) = (within(&mut rng, factor), within(&mut rng, factor));
                    moves =
                        moves.then(Affine { x: -x * width, y: -y * height, ..Affine::identity() });
                }
                Augment::Crop(least) => {
                    let share = least + (1.0 - least) * rng.random::<f32>();
                    let left = rng.random::<f32>() * (1.0 - share) * width;
                    let top = rng.random::<f32>() * (1.0 - share) * height;
                    let half = 0.5 * (share - 1.0);
                    let crop = Affine {
                        xx: share,
                        x: left + half,
                        xy: 0.0,
                        yx: 0.0,
                        yy: share,
                        y: top + half,
                    };
                    moves = moves.then(crop);
                }
                Augment::Contrast(factor) => {
                    changes.push(Change::Contrast(1.0 + within(&mut rng, factor)));
                }
                Augment::Brightness(factor) => {
                    changes.push(Change::Add(255.0 * within(&mut rng, factor)));
                }
                Augment::Saturation(factor) => {
                    changes.push(Change::Saturation(1.0 + within(&mut rng, factor)));
                }
                Augment::Hue(factor) => changes.push(Change::Hue(within(&mut rng, factor))),
                Augment::Cutout(share) => {
                    let side = share * rng.random::<f32>();
                    changes.push(Change::Cover([rng.random(), rng.random(), side]));
                }
            }
        }
        let mut pixels = if moves == Affine::identity() { pixels } else { moves.resample(&pixels) };
        changes.into_iter().for_each(|change| change.apply(&mut pixels));
        pixels
    }
}

/// From `-factor` to `factor`.
fn within(rng: &mut impl Rng, factor: f32) -> f32 {
    factor * (2.0 * rng.random::<f32>() - 1.0)
}

/// Where a pixel of the result comes from: `[xx x + xy y + x, yx x + yy y + y]`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Affine {
    xx: f32,
    xy: f32,
    x: f32,
    yx: f32,
    yy: f32,
    y: f32,
}

impl Affine {
    fn identity() -> Self {
        Self { xx: 1.0, xy: 0.0, x: 0.0, yx: 0.0, yy: 1.0, y: 0.0 }
    }

    /// A rotation and a zoom about the centre, as Keras has them.
    fn about_centre(angle: f32, [across, down]: [f32; 2], [width, height]: [f32; 2]) -> Self {
        let (sin, cos) = angle.sin_cos();
        let (xx, xy, yx, yy) = (across * cos, -down * sin, across * sin, down * cos);
        let (cx, cy) = ((width - 1.0) / 2.0, (height - 1.0) / 2.0);
        Self { xx, xy, x: cx - xx * cx - xy * cy, yx, yy, y: cy - yx * cx - yy * cy }
    }

    /// This change, and then another: the other says where its result's pixels come from in this one's.
    fn then(self, next: Self) -> Self {
        let at = |x: f32, y: f32| [self.xx * x + self.xy * y, self.yx * x + self.yy * y];
        let ([xx, yx], [xy, yy], [x, y]) =
            (at(next.xx, next.yx), at(next.xy, next.yy), at(next.x, next.y));
        Self { xx, xy, x: x + self.x, yx, yy, y: y + self.y }
    }

    /// Bilinear; outside of the picture there is its mirror image (Keras's `fill_mode="reflect"`).
    fn resample(self, pixels: &Pixels) -> Pixels {
        let (width, height) = (pixels.width, pixels.height);
        let at = |x: i64, y: i64| {
            let index = reflect(y, height) * width + reflect(x, width);
            &pixels.values[index * 3..][..3]
        };
        let mut values = Vec::with_capacity(pixels.values.len());
        for row in 0..height {
            for column in 0..width {
                let (column, row) = (column as f32, row as f32);
                let x = self.xx * column + self.xy * row + self.x;
                let y = self.yx * column + self.yy * row + self.y;
                let (left, top) = (x.floor(), y.floor());
                let (across, down) = (x - left, y - top);
                let (left, top) = (left as i64, top as i64);
                let (a, b) = (at(left, top), at(left + 1, top));
                let (c, d) = (at(left, top + 1), at(left + 1, top + 1));
                for channel in 0..3 {
                    let upper = a[channel] + (b[channel] - a[channel]) * across;
                    let lower = c[channel] + (d[channel] - c[channel]) * across;
                    values.push(upper + (lower - upper) * down);
                }
            }
        }
        Pixels { width, height, values }
    }
}

/// `dcba|abcd|dcba`.
fn reflect(index: i64, size: usize) -> usize {
    let period = 2 * size as i64;
    let index = index.rem_euclid(period);
    (if index < size as i64 { index } else { period - 1 - index }) as usize
}

/// A change of values in their places.
enum Change {
    Contrast(f32),
    Add(f32),
    Saturation(f32),
    Hue(f32),
    /// Centre and side, as shares of the picture's.
    Cover([f32; 3]),
}

impl Change {
    fn apply(&self, pixels: &mut Pixels) {
        let count = (pixels.width * pixels.height) as f32;
        let (width, height) = (pixels.width as f32, pixels.height as f32);
        match *self {
            Self::Contrast(factor) => {
                let mut means = [0.0_f32; 3];
                for pixel in pixels.values.as_chunks::<3>().0 {
                    means.iter_mut().zip(pixel).for_each(|(mean, value)| *mean += value / count);
                }
                for pixel in pixels.values.as_chunks_mut::<3>().0 {
                    for (value, mean) in pixel.iter_mut().zip(means) {
                        *value = ((*value - mean) * factor + mean).clamp(0.0, 255.0);
                    }
                }
            }
            Self::Add(amount) => {
                for value in &mut pixels.values {
                    *value = (*value + amount).clamp(0.0, 255.0);
                }
            }
            Self::Saturation(factor) => {
                for pixel in pixels.values.as_chunks_mut::<3>().0 {
                    let grey = luma(pixel);
                    for value in pixel {
                        *value = (grey + (*value - grey) * factor).clamp(0.0, 255.0);
                    }
                }
            }
            Self::Hue(turn) => {
                let (sin, cos) = (std::f32::consts::TAU * turn).sin_cos();
                for pixel in pixels.values.as_chunks_mut::<3>().0 {
                    // A rotation of the two color axes of YIQ.
                    let [r, g, b] = *pixel;
                    let i = 0.596 * r - 0.274 * g - 0.322 * b;
                    let q = 0.211 * r - 0.523 * g + 0.312 * b;
                    let (y, i, q) = (luma(pixel), i * cos - q * sin, i * sin + q * cos);
                    *pixel = [
                        y + 0.956 * i + 0.621 * q,
                        y - 0.272 * i - 0.647 * q,
                        y - 1.106 * i + 1.703 * q,
                    ]
                    .map(|value| value.clamp(0.0, 255.0));
                }
            }
            Self::Cover([x, y, side]) => {
                for (index, pixel) in pixels.values.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                    let column = (index % pixels.width) as f32 + 0.5;
                    let row = (index / pixels.width) as f32 + 0.5;
                    if (column / width - x).abs() < side / 2.0
                        && (row / height - y).abs() < side / 2.0
                    {
                        *pixel = [127.5; 3];
                    }
                }
            }
        }
    }
}

fn luma([r, g, b]: &[f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}

/// How a batch is mixed.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixing {
    /// The other photo of each.
    pub partners: Vec<usize>,
    /// The share of a photo's own label.
    pub own: f32,
    /// Rows and columns that come from the other photo; for sums there is none.
    window: Option<[std::ops::Range<usize>; 2]>,
}

impl Mix {
    /// Draws for a batch of so many photos of this height and width in this step of the run.
    #[must_use]
    pub fn draw(&self, seed: u64, step: u64, photos: usize, size: [usize; 2]) -> Mixing {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x006d_6978);
        rng.set_stream(step);
        let mut partners: Vec<usize> = (0..photos).collect();
        partners.shuffle(&mut rng);
        let mut share =
            |alpha: f64| Beta::new(alpha, alpha).map_or(0.5, |beta| beta.sample(&mut rng)) as f32;
        match *self {
            Self::MixUp(alpha) => Mixing { partners, own: share(alpha), window: None },
            Self::CutMix(alpha) => {
                let ratio = (1.0 - share(alpha)).sqrt();
                let mut range = |size: usize| {
                    let side = ratio * size as f32;
                    let centre = rng.random::<f32>() * size as f32;
                    let start = (centre - side / 2.0).round().max(0.0) as usize;
                    start..((centre + side / 2.0).round() as usize).min(size).max(start)
                };
                let window = size.map(&mut range);
                let area = window[0].len() * window[1].len();
                Mixing {
                    partners,
                    own: 1.0 - area as f32 / (size[0] * size[1]) as f32,
                    window: Some(window),
                }
            }
        }
    }
}

impl Mixing {
    /// Mixes photos, `[photos, channels, height, width]`, each of this shape.
    #[must_use]
    pub fn images(&self, values: &[f32], [channels, height, width]: [usize; 3]) -> Vec<f32> {
        let count = channels * height * width;
        let mut mixed = values.to_vec();
        for (photo, &partner) in mixed.chunks_exact_mut(count).zip(&self.partners) {
            let other = &values[partner * count..][..count];
            match &self.window {
                None => self.sum(photo, other),
                Some([rows, columns]) => {
                    for line in 0..channels * height {
                        if rows.contains(&(line % height)) {
                            let part = line * width + columns.start..line * width + columns.end;
                            photo[part.clone()].copy_from_slice(&other[part]);
                        }
                    }
                }
            }
        }
        mixed
    }

    /// Mixes targets, `[photos][classes]`.
    #[must_use]
    pub fn targets(&self, values: &[f32], classes: usize) -> Vec<f32> {
        let mut mixed = values.to_vec();
        for (row, &partner) in mixed.chunks_exact_mut(classes).zip(&self.partners) {
            self.sum(row, &values[partner * classes..][..classes]);
        }
        mixed
    }

    fn sum(&self, to: &mut [f32], other: &[f32]) {
        for (value, other) in to.iter_mut().zip(other) {
            *value = self.own * *value + (1.0 - self.own) * other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture whose red is its column and green its row.
    fn picture(size: usize) -> Pixels {
        let pixel = |i: usize| [(i % size) as f32, (i / size) as f32, 100.0];
        Pixels { width: size, height: size, values: (0..size * size).flat_map(pixel).collect() }
    }

    fn apply(step: Augment, epoch: u64) -> Pixels {
        Augmentation::new().with(step).apply(picture(32), 7, 3, epoch)
    }

    #[test]
    fn a_photo_depends_on_seed_number_and_epoch_only() {
        let all = Augmentation::standard()
            .with(Augment::Crop(0.5))
            .with(Augment::Hue(0.1))
            .with(Augment::Saturation(0.5))
            .with(Augment::Cutout(0.5));
        let at = |seed, number, epoch| all.apply(picture(32), seed, number, epoch);
        assert_eq!(at(1, 2, 3), at(1, 2, 3));
        for other in [at(2, 2, 3), at(1, 3, 3), at(1, 2, 4)] {
            assert_ne!(at(1, 2, 3), other);
        }
        assert!(at(1, 2, 3).values.iter().all(|value| (0.0..=255.0).contains(value)));
    }

    #[test]
    fn flips_mirror_half_of_the_time() {
        let mut mirrored = 0;
        for epoch in 0..200 {
            let flipped = apply(Augment::FlipHorizontal, epoch);
            if flipped.values[0] == 31.0 {
                mirrored += 1;
                let expected: Vec<f32> = (0..32 * 32)
                    .flat_map(|i| [31.0 - (i % 32) as f32, (i / 32) as f32, 100.0])
                    .collect();
                assert_eq!(flipped.values, expected);
            } else {
                assert_eq!(flipped, picture(32));
            }
        }
        assert!((70..130).contains(&mirrored), "{mirrored}");
    }

    #[test]
    fn moves_show_what_they_say() {
        for epoch in 0..50 {
            // The centre stays in its place.
            for step in [Augment::Rotation(0.5), Augment::Zoom(0.5)] {
                let moved = apply(step, epoch);
                let centre: f32 = [15, 16]
                    .iter()
                    .flat_map(|y| [15, 16].map(|x| moved.values[(y * 32 + x) * 3]))
                    .sum();
                assert!((centre / 4.0 - 15.5).abs() < 1e-2, "{step:?}: {centre}");
            }
            // Columns of a window are nearer to each other than the picture's.
            let crop = apply(Augment::Crop(0.5), epoch);
            let step = crop.values[3 * 20] - crop.values[3 * 19];
            assert!((0.5..=1.0 + 1e-4).contains(&step), "{step}");
            let (first, last) = (crop.values[0], crop.values[3 * 31]);
            assert!(first >= 0.0 && last <= 31.0 && last - first >= 14.0);
            let moved = apply(Augment::Translation(0.25), epoch);
            let shift = moved.values[3 * 16] - 16.0;
            assert!(shift.abs() <= 8.0 + 1e-4, "{shift}");
        }
    }

    #[test]
    fn colors_change_as_they_say() {
        let grey =
            Pixels { width: 2, height: 1, values: vec![50.0, 50.0, 50.0, 150.0, 150.0, 150.0] };
        let change = |change: Change| {
            let mut pixels = grey.clone();
            change.apply(&mut pixels);
            pixels.values
        };
        assert_eq!(change(Change::Contrast(0.5)), [75.0, 75.0, 75.0, 125.0, 125.0, 125.0]);
        assert_eq!(change(Change::Add(120.0)), [170.0, 170.0, 170.0, 255.0, 255.0, 255.0]);
        for changed in [change(Change::Saturation(0.0)), change(Change::Hue(0.3))] {
            assert!(
                changed.iter().zip(&grey.values).all(|(a, b)| (a - b).abs() < 0.5),
                "{changed:?}"
            );
        }
        assert_eq!(change(Change::Cover([0.25, 0.5, 0.9]))[..4], [127.5, 127.5, 127.5, 150.0]);
    }

    #[test]
    fn mixes_keep_labels_in_proportion() {
        let size = 8;
        let images: Vec<f32> =
            (0..4).flat_map(|photo| vec![photo as f32; 3 * size * size]).collect();
        let targets: Vec<f32> = (0..16).map(|i| f32::from(u8::from(i % 5 == 0))).collect();
        for mix in [Mix::MixUp(0.4), Mix::CutMix(1.0)] {
            for step in 0..20 {
                let mixing = mix.draw(1, step, 4, [size, size]);
                let (mixed, labels) =
                    (mixing.images(&images, [3, size, size]), mixing.targets(&targets, 4));
                for photo in 0..4 {
                    let mean = mixed[photo * 192..][..192].iter().sum::<f32>() / 192.0;
                    let expected: f32 =
                        (0..4).map(|class| labels[photo * 4 + class] * class as f32).sum();
                    assert!((mean - expected).abs() < 1e-4, "{mix:?}: {mean} {expected}");
                    assert!((labels[photo * 4..][..4].iter().sum::<f32>() - 1.0).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn factors_out_of_range_are_errors() {
        let fails =
            |augmentation: Augmentation| augmentation.check().expect_err("fails").to_string();
        assert!(fails(Augmentation::new().with(Augment::Zoom(1.5))).contains("zoom=1.5"));
        assert!(fails(Augmentation::new().with(Augment::Hue(f32::NAN))).contains("hue=NaN"));
        assert!(fails(Augmentation::new().mix(Mix::MixUp(0.0))).contains("mixup=0"));
        assert!(Augmentation::standard().mix(Mix::CutMix(1.0)).check().is_ok());
    }
}
