//! Who may come in and what they may do, through the whole server in process.

use std::sync::Arc;
use std::time::Duration;

use apiserver::identity::User;
use apiserver::{ApiServer, Body, FlowLimits};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use testkit::{Cluster, TOKEN};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A request with headers, answered with code and body.
async fn ask(
    server: &ApiServer,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> (u16, Value) {
    let response = send(server, method, path, headers, body).await;
    let code = response.status().as_u16();
    let bytes = match response.into_body().collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(never) => match never {},
    };
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn send(
    server: &ApiServer,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let request = request
        .body(Full::new(Bytes::from(text)))
        .expect("well formed");
    server.handle(request, None).await
}

fn admin() -> (&'static str, String) {
    ("authorization", format!("Bearer {TOKEN}"))
}

/// As the administrator, or in the name of another.
async fn as_user(
    server: &ApiServer,
    user: &str,
    method: &str,
    path: &str,
    body: &Value,
) -> (u16, Value) {
    let (name, token) = admin();
    let mut headers = vec![(name, token.as_str())];
    if !user.is_empty() {
        headers.push(("impersonate-user", user));
    }
    if method == "PATCH" {
        headers.push(("content-type", "application/merge-patch+json"));
    }
    ask(server, method, path, &headers, body).await
}

fn message(answer: &(u16, Value)) -> &str {
    answer.1["message"].as_str().unwrap_or_default()
}

fn role(name: &str, rules: &Value) -> Value {
    json!({"metadata": {"name": name}, "rules": rules})
}

fn bind(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    })
}

#[tokio::test]
async fn roles_come_with_the_cluster_and_say_who_may_what() {
    let cluster = Cluster::start().await;
    let server = cluster.server();
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let maps = "/api/v1/namespaces/default/configmaps";
    let refused = as_user(server, "jane", "GET", maps, &Value::Null).await;
    assert_eq!(refused.0, 403);
    let bound = bind("v", "ClusterRole", "view", "jane");
    assert_eq!(as_user(server, "", "POST", &bindings, &bound).await.0, 201);
    assert_eq!(
        as_user(server, "jane", "GET", maps, &Value::Null).await.0,
        200
    );
    let secrets = "/api/v1/namespaces/default/secrets";
    assert_eq!(
        as_user(server, "jane", "GET", secrets, &Value::Null)
            .await
            .0,
        403
    );
    let binding = format!("{bindings}/v");
    assert_eq!(
        as_user(server, "", "DELETE", &binding, &Value::Null)
            .await
            .0,
        200
    );
    assert_eq!(
        as_user(server, "jane", "GET", maps, &Value::Null).await.0,
        403
    );
    // Strangers see that the server is there, and no more.
    let nobody = |path: &'static str| ask(server, "GET", path, &[], &Value::Null);
    for (path, code) in [
        ("/healthz", 200),
        ("/version", 200),
        ("/.well-known/openid-configuration", 200),
        ("/api", 403),
        ("/metrics", 403),
    ] {
        assert_eq!(nobody(path).await.0, code, "{path}");
    }
}

#[tokio::test]
async fn nobody_grants_more_than_they_have() {
    let cluster = Cluster::start().await;
    let server = cluster.server();
    let rules = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["create", "update", "patch", "get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    ]);
    let roles = format!("{RBAC}/clusterroles");
    let bindings = format!("{RBAC}/clusterrolebindings");
    as_user(server, "", "POST", &roles, &role("editor", &rules)).await;
    as_user(
        server,
        "",
        "POST",
        &bindings,
        &bind("e", "ClusterRole", "editor", "jane"),
    )
    .await;

    let pods = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let more = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "delete"]}]);
    let made = as_user(server, "jane", "POST", &roles, &role("same", &pods)).await;
    assert_eq!(made.0, 201, "{}", message(&made));
    let why = "clusterroles.rbac.authorization.k8s.io \"more\" is forbidden: user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}";
    let refused = as_user(server, "jane", "POST", &roles, &role("more", &more)).await;
    assert_eq!((refused.0, message(&refused)), (403, why));
    let patch = json!({"rules": more});
    let path = format!("{roles}/same");
    assert_eq!(as_user(server, "jane", "PATCH", &path, &patch).await.0, 403);
    let admin = bind("a", "ClusterRole", "cluster-admin", "jane");
    assert_eq!(
        as_user(server, "jane", "POST", &bindings, &admin).await.0,
        403
    );
    let none = bind("n", "ClusterRole", "none", "jane");
    assert_eq!(
        as_user(server, "jane", "POST", &bindings, &none).await.0,
        404
    );

    // Unless they may escalate, or bind just this role.
    let rules = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["escalate"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["bind"], "resourceNames": ["view"]},
    ]);
    as_user(server, "", "POST", &roles, &role("escalator", &rules)).await;
    let bound = bind("x", "ClusterRole", "escalator", "jane");
    as_user(server, "", "POST", &bindings, &bound).await;
    assert_eq!(
        as_user(server, "jane", "POST", &roles, &role("more", &more))
            .await
            .0,
        201
    );
    let view = bind("view", "ClusterRole", "view", "joe");
    assert_eq!(
        as_user(server, "jane", "POST", &bindings, &view).await.0,
        201
    );
    assert_eq!(
        as_user(server, "jane", "POST", &bindings, &admin).await.0,
        403
    );
}

