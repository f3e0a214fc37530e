//! Hashes that name things: of specs, and of overlong names.

use serde_json::{Value, json};

/// FNV-1a with 64 bits.
pub fn fnv1a_64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// FNV-1a with 32 bits.
pub fn fnv1a_32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

/// The hash of a ResourceGraphDefinition's spec; equal for specs that mean the same.
pub fn spec_hash(spec: &Value) -> String {
    // Maps are sorted by key, so the text is canonical.
    format!("{:016x}", fnv1a_64(normalize(spec).to_string().as_bytes()))
}

fn normalize(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if !spec.is_object() {
        return spec;
    }
    let schema = &mut spec["schema"];
    if schema.is_object() {
        fill(schema, "group", &json!(crate::keys::GROUP));
        fill(schema, "scope", &json!("Namespaced"));
        for list in ["additionalPrinterColumns", "shortNames", "categories"] {
            fill(schema, list, &json!([]));
        }
    }
    fill(&mut spec, "resources", &json!([]));
    if let Some(resources) = spec["resources"].as_array_mut() {
        for resource in resources.iter_mut().filter(|resource| resource.is_object()) {
            for list in ["includeWhen", "readyWhen", "forEach"] {
                fill(resource, list, &json!([]));
            }
            for list in ["includeWhen", "readyWhen"] {
                if let Some(list) = resource[list].as_array_mut() {
                    list.sort_by_key(ToString::to_string);
                }
            }
        }
        resources.sort_by_key(|resource| resource["id"].as_str().map(str::to_owned));
    }
    spec
}

fn fill(object: &mut Value, key: &str, default: &Value) {
    if object
        .get(key)
        .is_none_or(|value| value.is_null() || *value == "")
    {
        object[key] = default.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        assert_eq!(fnv1a_64(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a_32(b"a"), 0xe40c_292c);
    }

    #[test]
    fn what_means_the_same_hashes_the_same() {
        let full = json!({
            "schema": {"kind": "A", "apiVersion": "v1", "group": "kro.run", "scope": "Namespaced"},
            "resources": [{"id": "a", "readyWhen": ["x", "y"], "includeWhen": []}, {"id": "b"}],
        });
        let short = json!({
            "schema": {"apiVersion": "v1", "kind": "A", "shortNames": null},
            "resources": [{"id": "b", "forEach": null}, {"readyWhen": ["y", "x"], "id": "a"}],
        });
        assert_eq!(spec_hash(&full), spec_hash(&short));
        let other =
            json!({"schema": {"apiVersion": "v1", "kind": "A"}, "resources": [{"id": "b"}]});
        assert_ne!(spec_hash(&full), spec_hash(&other));
        assert_eq!(spec_hash(&Value::Null).len(), 16);
    }
}
