//! A server that reads requests, responds, and does nothing else: what the client, and the network of
//! the machine, let any server reach.

use std::convert::Infallible;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::Result;

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 24\r\n\r\n{\"ok\":true,\"error\":null}";

/// Serves until it is dropped, on threads of its own: as many as there are cores.
pub(crate) struct Bound {
    /// `http://address:port`
    pub(crate) address: String,
    runtime: Option<Runtime>,
}

impl Bound {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let listener = listener.into_std()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_io().build()?;
        runtime.spawn(accept(listener));
        Ok(Self { address, runtime: Some(runtime) })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: std::net::TcpListener) -> std::io::Result<Infallible> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A client that has gone ends its connection.
        tokio::spawn(respond(stream));
    }
}

async fn respond(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = Vec::new();
    loop {
        request.clear();
        while !is_whole(&request) {
            if stream.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        stream.write_all(RESPONSE).await?;
    }
}

/// Returns whether a request has all its bytes: the client sends the length last of its headers.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let digits = request[..end].iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let length = std::str::from_utf8(&request[end - digits..end]).ok().and_then(|length| length.parse::<usize>().ok());
    length.is_some_and(|length| request.len() >= end + 4 + length)
}
