//! How far and how fast the number of Pods may move. Pure.

use std::collections::BTreeMap;

use controller::Object;
use jiff::{SignedDuration, Timestamp};
use model::object;
use serde_json::Value;

/// Without a behaviour, the highest recommendation of this time counts.
const DOWNSCALE_WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// Recommendations and changes older than any window may be.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// A number and when it came.
type Moment = (i64, Timestamp);

/// What has been recommended and done lately.
#[derive(Debug, Clone, Default)]
pub struct History {
    recommendations: Vec<Moment>,
    ups: Vec<Moment>,
    downs: Vec<Moment>,
}

impl History {
    /// Notes what there is when the history begins.
    pub fn begin(&mut self, current: i64, now: Timestamp) {
        if self.recommendations.is_empty() {
            self.recommendations.push((current, now));
        }
    }

    /// Notes a change.
    pub fn changed(&mut self, from: i64, to: i64, now: Timestamp) {
        let changes = if to > from {
            &mut self.ups
        } else {
            &mut self.downs
        };
        changes.push(((to - from).abs(), now));
    }

    fn recommended(&mut self, number: i64, now: Timestamp) {
        for moments in [&mut self.recommendations, &mut self.ups, &mut self.downs] {
            moments.retain(|(_, at)| within(*at, KEPT, now));
        }
        self.recommendations.push((number, now));
    }
}

fn within(at: Timestamp, window: SignedDuration, now: Timestamp) -> bool {
    now.duration_since(at) < window
}

/// Why the number is what it is: a word and a sentence.
pub type Why = (&'static str, &'static str);

/// What becomes of a recommendation.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision {
    /// The number of Pods.
    pub replicas: i64,
    /// For the condition `AbleToScale`.
    pub able: Why,
    /// For the condition `ScalingLimited`.
    pub limited: (bool, Why),
}

const READY: Why = ("ReadyForNewScale", "recommended size matches current size");
const DOWN_STABILIZED: Why = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const UP_STABILIZED: Why = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const IN_RANGE: Why = (
    "DesiredWithinRange",
    "the desired count is within the acceptable range",
);
const TOO_FEW: Why = (
    "TooFewReplicas",
    "the desired replica count is less than the minimum replica count",
);
const TOO_MANY: Why = (
    "TooManyReplicas",
    "the desired replica count is more than the maximum replica count",
);
const UP_LIMIT: Why = (
    "ScaleUpLimit",
    "the desired replica count is increasing faster than the maximum scale rate",
);
const DOWN_LIMIT: Why = (
    "ScaleDownLimit",
    "the desired replica count is decreasing faster than the maximum scale rate",
);

/// Applies the limits of an autoscaler to a recommendation, and remembers it.
pub fn decide(
    autoscaler: &Object,
    history: &mut History,
    current: i64,
    recommended: i64,
    now: Timestamp,
) -> Decision {
    let spec = |field: &str| object::number(autoscaler.value(), &["spec", field]);
    let (least, most) = (
        spec("minReplicas").unwrap_or(1),
        spec("maxReplicas").unwrap_or(1),
    );
    let behavior = autoscaler
        .get(&["spec", "behavior"])
        .filter(|behavior| !behavior.is_null());
    let (stabilized, why, (replicas, limit)) = match behavior {
        None => {
            let stabilized = highest(history, DOWNSCALE_WINDOW, recommended, now);
            let within = bound(current, stabilized, least, most);
            (stabilized, DOWN_STABILIZED, within)
        }
        Some(behavior) => {
            let (up, down) = (Rules::up(behavior), Rules::down(behavior));
            let stabilized = stabilize(history, &up, &down, current, recommended, now);
            let upwards = recommended >= current;
            let why = if upwards {
                UP_STABILIZED
            } else {
                DOWN_STABILIZED
            };
            let rates = Rates {
                history,
                up: &up,
                down: &down,
                now,
            };
            (
                stabilized,
                why,
                rates.bound(current, stabilized, least, most),
            )
        }
    };
    history.recommended(recommended, now);
    Decision {
        replicas,
        able: if stabilized == recommended {
            READY
        } else {
            why
        },
        limited: (replicas != stabilized, limit),
    }
}

fn highest(history: &History, window: SignedDuration, recommended: i64, now: Timestamp) -> i64 {
    let recent = history.recommendations.iter();
    recent
        .filter(|(_, at)| within(*at, window, now))
        .map(|(number, _)| *number)
        .fold(recommended, i64::max)
}

