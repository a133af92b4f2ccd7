//! Authorities and certificates, made when a test needs them.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use steading::tls::TlsFiles;

/// Somebody who vouches for others.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// Whether a certificate is good at the time of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Good for many years.
    Good,
    /// Over for many years.
    Expired,
    /// Good until this year begins.
    Until(i32),
}

/// The files that a process is given.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
}

impl Authority {
    /// Makes one of its own.
    ///
    /// # Panics
    ///
    /// If there is no randomness.
    pub fn new() -> Self {
        Self::until(3000)
    }

    /// The same, good until this year begins.
    ///
    /// # Panics
    ///
    /// If there is no randomness.
    pub fn until(year: i32) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.not_after = date_time_ymd(year, 1, 1);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        // A name of its own, as real ones have; made of what is random already.
        let name = format!("authority {:02x?}", &key.public_key_raw()[1..9]);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).expect("its own").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// Writes a certificate for `127.0.0.1` and its key into a folder, with this authority as the one
    /// to trust. Each file is replaced as a whole.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn issue(&self, folder: &Path, validity: Validity) -> Files {
        self.issue_trusting(folder, validity, &[self])
    }

    /// The same, with these authorities to trust.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn issue_trusting(&self, folder: &Path, validity: Validity, trusted: &[&Self]) -> Files {
        let mut params = params(&NODE);
        match validity {
            Validity::Good => {}
            Validity::Expired => {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            }
            Validity::Until(year) => params.not_after = date_time_ymd(year, 1, 1),
        }
        self.write(folder, &params, trusted)
    }

    /// Writes a good certificate that is for clients only.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn issue_client(&self, folder: &Path) -> Files {
        self.write(folder, &params(&CLIENT), &[self])
    }

    fn write(&self, folder: &Path, params: &CertificateParams, trusted: &[&Self]) -> Files {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        std::fs::create_dir_all(folder).expect("a folder");
        let bundle: String = trusted
            .iter()
            .map(|authority| authority.pem.as_str())
            .collect();
        write(folder, "ca.crt", &bundle);
        write(folder, "tls.crt", &certificate.pem());
        write(folder, "tls.key", &key.serialize_pem());
        Files::at(folder)
    }
}

/// What the certificate of a client is for.
const CLIENT: [ExtendedKeyUsagePurpose; 1] = [ExtendedKeyUsagePurpose::ClientAuth];

/// What the certificate of a node or gate is for.
const NODE: [ExtendedKeyUsagePurpose; 2] = [
    ExtendedKeyUsagePurpose::ServerAuth,
    ExtendedKeyUsagePurpose::ClientAuth,
];

fn params(uses: &[ExtendedKeyUsagePurpose]) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    params.extended_key_usages = uses.to_vec();
    params
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns when a year begins, in seconds since 1970.
pub fn begin_of(year: i32) -> i64 {
    date_time_ymd(year, 1, 1).unix_timestamp()
}

impl Files {
    /// Takes those in a folder.
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Returns the flags that name them to nodes, gates, the Inspector and commands.
    pub fn flags(&self) -> Vec<String> {
        self.flags_for("tls")
    }

    /// Returns the flags that name them as those for etcd.
    pub fn etcd_flags(&self) -> Vec<String> {
        self.flags_for("etcd")
    }

    /// Returns the flags that name the certificate and its key as those of the Inspector's page.
    pub fn page_flags(&self) -> Vec<String> {
        [("cert", "tls.crt"), ("key", "tls.key")]
            .map(|(flag, file)| format!("--inspector-tls-{flag}={}", self.path(file).display()))
            .to_vec()
    }

    fn flags_for(&self, what: &str) -> Vec<String> {
        [("ca", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key")]
            .map(|(flag, file)| format!("--{what}-{flag}={}", self.path(file).display()))
            .to_vec()
    }

    /// Returns the path of `ca.crt`, `tls.crt` or `tls.key`.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Returns them as a program of the cluster takes them.
    pub fn of_a_node(&self) -> TlsFiles {
        let [ca, cert, key] = ["ca.crt", "tls.crt", "tls.key"].map(|file| self.path(file));
        TlsFiles::new(ca, cert, key)
    }

    /// Reads the authorities.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or holds none.
    pub fn authorities(&self) -> Result<RootCertStore, PemError> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(self.path("ca.crt"))? {
            store.add_parsable_certificates([certificate?]);
        }
        Ok(store)
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    let new = folder.join(format!("{name}.new"));
    std::fs::write(&new, text).expect("it can be written");
    std::fs::rename(new, folder.join(name)).expect("it can be replaced");
}
