//! Loss scaling (Micikevicius et al., "Mixed Precision Training", 2018), as PyTorch's GradScaler has it: gradients are multiplied
//! by a number so that gradients of f16 are not too small, and a step whose gradients were too large is left out.

/// Steps without an overflow after which the scale is doubled.
const PATIENCE: u32 = 2000;

/// The scale at first: lower than PyTorch's 65,536, which costs a run its first steps. With it gradients down to 6e-11 are kept.
const FIRST: f32 = 1024.0;

/// The largest scale.
const MOST: f32 = 65536.0;

/// What gradients are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scaler {
    scale: f32,
    /// Steps since it changed.
    steps: u32,
}

impl Scaler {
    /// The name of its state among the variables.
    pub const NAME: &str = "loss_scale";

    pub fn new() -> Self {
        Self { scale: FIRST, steps: 0 }
    }

    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Hears of a step's gradients; whether it may be taken.
    pub fn hear(&mut self, is_finite: bool) -> bool {
        self.steps = if is_finite { self.steps + 1 } else { 0 };
        if !is_finite {
            // Below one, it is not the scale that is too large.
            self.scale = (self.scale / 2.0).max(1.0);
        } else if self.steps == PATIENCE {
            (self.scale, self.steps) = ((self.scale * 2.0).min(MOST), 0);
        }
        is_finite
    }

    pub fn state(&self) -> Vec<f32> {
        vec![self.scale, self.steps as f32]
    }

    /// From [`Scaler::state`]; nothing where it cannot be one.
    pub fn from_state(state: &[f32]) -> Option<Self> {
        match state {
            &[scale, steps] if (1.0..=MOST).contains(&scale) && steps >= 0.0 => {
                Some(Self { scale, steps: steps as u32 })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_falls_with_overflows_and_rises_with_patience() {
        let mut scaler = Scaler::new();
        assert!(!scaler.hear(false) && !scaler.hear(false));
        assert_eq!(scaler.scale(), FIRST / 4.0);
        assert!((0..PATIENCE).all(|_| scaler.hear(true)));
        assert_eq!(scaler.scale(), FIRST / 2.0);
        scaler.hear(true);
        assert_eq!(Scaler::from_state(&scaler.state()), Some(scaler));
        assert!((0..40).all(|_| !scaler.hear(false)));
        assert_eq!(scaler.scale(), 1.0);
        for state in [&[][..], &[0.5, 0.0], &[f32::NAN, 0.0], &[2.0, -1.0]] {
            assert_eq!(Scaler::from_state(state), None);
        }
    }
}
