//! Keep-alive HTTP/1.1 connections, one request in flight on each.
use std::sync::Arc;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::{mpsc, Mutex},
};

type Connection = BufReader<TcpStream>;

#[derive(Clone)]
pub struct Pool {
    free: Arc<Mutex<mpsc::UnboundedReceiver<Connection>>>,
    back: mpsc::UnboundedSender<Connection>,
}

impl Pool {
    pub async fn new(addr: &str, n: u64) -> Pool {
        let (back, free) = mpsc::unbounded_channel();
        for _ in 0..n {
            let stream = TcpStream::connect(addr).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let _ = back.send(BufReader::new(stream));
        }
        Pool {
            free: Arc::new(Mutex::new(free)),
            back,
        }
    }

    /// Whatever the answer is.
    pub async fn post(&self, path: &str, body: &[u8]) {
        self.send(path, "", body).await;
    }

    /// The status and the body of the answer. `headers`: whole lines, each with its end.
    pub async fn send(&self, path: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut connection = self.free.lock().await.recv().await.unwrap();
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: l\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        connection.get_mut().write_all(&request).await.unwrap();
        let (mut line, mut status, mut length) = (String::new(), 0, 0usize);
        loop {
            line.clear();
            assert!(
                connection.read_line(&mut line).await.unwrap() > 0,
                "the server closed a connection"
            );
            if status == 0 {
                status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(1);
            }
            if line.len() <= 2 {
                break;
            }
            if line.len() > 15 && line[..15].eq_ignore_ascii_case("content-length:") {
                length = line[15..].trim().parse().unwrap();
            }
        }
        let mut answer = vec![0u8; length];
        connection.read_exact(&mut answer).await.unwrap();
        let _ = self.back.send(connection);
        (status, answer)
    }
}
