//! Checks of the volumes of a Pod, and of the sources persistent volumes share with them.

mod iscsi_name;

use std::collections::HashSet;

use model::{FieldError, FieldPath, names};
use serde_json::Value;

use super::fields;
use crate::at::{At, Errors};
use crate::check;
use crate::core::persistent_volume_claim;
use crate::resources::quantity;

/// More than one source in one volume.
pub const ONE_TYPE: &str = "may not specify more than 1 volume type";
const LUN_RANGE: &str = "must be between 0 and 255, inclusive";
const PARTITION_RANGE: &str = "must be between 1 and 255, inclusive";

type Check = fn(&At<'_>, &mut Errors);

/// The sources a volume may have, in the order they are looked at; the second name is the one errors
/// inside the source have, where it differs.
const SOURCES: &[(&str, &str, Check)] = &[
    ("emptyDir", "emptyDir", empty_dir),
    ("hostPath", "hostPath", host_path),
    ("gitRepo", "gitRepo", git_repo),
    ("gcePersistentDisk", "persistentDisk", gce_disk),
    ("awsElasticBlockStore", "awsElasticBlockStore", aws_disk),
    ("secret", "secret", secret),
    ("nfs", "nfs", nfs),
    ("iscsi", "iscsi", iscsi),
    ("glusterfs", "glusterfs", glusterfs),
    ("flocker", "flocker", flocker),
    ("persistentVolumeClaim", "persistentVolumeClaim", claim),
    ("rbd", "rbd", rbd),
    ("cinder", "cinder", cinder),
    ("cephfs", "cephfs", cephfs),
    ("quobyte", "quobyte", quobyte),
    ("downwardAPI", "downwardAPI", downward_api),
    ("fc", "fc", fc),
    ("flexVolume", "flexVolume", flex),
    ("configMap", "configMap", config_map),
    ("azureFile", "azureFile", azure_file),
    ("vsphereVolume", "vsphereVolume", vsphere),
    ("photonPersistentDisk", "photonPersistentDisk", photon),
    ("portworxVolume", "portworxVolume", portworx),
    ("azureDisk", "azureDisk", azure_disk),
    ("storageos", "storageos", storage_os),
    ("projected", "projected", projected),
    ("scaleIO", "scaleIO", scale_io),
    ("csi", "csi", csi),
    ("ephemeral", "ephemeral", ephemeral),
    ("image", "image", image),
];

/// Checks the volumes of a Pod spec; gives the names of those that are fine.
pub fn check<'a>(volumes: &At<'a>, pod: Option<&Value>, errors: &mut Errors) -> Volumes<'a> {
    let pod_name = pod.map(model::object::name).filter(|name| !name.is_empty());
    let created: HashSet<String> = pod_name
        .map(|pod| {
            let ephemeral = volumes
                .list()
                .iter()
                .filter(|v| v.get("ephemeral").is_some());
            ephemeral
                .map(|v| format!("{pod}-{}", model::object::text(v, &["name"])))
                .collect()
        })
        .unwrap_or_default();
    let mut fine: Volumes<'_> = Vec::new();
    for volume in volumes.items() {
        let mut own = Vec::new();
        source(&volume, pod.is_some(), pod_name, &mut own);
        let name = volume.get("name");
        if check::required(&name, &mut own) {
            check::dns_label(&name, &mut own);
        }
        if fine.iter().any(|(other, _)| *other == name.text()) {
            own.push(FieldError::duplicate(name.path(), name.text()));
        }
        if own.is_empty() {
            fine.push((name.text(), volume.value()));
        }
        errors.append(&mut own);
        let claim = volume.at("persistentVolumeClaim.claimName");
        if created.contains(claim.text()) {
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            errors.push(claim.invalid(why));
        }
    }
    fine
}

/// The volumes of a Pod by name.
pub type Volumes<'a> = Vec<(&'a str, &'a Value)>;

