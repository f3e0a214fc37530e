//! What a bound token claims, and whether it still holds.

use jiff::Timestamp;
use model::object;
use serde_json::{Value, json};
use store::Store;

use super::account_user;
use crate::envelope;
use crate::identity::User;

/// How far clocks may differ, and how long after its deletion an object still counts.
const LEEWAY_SECONDS: i64 = 60;

const EXTRA: &str = "authentication.kubernetes.io/";

/// The token's audiences, and those of the wanted ones it is for.
pub fn audiences(
    claims: &Value,
    wanted: &[String],
    own: &[String],
) -> Result<(Vec<String>, Vec<String>), String> {
    let said: Vec<String> = match &claims["aud"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many
            .iter()
            .filter_map(|audience| audience.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    };
    let said = if said.is_empty() { own.to_vec() } else { said };
    let both: Vec<String> = said
        .iter()
        .filter(|audience| wanted.contains(audience))
        .cloned()
        .collect();
    if both.is_empty() {
        let list = |words: &[String]| {
            let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            format!("[{}]", words.join(" "))
        };
        return Err(format!(
            "token audiences {} is invalid for the target audiences {}",
            list(&said),
            list(wanted)
        ));
    }
    Ok((said, both))
}

/// A stored object of the core group.
pub fn stored(
    store: &dyn Store,
    resource: &str,
    namespace: Option<&str>,
    name: &str,
) -> Option<Value> {
    let entry = store.get(&envelope::key("", resource, namespace, name))?;
    envelope::decode(&entry).ok()
}

/// The user a token stands for.
pub fn user_of(store: &dyn Store, now: Timestamp, claims: &Value) -> Result<User, String> {
    check_times(now, claims)?;
    let private = &claims["kubernetes.io"];
    let namespace = object::text(private, &["namespace"]);
    let account = Reference::of(private, "serviceaccount").unwrap_or_default();
    let found = stored(store, "serviceaccounts", Some(namespace), account.name)
        .ok_or_else(|| format!("serviceaccounts {:?} not found", account.name))?;
    if object::uid(&found) != account.uid {
        return Err(format!(
            "service account UID ({}) does not match claim ({})",
            object::uid(&found),
            account.uid
        ));
    }
    if is_gone(&found, now) {
        return Err(format!(
            "service account {namespace}/{} has been deleted",
            account.name
        ));
    }
    let check = |what: &str, resource: &str, namespace, reference: &Reference<'_>| {
        let gone = || "service account token has been invalidated".to_owned();
        let found = stored(store, resource, namespace, reference.name).ok_or_else(gone)?;
        if object::uid(&found) != reference.uid {
            return Err(format!(
                "{what} UID ({}) does not match service account {what} ref claim ({})",
                object::uid(&found),
                reference.uid
            ));
        }
        if is_gone(&found, now) {
            return Err(gone());
        }
        Ok(())
    };
    let mut user = account_user(namespace, account.name, account.uid);
    if let Some(secret) = Reference::of(private, "secret") {
        check("secret", "secrets", Some(namespace), &secret)?;
    }
    let pod = Reference::of(private, "pod");
    if let Some(pod) = &pod {
        check("pod", "pods", Some(namespace), pod)?;
        pod.tell(&mut user, "pod");
    }
    if let Some(node) = Reference::of(private, "node") {
        // What a Pod's token says of its node is for information only.
        if pod.is_none() {
            check("node", "nodes", None, &node)?;
        }
        node.tell(&mut user, "node");
    }
    if let Some(id) = claims["jti"].as_str().filter(|id| !id.is_empty()) {
        let values = vec![format!("JTI={id}")];
        user.extra.insert(format!("{EXTRA}credential-id"), values);
    }
    Ok(user)
}

fn check_times(now: Timestamp, claims: &Value) -> Result<(), String> {
    let at = |name: &str| claims[name].as_i64();
    let now = now.as_second();
    let refuse = |why: &str| Err(format!("service account token {why}"));
    if at("nbf").is_some_and(|time| now + LEEWAY_SECONDS < time) {
        return refuse("is not valid yet");
    }
    if at("exp").is_some_and(|time| now - LEEWAY_SECONDS > time) {
        return refuse("has expired");
    }
    if at("iat").is_some_and(|time| now + LEEWAY_SECONDS < time) {
        return refuse("is issued in the future");
    }
    Ok(())
}

fn is_gone(object: &Value, now: Timestamp) -> bool {
    let deleted: Option<Timestamp> = object::text(object, &["metadata", "deletionTimestamp"])
        .parse()
        .ok();
    deleted.is_some_and(|deleted| deleted.as_second() < now.as_second() - LEEWAY_SECONDS)
}

#[derive(Default)]
struct Reference<'a> {
    name: &'a str,
    uid: &'a str,
}

impl<'a> Reference<'a> {
    fn of(claims: &'a Value, kind: &str) -> Option<Self> {
        let claim = claims.get(kind)?;
        Some(Self {
            name: object::text(claim, &["name"]),
            uid: object::text(claim, &["uid"]),
        })
    }

    fn tell(&self, user: &mut User, kind: &str) {
        for (part, value) in [("name", self.name), ("uid", self.uid)] {
            if !value.is_empty() {
                let key = format!("{EXTRA}{kind}-{part}");
                user.extra.insert(key, vec![value.to_owned()]);
            }
        }
    }
}

