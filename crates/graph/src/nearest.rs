//! Finds the known name nearest to a misspelt one, for error messages.

/// Names further away than this share of their length are no typos.
const LARGEST_DISTANCE_SHARE: usize = 3;
const LONGEST_NAME: usize = 64;

/// The candidate that `name` is most likely a misspelling of.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (name.chars().count() / LARGEST_DISTANCE_SHARE).max(1);
    candidates
        .into_iter()
        .filter(|candidate| *candidate != name)
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// ` (did you mean "x"?)`, or nothing.
pub(crate) fn suggestion<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, candidates)
        .map_or_else(String::new, |found| format!(" (did you mean \"{found}\"?)"))
}

/// Edits (insert, remove, replace, swap neighbours) between two names, ignoring case.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().take(LONGEST_NAME).collect();
    let b: Vec<char> = b.to_lowercase().chars().take(LONGEST_NAME).collect();
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut current = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y))
                .min(last[j + 1] + 1)
                .min(current[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before_last[j - 1] + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_typos_and_no_strangers() {
        let known = ["replicas", "selector", "template", "strategy"];
        assert_eq!(nearest("replica", known), Some("replicas"));
        assert_eq!(nearest("tempalte", known), Some("template"));
        assert_eq!(nearest("Replicas", known), Some("replicas"));
        assert_eq!(nearest("image", known), None);
        assert_eq!(nearest("", known), None);
    }
}
