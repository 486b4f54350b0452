//! Loads the logs that have something to do without being asked: after a start, and whenever the store was opened anew.
//!
//! A log is loaded when it is first touched. One whose signatures are renewed must not wait for that, nor one whose newest
//! round was not published when the process ended. To find them costs one small read a log, beside the service.

use std::sync::Arc;
use std::time::Duration;

use logwood_store::{LogQuery, LogRecord, LogStore};
use tonic::{Code, Status};

use crate::core::Core;
use crate::status;

/// How many logs are looked at in one go.
const PAGE_LOGS: usize = 256;

/// How long to wait before the next attempt if the store is being opened anew.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Looks at every log once, and loads those that have something to do.
pub(crate) async fn wake(core: Arc<Core>) {
    let mut after = String::new();
    loop {
        let (asked, from) = (Arc::clone(&core), after.clone());
        let page = tokio::task::spawn_blocking(move || wake_page(&asked, &from)).await;
        match page {
            Ok(Ok(Some(last))) => after = last,
            Ok(Ok(None)) => return,
            Ok(Err(status)) if status.code() == Code::Unavailable => tokio::time::sleep(RETRY_PAUSE).await,
            Ok(Err(status)) => {
                return tracing::error!(%status, "logs are renewed and published only once they are touched");
            }
            Err(error) => return tracing::error!(%error, "looking for logs to renew and to publish failed: a bug"),
        }
    }
}

/// Loads what needs it of the logs that come after this name. The last name of the page; `None` at the end.
fn wake_page(core: &Core, after: &str) -> Result<Option<String>, Status> {
    if *core.shared.halted.borrow() {
        return Err(status::halted());
    }
    let store = core.store()?;
    let query = LogQuery::After { name: after, logs_max: PAGE_LOGS };
    let records = store.logs(query).map_err(status::read)?;
    for record in &records {
        let name = &record.settings.name;
        let woken = has_something_to_do(core, &*store, record).and_then(|has| has.then(|| core.log(name)).transpose());
        if let Err(status) = woken {
            if status.code() == Code::Unavailable {
                return Err(status);
            }
            tracing::error!(log = name, %status, "a log cannot be loaded: it is neither renewed nor published");
        }
    }
    Ok(records.last().map(|last| last.settings.name.clone()))
}

fn has_something_to_do(core: &Core, store: &dyn LogStore, record: &LogRecord) -> Result<bool, Status> {
    let has_cosigner = record.settings.vkeys.len() > 1;
    if has_cosigner || core.witnesses.policy(&record.settings.name).is_some() {
        return Ok(true);
    }
    Ok(core.published_size(store, record)? < record.head.head.size)
}
