//! Ages as `kubectl` prints them.

use jiff::Timestamp;

/// How long ago a time was, in at most two units: `5s`, `3m4s`, `2d3h`, `400d`.
///
/// Follows `duration.HumanDuration` of apimachinery in which units are shown at which age.
pub fn age(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - time.as_second();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let pair = |big: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 {
            format!("{big}{unit}")
        } else {
            format!("{big}{unit}{small}{small_unit}")
        }
    };
    match seconds {
        i64::MIN..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => pair(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_at_most_two_units() {
        let now = Timestamp::from_second(1_000_000_000).expect("in range");
        let check = |seconds: i64, expect: &str| {
            let time = Timestamp::from_second(1_000_000_000 - seconds).expect("in range");
            assert_eq!(age(time, now), expect);
        };
        check(5, "5s");
        check(119, "119s");
        check(184, "3m4s");
        check(3_600, "60m");
        check(3 * 3_600 + 60, "3h1m");
        check(86_400 * 3, "3d");
        check(86_400 * 400, "400d");
        check(-10, "<invalid>");
    }
}
