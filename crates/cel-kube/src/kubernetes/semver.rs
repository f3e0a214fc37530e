//! Semantic versions: `semver('1.2.3-rc.1')`.

use std::any::Any;
use std::cmp::Ordering;

use cel::{EvalError, Function, Library, Opaque, Type, Value};

use super::{reading, text, walked};

/// A semantic version. Its build metadata does not take part in comparisons.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    numbers: [u64; 3],
    pre_release: Vec<Identifier>,
}

/// A part of a pre-release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Text(String),
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let pre_release = || match (self.pre_release.is_empty(), other.pre_release.is_empty()) {
            (false, false) => self.pre_release.cmp(&other.pre_release),
            // A release is later than its pre-releases.
            (mine, theirs) => mine.cmp(&theirs),
        };
        self.numbers.cmp(&other.numbers).then_with(pre_release)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn ty() -> Type {
    Type::opaque("kubernetes.Semver")
}

impl Opaque for Version {
    fn type_of(&self) -> Type {
        ty()
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other.as_any().downcast_ref() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A number without leading zeros.
fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (plain && (text.len() == 1 || !text.starts_with('0'))).then(|| text.parse().ok())?
}

fn parse(text: &str) -> Option<Version> {
    let (text, build) = text
        .split_once('+')
        .map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, pre_release) = text
        .split_once('-')
        .map_or((text, None), |(core, pre)| (core, Some(pre)));
    let is_identifier = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if build.is_some_and(|build| !build.split('.').all(is_identifier)) {
        return None;
    }
    let mut parts = core.split('.');
    let numbers = [
        number(parts.next()?)?,
        number(parts.next()?)?,
        number(parts.next()?)?,
    ];
    if parts.next().is_some() {
        return None;
    }
    let identifier = |part: &str| {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            return number(part).map(Identifier::Number);
        }
        is_identifier(part).then(|| Identifier::Text(part.to_owned()))
    };
    let pre_release = match pre_release {
        Some(text) => text.split('.').map(identifier).collect::<Option<_>>()?,
        None => Vec::new(),
    };
    Some(Version {
        numbers,
        pre_release,
    })
}

/// What `normalize` allows: a `v` in front, missing numbers, leading zeros.
fn normalize(text: &str) -> String {
    let text = text.trim().strip_prefix('v').unwrap_or(text.trim());
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let mut numbers: Vec<&str> = core
        .split('.')
        .map(|part| {
            if part.len() > 1 {
                part.trim_start_matches('0')
            } else {
                part
            }
        })
        .map(|part| {
            if part.is_empty() && !core.is_empty() {
                "0"
            } else {
                part
            }
        })
        .collect();
    numbers.extend(std::iter::repeat_n(
        "0",
        3_usize.saturating_sub(numbers.len()),
    ));
    format!("{}{rest}", numbers.join("."))
}

fn version<'v>(arguments: &'v [Value<'_>], index: usize) -> Result<&'v Version, EvalError> {
    arguments
        .get(index)
        .and_then(Value::as_opaque::<Version>)
        .ok_or_else(EvalError::no_such_overload)
}

fn parse_argument(arguments: &[Value<'_>]) -> Result<Option<Version>, EvalError> {
    let written = text(arguments, 0)?;
    Ok(match arguments.get(1) {
        Some(Value::Bool(true)) => parse(&normalize(written)),
        _ => parse(written),
    })
}

fn required(arguments: &[Value<'_>]) -> Result<Value<'static>, EvalError> {
    let version = parse_argument(arguments)?;
    version
        .map(Value::opaque)
        .ok_or_else(|| EvalError::invalid("Invalid semantic version"))
}

pub fn library() -> Library {
    let mut library = Library::new("kubernetes.semver")
        .named_type(ty())
        .function(
            Function::new("semver")
                .global("string_to_semver", [Type::String], ty(), |_, arguments| {
                    required(arguments)
                })
                .cost(walked)
                .estimate(reading)
                .global(
                    "string_bool_to_semver",
                    [Type::String, Type::Bool],
                    ty(),
                    |_, arguments| required(arguments),
                )
                .cost(walked)
                .estimate(reading),
        )
        .function(
            Function::new("isSemver")
                .global(
                    "is_semver_string",
                    [Type::String],
                    Type::Bool,
                    |_, arguments| Ok(Value::Bool(parse_argument(arguments)?.is_some())),
                )
                .cost(walked)
                .estimate(reading)
                .global(
                    "is_semver_string_bool",
                    [Type::String, Type::Bool],
                    Type::Bool,
                    |_, arguments| Ok(Value::Bool(parse_argument(arguments)?.is_some())),
                )
                .cost(walked)
                .estimate(reading),
        );
    for (index, name) in ["major", "minor", "patch"].into_iter().enumerate() {
        let id = format!("semver_{name}");
        library = library.function(Function::new(name).member(
            &id,
            [ty()],
            Type::Int,
            move |_, arguments| Ok(Value::Int(version(arguments, 0)?.numbers[index] as i64)),
        ));
    }
    for (name, id, wanted) in [
        ("isGreaterThan", "semver_is_greater_than", Ordering::Greater),
        ("isLessThan", "semver_is_less_than", Ordering::Less),
    ] {
        library = library.function(Function::new(name).member(
            id,
            [ty(), ty()],
            Type::Bool,
            move |_, arguments| {
                Ok(Value::Bool(
                    version(arguments, 0)?.cmp(version(arguments, 1)?) == wanted,
                ))
            },
        ));
    }
    library.function(Function::new("compareTo").member(
        "semver_compare_to",
        [ty(), ty()],
        Type::Int,
        |_, arguments| {
            Ok(Value::Int(
                version(arguments, 0)?.cmp(version(arguments, 1)?) as i64,
            ))
        },
    ))
}
