//! Threads that run the steps of one image together.
//!
//! Steps of a small network take some tens of microseconds: waking a thread for each takes as long. So helpers
//! stay for the whole image and look for work without sleeping. Nobody waits for a helper that has not come:
//! the thread that leads does what the others leave.
//!
//! Each thread begins with its own share of a step's parts, the same part of the image in every step, so that most of
//! what it reads is in its own cache: it has written it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Looks at a counter before a thread gives its processor to others.
const SPINS: u32 = 20_000;

/// Parts that a word has a bit for.
const BITS: usize = u64::BITS as usize;

/// One step's parts.
#[derive(Debug, Default)]
struct Parts {
    /// A bit for each that somebody has taken.
    taken: Vec<AtomicU64>,
    /// Parts that are done.
    done: AtomicUsize,
}

/// What the threads of one image share.
#[derive(Debug)]
pub(crate) struct Team {
    steps: Vec<Parts>,
    /// Steps that may begin: all before them are done.
    open: AtomicUsize,
    /// Threads that have come.
    members: AtomicUsize,
    /// Threads that may come.
    most: usize,
}

impl Team {
    /// For a plan of this many steps.
    pub fn new(steps: usize) -> Self {
        Self {
            steps: (0..steps).map(|_| Parts::default()).collect(),
            open: AtomicUsize::new(0),
            members: AtomicUsize::new(0),
            most: 0,
        }
    }

    /// Makes it ready for another image, for this number of threads, and for steps of these numbers of parts.
    pub fn reset(&mut self, most: usize, parts: impl Fn(usize) -> usize) {
        for (step, Parts { taken, done }) in self.steps.iter_mut().enumerate() {
            taken.iter_mut().for_each(|word| *word.get_mut() = 0);
            // Only the first time.
            let words = parts(step).div_ceil(BITS).max(taken.len());
            taken.resize_with(words, AtomicU64::default);
            *done.get_mut() = 0;
        }
        *self.open.get_mut() = 0;
        *self.members.get_mut() = 1;
        self.most = most;
    }

    /// Runs all parts of a step, with whichever helpers have come. Steps are led in their order.
    pub fn lead(&self, step: usize, parts: usize, work: impl Fn(usize)) {
        // What was written before this is seen by helpers that see the step open.
        self.open.store(step + 1, Ordering::Release);
        self.take(step, parts, 0, &work);
        let done = &self.steps[step].done;
        wait(|| done.load(Ordering::Acquire) == parts);
    }

    /// Ends the helpers' work when it is dropped, also by a panic.
    #[must_use]
    pub fn finish_at_end(&self) -> impl Drop {
        OnDrop(|| self.open.store(usize::MAX, Ordering::Release))
    }

    /// Takes parts of every step until the leader finishes; `parts` says how many a step has.
    pub fn help(&self, parts: impl Fn(usize) -> usize, work: impl Fn(usize, usize)) {
        let member = self.members.fetch_add(1, Ordering::Relaxed);
        for step in 0..self.steps.len() {
            let mut open = 0;
            wait(|| {
                open = self.open.load(Ordering::Acquire);
                open > step
            });
            if open == usize::MAX {
                return;
            }
            self.take(step, parts(step), member, &|part| work(step, part));
        }
    }

    fn take(&self, step: usize, parts: usize, member: usize, work: &impl Fn(usize)) {
        let Parts { taken, done } = &self.steps[step];
        // One goes up from its share's first part and its neighbour down from its share's last, so that whoever is done
        // takes what the other would have come to last.
        let (member, most) = (member % self.most, self.most);
        let first = match member % 2 {
            0 => member * parts / most,
            _ => (member + 1) * parts / most + parts - 1,
        };
        for offset in 0..parts {
            let part = if member % 2 == 0 { first + offset } else { first - offset } % parts;
            let (word, bit) = (&taken[part / BITS], 1 << (part % BITS));
            let is_free = |before: u64| before & bit == 0;
            // Looking first leaves the line with those who work.
            if is_free(word.load(Ordering::Relaxed))
                && is_free(word.fetch_or(bit, Ordering::Relaxed))
            {
                // Also where the work panics: nobody may wait for ever.
                let _counted = OnDrop(|| {
                    done.fetch_add(1, Ordering::Release);
                });
                work(part);
            }
        }
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn wait(mut is_over: impl FnMut() -> bool) {
    let mut spins = 0;
    while !is_over() {
        spins += 1;
        if spins < SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_once_and_after_the_steps_before() {
        let (steps, parts) = (50, |step: usize| 1 + step * step % 130);
        let mut team = Team::new(steps);
        for helpers in [0, 1, 3, 8] {
            team.reset(helpers + 1, parts);
            let counts: Vec<Vec<AtomicUsize>> = (0..steps)
                .map(|step| (0..parts(step)).map(|_| AtomicUsize::new(0)).collect())
                .collect();
            let work = |step: usize, part: usize| {
                if step > 0 {
                    let before = counts[step - 1].iter();
                    assert!(before.into_iter().all(|count| count.load(Ordering::SeqCst) == 1));
                }
                // So that some part of most steps is late.
                if part % 3 == step % 3 {
                    std::thread::sleep(std::time::Duration::from_micros(100));
                }
                counts[step][part].fetch_add(1, Ordering::SeqCst);
            };
            std::thread::scope(|scope| {
                for _ in 0..helpers {
                    scope.spawn(|| team.help(parts, work));
                }
                let _finish = team.finish_at_end();
                for step in 0..steps {
                    team.lead(step, parts(step), |part| work(step, part));
                }
            });
            let all = counts.iter().flatten().all(|count| count.load(Ordering::SeqCst) == 1);
            assert!(all, "{helpers} helpers");
        }
    }

    #[test]
    fn a_panic_ends_all() {
        for leader_fails in [true, false] {
            let mut team = Team::new(3);
            team.reset(2, |_| 20);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let leader = std::thread::current().id();
                let work = |_: usize, part: usize| {
                    let by_leader = std::thread::current().id() == leader;
                    assert!(part.is_multiple_of(2) || by_leader != leader_fails, "on purpose");
                    std::thread::sleep(std::time::Duration::from_millis(1));
                };
                std::thread::scope(|scope| {
                    scope.spawn(|| team.help(|_| 20, work));
                    let _finish = team.finish_at_end();
                    (0..3).for_each(|step| team.lead(step, 20, |part| work(step, part)));
                });
            }));
            assert!(result.is_err(), "the panic is passed on");
        }
    }
}
