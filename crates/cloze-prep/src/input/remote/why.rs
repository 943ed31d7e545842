//! Why a request failed, in words, and what to do about it.

use std::error::Error as _;

use object_store::Error;

use super::{Address, Scheme, shown};
use crate::input::InputError;

/// What is shown of what a server says.
const MESSAGE: usize = 200;

/// Why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    pub why: String,
    pub hint: String,
    /// It may be otherwise the next time.
    pub passes: bool,
    /// The server does not give parts of an object.
    pub whole_only: bool,
    /// There is no such object.
    pub absent: bool,
}

const CREDENTIALS_S3: &str = "give AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN) of somebody who may read it, and AWS_REGION \
     (`eval \"$(aws configure export-credentials --format env)\"` sets them from a profile), or AWS_SKIP_SIGNATURE=true for a public bucket";
const CREDENTIALS_GS: &str = "let GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS name the file with credentials of somebody who may read it, \
     or give GOOGLE_SKIP_SIGNATURE=true for a public bucket";
const CREDENTIALS_HTTP: &str = "the address may need a user and a password (https://USER:PASSWORD@HOST/…) or a signature, which may have run out";

impl Why {
    pub fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            hint: hint.into(),
            passes: false,
            whole_only: false,
            absent: false,
        }
    }

    /// What may be otherwise the next time.
    pub fn passing(why: impl Into<String>) -> Self {
        Self {
            passes: true,
            ..Self::new(
                why,
                "see whether the network and the server are well, and run it again",
            )
        }
    }

    /// What the library says of a request for `address`.
    pub fn of(error: &Error, address: &Address) -> Self {
        let credentials = match address.scheme {
            Scheme::S3 => CREDENTIALS_S3,
            Scheme::Gs => CREDENTIALS_GS,
            Scheme::Http => CREDENTIALS_HTTP,
        };
        let full = said(error, address);
        let (code, said) = (code(&full), short(&full));
        // Lists have no errors of their own kinds.
        let status = status(&full).or(match error {
            Error::NotFound { .. } => Some(404),
            Error::PermissionDenied { .. } => Some(403),
            Error::Unauthenticated { .. } => Some(401),
            Error::Precondition { .. } => Some(412),
            _ => None,
        });
        match (error, status) {
            (_, Some(404)) | (Error::NotFound { .. }, _) => Self {
                absent: true,
                ..Self::new(
                    format!("there is no such object ({}{code})", status.unwrap_or(404)),
                    "check the address; what lies below a prefix is s3://BUCKET/PREFIX/, and a pattern must be quoted so that the shell leaves it alone",
                )
            },
            (_, Some(403)) => Self::new(
                format!("reading it is not allowed (403{code})"),
                credentials,
            ),
            (_, Some(401)) => Self::new(
                format!("it is not given to strangers (401{code})"),
                credentials,
            ),
            // What was there is not, or is shorter.
            (_, Some(412 | 416)) => Self::changed(),
            (_, Some(408 | 429 | 500..)) => Self::passing(format!("the server failed ({said})")),
            (_, Some(300..=399)) => Self::new(
                format!("the server sends elsewhere, where nothing can be read ({said})"),
                "give the address that it sends to, if that is what you want: `curl -sI ADDRESS` shows it; redirects are followed to http:// and https:// alone",
            ),
            (_, Some(_)) => Self::new(format!("the server refuses ({said})"), credentials),
            (Error::NotSupported { .. }, _) => Self::whole_only(),
            _ if full.contains("non-partial response") => Self::whole_only(),
            (Error::InvalidPath { .. }, _) => Self::new(
                format!("not a key that is read: {said}"),
                "keys with empty parts, as in a//b, and with . or .. as a part are not read; copy the object to another key",
            ),
            _ => Self::other(&said, credentials),
        }
    }

    fn whole_only() -> Self {
        Self {
            whole_only: true,
            ..Self::new("the server does not give parts of it", DOWNLOAD)
        }
    }

    fn other(said: &str, credentials: &str) -> Self {
        let has = |words: &[&str]| {
            let said = said.to_lowercase();
            words.iter().any(|w| said.contains(w))
        };
        if has(&["dns error", "failed to lookup", "name resolution"]) {
            return Self {
                hint: "check the name of the host (and AWS_ENDPOINT, where it is set), and that this machine reaches the network".into(),
                ..Self::passing(format!("the server's name is not known ({said})"))
            };
        }
        if has(&["connection refused"]) {
            return Self {
                hint:
                    "check host and port (and AWS_ENDPOINT, where it is set): nothing listens there"
                        .into(),
                ..Self::passing(format!("the connection is refused ({said})"))
            };
        }
        if has(&["too many redirects"]) {
            return Self::new(
                "the server sends from one address to the next, without end",
                "give the address of the object itself: `curl -sIL ADDRESS` shows where it leads",
            );
        }
        if has(&["certificate", "unknownissuer"]) {
            return Self::new(
                format!("the server's certificate is not trusted ({said})"),
                "SSL_CERT_FILE names a file with certificates that are to be trusted instead of the system's",
            );
        }
        if has(&["scheme is not allowed", "not allowed", "builder error"]) {
            return Self::new(
                format!("the address of the server cannot be used ({said})"),
                "check AWS_ENDPOINT; one that begins with http:// needs AWS_ALLOW_HTTP=true",
            );
        }
        if has(&["redirect without location"]) {
            return Self::new(
                "the bucket is in another region",
                "let AWS_REGION name the region of the bucket",
            );
        }
        if has(&["content-length header", "content length"]) {
            return Self::new(
                "the server does not say how long it is, so a part that is missing would not be noticed",
                DOWNLOAD,
            );
        }
        if has(&["credential", "token", "service account", "private key"]) {
            return Self {
                passes: has(&["timed out", "sending request", "connect"]),
                ..Self::new(
                    format!("there are no credentials for it ({said})"),
                    credentials,
                )
            };
        }
        Self::passing(format!("the connection broke ({said})"))
    }

    /// Another object is there now.
    pub fn changed() -> Self {
        Self::new(
            "it changed while it was read",
            "run it again when nobody writes to it any more",
        )
    }

    /// The error that a person sees.
    pub fn error(self, address: &Address, byte: Option<u64>) -> InputError {
        InputError::Remote {
            path: address.shown(),
            byte,
            why: self.why,
            hint: self.hint,
        }
    }
}

