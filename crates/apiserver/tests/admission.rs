//! Built-in admission plugins and admission policies, as a client meets them.

mod common;

use common::{CONFIG_MAPS, Requests, config_map};
use serde_json::{Value, json};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn rules() -> Value {
    json!({"resourceRules": [{
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"],
    }]})
}

async fn policy(requests: &Requests, kind: &str, mut spec: Value, binding: Value) {
    spec["matchConstraints"] = rules();
    let plural = if kind.starts_with('V') {
        "validatingadmissionpolicies"
    } else {
        "mutatingadmissionpolicies"
    };
    let object = |kind: String, spec: Value| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": "p"}, "spec": spec,
        })
    };
    requests
        .create(&format!("{GROUP}/{plural}"), object(kind.to_owned(), spec))
        .await;
    let mut bound = json!({"policyName": "p"});
    if let (Some(bound), Value::Object(more)) = (bound.as_object_mut(), binding) {
        bound.extend(more);
    }
    let bindings = plural.replace("policies", "policybindings");
    requests
        .create(
            &format!("{GROUP}/{bindings}"),
            object(format!("{kind}Binding"), bound),
        )
        .await;
}

#[tokio::test]
async fn parameters_are_what_the_binding_names() {
    let requests = Requests::start().await;
    policy(
        &requests,
        "ValidatingAdmissionPolicy",
        json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConditions": [{"name": "others", "expression": "object.metadata.name != 'limits'"}],
            "validations": [{
                "expression": "size(object.data) <= int(params.data.max)",
                "messageExpression": "'at most ' + params.data.max + ' entries'",
            }],
        }),
        json!({
            "validationActions": ["Deny"],
            "paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"},
        }),
    )
    .await;
    let (code, message) = requests.refused(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(
        (code, message.as_str()),
        (
            422,
            "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
        )
    );
    // The parameter itself is no exception: nothing can be made before there is one.
    requests
        .send(
            "DELETE",
            &format!("{GROUP}/validatingadmissionpolicybindings/p"),
            &Value::Null,
        )
        .await;
    let limits = json!({"metadata": {"name": "limits"}, "data": {"max": "1"}});
    requests.create(CONFIG_MAPS, limits).await;
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "p"}, "spec": {"policyName": "p", "validationActions": ["Deny"],
            "paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}},
    });
    requests
        .create(
            &format!("{GROUP}/validatingadmissionpolicybindings"),
            binding,
        )
        .await;
    requests.create(CONFIG_MAPS, config_map("a")).await;
    let big = json!({"metadata": {"name": "b"}, "data": {"x": "1", "y": "2"}});
    let (_, message) = requests.refused(CONFIG_MAPS, big).await;
    assert!(
        message.ends_with("denied request: at most 1 entries"),
        "{message}"
    );
}

#[tokio::test]
async fn policies_ask_the_authorizer() {
    let requests = Requests::start().await;
    policy(
        &requests,
        "ValidatingAdmissionPolicy",
        json!({"validations": [
            {"expression": "authorizer.requestResource.check('create').allowed()"},
            {
                "expression": "authorizer.serviceAccount('default', 'x').group('').resource('secrets').check('get').allowed()",
                "message": "x may not read secrets", "reason": "Forbidden",
            },
        ]}),
        json!({"validationActions": ["Deny"]}),
    )
    .await;
    let (code, message) = requests.refused(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(code, 403);
    assert!(message.ends_with("x may not read secrets"), "{message}");
}

#[tokio::test]
async fn errors_count_as_the_failure_policy_says() {
    for (policy_name, refused) in [("Fail", true), ("Ignore", false)] {
        let requests = Requests::start().await;
        policy(
            &requests,
            "ValidatingAdmissionPolicy",
            json!({
                "failurePolicy": policy_name,
                "validations": [{"expression": "object.data.none == 'x'"}],
            }),
            json!({"validationActions": ["Deny"]}),
        )
        .await;
        let (code, answer) = requests.send("POST", CONFIG_MAPS, &config_map("a")).await;
        assert_eq!(code >= 400, refused, "{answer}");
        if refused {
            let message = answer["message"].as_str().unwrap_or_default();
            let expect =
                "expression 'object.data.none == 'x'' resulted in error: no such key: none";
            assert!(message.ends_with(expect), "{message}");
        }
    }
}

#[tokio::test]
async fn policies_change_objects_one_after_the_other() {
    let requests = Requests::start().await;
    policy(
        &requests,
        "MutatingAdmissionPolicy",
        json!({
            "reinvocationPolicy": "IfNeeded",
            "variables": [{"name": "who", "expression": "object.metadata.name"}],
            "mutations": [
                {"patchType": "ApplyConfiguration", "applyConfiguration": {
                    "expression": "Object{data: {'first': variables.who}}"}},
                {"patchType": "JSONPatch", "jsonPatch": {
                    "expression": "[JSONPatch{op: 'add', path: '/data/second', value: object.data.first + '!'}]"}},
            ],
        }),
        json!({}),
    )
    .await;
    let made = requests.create(CONFIG_MAPS, config_map("a")).await;
    assert_eq!(
        made["data"],
        json!({"k": "v", "first": "a", "second": "a!"})
    );
    // Dry runs see the same, and store nothing.
    let dry = format!("{CONFIG_MAPS}?dryRun=All");
    let tried = requests.create(&dry, config_map("b")).await;
    assert_eq!(tried["data"]["second"], "b!");
}

#[tokio::test]
async fn generated_names_are_unknown_to_admission() {
    let requests = Requests::start().await;
    policy(
        &requests,
        "MutatingAdmissionPolicy",
        json!({
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {
                "expression": "Object{data: {'named': string(has(object.metadata.name))}}"}}],
        }),
        json!({}),
    )
    .await;
    let map = json!({"metadata": {"generateName": "a-"}, "data": {"k": "v"}});
    let made = requests.create(CONFIG_MAPS, map).await;
    assert_eq!(made["data"]["named"], "false");
    assert!(
        made["metadata"]["name"]
            .as_str()
            .is_some_and(|name| name.len() > 2)
    );
}

