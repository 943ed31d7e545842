//! Objects elsewhere: `s3://`, `gs://`, `http://`, `https://`.
//!
//! What an address is, is known to every build; what reads from there is behind the feature `remote`.

#[cfg(any(test, not(feature = "remote")))]
mod absent;
#[cfg(feature = "remote")]
mod client;
#[cfg(feature = "remote")]
mod fetch;
#[cfg(feature = "remote")]
mod find;
#[cfg(feature = "remote")]
mod reader;
#[cfg(feature = "remote")]
mod store;
#[cfg(test)]
#[cfg(feature = "remote")]
mod tests;
#[cfg(feature = "remote")]
mod why;

use std::path::{Path, PathBuf};

#[cfg(not(feature = "remote"))]
pub use absent::{Object, Stores};
#[cfg(feature = "remote")]
pub use fetch::Object;
#[cfg(feature = "remote")]
pub use store::Stores;

use super::InputError;

/// Where objects are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Amazon S3, or what speaks as it does.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// A web server.
    Http,
}

/// The address of an object, of what lies below a prefix, or of what a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    pub scheme: Scheme,
    /// As it was given, without what is after a `#`.
    given: String,
}

impl Address {
    /// The address that an input is; `None` where it is a path.
    pub fn of(input: &Path) -> Result<Option<Self>, InputError> {
        let Some((scheme, rest)) = input.to_str().and_then(|text| text.split_once("://")) else {
            return Ok(None);
        };
        let letters = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        if scheme.is_empty() || !scheme.chars().all(letters) {
            return Ok(None);
        }
        let fail = |why: &str, hint: &str| {
            Err(InputError::Remote {
                path: shown(scheme, rest),
                byte: None,
                why: why.into(),
                hint: hint.into(),
            })
        };
        let lower = scheme.to_ascii_lowercase();
        let known = match lower.as_str() {
            "s3" => Scheme::S3,
            "gs" => Scheme::Gs,
            "http" | "https" => Scheme::Http,
            "file" => return fail("a file is named by its path", "leave out file://"),
            "s3a" | "s3n" => return fail("not an address that is read", "write s3://"),
            "gcs" => return fail("not an address that is read", "write gs://"),
            _ if input.exists() => return Ok(None),
            _ => {
                let hint =
                    "s3://, gs://, http:// and https:// are read; download it, and give the file";
                return fail("not an address that is read", hint);
            }
        };
        let web = known == Scheme::Http;
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let rest = match rest.split_once('#') {
            Some((before, _)) if web => before,
            _ => rest,
        };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let odd = match web {
            true => rest.contains(['\\', ' ', '\t', '\n', '\r']),
            false => !authority.chars().all(plain),
        };
        if authority.ends_with('@') || authority.is_empty() || odd {
            let hint = "s3://BUCKET/KEY, gs://BUCKET/KEY, http://HOST/PATH and https://HOST/PATH are addresses; a space is written %20 in the last two";
            return fail("not a whole address", hint);
        }
        Ok(Some(Self {
            scheme: known,
            given: format!("{lower}://{rest}"),
        }))
    }

    /// As it was given; it may hold secrets.
    #[cfg(feature = "remote")]
    pub fn given(&self) -> &str {
        &self.given
    }

    #[cfg(feature = "remote")]
    fn rest(&self) -> &str {
        self.given.split_once("://").map_or("", |(_, rest)| rest)
    }

    /// What may be shown and written down: without user, password and query.
    pub fn shown(&self) -> PathBuf {
        match self.scheme {
            Scheme::Http => {
                let (scheme, rest) = self.given.split_once("://").unwrap_or_default();
                shown(scheme, rest)
            }
            Scheme::S3 | Scheme::Gs => self.given.as_str().into(),
        }
    }

    /// User and password, as they are written in the address of a web server, and the address without them.
    #[cfg(feature = "remote")]
    fn user(&self) -> (Option<&str>, String) {
        let authority = self.rest().split(['/', '?']).next().unwrap_or_default();
        match (self.scheme, authority.rsplit_once('@')) {
            (Scheme::Http, Some((user, _))) => {
                (Some(user), self.given.replacen(&format!("{user}@"), "", 1))
            }
            _ => (None, self.given.clone()),
        }
    }

    /// What of it may be secret.
    #[cfg(feature = "remote")]
    fn secrets(&self) -> impl Iterator<Item = &str> {
        let query = match self.scheme {
            Scheme::Http => self.given.split_once('?').map(|(_, query)| query),
            Scheme::S3 | Scheme::Gs => None,
        };
        let all = [query, self.user().0].into_iter().flatten();
        all.filter(|secret| !secret.is_empty())
    }

    /// Bucket and key of S3 and Google; the key may be empty.
    #[cfg(feature = "remote")]
    pub fn bucket(&self) -> (&str, &str) {
        self.rest().split_once('/').unwrap_or((self.rest(), ""))
    }

    /// The address of another key in the same bucket.
    #[cfg(feature = "remote")]
    pub fn with_key(&self, key: &str) -> Self {
        let scheme = match self.scheme {
            Scheme::Gs => "gs",
            _ => "s3",
        };
        Self {
            scheme: self.scheme,
            given: format!("{scheme}://{}/{key}", self.bucket().0),
        }
    }
}

/// Refuses an address where a file is wanted: what it is may be secret, and is not to be written down or printed.
pub fn only_a_file(path: &Path, what: &str) -> Result<(), InputError> {
    match Address::of(path)? {
        None => Ok(()),
        Some(address) => Err(InputError::Remote {
            path: address.shown(),
            byte: None,
            why: format!("{what} is a file"),
            hint: "download it and give the file".into(),
        }),
    }
}

/// `scheme://rest` without user, password and query.
fn shown(scheme: &str, rest: &str) -> PathBuf {
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let end = rest.find('/').unwrap_or(rest.len());
    let host = rest[..end].rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{}", &rest[end..]).into()
}

/// What an address stands for.
#[cfg_attr(
    not(feature = "remote"),
    allow(dead_code, reason = "nothing is found where nothing is reached")
)]
pub enum Found {
    /// One object, or those that a pattern matches.
    Named(Vec<Object>),
    /// What lies below a prefix.
    Below(PathBuf, Vec<Object>),
}
