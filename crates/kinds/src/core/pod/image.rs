//! Names of images, as far as defaults depend on them.

/// When an image is pulled unless a container says so itself: always for `latest`.
pub fn pull_policy(image: &str) -> &'static str {
    if tag(image) == Some("latest") {
        "Always"
    } else {
        "IfNotPresent"
    }
}

/// The tag an image has, `latest` where it names neither tag nor digest; none for what is no image.
fn tag(image: &str) -> Option<&str> {
    let (name, digest) = image
        .split_once('@')
        .map_or((image, None), |(n, d)| (n, Some(d)));
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match name[start..].rfind(':') {
        Some(colon) => (&name[..start + colon], Some(&name[start + colon + 1..])),
        None => (name, None),
    };
    if !is_repository(path) || tag.is_some_and(|tag| !is_tag(tag)) {
        return None;
    }
    match (tag, digest) {
        (None, None) => Some("latest"),
        (tag, _) => tag,
    }
}

/// Lower-case path components, after an optional host that may have a port and capitals.
fn is_repository(path: &str) -> bool {
    let (host, rest) = match path.split_once('/') {
        Some((host, rest)) if host == "localhost" || host.contains(['.', ':']) => (host, rest),
        _ => ("", path),
    };
    let host_allowed = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
    host.bytes().all(host_allowed) && rest.split('/').all(is_component)
}

fn is_component(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.bytes().all(allowed) && edge(text.as_bytes().first()) && edge(text.as_bytes().last())
}

fn is_tag(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(allowed)
        && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_latest_is_always_pulled() {
        let check = |image: &str, expect: &str| assert_eq!(pull_policy(image), expect, "{image}");
        check("img", "Always");
        check("img:latest", "Always");
        check("img:1", "IfNotPresent");
        check("reg.io:5000/a/b", "Always");
        check("reg.io:5000/a:latest", "Always");
        check("img@sha256:aaaa", "IfNotPresent");
        check("UPPER", "IfNotPresent");
        check("", "IfNotPresent");
    }
}
