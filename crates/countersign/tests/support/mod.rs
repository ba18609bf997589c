//! What the tests of real processes share.

use std::net::TcpListener;

/// The first of four free ports in a row.
pub(crate) fn free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = first.local_addr().expect("it is bound").port();
        let Some(last) = port.checked_add(3) else {
            continue;
        };
        if (port + 1..=last).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return port;
        }
    }
}
