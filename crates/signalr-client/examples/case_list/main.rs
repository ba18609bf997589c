//! The client against any server with the hub of the conformance table: every transport, every encoding.
//!
//! `SIGNALR_URL` names the server's root (`http://127.0.0.1:5000` when it is not set), `SIGNALR_JWT_SECRET` the HS256
//! secret with which tokens are minted, `SIGNALR_ONLY` a part of the names of the cases to run. A line a case, then
//! `N passed, N failed`; the exit status is not zero when one failed.

#![allow(clippy::unwrap_used, reason = "a case that cannot go on has failed")]

mod calls;
mod life;
mod stateful;
mod streams;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use signalr_client::Transport;

use crate::world::{WAYS, Way, World};

/// One thing that must hold.
pub(crate) struct Case {
    name: &'static str,
    /// Over which transports and encodings it is tried.
    ways: Ways,
    run: Box<dyn Fn(World) -> BoxFuture<'static, ()>>,
}

/// Over which transports and encodings a case is tried.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ways {
    Every,
    /// Every encoding of the transport that carries them all.
    WebSockets,
    Once,
}

/// A case for every transport and encoding.
pub(crate) fn every<F, Fut>(name: &'static str, run: F) -> Case
where
    F: Fn(World) -> Fut + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Case {
        name,
        ways: Ways::Every,
        run: Box::new(move |world| run(world).boxed()),
    }
}

/// A case that has its own idea of the transport.
pub(crate) fn once<F, Fut>(name: &'static str, run: F) -> Case
where
    F: Fn(World) -> Fut + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let ways = Ways::Once;
    Case {
        ways,
        ..every(name, run)
    }
}

/// A case about WebSockets, for every encoding.
pub(crate) fn websockets<F, Fut>(name: &'static str, run: F) -> Case
where
    F: Fn(World) -> Fut + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let ways = Ways::WebSockets;
    Case {
        ways,
        ..every(name, run)
    }
}

impl Case {
    fn ways(&self) -> impl Iterator<Item = &'static Way> {
        let (ways, count) = match self.ways {
            Ways::Once => (self.ways, 1),
            ways => (ways, WAYS.len()),
        };
        let fits =
            move |way: &&Way| ways != Ways::WebSockets || way.transport == Transport::WebSockets;
        WAYS.iter().take(count).filter(fits)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    // Panics are how cases fail; each is told on its own line.
    std::panic::set_hook(Box::new(|_| {}));
    let only = std::env::var("SIGNALR_ONLY").unwrap_or_default();
    let (mut passed, mut failed) = (0, 0);
    let cases = [
        calls::cases(),
        streams::cases(),
        life::cases(),
        stateful::cases(),
    ];
    for case in cases.into_iter().flatten() {
        for way in case.ways() {
            let name = shown(&case, way);
            if !name.contains(&only) {
                continue;
            }
            let world = World::new(*way);
            match outcome((case.run)(world)).await {
                Ok(()) => {
                    passed += 1;
                    println!("ok    {name}");
                }
                Err(why) => {
                    failed += 1;
                    println!("FAIL  {name}\n      {why}");
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    match (passed, failed) {
        (1.., 0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn shown(case: &Case, way: &Way) -> String {
    match case.ways {
        Ways::Once => case.name.to_owned(),
        _ => format!("{} [{}]", case.name, way.name()),
    }
}

/// Runs a case to its end, or to the time within which every case ends when nothing is wrong.
async fn outcome(run: BoxFuture<'static, ()>) -> Result<(), String> {
    let task = tokio::spawn(tokio::time::timeout(CASE_TIMEOUT, run));
    match task.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(format!("not over within {CASE_TIMEOUT:?}")),
        Err(error) => Err(match error.try_into_panic() {
            Ok(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                text.or(literal).unwrap_or_else(|| "it panicked".to_owned())
            }
            Err(error) => error.to_string(),
        }),
    }
}

const CASE_TIMEOUT: Duration = Duration::from_secs(40);
