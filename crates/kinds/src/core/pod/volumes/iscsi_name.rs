//! The names of iSCSI targets and initiators: `iqn`, `eui` and `naa`.

use crate::at::{At, Errors};

/// Checks that a name is there and of one of the three forms.
pub fn check(at: &At<'_>, errors: &mut Errors) {
    let text = at.text();
    let alphanumeric = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let fine = match text.get(..3) {
        _ if text.is_empty() => {
            errors.push(at.required(""));
            return;
        }
        Some("iqn") => is_iqn(text),
        Some("eui") => alphanumeric(text.get(4..).unwrap_or_default(), 16),
        Some("naa") => alphanumeric(text.get(4..).unwrap_or_default(), 32),
        _ => {
            errors.push(at.invalid("must be valid format starting with iqn, eui, or naa"));
            return;
        }
    };
    if !fine {
        errors.push(at.invalid("must be valid format"));
    }
}

/// `iqn.2001-04.com.example:storage`.
fn is_iqn(text: &str) -> bool {
    let Some((date, rest)) = text
        .strip_prefix("iqn.")
        .and_then(|rest| rest.split_once('.'))
    else {
        return false;
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let dated = date.split_once('-').is_some_and(|(year, month)| {
        year.len() == 4 && month.len() == 2 && digits(year) && digits(month)
    });
    let Some((name, label)) = rest.split_once(':') else {
        return false;
    };
    let name_fine = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let label_fine = !label.is_empty()
        && !label
            .chars()
            .any(|c| ",;*&$|".contains(c) || c.is_whitespace());
    dated && name_fine && label_fine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qualified_name_has_a_date_a_domain_and_a_label() {
        assert!(is_iqn("iqn.2001-04.com.example:storage"));
        assert!(!is_iqn("iqn.2001-4.com.example:storage"));
    }
}
