//! The files as one layer, and the documents around it: the OCI image specification's layout in a tar file.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context as _, bail};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::contents::{File, PROGRAM};

/// Nobody in particular, and not root: `runAsNonRoot` holds without more.
const USER: &str = "65532:65532";
/// Where the program starts: what it makes there, as the data of `corvus up`, is its own business.
const FOLDER: &str = "/var/lib/corvus";
/// Whoever the program runs as may write here.
const SHARED_FOLDERS: [&str; 2] = [FOLDER, "/tmp"];
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image in memory, ready to be written.
pub struct Image {
    name: String,
    layer: Blob,
    config: Blob,
    manifest: Blob,
    index: Vec<u8>,
}

/// What was written.
pub struct Summary {
    /// The digest of the manifest, by which registries know an image.
    pub digest: String,
    /// The size of the layer as it is stored, in bytes.
    pub compressed_bytes: usize,
}

/// Bytes that are known by their digest.
struct Blob {
    media_type: &'static str,
    bytes: Vec<u8>,
    hex: String,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        let hex = hex(&bytes);
        Self {
            media_type,
            bytes,
            hex,
        }
    }

    fn document(media_type: &'static str, document: &Value) -> Self {
        Self::new(media_type, document.to_string().into_bytes())
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.hex)
    }

    fn descriptor(&self) -> Value {
        let digest = format!("sha256:{}", self.hex);
        json!({"mediaType": self.media_type, "digest": digest, "size": self.bytes.len()})
    }
}

impl Image {
    /// An image named `name` (`repository:tag`) of these files, whose program starts as `corvus run`, so that it takes
    /// the place of an image that is started with arguments only.
    ///
    /// # Errors
    ///
    /// A name that is none, or an architecture that images have no word for.
    pub fn new(name: &str, files: &[File]) -> anyhow::Result<Self> {
        check_name(name)?;
        let tar = layer(files).context("packing the layer")?;
        let config = json!({
            "architecture": architecture()?,
            "os": "linux",
            "config": {
                "User": USER,
                "Entrypoint": [PROGRAM, "run"],
                "Env": ["PATH=/"],
                "WorkingDir": FOLDER,
                "Labels": {
                    "org.opencontainers.image.title": "corvus",
                    "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                    "org.opencontainers.image.licenses": "Apache-2.0",
                },
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&tar))]},
            "history": [{"created_by": "corvus image"}],
        });
        let config = Blob::document(CONFIG, &config);
        let layer = Blob::new(LAYER, compress(&tar).context("packing the layer")?);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        });
        let manifest = Blob::document(MANIFEST, &manifest);
        let mut entry = manifest.descriptor();
        let tag = name.rsplit_once(':').map_or("", |(_, tag)| tag);
        // The first is the specification's, the second what containerd names an image by.
        entry["annotations"] = json!({
            "org.opencontainers.image.ref.name": tag,
            "io.containerd.image.name": name,
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        Ok(Self {
            name: name.to_owned(),
            layer,
            config,
            manifest,
            index: index.to_string().into_bytes(),
        })
    }

    /// Writes the archive.
    ///
    /// # Errors
    ///
    /// What `to` answers.
    pub fn write(&self, to: impl Write) -> io::Result<Summary> {
        let mut archive = tar::Builder::new(to);
        let layout = json!({"imageLayoutVersion": "1.0.0"}).to_string();
        put(
            &mut archive,
            Path::new("oci-layout"),
            layout.as_bytes(),
            0o644,
        )?;
        put(&mut archive, Path::new("index.json"), &self.index, 0o644)?;
        // What `docker load` reads.
        let docker = json!([{"Config": self.config.path(), "RepoTags": [self.name], "Layers": [self.layer.path()]}]);
        put(
            &mut archive,
            Path::new("manifest.json"),
            docker.to_string().as_bytes(),
            0o644,
        )?;
        for blob in [&self.config, &self.manifest, &self.layer] {
            put(&mut archive, Path::new(&blob.path()), &blob.bytes, 0o644)?;
        }
        archive.into_inner()?.flush()?;
        Ok(Summary {
            digest: format!("sha256:{}", self.manifest.hex),
            compressed_bytes: self.layer.bytes.len(),
        })
    }
}

/// A name has a tag, and nothing in it that a registry would not take.
fn check_name(name: &str) -> anyhow::Result<()> {
    let right = "as in corvus:1 or registry.example/team/corvus:1.2";
    let Some((repository, tag)) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))
    else {
        bail!("the name {name:?} has no tag; name it {right}");
    };
    let is_part = |part: &str, more: &str| {
        let first = part
            .chars()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric() || (c == '_' && more.contains('_')));
        first
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let is_repository = repository.split('/').all(|part| is_part(part, "._-:"))
        && !repository.chars().any(|c| c.is_ascii_uppercase());
    if !is_repository || !is_part(tag, "._-") || tag.len() > 128 {
        bail!("{name:?} is no name of an image; name it {right}");
    }
    Ok(())
}