fn source(volume: &At<'_>, is_pod: bool, pod_name: Option<&str>, errors: &mut Errors) {
    let mut found = false;
    for (field, inner, check) in SOURCES {
        let source = volume.get(field);
        if !source.is_set() {
            continue;
        }
        if found {
            let shown = match *field {
                "downwardAPI" => "downwarAPI",
                "cephfs" => "cephFS",
                other => other,
            };
            errors.push(FieldError::forbidden(&volume.path().child(shown), ONE_TYPE));
            continue;
        }
        found = true;
        if *field == "image" && is_pod && source.get("reference").is_empty() {
            errors.push(source.get("reference").required(""));
        }
        check(&source.said_at(volume.path().child(inner)), errors);
        match *field {
            "ephemeral" => claim_name(volume, pod_name, errors),
            "iscsi" => initiator_length(volume, errors),
            _ => {}
        }
    }
    if !found {
        errors.push(volume.required("must specify a volume type"));
    }
}

/// The claim an ephemeral volume makes is named after the Pod and the volume.
fn claim_name(volume: &At<'_>, pod_name: Option<&str>, errors: &mut Errors) {
    let name = volume.get("name");
    let Some(pod) = pod_name.filter(|_| !name.is_empty()) else {
        return;
    };
    let claim = format!("{pod}-{}", name.text());
    for message in names::dns1123_subdomain(&claim) {
        errors.push(name.invalid(format!("PVC name {claim:?}: {message}")));
    }
}

fn initiator_length(volume: &At<'_>, errors: &mut Errors) {
    let iscsi = volume.get("iscsi");
    let length = volume.get("name").text().len() + 1 + iscsi.get("targetPortal").text().len();
    if iscsi.get("initiatorName").is_set() && length > 64 {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        errors.push(volume.get("name").invalid(why));
    }
}

fn required_fields(at: &At<'_>, fields: &[&str], errors: &mut Errors) {
    for field in fields {
        if at.get(field).is_empty() {
            errors.push(at.get(field).required(""));
        }
    }
}

fn empty_dir(at: &At<'_>, errors: &mut Errors) {
    let limit = at.get("sizeLimit");
    if quantity(limit.value()).is_some_and(|limit| limit.sign() < 0) {
        errors.push(limit.forbidden("SizeLimit field must be a valid resource quantity"));
    }
}

/// A path on the node.
pub fn host_path(at: &At<'_>, errors: &mut Errors) {
    let path = at.get("path");
    if !check::required(&path, errors) {
        return;
    }
    check::no_backsteps(&path, errors);
    const TYPES: &[&str] = &[
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    check::optional_one_of(&at.get("type"), TYPES, errors);
}

fn git_repo(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["repository"], errors);
    check::descending_path(&at.get("directory"), errors);
}

/// A disk of Google's.
pub fn gce_disk(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["pdName"], errors);
    partition(at, errors);
}

/// A disk of Amazon's.
pub fn aws_disk(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["volumeID"], errors);
    partition(at, errors);
}

fn partition(at: &At<'_>, errors: &mut Errors) {
    let partition = at.get("partition");
    if !(0..=255).contains(&partition.count()) {
        errors.push(partition.invalid(PARTITION_RANGE));
    }
}

fn key_to_path(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["key", "path"], errors);
    check::local_path(&at.get("path"), errors);
    check::file_mode(&at.get("mode"), errors);
}

fn secret(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["secretName"], errors);
    check::file_mode(&at.get("defaultMode"), errors);
    at.get("items")
        .items()
        .for_each(|item| key_to_path(&item, errors));
}

fn config_map(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["name"], errors);
    check::file_mode(&at.get("defaultMode"), errors);
    at.get("items")
        .items()
        .for_each(|item| key_to_path(&item, errors));
}

/// A network file system.
pub fn nfs(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["server", "path"], errors);
    if !at.get("path").text().starts_with('/') {
        errors.push(at.get("path").invalid_text("must be an absolute path"));
    }
}

fn iscsi(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["targetPortal"], errors);
    iscsi_name::check(&at.get("iqn"), errors);
    lun(&at.get("lun"), errors);
    let authenticates =
        at.get("chapAuthDiscovery").is_true() || at.get("chapAuthSession").is_true();
    if authenticates && !at.get("secretRef").is_set() {
        errors.push(at.get("secretRef").required(""));
    }
    if at.get("initiatorName").is_set() {
        let said = at.path().child("initiatorname");
        iscsi_name::check(&at.get("initiatorName").said_at(said), errors);
    }
}