fn lowest(history: &History, window: SignedDuration, recommended: i64, now: Timestamp) -> i64 {
    let recent = history.recommendations.iter();
    recent
        .filter(|(_, at)| within(*at, window, now))
        .map(|(number, _)| *number)
        .fold(recommended, i64::min)
}

/// Without a behaviour: at most twice as many at once, but four at any time.
fn bound(current: i64, desired: i64, least: i64, most: i64) -> (i64, Why) {
    let limit = (current * 2).max(4);
    let (most, why) = if most > limit {
        (limit, UP_LIMIT)
    } else {
        (most, TOO_MANY)
    };
    if desired < least {
        (least, TOO_FEW)
    } else if desired > most {
        (most, why)
    } else {
        (desired, IN_RANGE)
    }
}

fn stabilize(
    history: &History,
    up: &Rules,
    down: &Rules,
    current: i64,
    recommended: i64,
    now: Timestamp,
) -> i64 {
    let low = lowest(history, up.window, recommended, now);
    let high = highest(history, down.window, recommended, now);
    current.max(low).min(high)
}

/// One direction of a behaviour.
struct Rules {
    window: SignedDuration,
    select: Select,
    policies: Vec<Policy>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Select {
    Max,
    Min,
    Disabled,
}

struct Policy {
    percent: bool,
    value: i64,
    period: SignedDuration,
}

impl Rules {
    fn up(behavior: &Value) -> Self {
        let defaults = [(false, 4), (true, 100)];
        Self::read(behavior.get("scaleUp"), SignedDuration::ZERO, &defaults)
    }

    fn down(behavior: &Value) -> Self {
        Self::read(behavior.get("scaleDown"), DOWNSCALE_WINDOW, &[(true, 100)])
    }

    fn read(rules: Option<&Value>, window: SignedDuration, defaults: &[(bool, i64)]) -> Self {
        let none = Value::Null;
        let rules = rules.unwrap_or(&none);
        let seconds = object::number(rules, &["stabilizationWindowSeconds"]);
        let mut policies: Vec<Policy> = object::list(rules, &["policies"])
            .iter()
            .map(|policy| Policy {
                percent: object::text(policy, &["type"]) == "Percent",
                value: object::number(policy, &["value"]).unwrap_or(0),
                period: SignedDuration::from_secs(
                    object::number(policy, &["periodSeconds"]).unwrap_or(0),
                ),
            })
            .collect();
        if policies.is_empty() {
            policies.extend(defaults.iter().map(|(percent, value)| Policy {
                percent: *percent,
                value: *value,
                period: SignedDuration::from_secs(15),
            }));
        }
        Self {
            window: seconds.map_or(window, SignedDuration::from_secs),
            select: match object::text(rules, &["selectPolicy"]) {
                "Min" => Select::Min,
                "Disabled" => Select::Disabled,
                _ => Select::Max,
            },
            policies,
        }
    }
}

struct Rates<'a> {
    history: &'a History,
    up: &'a Rules,
    down: &'a Rules,
    now: Timestamp,
}

impl Rates<'_> {
    fn bound(&self, current: i64, desired: i64, least: i64, most: i64) -> (i64, Why) {
        if desired > current {
            let limit = self.up_limit(current).max(current);
            let (most, why) = if most > limit {
                (limit, UP_LIMIT)
            } else {
                (most, TOO_MANY)
            };
            if desired > most {
                return (most, why);
            }
        } else if desired < current {
            let limit = self.down_limit(current).min(current);
            let (least, why) = if least < limit {
                (limit, DOWN_LIMIT)
            } else {
                (least, TOO_FEW)
            };
            if desired < least {
                return (least, why);
            }
        }
        (desired, IN_RANGE)
    }

    /// How many there were when a period began.
    fn at_start(&self, current: i64, period: SignedDuration) -> i64 {
        let sum = |changes: &[Moment]| -> i64 {
            let recent = changes
                .iter()
                .filter(|(_, at)| within(*at, period, self.now));
            recent.map(|(by, _)| by).sum()
        };
        current - sum(&self.history.ups) + sum(&self.history.downs)
    }

    fn up_limit(&self, current: i64) -> i64 {
        let limits = self.up.policies.iter().map(|policy| {
            let start = self.at_start(current, policy.period);
            if policy.percent {
                (start as f64 * (1.0 + policy.value as f64 / 100.0)).ceil() as i64
            } else {
                start.saturating_add(policy.value)
            }
        });
        let limit = match self.up.select {
            Select::Disabled => None,
            Select::Min => limits.min(),
            Select::Max => limits.max(),
        };
        limit.unwrap_or(current)
    }

    fn down_limit(&self, current: i64) -> i64 {
        let limits = self.down.policies.iter().map(|policy| {
            let start = self.at_start(current, policy.period);
            if policy.percent {
                (start as f64 * (1.0 - policy.value as f64 / 100.0)) as i64
            } else {
                start.saturating_sub(policy.value)
            }
        });
        let limit = match self.down.select {
            Select::Disabled => None,
            Select::Min => limits.max(),
            Select::Max => limits.min(),
        };
        limit.unwrap_or(current)
    }
}

