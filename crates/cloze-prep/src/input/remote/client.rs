//! Clients for web servers.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// One client for all web servers.
#[derive(Debug, Default)]
pub struct Shared(OnceLock<HttpClient>);

/// The client for one address.
#[derive(Debug)]
pub struct Connector {
    pub shared: Arc<Shared>,
    /// What says who asks.
    pub authorization: Option<String>,
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
pub fn basic(user: &str) -> String {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
    let both = [decoded(name), b":".to_vec(), decoded(password)].concat();
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(both)
    )
}
