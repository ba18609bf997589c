//! `send @FILE` of a file that is too large for a message: its body goes first, in pieces.
//!
//! A cut costs what was under way and no more: the server is asked how far the body has come, and the
//! rest follows from there.

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use aws_lc_rs::digest::{Context, SHA256};
use futures_util::stream;
use reqwest::{Body, Method, StatusCode};
use serde_json::json;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

const PIECE_BYTES: usize = 256 * 1024;
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Time without any progress after which the command gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Sends the file at `path` as a body of its own; gives its id.
pub(crate) async fn upload(
    client: &Client,
    path: &Path,
    output: Output,
) -> Result<String, Failure> {
    let unreadable = |error: io::Error| Failure::file(path, "read", &error);
    let (bytes, sha256) = measure(path).map_err(unreadable)?;
    let declare = client.request(Method::POST, "/v1/bodies");
    let declare = declare.json(&json!({ "bytes": bytes, "sha256": sha256 }));
    let declared = client.send("declare the body", declare).await?;
    let id = declared.body["id"].as_str().unwrap_or_default().to_owned();
    let address = format!("/v1/bodies/{id}");
    let (mut offset, mut progress, mut pause) = (0, Instant::now(), PAUSE_FIRST);
    while offset < bytes {
        let pieces = pieces(path, offset).map_err(unreadable)?;
        let request = client
            .request(Method::PATCH, &address)
            .header("content-type", "application/offset+octet-stream")
            .header("upload-offset", offset)
            .body(Body::wrap_stream(pieces));
        let failure = match client.send("send the body", request).await {
            Ok(_) => break,
            Err(failure) if failure.exit == Exit::CannotConnect => failure,
            Err(failure) if failure.code == "E-UPLOAD-OFFSET" => failure,
            Err(failure) => return Err(failure),
        };
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(PAUSE_MAX);
        if let Some(there) = how_far(client, &address).await? {
            output.progress(&format!("goes on at    {there} of {bytes} bytes"));
            if there > offset {
                (progress, pause) = (Instant::now(), PAUSE_FIRST);
            }
            offset = there;
        }
        if progress.elapsed() > PATIENCE {
            return Err(failure);
        }
    }
    Ok(id)
}

/// How many bytes the server has; `None` when it does not answer.
async fn how_far(client: &Client, address: &str) -> Result<Option<u64>, Failure> {
    let Ok(answer) = client.request(Method::HEAD, address).send().await else {
        return Ok(None);
    };
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => {
            return Err(Failure::new(
                Exit::NotFound,
                "E-UNKNOWN-BODY",
                "the server does not know the body any more",
                "it was begun too long ago, or the server keeps another store",
                "send it again",
            ));
        }
        _ => return Ok(None),
    }
    let offset = answer.headers().get("upload-offset");
    let offset = offset.and_then(|value| value.to_str().ok());
    Ok(offset.and_then(|text| text.parse().ok()))
}

/// Length and SHA-256 of a file.
fn measure(path: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut sum) = (File::open(path)?, Context::new(&SHA256));
    let (mut buffer, mut bytes) = (vec![0; PIECE_BYTES], 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        sum.update(&buffer[..read]);
        bytes += read as u64;
    }
    let mut text = String::with_capacity(64);
    for byte in sum.finish().as_ref() {
        write!(text, "{byte:02x}").expect("writing to memory cannot fail");
    }
    Ok((bytes, text))
}

/// The file from `offset` on.
fn pieces(
    path: &Path,
    offset: u64,
) -> io::Result<impl stream::Stream<Item = io::Result<Vec<u8>>> + Send + use<>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(stream::try_unfold(file, |mut file| async move {
        let mut piece = vec![0; PIECE_BYTES];
        let read = file.read(&mut piece)?;
        piece.truncate(read);
        Ok((read > 0).then_some((piece, file)))
    }))
}
