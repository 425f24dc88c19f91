//! The answering side: says on the system account how far this process has come.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;

use super::ledger::Ledger;
use super::progress::Positions;
use unibus_core::bus;
use unibus_store::link::Link;

/// Answers until the connection ends. Nobody but daemons can ask or answer: users are in another account.
pub async fn answer(link: &Link, ledger: &Arc<Ledger>) -> Result<()> {
    let mut questions = link.system.subscribe(bus::FENCE_SUBJECT).await.context("cannot listen to the fence")?;
    while let Some(question) = questions.next().await {
        let (Some(reply), Ok(wanted)) = (question.reply, serde_json::from_slice::<Positions>(&question.payload)) else {
            tracing::debug!("a question of the fence is not understood");
            continue;
        };
        let (ledger, client) = (ledger.clone(), link.system.clone());
        tokio::spawn(async move {
            // Whoever asks asks again.
            if tokio::time::timeout(bus::FENCE_AGAIN + Duration::from_millis(50), ledger.settled(&wanted))
                .await
                .is_err()
            {
                return;
            }
            let said = serde_json::to_vec(&ledger.acknowledgement()).context("cannot say it");
            let sent = async { Ok::<_, anyhow::Error>(client.publish(reply, said?.into()).await?) };
            if let Err(error) = sent.await {
                tracing::debug!("a question of the fence was not answered: {error:#}");
            }
        });
    }
    anyhow::bail!("the connection of the fence ended")
}
