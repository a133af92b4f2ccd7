//! Authorities and certificates, made when a test needs them.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

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
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
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
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if validity == Validity::Expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
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
        Files {
            folder: folder.to_owned(),
        }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Files {
    /// Returns the flags that name them.
    pub fn flags(&self) -> Vec<String> {
        [("ca", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key")]
            .map(|(flag, file)| format!("--tls-{flag}={}", self.folder.join(file).display()))
            .to_vec()
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    let new = folder.join(format!("{name}.new"));
    std::fs::write(&new, text).expect("it can be written");
    std::fs::rename(new, folder.join(name)).expect("it can be replaced");
}
