//! `logwood.v1.AdminService`: making, freezing and sealing logs. Served on the Unix socket of the data directory.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use logwood_note::{CosigningKey, LogName, Origin, SignatureType, SigningKey};
use logwood_proto::v1::admin_service_server::AdminService;
use logwood_proto::{Reason, v1, with_causes};
use logwood_store::{LogQuery, LogSettings, LogState, Profile};
use tonic::{Code, Request, Response, Status};

use crate::clock::now_ms;
use crate::core::Core;
use crate::registry::{LogHandle, LogKeys};
use crate::writer::Command;
use crate::{publisher, status, thaw};

/// Logs that are read at once when all origins are.
const ORIGINS_PAGE: usize = 1_000;

/// The operator's service.
#[derive(Clone)]
pub(crate) struct Admin(pub(crate) Arc<Core>);

/// The origins of all logs of the store. A second log under one origin would look like a fork of the first.
#[derive(Default)]
pub(crate) struct Origins {
    /// [`crate::writer::Shared::epoch`] in which they were read, if they were.
    epoch: Option<u64>,
    taken: HashSet<String>,
}

impl Origins {
    /// Refuses an origin that a log has.
    fn check(&mut self, core: &Core, origin: &Origin) -> Result<(), Status> {
        let epoch = core.shared.epoch.load(Ordering::Acquire);
        if self.epoch != Some(epoch) {
            self.taken.clear();
            let (store, mut after) = (core.store()?, String::new());
            loop {
                let query = LogQuery::After { name: &after, logs_max: ORIGINS_PAGE };
                let page = store.logs(query).map_err(status::read)?;
                self.taken.extend(page.iter().map(|record| record.settings.origin.clone()));
                match page.last() {
                    Some(last) => after.clone_from(&last.settings.name),
                    None => break,
                }
            }
            self.epoch = Some(epoch);
        }
        if self.taken.contains(origin.as_str()) {
            let message = format!("a log of origin {origin} exists: an origin names one log, sealed or not");
            return Err(status::with_reason(Code::AlreadyExists, Reason::LogExists, message));
        }
        Ok(())
    }
}

/// Makes a log: key, origin, the signed and published checkpoint of size 0.
pub(crate) async fn create_log(core: &Core, request: &v1::CreateLogRequest) -> Result<Arc<LogHandle>, Status> {
    let name = request.log.parse::<LogName>().map_err(|error| status::invalid("log", error.to_string()))?;
    let mut origins = core.creating.lock().await;
    let store = core.store()?;
    if !store.logs(LogQuery::Name(name.as_str())).map_err(status::read)?.is_empty() {
        return Err(status::with_reason(Code::AlreadyExists, Reason::LogExists, format!("a log `{name}` exists")));
    }
    if let Some(signed) = core.shared.anchor.head(name.as_str()) {
        let message = format!(
            "the anchor knows a log `{name}` with {} entries, and the store has none: restore its data, or take another \
             name; a new one would fork it",
            signed.size
        );
        return Err(status::precondition(Reason::RollbackGuard, message));
    }
    let origin = origin(core, &name, &request.origin)?;
    tokio::task::block_in_place(|| origins.check(core, &origin))?;
    let keys = keys(core, &name, &origin, request)?;
    let number = store.state().map_err(status::read)?.next_log;
    let settings = LogSettings {
        name: name.as_str().to_owned(),
        origin: origin.as_str().to_owned(),
        vkeys: keys.vkeys(),
        created_ms: now_ms(),
        profile: Profile::Opaque,
        leaf_index: !request.without_leaf_index,
        shard: 0,
        first_index: 0,
    };
    drop(store);
    core.change(|ticket| Command::Create(number, settings, ticket)).await?;
    origins.taken.insert(origin.as_str().to_owned());
    let log = tokio::task::block_in_place(|| core.log(name.as_str()))?;
    publisher::publish(core, &log).await?;
    Ok(log)
}

fn origin(core: &Core, name: &LogName, asked: &str) -> Result<Origin, Status> {
    let origin = match (asked, &core.public_url) {
        ("", Some(url)) => Origin::under_public_url(url, name),
        ("", None) => {
            let mut random = [0; 16];
            getrandom::fill(&mut random).map_err(|_| Status::internal("the system gives no random bytes"))?;
            Ok(Origin::without_public_url(random, name))
        }
        (asked, _) => Origin::new(asked),
    };
    origin.map_err(|error| status::invalid("origin", error.to_string()))
}

