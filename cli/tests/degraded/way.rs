//! The way to a server, which the test can close.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::run::free;

/// How a server is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Away {
    /// Connections end, and new ones are refused, as when a process has ended.
    CutOff,
    /// Connections stay and new ones are taken, and nothing passes, as when a network loses all.
    Silent,
}

pub struct Way {
    /// `host:port` to use in place of the server's.
    pub address: String,
    server: String,
    passes: watch::Sender<bool>,
    open: Option<JoinHandle<()>>,
}

impl Way {
    /// An open way to the server at `host:port`.
    pub async fn to(server: &str) -> Self {
        let mut way = Self { address: free(), server: server.to_owned(), passes: watch::Sender::new(true), open: None };
        way.heal().await;
        way
    }

    pub async fn close(&mut self, how: Away) {
        match how {
            Away::CutOff => {
                if let Some(open) = self.open.take() {
                    open.abort();
                    let _ = open.await;
                }
            }
            Away::Silent => drop(self.passes.send_replace(false)),
        }
    }

    /// Lets everything pass again, also what was held back.
    pub async fn heal(&mut self) {
        self.passes.send_replace(true);
        if self.open.is_none() {
            let listener = TcpListener::bind(&self.address).await.unwrap();
            self.open = Some(tokio::spawn(serve(listener, self.server.clone(), self.passes.subscribe())));
        }
    }
}

/// Connections end with it.
async fn serve(listener: TcpListener, server: String, passes: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        connections.spawn(connect(client, server.clone(), passes.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(client: TcpStream, server: String, mut passes: watch::Receiver<bool>) -> io::Result<()> {
    open(&mut passes).await;
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    // Either end closes both.
    tokio::select! {
        ended = pass(from_client, to_server, passes.clone()) => ended,
        ended = pass(from_server, to_client, passes) => ended,
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut passes: watch::Receiver<bool>) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        open(&mut passes).await;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}

async fn open(passes: &mut watch::Receiver<bool>) {
    if passes.wait_for(|passes| *passes).await.is_err() {
        // The test is over.
        std::future::pending().await
    }
}
