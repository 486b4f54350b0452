//! `logwood.v1.LogService`: each rpc hands over to the function that does it.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use logwood_proto::v1;
use logwood_proto::v1::log_service_server::LogService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::core::Core;
use crate::{append, read};

/// Answers of a stream that may wait for the network.
const STREAM_ANSWERS_MAX: usize = 4;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The public service.
pub(crate) struct Service(pub(crate) Arc<Core>);

/// Runs a read that may touch the disk. The store reads from memory as a rule, so they stay on the caller's task, and
/// `block_in_place` lets other tasks move away.
fn reading<T>(read: impl FnOnce() -> Result<T, Status>) -> Result<Response<T>, Status> {
    tokio::task::block_in_place(read).map(Response::new)
}

/// Runs `produce` beside the stream that it fills; its error ends the stream.
fn streaming<T, F>(produce: impl FnOnce(mpsc::Sender<Result<T, Status>>) -> F) -> Response<Answers<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(STREAM_ANSWERS_MAX);
    let producing = produce(sender.clone());
    tokio::spawn(async move {
        if let Err(status) = producing.await {
            let _ = sender.send(Err(status)).await;
        }
    });
    Response::new(Box::pin(ReceiverStream::new(receiver)))
}

#[tonic::async_trait]
impl LogService for Service {
    async fn append(&self, request: Request<v1::AppendRequest>) -> Result<Response<v1::AppendResponse>, Status> {
        append::append(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn append_batch(
        &self,
        request: Request<v1::AppendBatchRequest>,
    ) -> Result<Response<v1::AppendBatchResponse>, Status> {
        append::append_batch(&self.0, request.into_inner()).await.map(Response::new)
    }

    type AppendStreamStream = Answers<v1::AppendStreamResponse>;

    async fn append_stream(
        &self,
        request: Request<Streaming<v1::AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let (core, requests) = (Arc::clone(&self.0), request.into_inner());
        Ok(streaming(|answers| async move {
            append::append_stream(core, requests, answers).await;
            Ok(())
        }))
    }

    async fn get_tree_head(
        &self,
        request: Request<v1::GetTreeHeadRequest>,
    ) -> Result<Response<v1::GetTreeHeadResponse>, Status> {
        reading(|| read::get_tree_head(&self.0, request.get_ref()))
    }

    async fn list_tree_heads(
        &self,
        request: Request<v1::ListTreeHeadsRequest>,
    ) -> Result<Response<v1::ListTreeHeadsResponse>, Status> {
        reading(|| read::list_tree_heads(&self.0, request.get_ref()))
    }

    type WatchTreeHeadsStream = Answers<v1::WatchTreeHeadsResponse>;

    async fn watch_tree_heads(
        &self,
        request: Request<v1::WatchTreeHeadsRequest>,
    ) -> Result<Response<Self::WatchTreeHeadsStream>, Status> {
        let core = Arc::clone(&self.0);
        Ok(streaming(|answers| read::watch_tree_heads(core, request.into_inner(), answers)))
    }

    async fn get_entry(&self, request: Request<v1::GetEntryRequest>) -> Result<Response<v1::GetEntryResponse>, Status> {
        reading(|| read::get_entry(&self.0, request.get_ref()))
    }

    type ReadEntriesStream = Answers<v1::ReadEntriesResponse>;

    async fn read_entries(
        &self,
        request: Request<v1::ReadEntriesRequest>,
    ) -> Result<Response<Self::ReadEntriesStream>, Status> {
        let core = Arc::clone(&self.0);
        Ok(streaming(|answers| read::read_entries(core, request.into_inner(), answers)))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<v1::GetInclusionProofRequest>,
    ) -> Result<Response<v1::GetInclusionProofResponse>, Status> {
        reading(|| read::get_inclusion_proof(&self.0, request.get_ref()))
    }

    async fn get_inclusion_proofs(
        &self,
        request: Request<v1::GetInclusionProofsRequest>,
    ) -> Result<Response<v1::GetInclusionProofsResponse>, Status> {
        reading(|| read::get_inclusion_proofs(&self.0, request.get_ref()))
    }

    async fn get_range_proof(
        &self,
        request: Request<v1::GetRangeProofRequest>,
    ) -> Result<Response<v1::GetRangeProofResponse>, Status> {
        reading(|| read::get_range_proof(&self.0, request.get_ref()))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<v1::GetConsistencyProofRequest>,
    ) -> Result<Response<v1::GetConsistencyProofResponse>, Status> {
        reading(|| read::get_consistency_proof(&self.0, request.get_ref()))
    }

    async fn list_logs(&self, request: Request<v1::ListLogsRequest>) -> Result<Response<v1::ListLogsResponse>, Status> {
        reading(|| read::list_logs(&self.0, request.get_ref()))
    }

    async fn describe_log(
        &self,
        request: Request<v1::DescribeLogRequest>,
    ) -> Result<Response<v1::DescribeLogResponse>, Status> {
        reading(|| read::describe_log(&self.0, request.get_ref()))
    }
}
