//! HTTP and WebSocket frames by hand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(3);

/// The default is none at all.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What came over one WebSocket.
#[derive(Debug, Default, Clone)]
pub(crate) struct Received {
    pub(crate) payload: Vec<u8>,
    pub(crate) code: Option<u16>,
    pub(crate) has_ended: bool,
}

pub(crate) struct Socket {
    writer: OwnedWriteHalf,
    received: Arc<Mutex<Received>>,
}

/// Sends a request and reads the whole answer, for which the connection is closed; a socket where it is an upgrade.
pub(crate) async fn request(
    address: std::net::SocketAddr,
    head: &str,
    body: &[u8],
) -> (Answer, Option<Socket>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut chunk)).await;
        // What has come by then is the answer: an event stream has no end.
        let length = read.map_or(0, |length| length.unwrap_or(0));
        bytes.extend_from_slice(&chunk[..length]);
        let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else {
            if length > 0 {
                continue;
            }
            return (Answer::default(), None);
        };
        let (status, headers) = parse_head(&bytes[..end]);
        let rest = bytes[end + 4..].to_vec();
        if status == 101 {
            let answer = Answer {
                status,
                headers,
                body: Vec::new(),
            };
            return (answer, Some(Socket::over(stream, rest)));
        }
        let named = |wanted: &str| headers.iter().find(|(name, _)| name == wanted);
        let is_whole =
            named("content-length").is_some_and(|(_, value)| value == &rest.len().to_string());
        if length == 0 || is_whole {
            let is_chunked = headers
                .iter()
                .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
            let body = if is_chunked { unchunked(&rest) } else { rest };
            return (
                Answer {
                    status,
                    headers,
                    body,
                },
                None,
            );
        }
    }
}

fn parse_head(head: &[u8]) -> (u16, Vec<(String, String)>) {
    let head = String::from_utf8(head.to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    (status, headers.collect())
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|part| part == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
        let Some(chunk) = rest.get(at + 2..at + 2 + length) else {
            break;
        };
        body.extend_from_slice(chunk);
        rest = rest.get(at + 4 + length..).unwrap_or_default();
    }
    body
}

impl Socket {
    fn over(stream: TcpStream, already: Vec<u8>) -> Self {
        let (mut reader, writer) = stream.into_split();
        let received = Arc::new(Mutex::new(Received::default()));
        let shared = Arc::clone(&received);
        tokio::spawn(async move {
            let mut bytes = already;
            loop {
                while let Some(length) = take_frame(&bytes, &shared) {
                    bytes.drain(..length);
                }
                let mut chunk = [0; 16 * 1024];
                match reader.read(&mut chunk).await {
                    Ok(length) if length > 0 => bytes.extend_from_slice(&chunk[..length]),
                    _ => break,
                }
            }
            shared.lock().unwrap().has_ended = true;
        });
        Self { writer, received }
    }

    pub(crate) fn received(&self) -> Received {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn forget_received(&self) {
        self.received.lock().unwrap().payload.clear();
    }

    /// The server may have ended the connection by now: what it does then shows in what is received.
    pub(crate) async fn send(&mut self, opcode: u8, fin: bool, masked: bool, payload: &[u8]) {
        let mut frame = vec![opcode | if fin { 0x80 } else { 0 }];
        let mask_bit = if masked { 0x80 } else { 0 };
        match payload.len() {
            length @ 0..126 => frame.push(mask_bit | length as u8),
            length @ 126..0x1_0000 => {
                frame.push(mask_bit | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(mask_bit | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        let mask = [0x12, 0x34, 0x56, 0x78];
        if masked {
            frame.extend_from_slice(&mask);
        }
        let bytes = payload.iter().zip(mask.iter().cycle());
        frame.extend(bytes.map(|(byte, key)| if masked { byte ^ key } else { *byte }));
        let _ = self.writer.write_all(&frame).await;
    }
}

/// Notes the frame at the front, if it is whole, and says how long it is.
fn take_frame(bytes: &[u8], shared: &Mutex<Received>) -> Option<usize> {
    let [first, second, rest @ ..] = bytes else {
        return None;
    };
    let (start, length) = match second & 0x7F {
        126 => (
            4,
            usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().unwrap())),
        ),
        127 => (
            10,
            u64::from_be_bytes(rest.get(..8)?.try_into().unwrap()) as usize,
        ),
        length => (2, usize::from(length)),
    };
    let payload = bytes.get(start..start + length)?;
    let mut received = shared.lock().unwrap();
    match first & 0x0F {
        0..=2 => received.payload.extend_from_slice(payload),
        8 => {
            let code = payload
                .get(..2)
                .map(|code| u16::from_be_bytes(code.try_into().unwrap()));
            // A Close frame without a code says so by this one.
            received.code = Some(code.unwrap_or(1005));
        }
        _ => {}
    }
    Some(start + length)
}
