//! What was sent against what the back office has and what the centre says; then everything that
//! journals prove, by the command that operators use.

use crate::sender::Sent;
use crate::site::Site;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use tokio::task::JoinSet;

/// The figures of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    sent: u64,
    acknowledged: u64,
    lost: u64,
    inserted_twice: u64,
    out_of_lane_order: u64,
    never_sent: u64,
    calls: u64,
}

impl Verdict {
    pub(crate) fn is_good(&self, messages: u64) -> bool {
        let faults = self.lost + self.inserted_twice + self.out_of_lane_order + self.never_sent;
        self.sent == messages && self.acknowledged == messages && faults == 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "back office: {} calls, {} documents never sent",
            self.calls, self.never_sent
        )?;
        write!(
            f,
            "sent, acknowledged, lost, inserted twice, out of lane order: {}, {}, {}, {}, {}",
            self.sent, self.acknowledged, self.lost, self.inserted_twice, self.out_of_lane_order
        )
    }
}

/// Compares.
pub(crate) async fn judge(site: &Arc<Site>, sent: &[Sent], documents: &[Value]) -> Result<Verdict> {
    let mut verdict = Verdict {
        sent: sent.len() as u64,
        ..Verdict::default()
    };
    let known: HashMap<&str, &Sent> = sent.iter().map(|sent| (sent.id.as_str(), sent)).collect();
    let mut inserted: HashMap<String, u64> = HashMap::new();
    let mut last_of_lane: BTreeMap<u64, u64> = BTreeMap::new();
    for document in documents {
        let id = document["message_id"]
            .as_str()
            .context("a document names its message")?;
        verdict.calls += document["attempts"].as_u64().unwrap_or(0);
        let times = inserted.entry(id.to_owned()).or_default();
        *times += 1;
        verdict.inserted_twice += u64::from(*times > 1);
        let Some(sent) = known.get(id) else {
            verdict.never_sent += 1;
            continue;
        };
        // Rows are numbered in the order of insertion.
        let last = last_of_lane.insert(sent.lane, sent.index);
        verdict.out_of_lane_order += u64::from(last.is_some_and(|last| last >= sent.index));
    }
    for sent in sent {
        if !inserted.contains_key(&sent.id) {
            verdict.lost += 1;
            println!("lost: {sent:?}");
        }
    }
    verdict.acknowledged = acknowledged(site, sent).await?;
    Ok(verdict)
}

/// How many the centre says are acknowledged; the others are printed.
async fn acknowledged(site: &Arc<Site>, sent: &[Sent]) -> Result<u64> {
    let mut asking = JoinSet::new();
    for part in sent.chunks(sent.len().div_ceil(ASKING).max(1)) {
        let (site, part) = (Arc::clone(site), part.to_vec());
        asking.spawn(async move {
            let mut acknowledged = 0;
            for sent in part {
                let message = site.get(&format!("/v1/messages/{}", sent.id)).await?;
                if message["state"] == "acknowledged" {
                    acknowledged += 1;
                } else {
                    println!("not acknowledged: {sent:?} {message}");
                }
            }
            anyhow::Ok(acknowledged)
        });
    }
    let mut acknowledged = 0;
    while let Some(part) = asking.join_next().await {
        acknowledged += part??;
    }
    Ok(acknowledged)
}

/// Questions under way at the same time.
const ASKING: usize = 16;

/// Has `countersign verify` judge the journals of all parties, with what was sent and what the back
/// office holds. Every process must have ended.
pub(crate) fn verify(site: &Site, sent: &[Sent], documents: &[Value]) -> Result<bool> {
    let mut sent: Vec<_> = sent.iter().collect();
    sent.sort_by_key(|sent| (sent.lane, sent.index));
    let sends = sent
        .iter()
        .map(|sent| json!({ "id": sent.id, "lane": sent.lane }));
    let effects = documents.iter().map(|document| {
        json!({ "message_id": document["message_id"], "idempotency_key": document["idempotency_key"] })
    });
    let sends = site.list("sends", sends)?;
    let effects = site.list("effects", effects)?;
    site.verify(&sends, &effects)
}

pub(crate) async fn documents(site: &Site) -> Result<Vec<Value>> {
    let (mut documents, mut after) = (Vec::new(), 0);
    loop {
        let url = format!("{}/documents?after={after}&limit=10000", site.back_office);
        let page: Value = site
            .http
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let page = page["documents"].as_array().cloned().unwrap_or_default();
        match page.last().and_then(|last| last["row"].as_u64()) {
            None => return Ok(documents),
            Some(row) => after = row,
        }
        documents.extend(page);
    }
}
