//! A TCP proxy between two parts, whose link can be slow or cut while it runs.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::fault::Harm;

/// How late every byte is on a slow link, each way.
pub const LATENCY: Duration = Duration::from_millis(250);
/// And how many of them pass in a second, each way and connection.
pub const BYTES_PER_S: u64 = 64 * 1_024;
/// Read at once.
const CHUNK: usize = 4_096;
/// Chunks under way; beyond them the sender waits, as for a full window.
const UNDER_WAY: usize = 64;

/// Ends, with its connections, when it is dropped.
pub struct Proxy {
    pub port: u16,
    harm: watch::Sender<Option<Harm>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Listens on a port and passes everything on to another one of this machine.
    pub async fn start(port: u16, to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (harm, seen) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((near, _)) = listener.accept().await else { continue };
                // Behind a cut nobody is reached.
                let mut seen = seen.clone();
                while connections.try_join_next().is_some() {}
                connections.spawn(async move {
                    passable(&mut seen).await;
                    // Whoever is refused sees the end of the connection.
                    let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    let _ = (near.set_nodelay(true), far.set_nodelay(true));
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::join!(pass(near_in, far_out, seen.clone()), pass(far_in, near_out, seen));
                });
            }
        });
        Self { port, harm, task }
    }

    /// Harms the link from now on, or heals it.
    pub fn set(&self, harm: Option<Harm>) {
        self.harm.send_replace(harm);
    }
}

/// Waits until something passes. A proxy that has ended lets nothing pass.
async fn passable(harm: &mut watch::Receiver<Option<Harm>>) {
    if harm.wait_for(|harm| *harm != Some(Harm::Cut)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// One direction of a connection, until its end.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut harm: watch::Receiver<Option<Harm>>) {
    let (send, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let reading = async {
        let mut chunk = vec![0; CHUNK];
        while let Ok(count @ 1..) = from.read(&mut chunk).await {
            if send.send((Instant::now(), chunk[..count].to_vec())).await.is_err() {
                return;
            }
        }
        drop(send);
    };
    let mut watched = harm.clone();
    let writing = async {
        while let Some((read_at, chunk)) = under_way.recv().await {
            passable(&mut harm).await;
            if *harm.borrow() == Some(Harm::Slow) {
                sleep_until(read_at + LATENCY).await;
                let takes = Duration::from_micros(chunk.len() as u64 * 1_000_000 / BYTES_PER_S);
                // Healed meanwhile, it waits no longer.
                tokio::select! {
                    () = sleep(takes) => {}
                    _ = watched.wait_for(|harm| *harm != Some(Harm::Slow)) => {}
                }
            }
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        // The end of a stream passes like its bytes.
        passable(&mut harm).await;
        let _ = to.shutdown().await;
    };
    tokio::pin!(reading, writing);
    tokio::select! {
        () = &mut reading => writing.await,
        () = &mut writing => {}
    }
}
