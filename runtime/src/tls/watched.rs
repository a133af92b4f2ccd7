//! Files whose contents are in use, and are replaced when better ones come.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;
use tracing::warn;
use x509_parser::certificate::Validity;

use super::TlsError;
use super::files::{Contents, PemFile, TlsFiles};

/// How often the files are looked at. Reading three small files costs nothing beside it.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Makes something to use of what was read, if that is good at this time, also for a server which
/// others know by these names.
pub(super) type Build<M> =
    fn(&TlsFiles, &Contents, &BTreeSet<String>, SystemTime) -> Result<M, TlsError>;

/// Files, and what was made of them last.
pub(super) struct Watched<M> {
    pub(super) files: TlsFiles,
    build: Build<M>,
    current: ArcSwap<Current<M>>,
    looking: Mutex<Looking>,
}

/// What is in use.
pub(super) struct Current<M> {
    pub(super) material: M,
    pub(super) ends: Vec<End>,
    /// How often the files were replaced before.
    pub(super) number: u64,
    contents: Contents,
}

/// When the first certificate of a file ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The setting that names the file.
    pub(super) setting: &'static str,
    /// Seconds since 1970.
    pub(super) at: i64,
}

struct Looking {
    due: Instant,
    /// The names by which others know the servers of this process.
    hosts: BTreeSet<String>,
    /// What was not taken when it was looked at last, so that it is told once.
    refused: Option<TlsError>,
    /// How often something new was not taken.
    refusals: u64,
}

/// What a look at the files found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// What is in use, or what was refused already.
    Same,
    /// New ones, which are in use from now on.
    Replaced,
    /// Something that cannot be used: the old ones stay.
    Refused(TlsError),
}

impl<M> Watched<M> {
    pub(super) fn load(
        files: TlsFiles,
        build: Build<M>,
        now: SystemTime,
    ) -> Result<Self, TlsError> {
        let hosts = BTreeSet::new();
        let current = make(&files, build, files.read()?, 0, &hosts, now)?;
        Ok(Self {
            files,
            build,
            current: ArcSwap::from_pointee(current),
            looking: Mutex::new(Looking {
                due: Instant::now() + LOOK_INTERVAL,
                hosts,
                refused: None,
                refusals: 0,
            }),
        })
    }

    pub(super) fn current(&self) -> Arc<Current<M>> {
        self.current.load_full()
    }

    /// Returns how often something new was not taken.
    pub(super) fn refusals(&self) -> u64 {
        self.looking.lock().refusals
    }

    /// Checks that what is in use will do for a server which others know as `host`. From then on, what
    /// will not is refused.
    pub(super) fn require(&self, host: &str, now: SystemTime) -> Result<(), TlsError> {
        let mut looking = self.looking.lock();
        let mut hosts = looking.hosts.clone();
        hosts.insert(host.to_owned());
        let current = self.current();
        (self.build)(&self.files, &current.contents, &hosts, now)?;
        looking.hosts = hosts;
        Ok(())
    }

    /// Looks at the files if nobody has done so for a while. Reads files, so it may block.
    pub(super) fn look_if_due(&self, now: SystemTime) -> Look {
        let mut looking = self.looking.lock();
        if Instant::now() < looking.due {
            return Look::Same;
        }
        looking.due = Instant::now() + LOOK_INTERVAL;
        self.look(&mut looking, now)
    }

    pub(super) fn is_due(&self) -> bool {
        self.looking.lock().due <= Instant::now()
    }

    fn look(&self, looking: &mut Looking, now: SystemTime) -> Look {
        let current = self.current();
        let made = match self.files.read() {
            Ok(contents) if contents == current.contents => {
                looking.refused = None;
                return Look::Same;
            }
            Ok(contents) => {
                let number = current.number + 1;
                let hosts = &looking.hosts;
                make(&self.files, self.build, contents, number, hosts, now)
            }
            Err(error) => Err(error),
        };
        match made {
            Ok(new) => {
                self.current.store(Arc::new(new));
                looking.refused = None;
                Look::Replaced
            }
            Err(error) if looking.refused.as_ref() == Some(&error) => Look::Same,
            Err(error) => {
                warn!(%error, "new certificates cannot be used: the old ones stay in use");
                looking.refused = Some(error.clone());
                looking.refusals += 1;
                Look::Refused(error)
            }
        }
    }
}

fn make<M>(
    files: &TlsFiles,
    build: Build<M>,
    contents: Contents,
    number: u64,
    hosts: &BTreeSet<String>,
    now: SystemTime,
) -> Result<Current<M>, TlsError> {
    let mut ends = Vec::new();
    let cert = files.identity.as_ref().map(|(cert, _)| cert);
    for (file, pem) in [(files.ca.as_ref(), &contents.ca), (cert, &contents.cert)] {
        if let (Some(file), Some(pem)) = (file, pem) {
            let certificates = file.certificates(pem)?;
            ends.push(first_end(file, &certificates)?);
        }
    }
    Ok(Current {
        material: build(files, &contents, hosts, now)?,
        ends,
        number,
        contents,
    })
}

fn first_end(file: &PemFile, certificates: &[CertificateDer<'_>]) -> Result<End, TlsError> {
    let mut at = i64::MAX;
    for certificate in certificates {
        at = at.min(validity(file, certificate)?.not_after.timestamp());
    }
    let setting = file.setting;
    Ok(End { setting, at })
}

/// Refuses a certificate that is not good at this time.
pub(super) fn check_time(
    file: &PemFile,
    certificate: &CertificateDer<'_>,
    now: SystemTime,
) -> Result<(), TlsError> {
    let now = seconds(now);
    let validity = validity(file, certificate)?;
    if now < validity.not_before.timestamp() {
        return Err(file.unusable("is not valid yet"));
    }
    if now > validity.not_after.timestamp() {
        return Err(file.unusable("has expired"));
    }
    Ok(())
}

fn validity(file: &PemFile, certificate: &CertificateDer<'_>) -> Result<Validity, TlsError> {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    let (_, parsed) =
        parsed.map_err(|error| file.unusable(format!("is no good certificate: {error}")))?;
    Ok(parsed.validity().clone())
}

/// Returns the seconds since 1970.
pub(super) fn seconds(now: SystemTime) -> i64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