/// iSCSI of a persistent volume differs in its secret alone.
pub fn iscsi_of_volume(at: &At<'_>, errors: &mut Errors) {
    iscsi(at, errors);
    if at.get("secretRef").is_set() {
        required_fields(&at.get("secretRef"), &["name"], errors);
    }
}

fn lun(at: &At<'_>, errors: &mut Errors) {
    if !(0..=255).contains(&at.count()) {
        errors.push(at.invalid(LUN_RANGE));
    }
}

/// Gluster.
pub fn glusterfs(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["endpoints", "path"], errors);
}

/// Flocker.
pub fn flocker(at: &At<'_>, errors: &mut Errors) {
    let (name, uuid) = (at.get("datasetName"), at.get("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.push(at.required("one of datasetName and datasetUUID is required"));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let why = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(FieldError::invalid(at.path(), "resource", why));
    }
    if name.text().contains('/') {
        errors.push(name.invalid("must not contain '/'"));
    }
}

fn claim(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["claimName"], errors);
}

/// A block device of Ceph's.
pub fn rbd(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["monitors", "image"], errors);
}

fn cinder(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["volumeID"], errors);
    if at.get("secretRef").is_set() {
        required_fields(&at.get("secretRef"), &["name"], errors);
    }
}

/// A volume of Cinder's whose secret lies in a namespace of its own.
pub fn cinder_of_volume(at: &At<'_>, errors: &mut Errors) {
    cinder(at, errors);
    if at.get("secretRef").is_set() {
        required_fields(&at.get("secretRef"), &["namespace"], errors);
    }
}

/// A file system of Ceph's.
pub fn cephfs(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["monitors"], errors);
}

/// Quobyte.
pub fn quobyte(at: &At<'_>, errors: &mut Errors) {
    let registry = at.get("registry");
    let why = "must be a host:port pair or multiple pairs separated by commas";
    if registry.is_empty() {
        errors.push(registry.required(why));
    } else if at.get("tenant").text().len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(at.get("tenant").required(why));
    } else {
        for pair in registry.text().split(',') {
            if pair
                .rsplit_once(':')
                .is_none_or(|(host, _)| host.contains(':') && !host.ends_with(']'))
            {
                errors.push(registry.invalid(why));
            }
        }
    }
    required_fields(at, &["volume"], errors);
}

fn downward_api(at: &At<'_>, errors: &mut Errors) {
    check::file_mode(&at.get("defaultMode"), errors);
    // As upstream: errors of an item name the volume's source, not the item.
    for item in at.get("items").items() {
        downward_file(&item.said_at(at.path().clone()), errors);
    }
}

fn downward_file(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["path"], errors);
    check::local_path(&at.get("path"), errors);
    let (field, resource) = (at.get("fieldRef"), at.get("resourceFieldRef"));
    if field.is_set() {
        fields::check_field_ref(&field, fields::OF_VOLUMES, errors);
        if resource.is_set() {
            let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.push(FieldError::invalid(at.path(), "resource", why));
        }
    } else if resource.is_set() {
        fields::check_resource_ref(&resource, true, errors);
    } else {
        errors.push(at.required("one of fieldRef and resourceFieldRef is required"));
    }
    check::file_mode(&at.get("mode"), errors);
}

/// Fibre channel.
pub fn fc(at: &At<'_>, errors: &mut Errors) {
    let (targets, ids) = (at.get("targetWWNs"), at.get("wwids"));
    if targets.is_empty() && ids.is_empty() {
        errors.push(targets.required("must specify either targetWWNs or wwids, but not both"));
    }
    if !targets.is_empty() && !ids.is_empty() {
        errors.push(targets.invalid("targetWWNs and wwids can not be specified simultaneously"));
    }
    if !targets.is_empty() {
        if at.get("lun").is_set() {
            lun(&at.get("lun"), errors);
        } else {
            errors.push(
                at.get("lun")
                    .required("lun is required if targetWWNs is specified"),
            );
        }
    }
}

