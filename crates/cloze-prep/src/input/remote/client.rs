//! Clients that speak HTTP.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use futures_util::StreamExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

/// One client for all web servers.
#[derive(Debug, Default)]
pub struct Shared(OnceLock<HttpClient>);

/// Bytes that are read of what a server says where it gives no object.
const SAID: usize = 64 << 10;

/// The client for one address, or one bucket.
#[derive(Debug, Default)]
pub struct Connector {
    /// Where all of its clients are the same one.
    pub shared: Option<Arc<Shared>>,
    /// What says who asks.
    pub authorization: Option<String>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let shared = self.shared.as_ref().map(|shared| &shared.0);
        let client = match shared.and_then(OnceLock::get) {
            Some(client) => client.clone(),
            None => {
                let client = ReqwestConnector::default().connect(options)?;
                shared.map_or(client.clone(), |shared| {
                    shared.get_or_init(|| client).clone()
                })
            }
        };
        Ok(HttpClient::new(Client {
            client,
            authorization: self.authorization.clone(),
        }))
    }
}

/// A client that says who asks, and to whom a server that refuses says only so much.
struct Client {
    client: HttpClient,
    authorization: Option<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'a>>;

impl HttpService for Client {
    fn call<'s, 'a>(&'s self, mut request: HttpRequest) -> Answer<'a>
    where
        's: 'a,
        Self: 'a,
    {
        // What is base64 is a value of a header.
        let value = self.authorization.as_ref().and_then(|a| a.parse().ok());
        if let Some(value) = value {
            let _ = request.headers_mut().insert("authorization", value);
        }
        Box::pin(async move {
            let answer = self.client.execute(request).await?;
            if answer.status().is_success() {
                return Ok(answer);
            }
            let (head, body) = answer.into_parts();
            let (mut said, mut body) = (Vec::new(), body.bytes_stream());
            // The library would read it to its end, and forget the status where that is none or is not text.
            while let (true, Some(Ok(some))) = (said.len() < SAID, body.next().await) {
                let left = SAID - said.len();
                said.extend_from_slice(&some[..some.len().min(left)]);
            }
            let said = String::from_utf8_lossy(&said).into_owned();
            Ok(HttpResponse::from_parts(head, said.into()))
        })
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
