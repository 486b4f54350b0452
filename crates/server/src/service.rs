//! `logwood.v1.LogService`: each rpc hands over to the function that does it.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use logwood_proto::v1;
use logwood_proto::v1::log_service_server::LogService;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::bounds::counted;
use crate::budget::{Held, Share};
use crate::core::Core;
use crate::{append, read};

/// Answers of a stream that may wait for the network, besides the one that is being made and those that hyper has.
const STREAM_ANSWERS_MAX: usize = 1;

type AnswerStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Where a stream's answers go, each with the room that was taken for it.
pub(crate) struct Answers<T>(mpsc::Sender<Result<(T, Share), Status>>);

impl<T: Message> Answers<T> {
    /// Sends `answer`, which takes at most `room`. `false` if the caller has gone.
    pub(crate) async fn send(&self, answer: T, mut room: Share) -> bool {
        room.keep(answer.encoded_len());
        self.0.send(Ok((answer, room))).await.is_ok()
    }

    /// Resolves when the caller has gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// The public service.
pub(crate) struct Service(pub(crate) Arc<Core>);

/// Runs a read that may touch the disk. The store reads from memory as a rule, so they stay on the caller's task, and
/// `block_in_place` lets other tasks move away.
fn reading<T: Message>(core: &Core, read: impl FnOnce() -> Result<T, Status>) -> Result<Response<T>, Status> {
    core.bounds.answer(tokio::task::block_in_place(read)?)
}

/// As [`reading`], for what may take much memory while it is made.
fn paging<T: Message>(core: &Core, read: impl FnOnce() -> Result<T, Status>) -> Result<Response<T>, Status> {
    let room = core.bounds.page()?;
    Ok(counted(tokio::task::block_in_place(read)?, room))
}

/// Runs `produce` beside the stream that it fills; its error ends the stream.
fn streaming<T, F>(produce: impl FnOnce(Answers<T>) -> F) -> Response<AnswerStream<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(STREAM_ANSWERS_MAX);
    let producing = produce(Answers(sender.clone()));
    tokio::spawn(async move {
        if let Err(status) = producing.await {
            let _ = sender.send(Err(status)).await;
        }
    });
    let held = Held::default();
    let sending = held.clone();
    let answers = ReceiverStream::new(receiver).map(move |answer| {
        let (answer, room) = answer?;
        sending.add(room);
        Ok(answer)
    });
    let mut response: Response<AnswerStream<T>> = Response::new(Box::pin(answers));
    response.extensions_mut().insert(held);
    response
}

/// As [`streaming`], for what ends only when the caller has enough, or the server stops.
fn following<T, F>(core: &Arc<Core>, produce: impl FnOnce(Answers<T>) -> F) -> Response<AnswerStream<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let core = Arc::clone(core);
    streaming(|answers| {
        let producing = produce(answers);
        async move {
            tokio::select! {
                ended = producing => ended,
                status = core.bounds.stopping() => Err(status),
            }
        }
    })
}

#[tonic::async_trait]
impl LogService for Service {
    async fn append(&self, request: Request<v1::AppendRequest>) -> Result<Response<v1::AppendResponse>, Status> {
        let answer = append::append(&self.0, request.into_inner()).await?;
        Ok(self.0.bounds.must_answer(answer).await)
    }

    async fn append_batch(
        &self,
        request: Request<v1::AppendBatchRequest>,
    ) -> Result<Response<v1::AppendBatchResponse>, Status> {
        let answer = append::append_batch(&self.0, request.into_inner()).await?;
        Ok(self.0.bounds.must_answer(answer).await)
    }

    type AppendStreamStream = AnswerStream<v1::AppendStreamResponse>;

    async fn append_stream(
        &self,
        request: Request<Streaming<v1::AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let core = Arc::clone(&self.0);
        let held = request.extensions().get::<Held>().cloned().unwrap_or_default();
        let requests = request.into_inner();
        Ok(streaming(|answers| append::append_stream(core, append::Stream { requests, held, answers })))
    }

    async fn get_tree_head(
        &self,
        request: Request<v1::GetTreeHeadRequest>,
    ) -> Result<Response<v1::GetTreeHeadResponse>, Status> {
        reading(&self.0, || read::get_tree_head(&self.0, request.get_ref()))
    }

    async fn list_tree_heads(
        &self,
        request: Request<v1::ListTreeHeadsRequest>,
    ) -> Result<Response<v1::ListTreeHeadsResponse>, Status> {
        paging(&self.0, || read::list_tree_heads(&self.0, request.get_ref()))
    }

    type WatchTreeHeadsStream = AnswerStream<v1::WatchTreeHeadsResponse>;

    async fn watch_tree_heads(
        &self,
        request: Request<v1::WatchTreeHeadsRequest>,
    ) -> Result<Response<Self::WatchTreeHeadsStream>, Status> {
        let core = Arc::clone(&self.0);
        Ok(following(&self.0, |answers| read::watch_tree_heads(core, request.into_inner(), answers)))
    }

    async fn get_entry(&self, request: Request<v1::GetEntryRequest>) -> Result<Response<v1::GetEntryResponse>, Status> {
        reading(&self.0, || read::get_entry(&self.0, request.get_ref()))
    }

    type ReadEntriesStream = AnswerStream<v1::ReadEntriesResponse>;

    async fn read_entries(
        &self,
        request: Request<v1::ReadEntriesRequest>,
    ) -> Result<Response<Self::ReadEntriesStream>, Status> {
        let core = Arc::clone(&self.0);
        Ok(following(&self.0, |answers| read::read_entries(core, request.into_inner(), answers)))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<v1::GetInclusionProofRequest>,
    ) -> Result<Response<v1::GetInclusionProofResponse>, Status> {
        reading(&self.0, || read::get_inclusion_proof(&self.0, request.get_ref()))
    }

    async fn get_inclusion_proofs(
        &self,
        request: Request<v1::GetInclusionProofsRequest>,
    ) -> Result<Response<v1::GetInclusionProofsResponse>, Status> {
        paging(&self.0, || read::get_inclusion_proofs(&self.0, request.get_ref()))
    }

    async fn get_range_proof(
        &self,
        request: Request<v1::GetRangeProofRequest>,
    ) -> Result<Response<v1::GetRangeProofResponse>, Status> {
        reading(&self.0, || read::get_range_proof(&self.0, request.get_ref()))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<v1::GetConsistencyProofRequest>,
    ) -> Result<Response<v1::GetConsistencyProofResponse>, Status> {
        reading(&self.0, || read::get_consistency_proof(&self.0, request.get_ref()))
    }

    async fn list_logs(&self, request: Request<v1::ListLogsRequest>) -> Result<Response<v1::ListLogsResponse>, Status> {
        paging(&self.0, || read::list_logs(&self.0, request.get_ref()))
    }

    async fn describe_log(
        &self,
        request: Request<v1::DescribeLogRequest>,
    ) -> Result<Response<v1::DescribeLogResponse>, Status> {
        reading(&self.0, || read::describe_log(&self.0, request.get_ref()))
    }
}