/// Drivers from a time before CSI.
pub fn flex(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["driver"], errors);
    for (key, option) in at.get("options").entries() {
        let namespace = format!(".{}", key.split('/').next().unwrap_or(key).to_lowercase());
        if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(FieldError::invalid(option.path(), key, why));
        }
    }
}

fn azure_file(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["secretName", "shareName"], errors);
}

/// A share of Azure's whose secret lies in a namespace of its own.
pub fn azure_file_of_volume(at: &At<'_>, errors: &mut Errors) {
    azure_file(at, errors);
    let namespace = at.get("secretNamespace");
    if namespace.is_set() && namespace.is_empty() {
        errors.push(namespace.required(""));
    }
}

/// A disk of Azure's.
pub fn azure_disk(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["diskName", "diskURI"], errors);
    let (kind, uri) = (at.get("kind"), at.get("diskURI"));
    check::optional_one_of(
        &at.get("cachingMode"),
        &["None", "ReadOnly", "ReadWrite"],
        errors,
    );
    check::optional_one_of(&kind, &["Dedicated", "Managed", "Shared"], errors);
    let managed = kind.text() == "Managed";
    if managed && !uri.text().starts_with("/subscriptions/") {
        errors.push(uri.not_supported(&["/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"]));
    }
    if kind.is_set() && !managed && !uri.text().starts_with("https://") {
        errors.push(uri.not_supported(&[
            "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd",
        ]));
    }
}

/// A disk of `VMware`'s.
pub fn vsphere(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["volumePath"], errors);
}

/// A disk of Photon's.
pub fn photon(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["pdID"], errors);
}

/// A volume of Portworx'.
pub fn portworx(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["volumeID"], errors);
}

fn storage_os(at: &At<'_>, errors: &mut Errors) {
    if check::required(&at.get("volumeName"), errors) {
        check::dns_label(&at.get("volumeName"), errors);
    }
    if !at.get("volumeNamespace").is_empty() {
        check::dns_label(&at.get("volumeNamespace"), errors);
    }
    if at.get("secretRef").is_set() {
        required_fields(&at.get("secretRef"), &["name"], errors);
    }
}

/// A volume of `StorageOS` whose secret lies in a namespace of its own.
pub fn storage_os_of_volume(at: &At<'_>, errors: &mut Errors) {
    storage_os(at, errors);
    if at.get("secretRef").is_set() {
        required_fields(&at.get("secretRef"), &["namespace"], errors);
    }
}

/// A volume of `ScaleIO`'s.
pub fn scale_io(at: &At<'_>, errors: &mut Errors) {
    required_fields(at, &["gateway", "system", "volumeName"], errors);
}

/// The name of a CSI driver.
pub fn driver_name(at: &At<'_>, errors: &mut Errors) {
    if at.is_empty() {
        errors.push(at.required(""));
    }
    if at.text().len() > 63 {
        errors.push(at.too_long(63));
    }
    for message in names::dns1123_subdomain(&at.text().to_lowercase()) {
        errors.push(at.invalid_text(message));
    }
}

fn csi(at: &At<'_>, errors: &mut Errors) {
    driver_name(&at.get("driver"), errors);
    let secret = at.get("nodePublishSecretRef");
    if secret.is_set() {
        let name = secret.get("name");
        if check::required(&name, errors) {
            for message in names::dns1123_subdomain(name.text()) {
                errors.push(FieldError::invalid(
                    &at.path().child("name"),
                    name.text(),
                    message,
                ));
            }
        }
    }
}

fn ephemeral(at: &At<'_>, errors: &mut Errors) {
    let template = at.get("volumeClaimTemplate");
    if template.is_set() {
        persistent_volume_claim::check_template(&template, errors);
    } else {
        errors.push(template.required(""));
    }
}

fn image(at: &At<'_>, errors: &mut Errors) {
    check::required_one_of(
        &at.get("pullPolicy"),
        &["Always", "IfNotPresent", "Never"],
        errors,
    );
}

