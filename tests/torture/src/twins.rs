//! A second connection with the identity of the agent, beside the agent's own.

use crate::site::{AGENT, Site};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use signalr_client::{Connection, Options};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What the second connection says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twin {
    /// It shakes hands and never says that it is ready: the first one goes on.
    Silent,
    /// It says that it is ready, with an empty store of its own, takes what comes, and keeps and
    /// acknowledges nothing.
    Ready,
}

/// Connects beside the agent and stays so long, or until the hub ends it. The number of messages that
/// came.
pub(crate) async fn connect(site: &Site, twin: Twin, stays: Duration) -> Result<u64> {
    let token = site.agent_token().await?;
    let options = Options::new(&format!("{}/hub", site.api))?;
    let options = options.token(move || {
        let token = token.clone();
        async move { Ok::<_, String>(token) }
    });
    let (connection, mut incoming) = Connection::connect(options).await?;
    let until = Instant::now() + stays;
    if twin == Twin::Ready {
        let ready = json!({
            "epoch": "1", "floor": 0, "cursor": 0, "highest": 0, "centre_epoch": "0",
            "client": { "name": format!("{AGENT}'s twin"), "version": "1" },
        });
        let _: Value = connection
            .invoke("ready", (ready,))
            .await
            .context("the hub answers a second connection that is ready")?;
    }
    let mut came = 0;
    while let Ok(Some(_)) = timeout_at(until, incoming.next()).await {
        came += 1;
    }
    connection.close().await;
    Ok(came)
}
