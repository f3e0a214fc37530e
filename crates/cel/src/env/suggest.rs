//! "Did you mean": the nearest of the names that exist.

/// The candidate nearest to `name`, if any is near enough to be a slip of the fingers.
pub fn nearest<'n>(name: &str, candidates: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    const NAME_BYTES_MAX: usize = 64;
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let allowed = (name.len() / 3).clamp(1, 4);
    let abbreviates = |candidate: &str| {
        name.len() >= 3 && candidate.to_lowercase().starts_with(&name.to_lowercase())
    };
    candidates
        .filter(|candidate| {
            candidate.len() <= NAME_BYTES_MAX && *candidate != name && !candidate.starts_with('@')
        })
        .filter_map(|candidate| {
            let distance = distance(name.as_bytes(), candidate.as_bytes());
            if distance <= allowed {
                Some((distance, candidate))
            } else {
                abbreviates(candidate).then_some((allowed + 1, candidate))
            }
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edits between two names: insertions, deletions, replacements and swaps of neighbours, case ignored.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut current = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let same = x.eq_ignore_ascii_case(y);
            let mut best = (previous[j] + usize::from(!same))
                .min(previous[j + 1] + 1)
                .min(current[j] + 1);
            if i > 0
                && j > 0
                && x.eq_ignore_ascii_case(&b[j - 1])
                && a[i - 1].eq_ignore_ascii_case(y)
            {
                best = best.min(before[j - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_abbreviations() {
        let names = ["availableReplicas", "replicas", "startsWith", "size"];
        let check = |name, expect| assert_eq!(nearest(name, names.into_iter()), expect, "{name}");
        check("startWith", Some("startsWith"));
        check("avail", Some("availableReplicas"));
        check("repilcas", Some("replicas"));
        check("Size", Some("size"));
        check("unrelated", None);
    }
}
