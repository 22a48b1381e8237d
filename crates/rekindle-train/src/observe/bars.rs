//! Progress bars.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rekindle_infer::{Event, Observer};

/// Progress bars on stderr, where that is a terminal: features with photos per second and time left,
/// then epochs with the current loss, photos per second and time left. What a run begins with and skipped files become
/// `tracing` events.
#[derive(Debug, Default)]
pub struct Bars {
    bar: Option<ProgressBar>,
    epochs: bool,
    /// Photos that were trained on since a moment.
    trained: Option<(Instant, usize)>,
}

impl Bars {
    fn bar(&mut self, epochs: bool, total: usize, template: &str) -> &ProgressBar {
        if self.epochs != epochs {
            self.finish();
            self.epochs = epochs;
        }
        self.bar.get_or_insert_with(|| {
            let bar =
                ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        })
    }

    /// Runs `print` while no bar is on the screen.
    pub fn suspend(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Observer for Bars {
    fn on_event(&mut self, event: &Event<'_>) {
        match *event {
            Event::Started(start) => self.suspend(|| tracing::info!("{start}")),
            Event::Features { done, total } => {
                let template = "features {bar:30.cyan} {pos}/{len} {per_sec} left {eta}";
                self.bar(false, total, template).set_position(done as u64);
                if done == total {
                    self.finish();
                }
            }
            // A few photos are there before a bar is.
            Event::Predicted { done, total } if done < total || self.bar.is_some() => {
                let template = "predicting {bar:30.cyan} {pos}/{len} {per_sec} left {eta}";
                self.bar(false, total, template).set_position(done as u64);
                if done == total {
                    self.finish();
                }
            }
            Event::Skipped(file) => {
                self.suspend(|| tracing::warn!("skipped {}: {}", file.path.display(), file.reason));
            }
            Event::Step { epoch, epochs, step, steps, loss, photos } => {
                let (start, before) = *self.trained.get_or_insert((Instant::now(), 0));
                self.trained = Some((start, before + photos));
                // The first step's time is not known.
                let rate = before as f64 / start.elapsed().as_secs_f64().max(1e-6);
                let template = "training {bar:30.cyan} {msg} left {eta}";
                let bar = self.bar(true, epochs * steps, template);
                bar.set_position(((epoch - 1) * steps + step) as u64);
                bar.set_message(format!(
                    "epoch {epoch}/{epochs} loss {loss:.4} {rate:.0} photos/s"
                ));
            }
            Event::Epoch { epoch, epochs, .. } if epoch == epochs => self.finish(),
            // There is no bar of anything else.
            _ => {}
        }
    }
}
