//! What a control plane keeps in its data directory besides the store: certificates, the
//! administrator's token, the kubeconfig.

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pki::{Access, Authority, Identity};

/// A directory only its owner may read.
pub struct DataDir(PathBuf);

impl DataDir {
    /// Opens or makes the directory.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("making the data directory {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file of it, if there is one.
    pub fn read(&self, name: &str) -> anyhow::Result<Option<String>> {
        let path = self.0.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Writes a file of it.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        write_private(&self.0.join(name), text)
    }
}

/// Writes a file only its owner may read, whole or not at all.
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("file");
    let next = path.with_file_name(format!(".{name}.new"));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&next)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&next, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Who the control plane and its administrator are.
pub struct Credentials {
    /// The authority of the cluster.
    pub authority: Identity,
    /// The API server's certificate.
    pub serving: Identity,
    /// The administrator's certificate.
    pub admin: Identity,
    /// The administrator's token.
    pub token: String,
    /// The authority of front proxies.
    pub proxies: Identity,
}

impl Credentials {
    /// The credentials in a data directory; what is missing is made. Certificates for serving and for
    /// the administrator are signed anew at each start.
    pub fn load_or_make(data: &DataDir, address: IpAddr) -> anyhow::Result<Self> {
        let authority = authority(data, "ca", "corvus-ca")?;
        let proxies = authority_of_proxies(data)?;
        let token = match data.read("admin.token")? {
            Some(token) if !token.trim().is_empty() => token.trim().to_owned(),
            _ => {
                let token = pki::new_token();
                data.write("admin.token", &token)?;
                token
            }
        };
        let mut names: Vec<String> = [
            "localhost",
            "127.0.0.1",
            "::1",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
        .map(str::to_owned)
        .to_vec();
        if address.is_unspecified() {
            names.extend(outward_addresses().map(|address| address.to_string()));
        } else if !address.is_loopback() {
            names.push(address.to_string());
        }
        Ok(Self {
            serving: authority.server("kube-apiserver", &names)?,
            admin: authority.client("admin", &[apiserver::identity::MASTERS])?,
            authority: authority.identity().clone(),
            token,
            proxies,
        })
    }

    /// Writes the administrator's kubeconfig.
    pub fn write_kubeconfig(&self, path: &Path, url: &str) -> anyhow::Result<()> {
        // A server that listens everywhere is reached here.
        let url = url.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]");
        let value = pki::kubeconfig(&Access {
            name: "corvus",
            server: &url,
            authority: &self.authority.certificate,
            client: &self.admin,
            token: Some(&self.token),
        });
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            fs::create_dir_all(folder)
                .with_context(|| format!("making the folder {}", folder.display()))?;
        }
        write_private(path, &format!("{value:#}\n"))
    }
}

/// An authority whose certificate and key are kept in files of a name; made where it is missing.
fn authority(data: &DataDir, file: &str, name: &str) -> anyhow::Result<Authority> {
    let (certificate_file, key_file) = (format!("{file}.crt"), format!("{file}.key"));
    if let (Some(certificate), Some(key)) = (data.read(&certificate_file)?, data.read(&key_file)?) {
        let loaded = Authority::load(Identity { certificate, key });
        return loaded
            .with_context(|| format!("the authority {file}.crt in {}", data.path().display()));
    }
    let authority = Authority::new(name)?;
    data.write(&key_file, &authority.identity().key)?;
    data.write(&certificate_file, &authority.identity().certificate)?;
    Ok(authority)
}

/// The authority of front proxies. The certificate of one is written beside it, signed anew at each start.
fn authority_of_proxies(data: &DataDir) -> anyhow::Result<Identity> {
    let authority = authority(data, "front-proxy-ca", "corvus-front-proxy-ca")?;
    let client = authority.client("front-proxy-client", &[])?;
    data.write("front-proxy-client.key", &client.key)?;
    data.write("front-proxy-client.crt", &client.certificate)?;
    Ok(authority.identity().clone())
}

/// The addresses this machine would speak to others from: what they reach a server by that listens
/// on all of them. Connecting a datagram socket asks the routing table and sends nothing.
fn outward_addresses() -> impl Iterator<Item = IpAddr> {
    [
        (IpAddr::from(Ipv4Addr::UNSPECIFIED), "192.0.2.1:9"),
        (IpAddr::from(Ipv6Addr::UNSPECIFIED), "[2001:db8::1]:9"),
    ]
    .into_iter()
    .filter_map(|(any, elsewhere)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(elsewhere).ok()?;
        Some(socket.local_addr().ok()?.ip())
    })
    .filter(|address| !address.is_unspecified())
}
