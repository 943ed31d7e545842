//! Stores, and what is in them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3Builder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path as Key;
use object_store::{ClientOptions, GetOptions, ObjectMeta, ObjectStore, RetryConfig};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::fetch::{Again, Manner, Object, What, modified};
use super::why::Why;
use super::{Address, Found, Scheme};
use crate::input::InputError;
use crate::input::resolve::is_pattern;

/// Addresses that are looked up at a time.
const AT_ONCE: usize = 16;

/// The threads that fetch, which end when nobody needs them.
#[derive(Debug)]
pub struct Engine(Option<Runtime>);

impl Engine {
    fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("remote")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    pub fn start(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(work);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Not waited for: what is under way is of no use any more.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What reaches objects.
pub struct Stores {
    manner: Manner,
    /// Variables of the environment.
    variables: Vec<(String, String)>,
    buckets: Mutex<HashMap<(Scheme, String), Arc<dyn ObjectStore>>>,
    web: Arc<Shared>,
}

/// One client for all web servers.
#[derive(Debug, Default)]
struct Shared(OnceLock<HttpClient>);

/// The client for one address.
#[derive(Debug)]
struct Connector {
    shared: Arc<Shared>,
    /// What says who asks.
    authorization: Option<String>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = match self.shared.0.get() {
            Some(client) => client.clone(),
            None => {
                let client = ReqwestConnector::default().connect(options)?;
                self.shared.0.get_or_init(|| client).clone()
            }
        };
        Ok(match &self.authorization {
            None => client,
            Some(authorization) => HttpClient::new(Known {
                client,
                authorization: authorization.clone(),
            }),
        })
    }
}

/// A client that says who asks.
struct Known {
    client: HttpClient,
    authorization: String,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Known")
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Known {
    fn call<'s, 'a>(&'s self, mut request: HttpRequest) -> Answer<'a>
    where
        's: 'a,
        Self: 'a,
    {
        // What is base64 is a value of a header.
        if let Ok(value) = self.authorization.parse() {
            let _ = request.headers_mut().insert("authorization", value);
        }
        Box::pin(self.client.execute(request))
    }
}

/// User and password, as HTTP has them (RFC 7617).
fn basic(user: &str) -> String {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let both = [decoded(name), b":".to_vec(), decoded(password)].concat();
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(both)
    )
}

impl Stores {
    /// As the environment says.
    pub fn new() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::with(std::env::vars_os().filter_map(text), Manner::default())
    }

    pub fn with(variables: impl IntoIterator<Item = (String, String)>, manner: Manner) -> Self {
        Self {
            manner,
            variables: variables.into_iter().collect(),
            buckets: Mutex::default(),
            web: Arc::default(),
        }
    }

    /// What is at each address, in their order.
    pub fn look_up(&self, addresses: &[Address]) -> Result<Vec<Found>, InputError> {
        let [first, ..] = addresses else {
            return Ok(Vec::new());
        };
        let engine = Engine::new().map_err(|source| InputError::Io {
            path: first.shown(),
            source,
        })?;
        let engine = Arc::new(engine);
        let Some(runtime) = &engine.0 else {
            return Ok(Vec::new());
        };
        let found = stream::iter(addresses).map(|address| {
            let looking = Looking {
                stores: self,
                address,
                engine: &engine,
            };
            async move { looking.find().await.map_err(|why| why.error(address, None)) }
        });
        runtime.block_on(found.buffered(AT_ONCE).try_collect())
    }

