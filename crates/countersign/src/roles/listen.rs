//! Sockets, and the end of a process.

use crate::exit::{Exit, Failure};
use axum::Router;
use axum::serve::ListenerExt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal;
use tokio::sync::watch;

/// Time for what still runs once a serving process is done. What hangs in a system call, such as a
/// write to a disk that does not answer, must not keep the process.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// Runs `task` to its end on a runtime of its own, and waits for nothing else for long.
pub(crate) fn block_on<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime()?;
    let done = runtime.block_on(task);
    runtime.shutdown_timeout(LAST_GRACE);
    done
}

/// The runtime of a serving process.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::unexpected("cannot start the runtime", error))
}

/// Binds `address` for `what`.
pub(crate) async fn bind(address: &str, what: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let (code, todo) = match error.kind() {
            ErrorKind::AddrInUse => (
                "E-PORT-IN-USE",
                format!("stop what listens there, or choose another address for {what}"),
            ),
            ErrorKind::PermissionDenied => {
                ("E-PORT-NOT-ALLOWED", "choose a port above 1023".to_owned())
            }
            _ => (
                "E-ADDRESS",
                format!("write the address of {what} like 127.0.0.1:7420"),
            ),
        };
        let what = format!("{what} cannot listen at {address}");
        Failure::new(Exit::CannotConnect, code, what, error.to_string(), todo)
    })
}

/// Where a listener listens.
pub(crate) fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener
        .local_addr()
        .map_err(|error| Failure::unexpected("a socket has no address", error))
}

/// Serves `router` until `stop` says so; requests under way are finished.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    // Small answers must not wait for the next one.
    let listener = listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "a socket keeps its delay");
        }
    });
    let stopped = async move {
        // A closed channel means that the process is ending too.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, router)
        .with_graceful_shutdown(stopped)
        .await
}

/// Ctrl-C, or SIGTERM where there is one.
pub(crate) async fn interrupted() {
    #[cfg(unix)]
    {
        let terminate = signal::unix::signal(signal::unix::SignalKind::terminate());
        if let Ok(mut terminate) = terminate {
            tokio::select! {
                _ = signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = signal::ctrl_c().await;
}
