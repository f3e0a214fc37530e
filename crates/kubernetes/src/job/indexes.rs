//! Sets of completion indexes, as a Job's status writes them: `1,3-5,7`. Pure.
//!
//! Runs of three and more are written as a range, so that a million indexes fit into a status.

use std::fmt;

/// A set of indexes as ordered ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(usize, usize)>);

impl Indexes {
    /// Reads the written form; what is no range, and what is not below `completions`, is left out.
    pub fn parse(text: &str, completions: usize) -> Self {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else {
                continue;
            };
            if first >= completions {
                break;
            }
            let last = last.min(completions - 1);
            match ranges.last_mut() {
                Some(before) if before.1 + 1 == first => before.1 = last,
                _ => ranges.push((first, last)),
            }
        }
        Self(ranges)
    }

    /// The set of these; in any order, repeated or not.
    pub fn of(indexes: impl IntoIterator<Item = usize>) -> Self {
        let mut indexes: Vec<usize> = indexes.into_iter().collect();
        indexes.sort_unstable();
        let single = indexes.into_iter().map(|index| (index, index));
        Self::default().merged(single)
    }

    /// What is in either set.
    pub fn union(&self, other: &Self) -> Self {
        self.merged(other.0.iter().copied())
    }

    /// Merges ranges ordered by their beginning.
    fn merged(&self, others: impl Iterator<Item = (usize, usize)>) -> Self {
        let mut all: Vec<(usize, usize)> = self.0.iter().copied().chain(others).collect();
        all.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an index is one of them.
    pub fn contains(&self, index: usize) -> bool {
        let after = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(after).is_some_and(|(first, _)| *first <= index)
    }

    /// How many are in both.
    pub fn common(&self, other: &Self) -> usize {
        let (mut mine, mut theirs, mut common) = (0, 0, 0);
        while let (Some(a), Some(b)) = (self.0.get(mine), other.0.get(theirs)) {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            if first <= last {
                common += last - first + 1;
            }
            if a.1 <= b.1 {
                mine += 1;
            }
            if b.1 <= a.1 {
                theirs += 1;
            }
        }
        common
    }

    /// The lowest `count` indexes below `completions` that are none of these.
    pub fn gaps(&self, count: usize, completions: usize) -> Vec<usize> {
        let mut found = Vec::with_capacity(count.min(completions));
        let mut candidate = 0;
        let ends = self.0.iter().copied().chain([(completions, completions)]);
        for (first, last) in ends {
            while candidate < first.min(completions) && found.len() < count {
                found.push(candidate);
                candidate += 1;
            }
            candidate = candidate.max(last.saturating_add(1));
        }
        found
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (first, last)) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, completions: usize, expect: &str, count: usize) {
        let indexes = Indexes::parse(text, completions);
        assert_eq!(
            (indexes.to_string().as_str(), indexes.len()),
            (expect, count)
        );
    }

    #[test]
    fn the_written_form_is_read() {
        check("", 5, "", 0);
        check("0", 5, "0", 1);
        check("0,1", 5, "0,1", 2);
        check("0-2", 5, "0-2", 3);
        check("0-1,2", 5, "0-2", 3);
        check("1,3-5,7", 10, "1,3-5,7", 5);
        check("1,3-9", 5, "1,3,4", 3);
        check("1,9-11", 5, "1", 1);
        check("nonsense,2", 5, "2", 1);
    }

    proptest! {
        #[test]
        fn a_set_is_a_set(
            one in prop::collection::btree_set(0..40_usize, 0..30),
            two in prop::collection::btree_set(0..40_usize, 0..30),
            count in 0..50_usize,
        ) {
            let (a, b) = (Indexes::of(one.iter().copied()), Indexes::of(two.iter().copied()));
            prop_assert_eq!(&Indexes::parse(&a.to_string(), 40), &a);
            prop_assert_eq!(a.len(), one.len());
            prop_assert_eq!(a.union(&b), Indexes::of(one.union(&two).copied()));
            prop_assert_eq!(a.common(&b), one.intersection(&two).count());
            for index in 0..45 {
                prop_assert_eq!(a.contains(index), one.contains(&index));
            }
            let all: BTreeSet<usize> = (0..40).collect();
            let gaps: Vec<usize> = all.difference(&one).copied().take(count).collect();
            prop_assert_eq!(a.gaps(count, 40), gaps);
        }
    }
}
