//! How the servers are reached: addresses, CA and token come from the environment.

use std::{collections::HashMap, env, error::Error, fs, time::Duration};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status, metadata::errors::InvalidMetadataValue};
use tonic_types::StatusExt;

/// The generated clients and messages of each package.
pub mod herald {
    macro_rules! package {
        ($name:ident, $file:literal) => {
            pub mod $name {
                pub mod v1 {
                    tonic::include_proto!($file);
                }
            }
        };
    }

    package!(campaign, "herald.campaign.v1");
    package!(chat, "herald.chat.v1");
    package!(event, "herald.event.v1");
    package!(segment, "herald.segment.v1");
}

/// The deadline of each unary call.
pub const CALL_TIME: Duration = Duration::from_secs(30);

/// Connects to the server of users and segments.
pub async fn segment_channel() -> Result<Channel, Box<dyn Error>> {
    connect("HERALD_SEGMENT_TARGET", "127.0.0.1:50051").await
}

/// Connects to the server of campaigns, events and tokens.
pub async fn campaign_channel() -> Result<Channel, Box<dyn Error>> {
    connect("HERALD_CAMPAIGN_TARGET", "127.0.0.1:50052").await
}

/// Connects to the address that the variable names, with TLS if HERALD_TLS_CA is set.
async fn connect(variable: &str, default: &str) -> Result<Channel, Box<dyn Error>> {
    let address = env::var(variable).unwrap_or_else(|_| default.into());
    let ca = env::var("HERALD_TLS_CA").unwrap_or_default();
    let scheme = if ca.is_empty() { "http" } else { "https" };
    // a server that is frozen is left after 8 s
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))?
        .http2_keep_alive_interval(Duration::from_secs(4))
        .keep_alive_timeout(Duration::from_secs(4))
        .keep_alive_while_idle(true);
    if !ca.is_empty() {
        let certificate = Certificate::from_pem(fs::read(ca)?);
        endpoint = endpoint.tls_config(ClientTlsConfig::new().ca_certificate(certificate))?;
    }
    Ok(endpoint.connect().await?)
}

/// The token of the environment; empty without one.
pub fn token() -> String {
    env::var("HERALD_TOKEN").unwrap_or_default()
}

/// A request with this token, if it is not empty.
pub fn with_token<T>(message: T, token: &str) -> Result<Request<T>, InvalidMetadataValue> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        let bearer = format!("Bearer {token}").parse()?;
        request.metadata_mut().insert("authorization", bearer);
    }
    Ok(request)
}

/// The reason of an error and its metadata; nothing for gRPC's own errors.
pub fn error_info(error: &Status) -> (String, HashMap<String, String>) {
    match error.get_details_error_info() {
        Some(info) => (info.reason, info.metadata),
        None => Default::default(),
    }
}
