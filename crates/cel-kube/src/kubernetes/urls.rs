//! URLs: `url('https://example.com:443/path?q=1')`, read as Go's `url.ParseRequestURI` does.

use std::any::Any;
use std::fmt::Write as _;

use cel::{EvalError, Function, Library, MapBuilder, Opaque, Type, Value};

use super::{reading, text, walked};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Url {
    whole: String,
    scheme: String,
    host: String,
    path: String,
    query: String,
}

fn ty() -> Type {
    Type::opaque("kubernetes.URL")
}

impl Opaque for Url {
    fn type_of(&self) -> Type {
        ty()
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        other
            .as_any()
            .downcast_ref::<Self>()
            .is_some_and(|other| self.whole == other.whole)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An absolute URI or an absolute path.
fn parse(whole: &str) -> Result<Url, String> {
    if whole.is_empty() {
        return Err("empty url".to_owned());
    }
    if whole.bytes().any(|byte| byte < 0x20 || byte == 0x7F) {
        return Err("invalid control character in URL".to_owned());
    }
    let (scheme, rest) = split_scheme(whole)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !rest.starts_with('/') {
        if scheme.is_empty() {
            return Err("invalid URI for request".to_owned());
        }
        return Err("invalid URI for request".to_owned());
    }
    let (authority, path) = match rest.strip_prefix("//") {
        Some(after) if !scheme.is_empty() || !rest.starts_with("///") => {
            let end = after.find('/').unwrap_or(after.len());
            (&after[..end], &after[end..])
        }
        _ => ("", rest),
    };
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    check_host(host)?;
    check_escapes(path)?;
    Ok(Url {
        whole: whole.to_owned(),
        scheme: scheme.to_ascii_lowercase(),
        host: unescape(host),
        path: escape_path(path),
        query: query.to_owned(),
    })
}

/// What is wrong with the text as a URI.
pub fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

fn split_scheme(whole: &str) -> Result<(&str, &str), String> {
    for (at, byte) in whole.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if at > 0 => {}
            b':' if at == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&whole[..at], &whole[at + 1..])),
            _ => break,
        }
    }
    Ok(("", whole))
}

fn check_host(host: &str) -> Result<(), String> {
    let port = match host.strip_prefix('[') {
        Some(inner) => match inner.rfind(']') {
            Some(end) => &inner[end + 1..],
            None => return Err("missing ']' in host".to_owned()),
        },
        None => host.rfind(':').map_or("", |colon| &host[colon..]),
    };
    let valid_port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    if !valid_port {
        return Err(format!("invalid port \"{port}\" after host"));
    }
    if let Some(bad) = host.chars().find(|c| {
        matches!(
            c,
            ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'
        )
    }) {
        return Err(format!("invalid character \"{bad}\" in host name"));
    }
    check_escapes(host)
}

fn check_escapes(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let is_escape = || {
            bytes
                .get(at + 1..at + 3)
                .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        if *byte == b'%' && !is_escape() {
            let shown: String = text[at..].chars().take(3).collect();
            return Err(format!("invalid URL escape \"{shown}\""));
        }
    }
    Ok(())
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes
            .get(at + 1..at + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The path as Go writes it: escapes are kept, what needs one gets one.
fn escape_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&byte);
        if plain {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

impl Url {
    /// The host without its port and without brackets.
    fn hostname(&self) -> &str {
        match self.host.strip_prefix('[') {
            Some(inner) => inner.split(']').next().unwrap_or_default(),
            None => self
                .host
                .rsplit_once(':')
                .map_or(&*self.host, |(host, _)| host),
        }
    }

    fn port(&self) -> &str {
        let after = if self.host.starts_with('[') {
            self.host.split(']').nth(1).unwrap_or_default()
        } else {
            &self.host
        };
        after.rsplit_once(':').map_or("", |(_, port)| port)
    }
}

fn url<'v>(arguments: &'v [Value<'_>]) -> Result<&'v Url, EvalError> {
    arguments
        .first()
        .and_then(Value::as_opaque::<Url>)
        .ok_or_else(EvalError::no_such_overload)
}

pub fn library() -> Library {
    let mut library = Library::new("kubernetes.urls")
        .named_type(ty())
        .function(
            Function::new("url")
                .global("string_to_url", [Type::String], ty(), |_, arguments| {
                    let written = text(arguments, 0)?;
                    let wrong = |reason| {
                        let message = "URL parse error during conversion from string: parse";
                        EvalError::invalid(format!("{message} \"{written}\": {reason}"))
                    };
                    parse(written).map(Value::opaque).map_err(wrong)
                })
                .cost(walked)
                .estimate(reading),
        )
        .function(Function::new("isURL").global(
            "is_url_string",
            [Type::String],
            Type::Bool,
            |_, arguments| Ok(Value::Bool(parse(text(arguments, 0)?).is_ok())),
        ));
    type Part = fn(&Url) -> String;
    let parts: [(&str, Part); 5] = [
        ("getScheme", |url| url.scheme.clone()),
        ("getHost", |url| url.host.clone()),
        ("getHostname", |url| url.hostname().to_owned()),
        ("getPort", |url| url.port().to_owned()),
        ("getEscapedPath", |url| url.path.clone()),
    ];
    for (name, part) in parts {
        let id = format!("url_{name}");
        library = library.function(Function::new(name).member(
            &id,
            [ty()],
            Type::String,
            move |_, arguments| Ok(Value::string(part(url(arguments)?))),
        ));
    }
    let query_type = Type::map(Type::String, Type::list(Type::String));
    library.function(Function::new("getQuery").member(
        "url_getQuery",
        [ty()],
        query_type,
        |context, arguments| {
            let mut values: Vec<(String, Vec<Value<'_>>)> = Vec::new();
            for pair in url(arguments)?
                .query
                .split('&')
                .filter(|pair| !pair.is_empty() && !pair.contains(';'))
            {
                context.visit(1 + values.len())?;
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                let decode = |text: &str| unescape(&text.replace('+', " "));
                if check_escapes(key).is_err() || check_escapes(value).is_err() {
                    continue;
                }
                let (key, value) = (decode(key), Value::string(decode(value)));
                match values.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, known)) => known.push(value),
                    None => values.push((key, vec![value])),
                }
            }
            let mut query = MapBuilder::with_capacity(values.len());
            for (key, values) in values {
                query.insert(Value::string(key), Value::list(values))?;
            }
            Ok(Value::Map(query.build()))
        },
    ))
}
