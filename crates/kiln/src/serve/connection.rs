//! Connections: their limits, and how they end when the server does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutWriter;
use tower::ServiceExt;

use super::metrics::Metrics;
use super::seats::{Seat, Seats};
use super::shell::Ends;

/// Longest head of a request, and what is buffered of a body at once. Every connection may hold as much.
const BUFFER: usize = 16 << 10;

/// The server is full: who has kept it waiting for this part of the time allowed gives his place to a newcomer.
const PART: u32 = 10;

/// How long a refused connection may take to read why.
const REFUSAL: Duration = Duration::from_secs(1);

/// Connections that are being told so at the same time; further ones are closed without a word.
const REFUSALS: usize = 128;

/// Until the system has file handles again.
const RECOVERY: Duration = Duration::from_millis(50);

/// Limits of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Connections at the same time.
    pub(crate) count: usize,
    /// How long the head of a request may take, how long a connection may wait for its next request, and how long a
    /// client may leave an answer unread.
    pub(crate) head: Duration,
    /// How long open requests may take after the server was told to stop.
    pub(crate) farewell: Duration,
}

/// Answers connections until `stop` is true, then finishes what has begun.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let seats = Arc::new(Seats::new(limits.count, limits.head / PART, Arc::clone(&metrics)));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut stop) => break,
        };
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file handles, or a client that was gone again.
                tracing::warn!("a connection could not be accepted: {error}");
                sleep(RECOVERY).await;
                continue;
            }
        };
        if let Some(seat) = seats.take() {
            connections.spawn(converse(stream, peer, router.clone(), limits, stop.clone(), seat));
            continue;
        }
        let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() else {
            metrics.connection_refused();
            continue;
        };
        let (seats, metrics) = (Arc::clone(&seats), Arc::clone(&metrics));
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            match seats.take_over().await {
                Some(seat) => {
                    drop(permit);
                    converse(stream, peer, router, limits, stop, seat).await;
                }
                None => {
                    metrics.connection_refused();
                    refuse(stream, permit).await;
                }
            }
        });
    }
    drop(listener);
    let finished = timeout(limits.farewell, async { while connections.join_next().await.is_some() {} });
    if finished.await.is_err() {
        tracing::warn!("{} connections were cut off after {:?}", connections.len(), limits.farewell);
    }
}

/// Waits until the server is told to stop; a sender that is gone has said so.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: ConnectionLimits,
    mut stop: watch::Receiver<bool>,
    seat: Seat,
) {
    // Answers are small: waiting for more to send would only delay them. A refusal costs speed alone.
    drop(stream.set_nodelay(true));
    let Ok(local) = stream.local_addr() else { return };
    let seat = Arc::new(seat);
    let own = Arc::clone(&seat);
    let service = service_fn(move |mut request: Request<Incoming>| {
        // A body may be on its way; a handler that has it calls `work`.
        if request.body().is_end_stream() {
            own.work();
        } else {
            own.wait();
        }
        request.extensions_mut().insert(Ends { peer, local: local.ip() });
        request.extensions_mut().insert(Arc::clone(&own));
        let (router, own) = (router.clone(), Arc::clone(&own));
        async move {
            let response = router.oneshot(request).await;
            own.wait();
            response
        }
    });
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(limits.head));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = seat.taken() => return,
        () = told(&mut stop) => {
            // Finishes the request that is open, if one is, and closes.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Slow, gone, or not HTTP: the client's matter.
        tracing::debug!("connection to {peer}: {error}");
    }
}

/// Says 503 to a connection beyond the limit.
async fn refuse(mut stream: TcpStream, _permit: OwnedSemaphorePermit) {
    const BODY: &str = r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"too many connections are open; try again"}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let farewell = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing while the client still sends would take the answer back from it.
        let mut waste = [0; 4096];
        while stream.read(&mut waste).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    // It was told or it was not; there is nobody else to tell.
    drop(timeout(REFUSAL, farewell).await);
}
