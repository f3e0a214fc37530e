//! When a child is left alone for a while: because somebody undoes every correction, or because the server refuses it.
//!
//! Everything is driven by events, so two controllers that write the same field of an object would wake each other for
//! ever, as fast as the server answers. The first corrections are made at once; when they keep being undone within
//! seconds, each waits longer than the one before. A correction that lasts ends that. All of it is pure: time is given.

use std::time::Duration;

use tokio::time::Instant;

/// Corrections made at once; more than that in a row is a quarrel.
const CORRECTIONS_AT_ONCE: u32 = 3;
/// A correction that lasts this long ends a quarrel.
const QUIET: Duration = Duration::from_secs(10);
/// The wait before the first correction that is not made at once; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What is remembered of the troubles with one child.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience {
    corrections: u32,
    corrected_at: Option<Instant>,
    /// When the last correction was first seen undone.
    undone_at: Option<Instant>,
    /// The fields the last correction changed; empty when the child had been deleted.
    fields: Vec<String>,
    refusal: Option<Refusal>,
}

/// An apply that the server refused.
#[derive(Clone, Debug)]
struct Refusal {
    /// What was to be applied, to what.
    attempt: (u64, u64),
    message: String,
    times: u32,
    at: Instant,
}

/// What to do about a child that is not as it was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Correction {
    /// Correct it.
    Now,
    /// Leave it for a while.
    Wait {
        /// How long.
        wait: Duration,
        /// Whether this is news: the same correction was not seen undone before.
        is_new: bool,
    },
}

impl Patience {
    /// The child was found changed although what it should be has not changed.
    pub fn undone(&mut self, now: Instant) -> Correction {
        let is_new = self.undone_at.is_none();
        let undone_at = *self.undone_at.get_or_insert(now);
        let Some(corrected_at) = self.corrected_at else {
            return Correction::Now;
        };
        if undone_at.duration_since(corrected_at) >= QUIET {
            self.corrections = 0;
        }
        if self.corrections < CORRECTIONS_AT_ONCE {
            return Correction::Now;
        }
        let due = corrected_at + doubled(FIRST_WAIT, self.corrections - CORRECTIONS_AT_ONCE);
        match due.checked_duration_since(now) {
            Some(wait) if !wait.is_zero() => Correction::Wait { wait, is_new },
            _ => Correction::Now,
        }
    }

    /// A correction has changed these fields of the child.
    pub fn corrected(&mut self, fields: Vec<String>, now: Instant) {
        self.corrections = self.corrections.saturating_add(1);
        self.corrected_at = Some(now);
        self.undone_at = None;
        self.fields = fields;
    }

    /// The child was found as it should be, or applying it changed nothing.
    pub fn in_order(&mut self) {
        self.undone_at = None;
    }

    /// The fields the last correction changed.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// The server refused to apply `attempt`; gives how long to wait before the next try.
    pub fn refused(
        &mut self,
        attempt: (u64, u64),
        message: String,
        first_wait: Duration,
        now: Instant,
    ) -> Duration {
        let before = self
            .refusal
            .take()
            .filter(|refusal| refusal.attempt == attempt);
        let times = before.map_or(0, |refusal| refusal.times.saturating_add(1));
        self.refusal = Some(Refusal {
            attempt,
            message,
            times,
            at: now,
        });
        doubled(first_wait, times)
    }

    /// The server's refusal of the same attempt and how long to wait, if it is too early to try again.
    pub fn too_early(
        &self,
        attempt: (u64, u64),
        first_wait: Duration,
        now: Instant,
    ) -> Option<(String, Duration)> {
        let refusal = self.refusal.as_ref()?;
        if refusal.attempt != attempt {
            return None;
        }
        let due = refusal.at + doubled(first_wait, refusal.times);
        let wait = due.checked_duration_since(now)?;
        (!wait.is_zero()).then(|| (refusal.message.clone(), wait))
    }

    /// The server took what was applied.
    pub fn accepted(&mut self) {
        self.refusal = None;
    }
}

fn doubled(first: Duration, times: u32) -> Duration {
    let factor = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(LONGEST_WAIT.max(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corrections_that_are_undone_at_once_become_rare() {
        let mut now = Instant::now();
        let mut patience = Patience::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            if let Correction::Wait { wait, is_new } = patience.undone(now) {
                assert!(is_new);
                let again = patience.undone(now + wait / 2);
                let expect = Correction::Wait {
                    wait: wait / 2,
                    is_new: false,
                };
                assert_eq!(again, expect, "events in between change nothing");
                waits.push(wait.as_secs());
                now += wait;
                assert_eq!(patience.undone(now), Correction::Now);
            }
            patience.corrected(vec!["data.a".to_owned()], now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_correction_that_lasts_ends_the_quarrel() {
        let start = Instant::now();
        let mut patience = Patience::default();
        for _ in 0..5 {
            patience.undone(start);
            patience.corrected(Vec::new(), start);
        }
        let later = start + QUIET;
        assert_eq!(patience.undone(later), Correction::Now);
        patience.corrected(Vec::new(), later);
        assert_eq!(patience.undone(later), Correction::Now);
    }

    #[test]
    fn only_the_same_attempt_is_held_back() {
        let (first, now) = (Duration::from_secs(3), Instant::now());
        let mut patience = Patience::default();
        assert_eq!(patience.refused((1, 1), "no".to_owned(), first, now), first);
        let early = patience.too_early((1, 1), first, now + Duration::from_secs(1));
        assert_eq!(early, Some(("no".to_owned(), Duration::from_secs(2))));
        assert_eq!(patience.too_early((2, 1), first, now), None);
        assert_eq!(patience.too_early((1, 1), first, now + first), None);
        let second = patience.refused((1, 1), "no".to_owned(), first, now + first);
        assert_eq!(second, first * 2);
        let other = patience.refused((1, 2), "no".to_owned(), first, now + first);
        assert_eq!(other, first);
        patience.accepted();
        assert_eq!(patience.too_early((1, 2), first, now + first), None);
    }
}
