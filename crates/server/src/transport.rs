//! The listeners: services, HTTP/2 settings, TLS, and the end of them all.

use std::sync::Arc;

use futures_util::StreamExt as _;
use logwood_proto::v1::admin_service_server::AdminServiceServer;
use logwood_proto::v1::log_service_server::LogServiceServer;
use logwood_proto::{Coalesced, v1};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::layer::util::{Identity, Stack};

use crate::admin::Admin;
use crate::calls::CallLayer;
use crate::connections;
use crate::core::Core;
use crate::health;
use crate::http::{self, Http};
use crate::metrics::RpcLayer;
use crate::serve::ServeError;
use crate::service::Service;
use crate::tls::Tls;

/// Streams that were reset for errors of the peer, until its connection is closed. hyper's own default.
const LOCAL_ERROR_RESETS_MAX: usize = 1_024;

/// The sockets, and what is spoken on them.
pub(crate) struct Listeners {
    pub(crate) grpc: TcpListener,
    pub(crate) http: Option<TcpListener>,
    pub(crate) admin: UnixListener,
    /// Whether entries may be appended over HTTP.
    pub(crate) http_append: bool,
    /// For gRPC and HTTP alike.
    pub(crate) tls: Option<Tls>,
}

/// Serves all until the server stops and every call has ended, or the time for that is over.
pub(crate) async fn run(core: &Arc<Core>, listeners: Listeners) -> Result<(), ServeError> {
    let limits = core.bounds.limits;
    let (reporter, health) = tonic_health::server::health_reporter();
    let reporting = health::report(reporter, core.shared.halted.subscribe(), stopping(core)).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were compiled with the services");
    // The layer refuses what is too large; tonic's own limits only must not be smaller.
    let service = LogServiceServer::new(Service(Arc::clone(core)))
        .max_decoding_message_size(limits.batch_message_bytes())
        .max_encoding_message_size(limits.answer_bytes());
    // The builder's own setting does not reach the sockets of a listener that it is given.
    let incoming = TcpIncoming::from(listeners.grpc).with_nodelay(Some(true));
    let calls = CallLayer::new(limits);
    let (grpc_tls, http_tls) = listeners.tls.map(|tls| (tls.grpc, tls.http)).unzip();
    let mut public = server(core, &calls);
    if let Some(tls) = grpc_tls {
        public = public.tls_config(tls)?;
    }
    let incoming = incoming.map(|io| io.map(Coalesced::new));
    let public = public
        .add_service(service)
        .add_service(health)
        .add_service(reflection)
        .serve_with_incoming_shutdown(connections::limit(incoming, &limits), stopping(core));
    let private = server(core, &calls)
        .add_service(AdminServiceServer::new(Admin(Arc::clone(core))))
        .serve_with_incoming_shutdown(
            connections::limit(UnixListenerStream::new(listeners.admin), &limits),
            stopping(core),
        );

    let http = async {
        if let Some(listener) = listeners.http {
            http::serve(Http::new(core, listeners.http_append), listener, http_tls).await;
        }
        Ok(())
    };

    let deadline = async {
        stopping(core).await;
        tokio::time::sleep(limits.stop()).await;
    };
    tokio::select! {
        outcome = async { tokio::try_join!(public, private, http) } => { outcome?; }
        // Whoever leaves answers unread is cut off here.
        () = deadline => tracing::info!("some calls did not end in time; closing"),
        never = reporting => match never {},
    }
    Ok(())
}

fn server(core: &Core, calls: &CallLayer) -> Server<Stack<CallLayer, Stack<RpcLayer, Identity>>> {
    let limits = core.bounds.limits;
    let settings = limits.settings();
    Server::builder()
        .initial_stream_window_size(settings.stream_window_kib * 1024)
        .initial_connection_window_size(settings.connection_window_kib * 1024)
        .max_concurrent_streams(settings.connection_streams)
        .max_frame_size(settings.frame_kib * 1024)
        .http2_max_header_list_size(settings.header_list_kib * 1024)
        .http2_max_pending_accept_reset_streams(Some(settings.pending_resets as usize))
        .http2_max_local_error_reset_streams(Some(LOCAL_ERROR_RESETS_MAX))
        .http2_keepalive_interval(Some(limits.keepalive_interval()))
        .http2_keepalive_timeout(Some(limits.keepalive_timeout()))
        .layer(core.shared.metrics.rpc_layer())
        .layer(calls.clone())
}

fn stopping(core: &Arc<Core>) -> impl Future<Output = ()> + Send + use<> {
    let core = Arc::clone(core);
    async move { drop(core.bounds.stopping().await) }
}