/// What a token may be bound to.
#[derive(Debug, Default, Clone)]
pub struct Bound {
    /// A Pod, and the Node it runs on.
    pub pod: Option<Value>,
    /// A Secret.
    pub secret: Option<Value>,
    /// A Node.
    pub node: Option<Value>,
}

/// The claims of a new token.
pub struct NewToken<'a> {
    /// Who issues it.
    pub issuer: &'a str,
    /// The account.
    pub account: &'a Value,
    /// What it is bound to.
    pub bound: &'a Bound,
    /// Whom it is for.
    pub audiences: &'a [String],
    /// When.
    pub now: Timestamp,
    /// How long it lasts.
    pub expiration_seconds: i64,
    /// After which time its use is worth a warning.
    pub warn_after_seconds: Option<i64>,
    /// Its own name.
    pub id: &'a str,
}

impl NewToken<'_> {
    /// As the token says them.
    pub fn claims(&self) -> Value {
        let reference =
            |object: &Value| json!({"name": object::name(object), "uid": object::uid(object)});
        let namespace = object::namespace(self.account);
        let mut private = json!({
            "namespace": namespace,
            "serviceaccount": reference(self.account),
        });
        for (kind, object) in [
            ("pod", &self.bound.pod),
            ("secret", &self.bound.secret),
            ("node", &self.bound.node),
        ] {
            if let Some(object) = object {
                let mut claim = reference(object);
                if object::uid(object).is_empty() {
                    claim = json!({"name": object::name(object)});
                }
                private[kind] = claim;
            }
        }
        let now = self.now.as_second();
        if let Some(seconds) = self.warn_after_seconds {
            private["warnafter"] = json!(now + seconds);
        }
        json!({
            "aud": self.audiences,
            "exp": now + self.expiration_seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": self.id,
            "kubernetes.io": private,
            "nbf": now,
            "sub": format!("system:serviceaccount:{namespace}:{}", object::name(self.account)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use store::{Change, Expect, Write};

    async fn put(store: &dyn Store, resource: &str, object: &Value) {
        let namespace = object::namespace(object);
        let namespace = (!namespace.is_empty()).then_some(namespace);
        let key = envelope::key("", resource, namespace, object::name(object));
        let expect = match store.get(&key) {
            Some(entry) => Expect::Revision(entry.revision()),
            None => Expect::Absent,
        };
        let change = Change::Put(envelope::encode(object).expect("an object"));
        store
            .commit(Write {
                key: Arc::clone(&key),
                expect,
                change,
            })
            .await
            .expect("stored");
    }

    fn meta(name: &str, uid: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "a", "uid": uid}})
    }

    #[tokio::test]
    async fn a_token_holds_as_long_as_what_it_is_bound_to() {
        let store = store::memory();
        put(&store, "serviceaccounts", &meta("robot", "1")).await;
        put(&store, "pods", &meta("p", "2")).await;
        let now = Timestamp::from_second(1_000_000).expect("a time");
        let bound = Bound {
            pod: Some(meta("p", "2")),
            node: Some(json!({"metadata": {"name": "n", "uid": "3"}})),
            ..Bound::default()
        };
        let account = meta("robot", "1");
        let new = NewToken {
            issuer: "i",
            account: &account,
            bound: &bound,
            audiences: &["x".to_owned()],
            now,
            expiration_seconds: 600,
            warn_after_seconds: None,
            id: "j",
        };
        let claims = new.claims();
        let ask = |store: &dyn Store, seconds: i64| {
            let time = Timestamp::from_second(1_000_000 + seconds).expect("a time");
            user_of(store, time, &claims)
        };
        let user = ask(&store, 0).expect("all is there");
        assert_eq!(user.name, "system:serviceaccount:a:robot");
        let extra: Vec<String> = user
            .extra
            .iter()
            .map(|(key, values)| format!("{}={}", &key[EXTRA.len()..], values.join(",")))
            .collect();
        assert_eq!(
            extra.join(" "),
            "credential-id=JTI=j node-name=n node-uid=3 pod-name=p pod-uid=2"
        );
        let error = |outcome: Result<User, String>| outcome.expect_err("refused");
        assert!(ask(&store, 655).is_ok());
        assert_eq!(error(ask(&store, 661)), "service account token has expired");
        assert_eq!(
            error(ask(&store, -61)),
            "service account token is not valid yet"
        );
        put(&store, "pods", &meta("p", "9")).await;
        assert_eq!(
            error(ask(&store, 0)),
            "pod UID (9) does not match service account pod ref claim (2)"
        );
        put(&store, "serviceaccounts", &meta("robot", "8")).await;
        assert_eq!(
            error(ask(&store, 0)),
            "service account UID (8) does not match claim (1)"
        );
    }

    #[test]
    fn audiences_must_meet() {
        let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let own = list(&["k"]);
        let check = |aud: Value, wanted: &[&str]| {
            audiences(&json!({"aud": aud}), &list(wanted), &own).map(|(_, both)| both.join(" "))
        };
        assert_eq!(check(json!(["a", "b"]), &["b", "c"]), Ok("b".to_owned()));
        assert_eq!(check(json!("a"), &["a"]), Ok("a".to_owned()));
        assert_eq!(check(json!(null), &["k"]), Ok("k".to_owned()));
        assert_eq!(
            check(json!(["a"]), &["x", "y"]),
            Err(
                "token audiences [\"a\"] is invalid for the target audiences [\"x\" \"y\"]"
                    .to_owned()
            )
        );
    }
}
