//! Channels to a server.

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use logwood_proto::Coalesced;
use tonic::transport::{Channel, Endpoint};
use tower::ServiceExt as _;

/// Connects to `endpoint`, as it says, by a socket that sends what is ready in one write.
///
/// # Errors
///
/// If no connection is made.
pub async fn connect(endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let gathering = tcp.map_response(|io| TokioIo::new(Coalesced::new(io.into_inner())));
    endpoint.connect_with_connector(gathering).await
}