#[tokio::test]
async fn quotas_are_charged_once_however_many_write() {
    let requests = Requests::start().await;
    let path = "/api/v1/namespaces/default/resourcequotas";
    let hard = json!({"count/configmaps": "3"});
    let quota = requests
        .create(
            path,
            json!({"metadata": {"name": "q"}, "spec": {"hard": hard}}),
        )
        .await;
    let mut counted = quota;
    counted["status"] = json!({"hard": hard, "used": {"count/configmaps": "0"}});
    let (code, answer) = requests
        .send("PUT", &format!("{path}/q/status"), &counted)
        .await;
    assert_eq!(code, 200, "{answer}");
    let writes = (0..8).map(|index| {
        let requests = &requests;
        async move {
            let map = config_map(&format!("m{index}"));
            requests.send("POST", CONFIG_MAPS, &map).await.0
        }
    });
    let codes = futures::future::join_all(writes).await;
    assert_eq!(
        codes.iter().filter(|code| **code < 300).count(),
        3,
        "{codes:?}"
    );
    let (_, quota) = requests
        .send("GET", &format!("{path}/q"), &Value::Null)
        .await;
    assert_eq!(quota["status"]["used"]["count/configmaps"], "3");
}

#[tokio::test]
async fn namespaces_are_looked_at_first() {
    let requests = Requests::start().await;
    let (code, message) = requests
        .refused("/api/v1/namespaces/nowhere/configmaps", config_map("a"))
        .await;
    assert_eq!(
        (code, message.as_str()),
        (404, "namespaces \"nowhere\" not found")
    );
    let (code, answer) = requests
        .send("DELETE", "/api/v1/namespaces/default", &Value::Null)
        .await;
    assert_eq!(code, 403);
    assert_eq!(
        answer["message"],
        "namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
}

#[tokio::test]
async fn pods_get_what_their_runtime_class_says() {
    let requests = Requests::start().await;
    let account = json!({"metadata": {"name": "default"}});
    requests
        .create("/api/v1/namespaces/default/serviceaccounts", account)
        .await;
    let class = json!({
        "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "vm"},
        "handler": "vm", "overhead": {"podFixed": {"memory": "64Mi"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}},
    });
    requests
        .create("/apis/node.k8s.io/v1/runtimeclasses", class)
        .await;
    let pod = |class: &str| {
        json!({"metadata": {"name": "p"}, "spec": {
            "runtimeClassName": class, "containers": [{"name": "c", "image": "i"}]}})
    };
    let (code, message) = requests.refused(PODS, pod("none")).await;
    assert_eq!(
        (code, message.as_str()),
        (
            403,
            "pods \"p\" is forbidden: pod rejected: RuntimeClass \"none\" not found"
        )
    );
    let made = requests.create(PODS, pod("vm")).await;
    assert_eq!(made["spec"]["overhead"], json!({"memory": "64Mi"}));
    assert_eq!(made["spec"]["nodeSelector"], json!({"vm": "yes"}));
}