    fn of(&self, address: &Address) -> Result<Arc<dyn ObjectStore>, Why> {
        let fail = |e: object_store::Error| Why::of(&e, address);
        // What is tried again, and when, is decided in one place only.
        let retry = RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        };
        let options = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(Duration::from_secs(10));
        if address.scheme == Scheme::Http {
            let (user, url) = address.user();
            let connector = Connector {
                shared: self.web.clone(),
                authorization: user.map(basic),
            };
            let store = HttpBuilder::new()
                .with_url(url)
                .with_client_options(options.with_allow_http(true))
                .with_http_connector(connector)
                .with_retry(retry);
            return Ok(Arc::new(store.build().map_err(fail)?));
        }
        let bucket = address.bucket().0;
        let name = (address.scheme, bucket.to_owned());
        let mut buckets = self.buckets.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(store) = buckets.get(&name) {
            return Ok(store.clone());
        }
        let store: Arc<dyn ObjectStore> = match address.scheme {
            Scheme::Gs => {
                // Where the server is, an account's file alone says.
                let options = options.with_allow_http(true);
                let mut builder = GoogleCloudStorageBuilder::new().with_client_options(options);
                for (key, value) in self.variables_of("GOOGLE_") {
                    if let Ok(key) = key.parse() {
                        builder = builder.with_config(key, value);
                    }
                }
                let builder = builder.with_bucket_name(bucket).with_retry(retry);
                Arc::new(builder.build().map_err(fail)?)
            }
            _ => {
                let mut builder = AmazonS3Builder::new().with_client_options(options);
                for (key, value) in self.variables_of("AWS_") {
                    if let Ok(key) = key.parse() {
                        builder = builder.with_config(key, value);
                    }
                }
                let builder = builder.with_bucket_name(bucket).with_retry(retry);
                Arc::new(builder.build().map_err(fail)?)
            }
        };
        buckets.insert(name, store.clone());
        Ok(store)
    }

    fn variables_of(&self, prefix: &'static str) -> impl Iterator<Item = (String, &str)> {
        let of = self
            .variables
            .iter()
            .filter(move |(n, _)| n.starts_with(prefix));
        of.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
    }
}

/// Looking for what one address stands for.
struct Looking<'a> {
    stores: &'a Stores,
    address: &'a Address,
    engine: &'a Arc<Engine>,
}

impl Looking<'_> {
    async fn find(&self) -> Result<Found, Why> {
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
            Ok(meta) => Ok(Found::Named(vec![self.object(&store, meta)])),
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
        let meta = match self.head(store, &key).await {
            // What is signed for GET is refused to HEAD, and some servers do not say how long an answer would be.
            Err(why) if !why.passes => self.get(store, &key).await?,
            other => other?,
        };
        Ok(Found::Named(vec![self.object(store, meta)]))
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
        let found = all.into_iter().map(|meta| self.object(store, meta));
        Ok(Found::Named(found.collect()))
    }

    fn below(&self, store: &Arc<dyn ObjectStore>, all: Vec<ObjectMeta>) -> Found {
        let objects = all.into_iter().map(|meta| self.object(store, meta));
        Found::Below(self.address.shown(), objects.collect())
    }

    fn key(&self, key: &str) -> Result<Key, Why> {
        Key::parse(key).map_err(|e| Why::of(&e.into(), self.address))
    }

    fn object(&self, store: &Arc<dyn ObjectStore>, meta: ObjectMeta) -> Object {
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
            manner: self.stores.manner,
        };
        Object {
            what: Arc::new(what),
            engine: self.engine.clone(),
        }
    }

    async fn head(&self, store: &Arc<dyn ObjectStore>, key: &Key) -> Result<ObjectMeta, Why> {
        self.ask(store, key, true).await
    }

    async fn get(&self, store: &Arc<dyn ObjectStore>, key: &Key) -> Result<ObjectMeta, Why> {
        self.ask(store, key, false).await
    }

    async fn ask(
        &self,
        store: &Arc<dyn ObjectStore>,
        key: &Key,
        head: bool,
    ) -> Result<ObjectMeta, Why> {
        let manner = &self.stores.manner;
        let mut again = Again::looking(manner);
        loop {
            let options = GetOptions {
                head,
                ..GetOptions::default()
            };
            let why = match timeout(manner.stall, store.get_opts(key, options)).await {
                Ok(Ok(answer)) => return Ok(answer.meta),
                Ok(Err(e)) => Why::of(&e, self.address),
                Err(_) => Why::passing("the server does not answer"),
            };
            again.wait(why).await?;
        }
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
                match timeout(manner.stall, listed.next()).await {
                    Ok(Some(Ok(meta))) => {
                        all.push(meta);
                        again.arrived();
                    }
                    Ok(Some(Err(e))) => break Why::of(&e, self.address),
                    Ok(None) => break 'again,
                    Err(_) => break Why::passing("the server does not go on with the list"),
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
