//! How long a request may take: the server's limit, or less where the client asks for less.

use std::time::Duration;

use model::{Reason, Status};

use crate::query::Query;

/// Most seconds a request may ask for; more is the server's limit anyway.
const SECONDS_MAX: f64 = 1e9;

/// The limit of a request.
pub fn of(query: &Query, limit: Duration) -> Result<Duration, Status> {
    let Some(text) = query.get("timeout") else {
        return Ok(limit);
    };
    let wanted = parse(text).map_err(|why| {
        Status::bad_request(format!(
            "invalid timeout specified in the request URL - time: {why}"
        ))
    })?;
    Ok(match wanted {
        Some(wanted) if !wanted.is_zero() && wanted < limit => wanted,
        _ => limit,
    })
}

/// 504, as upstream words it.
pub fn exceeded() -> Status {
    let mut status = Status::new(
        Reason::Timeout,
        "Timeout: request did not complete within the allotted timeout",
    );
    status.details = Some(Box::default());
    status
}

/// A duration in Go's form: `1m30s`, `1.5h`, `300ms`; `None` where it is negative.
fn parse(text: &str) -> Result<Option<Duration>, String> {
    let invalid = || format!("invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Ok(Some(Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "" => return Err(format!("missing unit in duration {text:?}")),
            "ns" => 1e-9,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            other => return Err(format!("unknown unit {other:?} in duration {text:?}")),
        };
        seconds += number * unit;
        rest = &rest[end..];
    }
    if negative {
        return Ok(None);
    }
    Ok(Some(Duration::from_secs_f64(seconds.min(SECONDS_MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<u128, &str>) {
        let query = Query::parse(Some(&format!("timeout={text}")));
        let found = of(&query, Duration::from_mins(1)).map(|limit| limit.as_millis());
        let found = found.map_err(|status| status.message);
        assert_eq!(found, expect.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn a_request_may_ask_for_less_time() {
        check("5s", Ok(5_000));
        check("1m30s", Ok(60_000));
        check("1.5s250ms", Ok(1_750));
        check("0", Ok(60_000));
        check("-5s", Ok(60_000));
        check("", Ok(60_000));
        check("99999999999999999999h", Ok(60_000));
        let prefix = "invalid timeout specified in the request URL - time: ";
        check("5", Err(&format!("{prefix}missing unit in duration \"5\"")));
        check("x", Err(&format!("{prefix}invalid duration \"x\"")));
        check(
            "5q",
            Err(&format!("{prefix}unknown unit \"q\" in duration \"5q\"")),
        );
    }
}
