//! In the place of what reads remote objects, where it was not built in.

#![cfg_attr(
    feature = "remote",
    allow(dead_code, reason = "only its test is built")
)]

use std::io::Read;
use std::path::Path;

use super::{Address, Found};
use crate::Progress;
use crate::input::InputError;

/// No object can be reached, so there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {}

impl Object {
    /// What it is called.
    pub fn path(&self) -> &Path {
        match *self {}
    }

    /// Its address.
    pub fn given(&self) -> &str {
        match *self {}
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        match *self {}
    }

    /// What the server calls these bytes.
    pub fn etag(&self) -> Option<&str> {
        match *self {}
    }

    /// When it was written.
    pub fn modified(&self) -> u64 {
        match *self {}
    }

    /// Whether the server says that it is a page.
    pub fn is_page(&self) -> bool {
        match *self {}
    }

    /// Its bytes.
    pub fn open<'a>(&self, _: &'a dyn Progress) -> Box<dyn Read + 'a> {
        match *self {}
    }
}

/// Refuses every address.
pub struct Stores;

impl Stores {
    pub fn new() -> Self {
        Self
    }

    pub fn look_up(
        &self,
        addresses: &[Address],
        _: &dyn Progress,
    ) -> Result<Vec<Found>, InputError> {
        match addresses {
            [] => Ok(Vec::new()),
            [first, ..] => Err(InputError::Remote {
                path: first.shown(),
                byte: None,
                why: "this cloze was built without what reads from there".into(),
                hint: "build it with `cargo build --release -p cloze --features remote`, or download it and give the file".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silent;

    #[test]
    fn an_address_is_refused_with_how_to_build_what_reads_it() {
        assert!(Stores::new().look_up(&[], &Silent).unwrap().is_empty());
        let address = Address::of(Path::new("https://me:word@host/a.txt")).unwrap();
        let error = Stores::new().look_up(&[address.unwrap()], &Silent);
        let error = error.err().unwrap();
        let text = error.to_string();
        assert!(
            text.starts_with("https://host/a.txt: this cloze was built without"),
            "{text}"
        );
        assert!(error.hint().unwrap().contains("--features remote"));
    }
}