fn projected(at: &At<'_>, errors: &mut Errors) {
    check::file_mode(&at.get("defaultMode"), errors);
    let mut paths = HashSet::new();
    for source in at.get("sources").items() {
        let mut count = 0;
        for kind in ["secret", "configMap"] {
            let keys = source.get(kind);
            if keys.is_set() {
                count += 1;
                let name = keys.get("name");
                required_fields(&keys, &["name"], errors);
                for item in keys.get("items").items() {
                    key_to_path(&item, errors);
                    claim_path(
                        item.get("path").text(),
                        name.text(),
                        &mut paths,
                        at.path(),
                        errors,
                    );
                }
            }
        }
        let downward = source.get("downwardAPI");
        if downward.is_set() {
            count += 1;
            for item in downward.get("items").items() {
                downward_file(&item.said_at(downward.path().clone()), errors);
                let path = item.get("path").text();
                claim_path(path, path, &mut paths, at.path(), errors);
            }
        }
        let token = source.get("serviceAccountToken");
        if token.is_set() {
            count += 1;
            token_source(&token, at.path(), errors);
        }
        let bundle = source.get("clusterTrustBundle");
        if bundle.is_set() {
            count += 1;
            trust_bundle(&bundle, errors);
            let path = bundle.get("path").text();
            if !paths.insert(path.to_owned()) {
                errors.push(FieldError::invalid(
                    at.path(),
                    path,
                    "conflicting duplicate paths",
                ));
            }
        }
        count += usize::from(source.get("podCertificate").is_set());
        if count > 1 {
            errors.push(source.forbidden("may not specify more than 1 volume type per source"));
        }
    }
}

/// Notes a path of a projected file; nobody else may have it.
fn claim_path(
    path: &str,
    shown: &str,
    paths: &mut HashSet<String>,
    volume: &FieldPath,
    errors: &mut Errors,
) {
    if !path.is_empty() && !paths.insert(path.to_owned()) {
        errors.push(FieldError::invalid(
            volume,
            shown,
            "conflicting duplicate paths",
        ));
    }
}

fn token_source(at: &At<'_>, volume: &FieldPath, errors: &mut Errors) {
    let seconds = at.get("expirationSeconds");
    if seconds.count() < 600 {
        errors.push(seconds.invalid_count("may not specify a duration less than 10 minutes"));
    }
    if seconds.count() > 1 << 32 {
        errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
    }
    // As upstream: the path is said to be the volume's.
    let path = at.get("path").said_at(volume.child("path"));
    if check::required(&path, errors) {
        check::local_path(&path, errors);
    }
}

fn trust_bundle(at: &At<'_>, errors: &mut Errors) {
    let (name, signer) = (at.get("name"), at.get("signerName"));
    match (name.is_set(), signer.is_set()) {
        (true, true) => errors.push(at.invalid("only one of name and signerName may be used")),
        (true, false) => {
            if name.is_empty() {
                errors.push(name.required("must be a valid object name"));
            }
            for message in names::dns1123_subdomain(name.text().rsplit(':').next().unwrap_or("")) {
                errors.push(name.invalid(format!("not a valid clustertrustbundlename: {message}")));
            }
            if at.get("labelSelector").is_set() {
                let why = "labelSelector must be unset if name is specified";
                errors.push(at.get("labelSelector").invalid(why));
            }
        }
        (false, true) => {
            if signer.is_empty() {
                errors.push(signer.required("must be a valid signer name"));
            }
            check::label_selector(&at.get("labelSelector"), errors);
        }
        (false, false) => errors.push(at.required("either name or signerName must be specified")),
    }
    required_fields(at, &["path"], errors);
    check::local_path(&at.get("path"), errors);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn errors_of(volumes: Value) -> Vec<String> {
        let object = json!({"volumes": volumes});
        let mut errors = Vec::new();
        check(&At::root(&object).get("volumes"), None, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn volumes_have_one_source_each() {
        assert_eq!(
            errors_of(json!([{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}])),
            ["volumes[0].secret: Forbidden: may not specify more than 1 volume type"]
        );
        assert_eq!(
            errors_of(
                json!([{"name": "v", "hostPath": {"path": "/a/../b"}}, {"name": "V", "nfs": {"server": "s", "path": "p"}}])
            )[0],
            "volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"
        );
    }
}