/// New keys in files of their own; or those that are there, if the caller vouches for them.
fn keys(core: &Core, name: &LogName, origin: &Origin, request: &v1::CreateLogRequest) -> Result<LogKeys, Status> {
    let registry = &core.shared.registry;
    let unreadable = |error: logwood_note::KeyFileError| {
        let why = with_causes(error.to_string(), &error);
        tracing::error!(log = name.as_str(), why, "a key file cannot be used");
        status::precondition(Reason::RollbackGuard, format!("the log's key file cannot be used: {why}"))
    };
    let none = |error| {
        tracing::error!(%error, "no key could be made");
        Status::internal("no key could be made")
    };
    let mut keys = if let Some(keys) = registry.load_keys(name.as_str()).map_err(unreadable)? {
        if !request.origin_is_unused {
            let message = "the log's key file exists: an old key on an empty log would fork it at size 0; say \
                           origin_is_unused if nothing was ever signed with it";
            return Err(status::with_reason(Code::AlreadyExists, Reason::LogExists, message));
        }
        let names = [Some(keys.signing.name()), keys.cosigning.as_ref().map(CosigningKey::name)];
        if let Some(other) = names.into_iter().flatten().find(|name| *name != origin.as_str()) {
            return Err(status::invalid("origin", format!("the key file is for origin {other}")));
        }
        if keys.cosigning.is_some() && !request.ml_dsa {
            return Err(status::invalid(
                "ml_dsa",
                "there is a key file for ML-DSA-44 cosignatures: say that it is wanted",
            ));
        }
        keys
    } else {
        let signing = SigningKey::generate(origin.as_str()).map_err(none)?;
        signing.create(registry.key_path(name.as_str())).map_err(unreadable)?;
        LogKeys { signing, cosigning: None }
    };
    if request.ml_dsa && keys.cosigning.is_none() {
        let key = CosigningKey::generate(origin.as_str(), SignatureType::MlDsa44Cosignature).map_err(none)?;
        key.create(registry.cosigning_key_path(name.as_str())).map_err(unreadable)?;
        keys.cosigning = Some(key);
    }
    Ok(keys)
}

impl Admin {
    async fn set_state(&self, name: &str, state: LogState) -> Result<v1::LogInfo, Status> {
        let log = tokio::task::block_in_place(|| self.0.log(name))?;
        if matches!(*log.state.read(), LogState::Sealed { .. }) {
            return Err(status::precondition(Reason::Sealed, "the log is sealed: read-only for ever"));
        }
        // New appends are refused from here on; those that wait in the queue come before the change.
        let before = std::mem::replace(&mut *log.state.write(), state.clone());
        if let Err(error) = self.0.change(|ticket| Command::SetState(log.epoch, log.number, state, ticket)).await {
            *log.state.write() = before;
            return Err(error);
        }
        Ok(Core::info(&log))
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn create_log(
        &self,
        request: Request<v1::CreateLogRequest>,
    ) -> Result<Response<v1::CreateLogResponse>, Status> {
        let log = create_log(&self.0, request.get_ref()).await?;
        Ok(Response::new(v1::CreateLogResponse { info: Some(Core::info(&log)) }))
    }

    async fn freeze_log(
        &self,
        request: Request<v1::FreezeLogRequest>,
    ) -> Result<Response<v1::FreezeLogResponse>, Status> {
        let _one_at_a_time = self.0.creating.lock().await;
        let info = self.set_state(&request.get_ref().log, LogState::Frozen).await?;
        Ok(Response::new(v1::FreezeLogResponse { info: Some(info) }))
    }

    async fn thaw_log(&self, request: Request<v1::ThawLogRequest>) -> Result<Response<v1::ThawLogResponse>, Status> {
        let _one_at_a_time = self.0.creating.lock().await;
        let v1::ThawLogRequest { log: name, checkpoints } = request.get_ref();
        let not_asked = tokio::task::block_in_place(|| {
            let log = self.0.log(name)?;
            thaw::check(&self.0, &log, checkpoints)
        })?;
        let info = self.set_state(name, LogState::Active).await?;
        Ok(Response::new(v1::ThawLogResponse { info: Some(info), not_asked }))
    }

    async fn seal_log(&self, request: Request<v1::SealLogRequest>) -> Result<Response<v1::SealLogResponse>, Status> {
        let name = &request.get_ref().log;
        // A thaw in between would let entries in behind the seal.
        let _one_at_a_time = self.0.creating.lock().await;
        // Drain first: the state change rides behind everything that is queued.
        self.set_state(name, LogState::Frozen).await?;
        let log = tokio::task::block_in_place(|| self.0.log(name))?;
        publisher::publish_witnessed(&self.0, &log).await?;
        let note = tokio::task::block_in_place(|| self.0.seal(&log, now_ms() / 1_000))?;
        let info = self.set_state(name, LogState::Sealed { note }).await?;
        Ok(Response::new(v1::SealLogResponse { info: Some(info) }))
    }

    async fn rotate_keys(&self, _: Request<v1::RotateKeysRequest>) -> Result<Response<v1::RotateKeysResponse>, Status> {
        Err(Status::unimplemented("key rotation is not built yet"))
    }

    async fn describe_log_fully(
        &self,
        request: Request<v1::DescribeLogFullyRequest>,
    ) -> Result<Response<v1::DescribeLogFullyResponse>, Status> {
        let log = tokio::task::block_in_place(|| self.0.log(&request.get_ref().log))?;
        let record = self.0.store()?.logs(LogQuery::Name(&log.settings.name)).map_err(status::read)?.pop();
        let record = record.ok_or_else(|| Status::not_found("the log is gone"))?;
        let published_size = log.published.borrow().as_ref().map_or(0, |published| published.head.size.0);
        let read_only_reason = log.signer().err().map(|status| status.message().to_owned()).unwrap_or_default();
        Ok(Response::new(v1::DescribeLogFullyResponse {
            info: Some(Core::info(&log)),
            number: log.number.0,
            profile: "opaque".into(),
            identity_scope: "log".into(),
            leaf_index: log.settings.leaf_index,
            created_ms: log.settings.created_ms,
            round: record.head.round.0,
            published_size,
            read_only_reason,
        }))
    }
}
