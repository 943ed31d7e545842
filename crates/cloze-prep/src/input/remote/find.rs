//! What an address stands for.

use std::cell::Cell;
use std::sync::Arc;

use futures_util::StreamExt;
use object_store::path::Path as Key;
use object_store::{Attribute, Attributes, GetOptions, ObjectMeta, ObjectStore};
use tokio::time::timeout;

use super::fetch::{Again, Object, What, modified};
use super::store::{Engine, Stores};
use super::why::Why;
use super::{Address, Found, Scheme};
use crate::Progress;
use crate::input::resolve::is_pattern;

/// Looking for what one address stands for.
pub struct Looking<'a> {
    pub stores: &'a Stores,
    pub address: &'a Address,
    pub engine: &'a Arc<Engine>,
    pub progress: &'a dyn Progress,
    /// Whether a person was told that one waits.
    pub told: &'a Cell<bool>,
}

impl Looking<'_> {
    pub async fn find(&self) -> Result<Found, Why> {
        let store = self.stores.of(self.address)?;
        if self.address.scheme == Scheme::Http {
            return self.web(&store).await;
        }
        let key = self.address.bucket().1;
        if key.is_empty() || key.ends_with('/') {
            let below = self.list(&store, key.trim_end_matches('/')).await?;
            return match below.is_empty() {
                true => Err(nothing("no key begins with it")),
                false => Ok(self.below(&store, below)),
            };
        }
        if is_pattern(key.as_ref()) {
            return self.matching(&store, key).await;
        }
        match self.head(&store, &self.key(key)?).await {
            Ok((meta, _)) => Ok(Found::Named(vec![self.object(&store, meta, false)])),
            // As a folder is, it may be named without the slash.
            Err(absent) if absent.absent => match self.list(&store, key).await {
                Ok(below) if !below.is_empty() => Ok(self.below(&store, below)),
                _ => Err(absent),
            },
            Err(why) => Err(why),
        }
    }

    async fn web(&self, store: &Arc<dyn ObjectStore>) -> Result<Found, Why> {
        if self.address.shown().to_string_lossy().contains('*') {
            return Err(Why::new(
                "a web server does not say what it has, so a pattern matches nothing",
                "name the objects one by one (--files-from LIST); a * that is part of a name is written %2A",
            ));
        }
        let key = Key::default();
        let (meta, page) = match self.head(store, &key).await {
            // What is signed for GET is refused to HEAD, and some servers do not say how long an answer would be.
            Err(why) if !why.passes => self.get(store, &key).await?,
            other => other?,
        };
        Ok(Found::Named(vec![self.object(store, meta, page)]))
    }

    async fn matching(&self, store: &Arc<dyn ObjectStore>, key: &str) -> Result<Found, Why> {
        let glob = globset::GlobBuilder::new(key)
            .literal_separator(true)
            .build();
        let hint = "check the pattern; ** crosses folders, * does not";
        let glob = glob.map_err(|e| Why::new(e.to_string(), hint))?;
        let glob = glob.compile_matcher();
        let whole = |part: &&str| !is_pattern(part.as_ref());
        let base: Vec<&str> = key.split('/').take_while(whole).collect();
        let mut all = self.list(store, &base.join("/")).await?;
        // An object that is named like a pattern is meant by its name.
        match all.iter().position(|meta| meta.location.as_ref() == key) {
            Some(place) => all = vec![all.swap_remove(place)],
            None => all.retain(|meta| glob.is_match(meta.location.as_ref())),
        }
        if all.is_empty() {
            return Err(Why::new("matches no object", hint));
        }
        let found = all.into_iter().map(|meta| self.object(store, meta, false));
        Ok(Found::Named(found.collect()))
    }

    fn below(&self, store: &Arc<dyn ObjectStore>, all: Vec<ObjectMeta>) -> Found {
        let objects = all.into_iter().map(|meta| self.object(store, meta, false));
        Found::Below(self.address.shown(), objects.collect())
    }

    fn key(&self, key: &str) -> Result<Key, Why> {
        Key::parse(key).map_err(|e| Why::of(&e.into(), self.address))
    }

    fn object(&self, store: &Arc<dyn ObjectStore>, meta: ObjectMeta, page: bool) -> Object {
        let address = match self.address.scheme {
            Scheme::Http => self.address.clone(),
            _ => self.address.with_key(meta.location.as_ref()),
        };
        let what = What {
            path: address.shown(),
            address,
            store: store.clone(),
            bytes: meta.size,
            modified: modified(&meta),
            etag: meta.e_tag,
            key: meta.location,
            page,
            manner: self.stores.manner,
        };
        Object {
            what: Arc::new(what),
            engine: self.engine.clone(),
        }
    }

    async fn head(&self, store: &Arc<dyn ObjectStore>, key: &Key) -> Result<Met, Why> {
        self.ask(store, key, true).await
    }

    async fn get(&self, store: &Arc<dyn ObjectStore>, key: &Key) -> Result<Met, Why> {
        self.ask(store, key, false).await
    }

    async fn ask(&self, store: &Arc<dyn ObjectStore>, key: &Key, head: bool) -> Result<Met, Why> {
        let manner = &self.stores.manner;
        let mut again = Again::looking(manner);
        loop {
            let options = GetOptions {
                head,
                ..GetOptions::default()
            };
            let why = match self.heard(store.get_opts(key, options)).await {
                Some(Ok(answer)) => return Ok((answer.meta, is_page(&answer.attributes))),
                Some(Err(e)) => Why::of(&e, self.address),
                None => Why::passing(format!(
                    "the server does not answer: nothing came for {:.0} seconds",
                    manner.stall.as_secs_f64()
                )),
            };
            again.wait(why).await?;
        }
    }

    /// What is answered, if anything is in time; a person is told once that one waits.
    async fn heard<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let manner = &self.stores.manner;
        let quiet = manner.quiet.min(manner.stall);
        let mut answer = std::pin::pin!(answer);
        if let Ok(answer) = timeout(quiet, answer.as_mut()).await {
            return Some(answer);
        }
        if !self.told.replace(true) {
            self.progress.say(&format!(
                "{}: waiting for the server to answer, {:.0} seconds at most",
                self.address.shown().display(),
                manner.stall.as_secs_f64()
            ));
        }
        timeout(manner.stall - quiet, answer).await.ok()
    }

    /// What lies below a prefix, by key; a list that breaks off goes on after its last key.
    async fn list(
        &self,
        store: &Arc<dyn ObjectStore>,
        prefix: &str,
    ) -> Result<Vec<ObjectMeta>, Why> {
        let manner = &self.stores.manner;
        let prefix = match prefix {
            "" => None,
            prefix => Some(self.key(prefix)?),
        };
        let mut again = Again::looking(manner);
        let mut all: Vec<ObjectMeta> = Vec::new();
        'again: loop {
            let mut listed = match all.last() {
                None => store.list(prefix.as_ref()),
                Some(last) => store.list_with_offset(prefix.as_ref(), &last.location),
            };
            let why = loop {
                match self.heard(listed.next()).await {
                    Some(Some(Ok(meta))) => {
                        all.push(meta);
                        again.arrived();
                    }
                    Some(Some(Err(e))) => break Why::of(&e, self.address),
                    Some(None) => break 'again,
                    None => {
                        break Why::passing(format!(
                            "the server does not go on with the list: nothing came for {:.0} seconds",
                            manner.stall.as_secs_f64()
                        ));
                    }
                }
            };
            drop(listed);
            again.wait(why).await?;
        }
        all.sort_unstable_by(|a, b| a.location.as_ref().cmp(b.location.as_ref()));
        // A key that ends in / is known without it, so one after which the list goes on may come again.
        all.dedup();
        Ok(without_markers(all))
    }
}

/// What is known of an object, and whether the server says that it is a page.
type Met = (ObjectMeta, bool);

fn is_page(attributes: &Attributes) -> bool {
    let kind = attributes.get(&Attribute::ContentType);
    let kind = kind.map(|kind| kind.to_ascii_lowercase());
    kind.is_some_and(|k| k.starts_with("text/html") || k.starts_with("application/xhtml"))
}

fn nothing(why: &str) -> Why {
    Why {
        absent: true,
        ..Why::new(why, "check bucket and prefix")
    }
}

/// Without the empty objects by which some programs say that there is a folder.
fn without_markers(all: Vec<ObjectMeta>) -> Vec<ObjectMeta> {
    let is_marker = |meta: &ObjectMeta| {
        let inside = format!("{}/", meta.location);
        let next = all.partition_point(|other| other.location.as_ref() < inside.as_str());
        let next = all.get(next).map(|other| other.location.as_ref());
        meta.size == 0 && next.is_some_and(|next| next.starts_with(&inside))
    };
    let keep: Vec<bool> = all.iter().map(|meta| !is_marker(meta)).collect();
    let mut keep = keep.into_iter();
    let mut all = all;
    all.retain(|_| keep.next().unwrap_or(true));
    all
}