pub const DOWNLOAD: &str =
    "download it and give the file, or pipe it: curl ADDRESS | cloze prepare - …";

/// The innermost causes, in a line, without secrets of the address.
fn said(error: &Error, address: &Address) -> String {
    let mut causes = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(inner) = cause {
        causes.push(inner.to_string());
        cause = inner.source();
    }
    let mut said = causes.pop().unwrap_or_default();
    // An innermost cause such as "early eof" alone says little; one with an address may say too much.
    let says_more = |outer: &String| {
        let short = said.len() < 24 && outer.len() < 100;
        short && !outer.contains("://") && !outer.contains(&said)
    };
    if let Some(outer) = causes.pop().filter(says_more) {
        said = format!("{outer}: {said}");
    }
    for secret in address.secrets() {
        said = said.replace(secret, "…");
    }
    without_addresses(&said)
}

/// Without users and queries of addresses, which need not be the one that was asked for: it may have led there.
pub fn without_addresses(said: &str) -> String {
    let (mut shorn, mut rest) = (String::new(), said);
    while let Some((before, after)) = rest.split_once("://") {
        let ends = |c: char| c.is_whitespace() || "\"'<>".contains(c);
        let end = after.find(ends).unwrap_or(after.len());
        shorn.push_str(before);
        shorn.push_str(&shown("", &after[..end]).to_string_lossy());
        rest = &after[end..];
    }
    shorn + rest
}

/// What is shown of it: a line, and of what S3 and Google say the words.
fn short(said: &str) -> String {
    let said = said.replace("Server returned non-2xx status code: ", "");
    let said = match (inside(&said, "Message"), said.split_once('<')) {
        (Some(message), Some((before, _))) => format!("{before}{message}"),
        _ => said,
    };
    let line = said.chars().map(|c| if c.is_control() { ' ' } else { c });
    let line: String = line.take(MESSAGE).collect();
    line.trim().trim_end_matches(':').to_owned()
}

fn inside<'t>(said: &'t str, tag: &str) -> Option<&'t str> {
    let (_, rest) = said.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>"))
        .map(|(inside, _)| inside)
}

/// What S3 and Google call it, after a comma.
fn code(said: &str) -> String {
    inside(said, "Code").map_or_else(String::new, |code| format!(", {code}"))
}

/// The status of the answer, where there was one.
fn status(said: &str) -> Option<u16> {
    let (_, rest) = said.split_once("Server returned non-2xx status code: ")?;
    rest.get(..3)?.parse().ok()
}
