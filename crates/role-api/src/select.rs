//! Which messages a filter means: page by page from the engine, compared with what stands in the
//! journal.

use crate::codes;
use crate::problem::Problem;
use crate::service::Api;
use countersign_rules::delivery::{Candidate, Cursor, Facts, Filter, Input, Page, Reply, Unread};
use countersign_rules::{MessageId, Position, TenantName};

/// Messages looked at in one step of the engine.
const CANDIDATES_TO_A_STEP: usize = 2048;

/// What a filter means.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// In the order of their ids.
    pub(crate) facts: Vec<Facts>,
    /// Those of which it cannot be told.
    pub(crate) unread: Vec<(Candidate, Unread)>,
    /// The record up to which was looked.
    pub(crate) as_of: Position,
    /// Where to go on, when there are more than were asked for.
    pub(crate) next: Option<Cursor>,
}

/// Looks for `count` messages behind `after`.
pub(crate) async fn select(
    api: &Api,
    tenant: &TenantName,
    filter: &Filter,
    mut after: Option<Cursor>,
    count: usize,
) -> Result<Selection, Problem> {
    let mut selection = Selection::default();
    loop {
        let input = Input::List {
            tenant: tenant.clone(),
            filter: filter.clone(),
            after,
            count: CANDIDATES_TO_A_STEP,
        };
        let page = page(api, input).await?;
        if selection.as_of == 0 {
            selection.as_of = page.through;
        }
        after = page.next;
        let as_of = selection.as_of;
        for (candidate, read) in facts(api, page.candidates).await? {
            if selection.facts.len() + selection.unread.len() == count {
                let last = selection.facts.last().map(|facts| facts.candidate.id);
                let last = last.max(selection.unread.last().map(|(unread, _)| unread.id));
                selection.next = last.map(|last| Cursor(u128::from_be_bytes(last.0)));
                return Ok(selection);
            }
            match read {
                // What ended after the first look was not there to be meant.
                Ok(facts) if filter.fits(&facts) && facts.decided <= as_of => {
                    selection.facts.push(facts);
                }
                Ok(_) => {}
                Err(unread) => selection.unread.push((candidate, unread)),
            }
        }
        if after.is_none() {
            return Ok(selection);
        }
    }
}

/// These messages, as far as they are known.
pub(crate) async fn named(
    api: &Api,
    tenant: &TenantName,
    ids: &[MessageId],
) -> Result<(Vec<(Candidate, Result<Facts, Unread>)>, Position), Problem> {
    let (mut found, mut through) = (Vec::new(), 0);
    for ids in ids.chunks(CANDIDATES_TO_A_STEP) {
        let input = Input::ListOne {
            tenant: tenant.clone(),
            ids: ids.to_vec(),
        };
        let page = page(api, input).await?;
        through = page.through;
        found.extend(facts(api, page.candidates).await?);
    }
    Ok((found, through))
}

async fn page(api: &Api, input: Input) -> Result<Page, Problem> {
    match api.centre().ask(input).await? {
        Reply::Page(page) => Ok(*page),
        other => unreachable!("a list is answered by a page, not {other:?}"),
    }
}

/// What stands in the journal about each.
async fn facts(
    api: &Api,
    candidates: Vec<Candidate>,
) -> Result<Vec<(Candidate, Result<Facts, Unread>)>, Problem> {
    let centre = api.centre().clone();
    let read = tokio::task::spawn_blocking(move || {
        let read = |position| centre.read(position).map_err(|error| error.to_string());
        let facts = candidates.into_iter().map(|candidate| {
            let facts = Facts::read(&candidate, read);
            (candidate, facts)
        });
        facts.collect()
    });
    read.await
        .map_err(|_| Problem::new(codes::STOPPED, "the process is ending"))
}