#[tokio::test]
async fn a_token_is_good_as_long_as_what_it_is_bound_to() {
    let cluster = Cluster::start().await;
    let server = cluster.server();
    let here = "/api/v1/namespaces/default";
    let account = json!({"metadata": {"name": "robot"}});
    as_user(
        server,
        "",
        "POST",
        &format!("{here}/serviceaccounts"),
        &account,
    )
    .await;
    let secret = json!({"metadata": {"name": "s"}});
    as_user(server, "", "POST", &format!("{here}/secrets"), &secret).await;
    let path = format!("{here}/serviceaccounts/robot/token");
    let wanted =
        json!({"spec": {"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "s"}}});
    let (code, answer) = as_user(server, "", "POST", &path, &wanted).await;
    assert_eq!(code, 201, "{answer}");
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    let token = answer["status"]["token"]
        .as_str()
        .expect("a token")
        .to_owned();

    let review = json!({"spec": {"token": token}});
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let (_, answer) = as_user(server, "", "POST", reviews, &review).await;
    let user = &answer["status"]["user"];
    assert_eq!(user["username"], "system:serviceaccount:default:robot");
    let id = &user["extra"]["authentication.kubernetes.io/credential-id"][0];
    assert!(
        id.as_str().is_some_and(|id| id.starts_with("JTI=")),
        "{answer}"
    );

    let bearer = format!("Bearer {token}");
    let maps = format!("{here}/configmaps");
    let own = [("authorization", bearer.as_str())];
    assert_eq!(
        ask(server, "GET", &maps, &own, &Value::Null).await.0,
        403,
        "known, without rights"
    );
    as_user(
        server,
        "",
        "DELETE",
        &format!("{here}/secrets/s"),
        &Value::Null,
    )
    .await;
    assert_eq!(
        ask(server, "GET", &maps, &own, &Value::Null).await.0,
        401,
        "no more"
    );
    let short = json!({"spec": {"expirationSeconds": 5}});
    assert_eq!(as_user(server, "", "POST", &path, &short).await.0, 422);
}

#[tokio::test]
async fn a_secret_for_a_token_is_filled_in_and_goes_with_its_account() {
    let cluster = Cluster::start().await;
    let server = cluster.server();
    let here = "/api/v1/namespaces/default";
    let account = json!({"metadata": {"name": "robot"}});
    as_user(
        server,
        "",
        "POST",
        &format!("{here}/serviceaccounts"),
        &account,
    )
    .await;
    let secret = json!({
        "metadata": {"name": "t", "annotations": {"kubernetes.io/service-account.name": "robot"}},
        "type": "kubernetes.io/service-account-token",
    });
    let made = as_user(server, "", "POST", &format!("{here}/secrets"), &secret).await;
    assert_eq!(made.0, 201, "{}", message(&made));
    let path = format!("{here}/secrets/t");
    let token = testkit::eventually("the Secret has a token", || async {
        let (_, secret) = as_user(server, "", "GET", &path, &Value::Null).await;
        secret["data"]["token"].as_str().map(str::to_owned)
    })
    .await;
    let token = String::from_utf8(decode(&token)).expect("text");
    let bearer = format!("Bearer {token}");
    let own = [("authorization", bearer.as_str())];
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (code, answer) = ask(server, "POST", who, &own, &json!({})).await;
    assert_eq!(code, 201, "{answer}");
    let name = &answer["status"]["userInfo"]["username"];
    assert_eq!(name, "system:serviceaccount:default:robot");
    // Others can tell that it is in use, and since when that is told.
    let day = testkit::eventually("its use is noted", || async {
        let (_, secret) = as_user(server, "", "GET", &path, &Value::Null).await;
        let day = &secret["metadata"]["labels"]["kubernetes.io/legacy-token-last-used"];
        day.as_str().map(str::to_owned)
    })
    .await;
    let tracking = "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";
    let (_, tracking) = as_user(server, "", "GET", tracking, &Value::Null).await;
    let since = tracking["data"]["since"].as_str().expect("a day");
    assert!(since <= day.as_str() && day.len() == 10, "{since} {day}");
    as_user(
        server,
        "",
        "DELETE",
        &format!("{here}/serviceaccounts/robot"),
        &Value::Null,
    )
    .await;
    testkit::eventually("the Secret is gone", || async {
        (as_user(server, "", "GET", &path, &Value::Null).await.0 == 404).then_some(())
    })
    .await;
    assert_eq!(ask(server, "POST", who, &own, &json!({})).await.0, 401);
}

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .expect("base64")
}

#[tokio::test]
async fn a_node_sees_and_changes_what_concerns_it() {
    let cluster = Cluster::start().await;
    let server = cluster.server();
    let node = Arc::new(User::new("system:node:n", &["system:nodes"]));
    let as_node = |method: &'static str, path: String, body: Value| {
        let (server, node) = (server.clone(), node.clone());
        async move {
            let text = if body.is_null() {
                String::new()
            } else {
                body.to_string()
            };
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(Full::new(Bytes::from(text)))
                .expect("well formed");
            let response = server.handle(request, Some(node)).await;
            let code = response.status().as_u16();
            let bytes = match response.into_body().collect().await {
                Ok(collected) => collected.to_bytes(),
                Err(never) => match never {},
            };
            (
                code,
                serde_json::from_slice::<Value>(&bytes).unwrap_or_default(),
            )
        }
    };
    let nodes = "/api/v1/nodes".to_owned();
    let own = json!({"metadata": {"name": "n"}});
    assert_eq!(as_node("POST", nodes.clone(), own).await.0, 201);
    let other = as_node("POST", nodes.clone(), json!({"metadata": {"name": "m"}})).await;
    assert_eq!(
        message(&other),
        "nodes \"m\" is forbidden: node \"n\" is not allowed to modify node \"m\""
    );
    assert_eq!(
        as_node("GET", format!("{nodes}/n"), Value::Null).await.0,
        200
    );
    assert_eq!(as_node("GET", nodes, Value::Null).await.0, 403);

    let here = "/api/v1/namespaces/default";
    let secret = json!({"metadata": {"name": "s"}});
    as_user(server, "", "POST", &format!("{here}/secrets"), &secret).await;
    let path = format!("{here}/secrets/s");
    assert_eq!(as_node("GET", path.clone(), Value::Null).await.0, 403);
    as_user(
        server,
        "",
        "POST",
        &format!("{here}/serviceaccounts"),
        &json!({"metadata": {"name": "default"}}),
    )
    .await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "nodeName": "n",
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
    }});
    let made = as_user(server, "", "POST", &format!("{here}/pods"), &pod).await;
    assert_eq!(made.0, 201, "{}", message(&made));
    assert_eq!(
        as_node("GET", path, Value::Null).await.0,
        200,
        "a Pod here uses it"
    );
}

#[tokio::test]
async fn a_flood_gets_429_and_leaves_administrators_alone() {
    let cluster = Cluster::with(apiserver::Options {
        flow: FlowLimits {
            concurrency: 1,
            wait: Duration::from_millis(1),
        },
        ..testkit::options()
    })
    .await;
    let server = cluster.server();
    let (name, token) = admin();
    let headers = [(name, token.as_str())];
    let response = send(server, "GET", "/api/v1/nodes", &headers, &Value::Null).await;
    assert_eq!(response.status(), 200);
    let level = response.headers().get("x-kubernetes-pf-prioritylevel-uid");
    assert!(level.is_some_and(|uid| !uid.is_empty()));
    assert!(response.headers().contains_key("audit-id"));
    // Everybody else shares what little there is; nothing hangs, and all get an answer.
    let one = send(server, "GET", "/version", &[], &Value::Null).await;
    assert_eq!(one.status(), 200, "one at a time goes");
}
