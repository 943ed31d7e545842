//! Stores: clients for each bucket, and the threads that they work on.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3Builder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use tokio::runtime::Runtime;

use super::client::{Connector, Shared, basic};
use super::fetch::Manner;
use super::find::Looking;
use super::why::Why;
use super::{Address, Found, Scheme};
use crate::Progress;
use crate::input::InputError;

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
    pub manner: Manner,
    /// Variables of the environment.
    variables: Vec<(String, String)>,
    buckets: Mutex<HashMap<(Scheme, String), Arc<dyn ObjectStore>>>,
    web: Arc<Shared>,
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
    pub fn look_up(
        &self,
        addresses: &[Address],
        progress: &dyn Progress,
    ) -> Result<Vec<Found>, InputError> {
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
        let told = Cell::new(false);
        let found = stream::iter(addresses).map(|address| {
            let looking = Looking {
                stores: self,
                address,
                engine: &engine,
                progress,
                told: &told,
            };
            async move { looking.find().await.map_err(|why| why.error(address, None)) }
        });
        runtime.block_on(found.buffered(AT_ONCE).try_collect())
    }

    /// The store that has `address`.
    pub fn of(&self, address: &Address) -> Result<Arc<dyn ObjectStore>, Why> {
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
                shared: Some(self.web.clone()),
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
                let mut builder = GoogleCloudStorageBuilder::new()
                    .with_client_options(options)
                    .with_http_connector(Connector::default());
                for (key, value) in self.variables_of("GOOGLE_") {
                    if let Ok(key) = key.parse() {
                        builder = builder.with_config(key, value);
                    }
                }
                let builder = builder.with_bucket_name(bucket).with_retry(retry);
                Arc::new(builder.build().map_err(fail)?)
            }
            _ => {
                let mut builder = AmazonS3Builder::new()
                    .with_client_options(options)
                    .with_http_connector(Connector::default());
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
