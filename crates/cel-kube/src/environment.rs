//! The environments Kubernetes and kro evaluate expressions in.

use std::sync::LazyLock;

use cel::{Env, EnvBuilder, Library, find_library};

use crate::{kro, kubernetes};

/// Adds libraries of the crate `cel`, which exist.
fn with(builder: EnvBuilder, names: &[&str]) -> EnvBuilder {
    names
        .iter()
        .filter_map(|name| find_library(name))
        .fold(builder, EnvBuilder::library)
}

fn build(builder: EnvBuilder, libraries: Vec<Library>) -> Env {
    let builder = libraries.into_iter().fold(builder, EnvBuilder::library);
    builder
        .build()
        .expect("the overloads of these libraries do not collide, which a test checks")
}

/// What rules of custom resources and admission policies may use, apart from the authorizer.
///
/// ```
/// let env = cel_kube::kubernetes_env();
/// let program = env.compile("quantity('1Gi').isGreaterThan(quantity('500Mi')) && [1, 2].sum() == 3")?;
/// assert_eq!(program.eval(&cel::Activation::new())?, cel::Value::Bool(true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn kubernetes_env() -> Env {
    static ENV: LazyLock<Env> = LazyLock::new(|| {
        let names = [
            "strings",
            "lists",
            "sets",
            "optionals",
            "two-variable-comprehensions",
            "network",
        ];
        build(
            with(Env::standard().extend(), &names),
            kubernetes::libraries(),
        )
    });
    ENV.clone()
}

/// What expressions of resource graphs may use.
///
/// ```
/// let env = cel_kube::kro_env();
/// let program = env.compile("{'a': 1}.merge({'b': 2}).size() == 2 && json.marshal([1]) == '[1]'")?;
/// assert_eq!(program.eval(&cel::Activation::new())?, cel::Value::Bool(true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn kro_env() -> Env {
    static ENV: LazyLock<Env> = LazyLock::new(|| {
        let names = [
            "strings",
            "lists",
            "encoders",
            "bindings",
            "optionals",
            "two-variable-comprehensions",
            "network",
        ];
        let builder = with(Env::standard().extend(), &names);
        build(
            builder,
            kubernetes::common_libraries()
                .into_iter()
                .chain(kro::libraries())
                .collect(),
        )
    });
    ENV.clone()
}
