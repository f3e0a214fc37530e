//! The variables of admission expressions and their types.

use std::sync::{Arc, LazyLock};

use cel::{Env, ObjectType, Type};

use crate::{
    ApplyConfigurationTypes, authorizer_library, authorizer_type, json_patch_library,
    kubernetes_env, resource_check_type,
};

/// The name of the type of `variables`.
pub const VARIABLES: &str = "kubernetes.variables";

/// What expressions may refer to besides `object`, `oldObject`, `request` and `namespaceObject`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declarations {
    /// `params`.
    pub params: bool,
    /// `authorizer` and `authorizer.requestResource`.
    pub authorizer: bool,
    /// `Object{}` and `JSONPatch{}`.
    pub patch_types: bool,
}

impl Declarations {
    fn index(self) -> usize {
        usize::from(self.params)
            + 2 * usize::from(self.authorizer)
            + 4 * usize::from(self.patch_types)
    }
}

/// The environment for these declarations; there are so few that all are kept.
pub fn of(declarations: Declarations) -> Env {
    static ENVS: LazyLock<Vec<Env>> = LazyLock::new(|| {
        (0..8_usize)
            .map(|bits| {
                build(Declarations {
                    params: bits & 1 != 0,
                    authorizer: bits & 2 != 0,
                    patch_types: bits & 4 != 0,
                })
            })
            .collect()
    });
    ENVS[declarations.index()].clone()
}

fn build(declarations: Declarations) -> Env {
    let mut env = kubernetes_env()
        .extend()
        .library(authorizer_library())
        .variable("object", Type::Dyn)
        .variable("oldObject", Type::Dyn)
        .variable("namespaceObject", namespace_type().clone())
        .variable("request", request_type().clone());
    if declarations.params {
        env = env.variable("params", Type::Dyn);
    }
    if declarations.authorizer {
        env = env
            .variable("authorizer", authorizer_type())
            .variable("authorizer.requestResource", resource_check_type());
    }
    if declarations.patch_types {
        env = env
            .library(json_patch_library())
            .type_provider(Arc::new(ApplyConfigurationTypes));
    }
    env.build()
        .expect("the names of these declarations do not collide, which a test checks")
}

fn object(name: &str, fields: &[(&str, Type)]) -> Type {
    let object = fields
        .iter()
        .fold(ObjectType::new(name), |object, (name, ty)| {
            object.field(*name, ty.clone())
        });
    Type::object(object)
}

fn texts() -> Type {
    Type::list(Type::String)
}

fn text_map() -> Type {
    Type::map(Type::String, Type::String)
}

/// The type of `request`: an AdmissionRequest without its objects.
pub fn request_type() -> &'static Type {
    static TYPE: LazyLock<Type> = LazyLock::new(|| {
        let names = |name: &str, last: &str| {
            object(
                name,
                &[
                    ("group", Type::String),
                    ("version", Type::String),
                    (last, Type::String),
                ],
            )
        };
        let kind = names("kubernetes.GroupVersionKind", "kind");
        let resource = names("kubernetes.GroupVersionResource", "resource");
        let user = object(
            "kubernetes.UserInfo",
            &[
                ("username", Type::String),
                ("uid", Type::String),
                ("groups", texts()),
                ("extra", Type::map(Type::String, texts())),
            ],
        );
        object(
            "kubernetes.AdmissionRequest",
            &[
                ("kind", kind.clone()),
                ("resource", resource.clone()),
                ("subResource", Type::String),
                ("requestKind", kind),
                ("requestResource", resource),
                ("requestSubResource", Type::String),
                ("name", Type::String),
                ("namespace", Type::String),
                ("operation", Type::String),
                ("userInfo", user),
                ("dryRun", Type::Bool),
                ("options", Type::Dyn),
            ],
        )
    });
    &TYPE
}

/// The type of `namespaceObject`: a Namespace without what is of no use to policies.
pub fn namespace_type() -> &'static Type {
    static TYPE: LazyLock<Type> = LazyLock::new(|| {
        let condition = object(
            "kubernetes.NamespaceCondition",
            &[
                ("status", Type::String),
                ("type", Type::String),
                ("lastTransitionTime", Type::Timestamp),
                ("message", Type::String),
                ("reason", Type::String),
            ],
        );
        let metadata = object(
            "kubernetes.NamespaceMetadata",
            &[
                ("name", Type::String),
                ("generateName", Type::String),
                ("namespace", Type::String),
                ("labels", text_map()),
                ("annotations", text_map()),
                ("UID", Type::String),
                ("creationTimestamp", Type::Timestamp),
                ("deletionGracePeriodSeconds", Type::Int),
                ("deletionTimestamp", Type::Timestamp),
                ("generation", Type::Int),
                ("resourceVersion", Type::String),
                ("finalizers", texts()),
            ],
        );
        let status = [
            ("conditions", Type::list(condition)),
            ("phase", Type::String),
        ];
        object(
            "kubernetes.Namespace",
            &[
                ("metadata", metadata),
                (
                    "spec",
                    object("kubernetes.NamespaceSpec", &[("finalizers", texts())]),
                ),
                ("status", object("kubernetes.NamespaceStatus", &status)),
            ],
        )
    });
    &TYPE
}
