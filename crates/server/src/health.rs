//! What `grpc.health.v1` says: the same as `/readyz`.

use std::convert::Infallible;

use logwood_proto::v1::log_service_server::LogServiceServer;
use tokio::sync::watch;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::service::Service;

/// The services whose state is told: the server as a whole, and the public one.
const SERVICES: [&str; 2] = ["", <LogServiceServer<Service> as NamedService>::NAME];

/// Says how it is, so that there is an answer before the first question. What is returned keeps it true: serving, unless
/// writes are halted or the server is about to stop. It never ends.
pub(crate) async fn report(
    mut reporter: HealthReporter,
    mut halted: watch::Receiver<bool>,
    stopping: impl Future<Output = ()> + Send,
) -> impl Future<Output = Infallible> + Send {
    let is_serving = !*halted.borrow_and_update();
    tell(&reporter, is_serving).await;
    async move {
        tokio::pin!(stopping);
        loop {
            tokio::select! {
                () = &mut stopping => break,
                // Its sender lives as long as the server.
                changed = halted.changed() => if changed.is_err() { break },
            }
            let is_serving = !*halted.borrow_and_update();
            tell(&reporter, is_serving).await;
        }
        tell(&reporter, false).await;
        // Whoever watches has been told; a call that goes on would only delay the end.
        for service in SERVICES {
            reporter.clear_service_status(service).await;
        }
        std::future::pending().await
    }
}

async fn tell(reporter: &HealthReporter, is_serving: bool) {
    let status = if is_serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in SERVICES {
        reporter.set_service_status(service, status).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio_stream::StreamExt as _;
    use tonic::Request;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_server::Health as _;
    use tonic_health::server::HealthService;

    use super::*;

    #[tokio::test]
    async fn whoever_watches_is_told_when_writes_halt_when_they_go_on_and_when_the_server_stops() {
        const SERVING: i32 = ServingStatus::Serving as i32;
        const NOT_SERVING: i32 = ServingStatus::NotServing as i32;
        for service in ["", "logwood.v1.LogService"] {
            let reporter = HealthReporter::new();
            let health = HealthService::from_health_reporter(reporter.clone());
            let halted = watch::Sender::new(false);
            let (stop, stopped) = oneshot::channel::<()>();
            tokio::spawn(report(reporter, halted.subscribe(), async { drop(stopped.await) }).await);

            let request = HealthCheckRequest { service: service.into() };
            let mut watched = health.watch(Request::new(request)).await.expect("a stream").into_inner();
            let mut next = async || watched.next().await.map(|answer| answer.expect("an answer").status);
            assert_eq!(next().await, Some(SERVING));
            halted.send_replace(true);
            assert_eq!(next().await, Some(NOT_SERVING));
            halted.send_replace(false);
            assert_eq!(next().await, Some(SERVING));
            stop.send(()).expect("it waits");
            assert_eq!(next().await, Some(NOT_SERVING));
            assert_eq!(next().await, None, "nobody holds the server up");
        }
    }
}