/// Which autoscalers are known, and the Pods each is about.
pub type Selectors = BTreeMap<controller::ObjectKey, model::LabelSelector>;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn autoscaler(behavior: Value) -> Object {
        Object::new(json!({"spec": {"minReplicas": 2, "maxReplicas": 100, "behavior": behavior}}))
    }

    #[test]
    fn the_highest_recent_recommendation_counts_downwards() {
        let autoscaler = autoscaler(Value::Null);
        let mut history = History::default();
        history.begin(8, at(0));
        let down = decide(&autoscaler, &mut history, 8, 3, at(10));
        assert_eq!((down.replicas, down.able), (8, DOWN_STABILIZED));
        let later = decide(&autoscaler, &mut history, 8, 3, at(301));
        assert_eq!((later.replicas, later.able), (3, READY));
        let few = decide(&autoscaler, &mut history, 8, 1, at(700));
        assert_eq!((few.replicas, few.limited), (2, (true, TOO_FEW)));
    }

    #[test]
    fn growth_is_limited() {
        let autoscaler = autoscaler(Value::Null);
        let mut history = History::default();
        let mut check = |current, recommended, expect, limited| {
            let found = decide(&autoscaler, &mut history, current, recommended, at(0));
            assert_eq!((found.replicas, found.limited), (expect, limited));
        };
        check(1, 3, 3, (false, IN_RANGE));
        check(1, 9, 4, (true, UP_LIMIT));
        check(6, 50, 12, (true, UP_LIMIT));
        check(80, 150, 100, (true, TOO_MANY));
    }

    #[test]
    fn policies_limit_the_change_within_their_periods() {
        let behavior = json!({
            "scaleUp": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 60}]},
            "scaleDown": {
                "stabilizationWindowSeconds": 0, "selectPolicy": "Min",
                "policies": [
                    {"type": "Percent", "value": 50, "periodSeconds": 60},
                    {"type": "Pods", "value": 2, "periodSeconds": 60},
                ],
            },
        });
        let autoscaler = autoscaler(behavior);
        let mut history = History::default();
        let up = decide(&autoscaler, &mut history, 10, 30, at(0));
        assert_eq!((up.replicas, up.limited), (14, (true, UP_LIMIT)));
        history.changed(10, 14, at(0));
        assert_eq!(
            decide(&autoscaler, &mut history, 14, 30, at(30)).replicas,
            14
        );
        assert_eq!(
            decide(&autoscaler, &mut history, 14, 30, at(61)).replicas,
            18
        );
        let down = decide(&autoscaler, &mut history, 14, 2, at(200));
        assert_eq!((down.replicas, down.limited), (12, (true, DOWN_LIMIT)));
    }

    #[test]
    fn a_direction_can_be_closed() {
        let behavior =
            json!({"scaleDown": {"selectPolicy": "Disabled", "stabilizationWindowSeconds": 0}});
        let found = decide(&autoscaler(behavior), &mut History::default(), 10, 3, at(0));
        assert_eq!((found.replicas, found.limited), (10, (true, DOWN_LIMIT)));
    }

    #[test]
    fn the_lowest_recent_recommendation_counts_upwards() {
        let behavior = json!({"scaleUp": {"stabilizationWindowSeconds": 60}});
        let autoscaler = autoscaler(behavior);
        let mut history = History::default();
        decide(&autoscaler, &mut history, 10, 10, at(0));
        let up = decide(&autoscaler, &mut history, 10, 14, at(30));
        assert_eq!((up.replicas, up.able), (10, UP_STABILIZED));
        assert_eq!(
            decide(&autoscaler, &mut history, 10, 14, at(90)).replicas,
            14
        );
    }
}
