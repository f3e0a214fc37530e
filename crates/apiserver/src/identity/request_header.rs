//! Front proxies: who asks is what the headers say, where a proxy with a certificate of its own authority says it.
//!
//! As upstream's `--requestheader-*` flags. Servers that extend this one read the same settings from the ConfigMap
//! `extension-apiserver-authentication`, to know its users by the headers it would send them.

use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::User;

/// Which proxies are believed, and which headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The certificate of the authority that signs those of proxies, as PEM.
    pub authority: String,
    /// The common names of proxies; empty for any.
    pub allowed_names: Vec<String>,
    /// Where the name of the user is; the first header that has one counts.
    pub username_headers: Vec<String>,
    /// The same for the uid.
    pub uid_headers: Vec<String>,
    /// Where groups are; all count.
    pub group_headers: Vec<String>,
    /// What headers begin with that say what else is known of the user.
    pub extra_headers_prefix: Vec<String>,
}

impl RequestHeader {
    /// The settings that kubeadm gives, too, for proxies of an authority.
    pub fn usual(authority: String) -> Self {
        let one = |text: &str| vec![text.to_owned()];
        Self {
            authority,
            allowed_names: one("front-proxy-client"),
            username_headers: one("X-Remote-User"),
            uid_headers: one("X-Remote-Uid"),
            group_headers: one("X-Remote-Group"),
            extra_headers_prefix: one("X-Remote-Extra-"),
        }
    }

    /// Who asks, as a proxy with a verified certificate of that common name says; `None` where it says nothing or is not
    /// one of those that are believed.
    pub fn user(&self, proxy: &str, headers: &HeaderMap) -> Option<User> {
        let allowed = self.allowed_names.is_empty()
            || self.allowed_names.iter().any(|allowed| allowed == proxy);
        if !allowed {
            return None;
        }
        let name = first(headers, &self.username_headers)?;
        let groups = self.group_headers.iter();
        let groups: Vec<&str> = groups.flat_map(|name| all(headers, name)).collect();
        let mut user = User::new(name, &groups);
        let uid = first(headers, &self.uid_headers).unwrap_or_default();
        uid.clone_into(&mut user.uid);
        for prefix in &self.extra_headers_prefix {
            let prefix = prefix.to_ascii_lowercase();
            // Names of headers are lower case here.
            for name in headers.keys() {
                if let Some(key) = name.as_str().strip_prefix(&prefix) {
                    let values = all(headers, name.as_str()).map(str::to_owned);
                    user.extra.entry(unescaped(key)).or_default().extend(values);
                }
            }
        }
        Some(user)
    }

    /// What the ConfigMap says of it.
    pub fn config_map_data(&self) -> Map<String, Value> {
        let list = |names: &[String]| Value::String(json!(names).to_string());
        let data = json!({
            "requestheader-client-ca-file": self.authority,
            "requestheader-allowed-names": list(&self.allowed_names),
            "requestheader-username-headers": list(&self.username_headers),
            "requestheader-uid-headers": list(&self.uid_headers),
            "requestheader-group-headers": list(&self.group_headers),
            "requestheader-extra-headers-prefix": list(&self.extra_headers_prefix),
        });
        let Value::Object(data) = data else {
            unreachable!("it is written as an object");
        };
        data
    }
}

/// The values of a header that are text and not empty.
fn all<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h str> + use<'h> {
    let name: Option<HeaderName> = name.parse().ok();
    let values = name.map(|name| headers.get_all(name));
    let values = values.into_iter().flatten();
    values.filter_map(|value| value.to_str().ok().filter(|text| !text.is_empty()))
}

fn first<'h>(headers: &'h HeaderMap, names: &[String]) -> Option<&'h str> {
    names.iter().find_map(|name| all(headers, name).next())
}

/// A key without its percent signs; as it is where they make no sense.
fn unescaped(key: &str) -> String {
    let decoded = percent_decode_str(key).decode_utf8();
    decoded.map_or_else(|_| key.to_owned(), std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn headers_say_who_asks() {
        let settings = RequestHeader::usual("PEM".to_owned());
        let given = headers(&[
            ("x-remote-user", ""),
            ("x-remote-user", "jane"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "dev"),
            ("x-remote-group", ""),
            ("x-remote-group", "ops"),
            ("x-remote-extra-acme.com%2fproject", "one"),
            ("x-remote-extra-acme.com%2fproject", "two"),
            ("x-remote-extra-bad%zz", "three"),
        ]);
        let user = settings.user("front-proxy-client", &given).expect("named");
        let mut expect = User::new("jane", &["dev", "ops"]);
        expect.uid = "7".to_owned();
        let extra = [
            ("acme.com/project", vec!["one", "two"]),
            ("bad%zz", vec!["three"]),
        ];
        for (key, values) in extra {
            let values = values.into_iter().map(str::to_owned).collect();
            expect.extra.insert(key.to_owned(), values);
        }
        assert_eq!(user, expect);
        assert_eq!(settings.user("somebody", &given), None);
        assert_eq!(settings.user("front-proxy-client", &headers(&[])), None);
        let any = RequestHeader {
            allowed_names: Vec::new(),
            ..settings
        };
        assert!(any.user("somebody", &given).is_some());
    }

    #[test]
    fn lists_are_told_as_json() {
        let data = RequestHeader::usual("PEM".to_owned()).config_map_data();
        assert_eq!(data["requestheader-client-ca-file"], "PEM");
        assert_eq!(
            data["requestheader-allowed-names"],
            r#"["front-proxy-client"]"#
        );
        assert_eq!(data.len(), 6);
    }
}