/// Go's word for the architecture this program is built for.
fn architecture() -> anyhow::Result<&'static str> {
    Ok(match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "riscv64" => "riscv64",
        "s390x" => "s390x",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => bail!("there is no word for the architecture {other} in images"),
    })
}

fn layer(files: &[File]) -> io::Result<Vec<u8>> {
    let shared = SHARED_FOLDERS.map(Path::new);
    let places = files.iter().map(|file| &*file.path).chain(shared);
    let above = places.flat_map(|path| path.ancestors().skip(1));
    let mut folders: BTreeMap<&Path, u32> = above.map(|path| (path, 0o755)).collect();
    folders.extend(shared.map(|path| (path, 0o1777)));
    folders.remove(Path::new("/"));
    let mut archive = tar::Builder::new(Vec::new());
    for (folder, mode) in folders {
        put_folder(&mut archive, folder, mode)?;
    }
    for file in files {
        let mode = if file.executable { 0o755 } else { 0o644 };
        put(&mut archive, relative(&file.path), &file.bytes, mode)?;
    }
    archive.into_inner()
}

/// No time and no name of a file goes in: the same bytes come out.
fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn put(
    archive: &mut tar::Builder<impl Write>,
    path: &Path,
    bytes: &[u8],
    mode: u32,
) -> io::Result<()> {
    let mut header = header(tar::EntryType::Regular, mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)
}

fn put_folder(archive: &mut tar::Builder<impl Write>, path: &Path, mode: u32) -> io::Result<()> {
    let mut header = header(tar::EntryType::Directory, mode);
    header.set_size(0);
    archive.append_data(&mut header, relative(path), io::empty())
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::PathBuf;

    use super::*;

    fn files() -> Vec<File> {
        let file = |path: &str, text: &str, executable| File {
            path: PathBuf::from(path),
            bytes: text.as_bytes().to_vec(),
            executable,
        };
        vec![
            file("/corvus", "the program", true),
            file("/lib/x/libc.so.6", "a library", true),
            file("/etc/ssl/certs/ca-certificates.crt", "roots", false),
        ]
    }

    fn unpack(bytes: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (path, (entry.header().mode().unwrap(), bytes))
        });
        entries.collect()
    }

    fn archive() -> Vec<u8> {
        let mut bytes = Vec::new();
        let image = Image::new("example/corvus:1", &files()).unwrap();
        image.write(&mut bytes).unwrap();
        bytes
    }

    /// Follows a descriptor and checks what it says of its blob.
    fn follow(archive: &BTreeMap<String, (u32, Vec<u8>)>, descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"].as_str().unwrap();
        let hex_of_it = digest.strip_prefix("sha256:").unwrap();
        let (_, bytes) = &archive[&format!("blobs/sha256/{hex_of_it}")];
        assert_eq!(hex(bytes), hex_of_it);
        assert_eq!(descriptor["size"], bytes.len());
        bytes.clone()
    }

    #[test]
    fn every_descriptor_leads_to_what_it_says() {
        let archive = unpack(&archive());
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = parse(&archive["index.json"].1);
        let entry = &index["manifests"][0];
        assert_eq!(
            entry["annotations"]["io.containerd.image.name"],
            "example/corvus:1"
        );
        let manifest = parse(&follow(&archive, entry));
        let config = parse(&follow(&archive, &manifest["config"]));
        let packed = follow(&archive, &manifest["layers"][0]);
        let mut tar = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&*packed);
        decoder.read_to_end(&mut tar).unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            format!("sha256:{}", hex(&tar))
        );
        assert_eq!(config["config"]["Entrypoint"], json!(["/corvus", "run"]));
        let docker = parse(&archive["manifest.json"].1);
        for path in [&docker[0]["Config"], &docker[0]["Layers"][0]] {
            assert!(archive.contains_key(path.as_str().unwrap()), "{path}");
        }

        let layer = unpack(&tar);
        assert_eq!(layer["corvus"], (0o755, b"the program".to_vec()));
        assert_eq!(layer["etc/ssl/certs/ca-certificates.crt"].0, 0o644);
        assert_eq!(
            (layer["var/lib"].0, layer["var/lib/corvus"].0),
            (0o755, 0o1777)
        );
        assert_eq!(layer["tmp"].0, 0o1777);
        assert!(layer.contains_key("lib/x"), "{:?}", layer.keys());
    }

    #[test]
    fn the_same_files_give_the_same_archive() {
        assert_eq!(archive(), archive());
    }

    #[test]
    fn names_have_a_tag_and_nothing_odd() {
        for good in ["corvus:1", "a.example:5000/team/corvus:v1.2_3"] {
            assert!(Image::new(good, &[]).is_ok(), "{good}");
        }
        for bad in [
            "corvus",
            "a.example:5000/corvus",
            "Corvus:1",
            "corvus:",
            ":1",
            "a//b:1",
            "a b:1",
            "corvus:-1",
        ] {
            let error = Image::new(bad, &[]).err().map(|error| error.to_string());
            assert!(error.is_some_and(|text| text.contains(bad)), "{bad}");
        }
    }
}
