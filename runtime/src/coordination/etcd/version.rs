//! Which versions of etcd have bugs that this runtime would suffer from.

use tracing::warn;

use crate::coordination::store::StoreError;

/// The first version of each release line without the known bugs; later lines never had them.
const FIXED: [[u32; 3]; 3] = [[3, 4, 42], [3, 5, 28], [3, 6, 9]];

/// Warns about each member with known bugs, or refuses it if `strict`.
pub(super) fn check(versions: &[(String, String)], strict: bool) -> Result<(), StoreError> {
    for (endpoint, version) in versions {
        match fixed_in(version) {
            None => {}
            Some(fixed) if strict => {
                return Err(StoreError::Refused(format!(
                    "etcd {version} at {endpoint} has known lease and stale-read bugs; use {fixed} or later"
                )));
            }
            Some(fixed) => {
                warn!(%endpoint, %version, %fixed, "this etcd has known lease and stale-read bugs");
            }
        }
    }
    Ok(())
}

/// Returns the version to upgrade to, if this one has known bugs or cannot be read.
fn fixed_in(version: &str) -> Option<String> {
    let [first, .., last] = FIXED;
    let fixed = match parse(version) {
        None => last,
        Some(parsed) if parsed < first => first,
        Some(parsed) => *FIXED
            .iter()
            .find(|fixed| fixed[..2] == parsed[..2] && parsed < **fixed)?,
    };
    Some(fixed.map(|part| part.to_string()).join("."))
}

/// Reads `3.4.42`; what follows a dash or plus does not count.
fn parse(version: &str) -> Option<[u32; 3]> {
    let numbers = version.split(['-', '+']).next()?;
    let parts: Vec<u32> = numbers
        .split('.')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    parts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_release_line_has_its_own_fix() {
        let table = [
            ("3.3.27", Some("3.4.42")),
            ("3.4.41", Some("3.4.42")),
            ("3.4.42", None),
            ("3.4.42-rc.0", None),
            ("3.5.0", Some("3.5.28")),
            ("3.5.28", None),
            ("3.6.8", Some("3.6.9")),
            ("3.6.9", None),
            ("3.7.0", None),
            ("4.0.0", None),
            ("not a version", Some("3.6.9")),
        ];
        for (version, fixed) in table {
            assert_eq!(fixed_in(version).as_deref(), fixed, "{version}");
        }
    }

    #[test]
    fn the_manifests_have_versions_without_known_bugs() {
        for component in ["etcd", "etcd-one"] {
            let file = format!("../k8s/components/{component}/etcd.yaml");
            let manifest = std::fs::read_to_string(file).expect("it is there");
            let image = manifest.split_once("coreos/etcd:v").expect("an image").1;
            let version = image.split_whitespace().next().expect("a version");
            assert_eq!(fixed_in(version), None, "{component}: {version}");
        }
    }

    #[test]
    fn only_strict_refuses() {
        let old = [("http://a:1".to_owned(), "3.4.23".to_owned())];
        assert!(check(&old, false).is_ok());
        let refused = check(&old, true).expect_err("strict").to_string();
        assert!(refused.contains("etcd 3.4.23 at http://a:1"), "{refused}");
        assert!(refused.contains("3.4.42 or later"), "{refused}");
    }
}
