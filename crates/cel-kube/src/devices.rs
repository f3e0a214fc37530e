//! Selectors of devices: `device.attributes['gpu.example.com'].memory > 8`.

use std::sync::LazyLock;

use cel::{Env, ObjectType, Type};

use crate::kubernetes_env;

/// Checks an expression that selects devices. Fails with the reason in upstream's words.
///
/// ```
/// cel_kube::check_device_selector("device.driver == 'gpu.example.com'")?;
/// let error = cel_kube::check_device_selector("device.driver").unwrap_err();
/// assert_eq!(error, "must evaluate to bool or the unknown type, not string");
/// # Ok::<(), String>(())
/// ```
pub fn check_device_selector(source: &str) -> Result<(), String> {
    static ENV: LazyLock<Env> = LazyLock::new(|| {
        let by_domain = |value: Type| Type::map(Type::String, Type::map(Type::String, value));
        let device = ObjectType::new("kubernetes.DRADevice")
            .field("allowMultipleAllocations", Type::Bool)
            .field("attributes", by_domain(Type::Any))
            .field("capacity", by_domain(Type::opaque("kubernetes.Quantity")))
            .field("driver", Type::String);
        let mut env = kubernetes_env().extend();
        if let Some(bindings) = cel::find_library("bindings") {
            env = env.library(bindings);
        }
        env.variable("device", Type::object(device))
            .build()
            .expect("the declarations do not collide, which a test checks")
    });
    let program = ENV
        .compile(source)
        .map_err(|error| format!("compilation failed: {}", error.without_hints()))?;
    let found = program.result_type();
    if matches!(found, Type::Bool | Type::Any) {
        return Ok(());
    }
    Err(format!(
        "must evaluate to bool or the unknown type, not {found}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_about_devices() {
        for fine in [
            "device.attributes['gpu.example.com'].isolated",
            "cel.bind(gpu, device.attributes['gpu.example.com'], gpu.memory == 8 && gpu.fast == true)",
            "device.capacity['gpu.example.com'].memory.isGreaterThan(quantity('1Gi'))",
        ] {
            assert_eq!(check_device_selector(fine), Ok(()), "{fine}");
        }
        assert!(check_device_selector("device.none == 1").is_err());
    }
}
