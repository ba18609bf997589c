//! HTTP and WebSocket frames by hand.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::JoinHandle;

/// What came back of a request so far. The default is nothing at all.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) has_ended: bool,
}

impl Reply {
    pub(crate) fn is_stream(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }

    /// An event stream is an answer as soon as it begins.
    pub(crate) fn is_answered(&self) -> bool {
        self.has_ended || self.is_stream()
    }

    pub(crate) fn header(&self, wanted: &str) -> Option<&str> {
        let named = self.headers.iter().find(|(name, _)| name == wanted);
        named.map(|(_, value)| value.as_str())
    }
}

/// A request under way.
pub(crate) struct Exchange {
    writer: Option<OwnedWriteHalf>,
    reading: Option<JoinHandle<()>>,
    reply: Arc<Mutex<Reply>>,
}

impl Exchange {
    /// An answer that is there already.
    pub(crate) fn done(reply: Reply) -> Self {
        Self {
            writer: None,
            reading: None,
            reply: Arc::new(Mutex::new(reply)),
        }
    }

    /// Sends a request after which the server is to close.
    pub(crate) async fn begin(address: SocketAddr, head: &str, body: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let (mut reader, writer) = stream.into_split();
        let reply = Arc::new(Mutex::new(Reply::default()));
        let shared = Arc::clone(&reply);
        let reading = tokio::spawn(async move {
            let mut bytes = Vec::new();
            loop {
                let mut chunk = [0; 4096];
                // A reset is an end too.
                let length = reader.read(&mut chunk).await.unwrap_or(0);
                bytes.extend_from_slice(&chunk[..length]);
                note(&bytes, length == 0, &mut shared.lock().unwrap());
                if length == 0 {
                    return;
                }
            }
        });
        Self {
            writer: Some(writer),
            reading: Some(reading),
            reply,
        }
    }

    /// Sends what was missing of the body.
    pub(crate) async fn finish(&mut self, rest: &[u8]) {
        if let Some(writer) = &mut self.writer {
            writer.write_all(rest).await.unwrap();
        }
    }

    pub(crate) fn reply(&self) -> Reply {
        self.reply.lock().unwrap().clone()
    }

    /// The client goes away, whatever comes.
    pub(crate) fn cut(&mut self) {
        // What it would see of the end counts no more.
        self.reply = Arc::new(Mutex::new(self.reply()));
        self.writer = None;
        if let Some(reading) = self.reading.take() {
            reading.abort();
        }
    }
}

/// Takes down what has come by now.
fn note(bytes: &[u8], has_ended: bool, reply: &mut Reply) {
    if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
        (reply.status, reply.headers) = parse_head(&bytes[..end]);
        let rest = &bytes[end + 4..];
        let length = reply.header("content-length").map(str::parse::<usize>);
        reply.has_ended = length == Some(Ok(rest.len()));
        reply.body = match reply.header("transfer-encoding") {
            Some("chunked") => unchunked(rest),
            _ => rest.to_vec(),
        };
    }
    reply.has_ended |= has_ended;
}

/// Asks for a WebSocket, which is there where the answer is 101.
pub(crate) async fn upgrade(address: SocketAddr, head: &str) -> (Reply, Option<Socket>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut bytes, mut reply) = (Vec::new(), Reply::default());
    loop {
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk).await.unwrap_or(0);
        bytes.extend_from_slice(&chunk[..length]);
        note(&bytes, length == 0, &mut reply);
        if reply.status == 101 {
            let end = bytes.windows(4).position(|part| part == b"\r\n\r\n");
            let rest = bytes.split_off(end.unwrap() + 4);
            reply.body.clear();
            reply.has_ended = true;
            return (reply, Some(Socket::over(stream, rest)));
        }
        if reply.has_ended {
            return (reply, None);
        }
    }
}

/// What came over one WebSocket.
#[derive(Debug, Default, Clone)]
pub(crate) struct Received {
    pub(crate) payload: Vec<u8>,
    pub(crate) code: Option<u16>,
    pub(crate) has_ended: bool,
}

pub(crate) struct Socket {
    /// `None` when the client has cut it.
    writer: Option<OwnedWriteHalf>,
    reading: JoinHandle<()>,
    received: Arc<Mutex<Received>>,
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
        let reading = tokio::spawn(async move {
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
        Self {
            writer: Some(writer),
            reading,
            received,
        }
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.writer.is_none()
    }

    /// Ends the TCP connection without a Close frame: by a reset, or in order.
    pub(crate) async fn cut(&mut self, resets: bool) {
        let Some(writer) = self.writer.take() else {
            return;
        };
        if resets {
            writer.as_ref().set_zero_linger().unwrap();
        }
        self.reading.abort();
        // The other half is gone when the task is.
        let _ = (&mut self.reading).await;
    }

    pub(crate) fn received(&self) -> Received {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn forget_received(&self) {
        self.received.lock().unwrap().payload.clear();
    }

    /// The server may have ended the connection by now: what it does then shows in what is received.
    pub(crate) async fn send(&mut self, opcode: u8, fin: bool, masked: bool, payload: &[u8]) {
        self.send_part(opcode, fin, masked, payload, usize::MAX)
            .await;
    }

    /// Only so many bytes of the frame.
    pub(crate) async fn send_part(
        &mut self,
        opcode: u8,
        fin: bool,
        masked: bool,
        payload: &[u8],
        bytes_max: usize,
    ) {
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
        frame.truncate(bytes_max);
        if let Some(writer) = &mut self.writer {
            let _ = writer.write_all(&frame).await;
        }
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
