//! The sentences that official servers put into completions, handshakes and Close messages.
//!
//! Users match on them, so they are kept to the letter. `detail` is appended as the official
//! server does: always for errors meant for the caller, for others only in detailed mode.

use alloc::format;
use alloc::string::String;

use crate::BindError;

/// Close error of a connection that ended by a fault, whatever the fault.
pub const CLOSED_WITH_ERROR: &str = "Connection closed with an error.";

/// Handshake error: not finished in time, or larger than the message limit.
pub const HANDSHAKE_CANCELED: &str = "Handshake was canceled.";

/// Handshake error: the request could not be read.
pub const HANDSHAKE_FAILED: &str = "An unexpected error occurred during connection handshake.";

/// Error of a client that was asked for a result and has no handler for the method.
pub const CLIENT_GAVE_NO_RESULT: &str = "Client didn't provide a result.";

/// Error of a client that could not bind the arguments it got.
pub const CLIENT_FAILED_TO_PARSE: &str = "Client failed to parse argument(s).";

/// Error of asking the client for a result while its connected event still runs.
pub const NO_RESULTS_WHILE_CONNECTING: &str =
    "Client results inside OnConnectedAsync Hub methods are not allowed.";

/// Appends ` Class: message`, the way official servers disclose an error.
pub fn with_detail(text: &str, class: &str, message: &str) -> String {
    format!("{text} {class}: {message}")
}

/// The call could not be started: unknown method, or arguments that do not fit.
pub fn failed_to_invoke(method: &str) -> String {
    format!("Failed to invoke '{method}' due to an error on the server.")
}

/// No such method.
pub fn unknown_method(method: &str) -> String {
    with_detail(
        &failed_to_invoke(method),
        "HubException",
        "Method does not exist.",
    )
}

/// The caller may not call this method.
pub fn unauthorized(method: &str) -> String {
    format!("Failed to invoke '{method}' because user is unauthorized")
}

/// The method failed.
pub fn method_failed(method: &str) -> String {
    format!("An unexpected error occurred invoking '{method}' on the server.")
}

/// A stream was asked for under the id of one that runs.
pub fn id_in_use(id: &str) -> String {
    format!("Invocation ID '{id}' is already in use.")
}

/// A stream failed behind its beginning.
pub const STREAM_FAILED: &str = "An error occurred on the server while streaming results.";

/// A streaming method was called like a plain one.
pub fn is_streaming(method: &str) -> String {
    format!(
        "The client attempted to invoke the streaming '{method}' method with a non-streaming \
         invocation."
    )
}

/// A plain method was called like a streaming one.
pub fn is_not_streaming(method: &str) -> String {
    format!(
        "The client attempted to invoke the non-streaming '{method}' method with a streaming \
         invocation."
    )
}

/// The client announced another number of uploads than the method takes.
pub fn wrong_upload_count(method: &str, sent: usize, expected: usize) -> String {
    let message = format!("Client sent {sent} stream(s), Hub method expects {expected}.");
    with_detail(&method_failed(method), "HubException", &message)
}

/// What detailed mode says about arguments that do not fit.
pub fn bind_detail(error: &BindError) -> String {
    match error {
        BindError::WrongCount { provided, expected } => {
            format!("Invocation provides {provided} argument(s) but target expects {expected}.")
        }
        BindError::WrongType { .. } => String::from(
            "Error binding arguments. Make sure that the types of the provided values match the \
             types of the hub method being invoked.",
        ),
    }
}

/// What detailed mode says about a message over the limit.
pub fn too_large_detail(bytes_max: usize) -> String {
    format!(
        "The maximum message size of {bytes_max}B was exceeded. The message size can be \
         configured in AddHubOptions."
    )
}

/// Handshake error: the server does not know the hub protocol.
pub fn protocol_not_supported(protocol: &str) -> String {
    format!("The protocol '{protocol}' is not supported.")
}

/// Handshake error: the server knows the protocol, but not this version of it.
pub fn version_not_supported(protocol: &str, version: i32) -> String {
    format!("The server does not support version {version} of the '{protocol}' protocol.")
}

/// Handshake error: the transport carries text only.
pub fn transport_is_text_only(protocol: &str) -> String {
    format!(
        "Cannot use the '{protocol}' protocol on the current transport. The transport does not \
         support 'Binary' transfer format."
    )
}
