//! Reading a request's body within limits that hold for it and for all requests together.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use hyper::body::{Body as _, Bytes};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::problem::Problem;

/// How much of a refused body is read and thrown away, so that the client gets to read the answer,
/// as a multiple of what is allowed.
const PATIENCE: u64 = 8;

/// Limits of bodies.
#[derive(Clone, Debug)]
pub(crate) struct BodyLimits {
    /// Bytes of one body.
    pub(crate) bytes: usize,
    /// How long one may take to arrive.
    pub(crate) time: Duration,
    /// Bytes that all bodies together may hold, as permits. Taken as they arrive: a slow client holds
    /// what it has sent, not what it has announced.
    pub(crate) budget: Arc<Semaphore>,
}

/// A body, and its part of the budget until dropped.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl BodyLimits {
    /// The whole body.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Held, Problem> {
        match timeout(self.time, self.collect(headers, body)).await {
            Ok(result) => result,
            Err(_) => Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("the body did not arrive within {} s", self.time.as_secs_f64()),
            )),
        }
    }

    async fn collect(&self, headers: &HeaderMap, mut body: Body) -> Result<Held, Problem> {
        let too_large =
            || Problem::too_large(format!("the body has more than the {} bytes allowed", self.bytes));
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse::<u64>().ok());
        if announced.is_some_and(|announced| announced > self.bytes as u64) {
            // A client that waits for permission to send has nothing to throw away.
            if !headers.contains_key(header::EXPECT) {
                self.discard(body).await;
            }
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(1 << 16) as usize);
        let mut held: Option<OwnedSemaphorePermit> = None;
        while let Some(data) = next(&mut body).await.transpose()? {
            if bytes.len() + data.len() > self.bytes {
                self.discard(body).await;
                return Err(too_large());
            }
            let Ok(permit) = Arc::clone(&self.budget).try_acquire_many_owned(data.len() as u32) else {
                self.discard(body).await;
                return Err(Problem::busy("too many requests are being received; try again"));
            };
            match &mut held {
                Some(held) => held.merge(permit),
                None => held = Some(permit),
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Held { bytes: bytes.into(), permit: held })
    }

    /// Reads on without keeping anything: a client that is still sending would otherwise find the
    /// connection reset, and not the answer.
    async fn discard(&self, mut body: Body) {
        let mut left = self.bytes as u64 * PATIENCE;
        while let Some(Ok(data)) = next(&mut body).await {
            let Some(rest) = left.checked_sub(data.len() as u64) else { break };
            left = rest;
        }
    }
}

/// The next piece of data; trailers are skipped.
async fn next(body: &mut Body) -> Option<Result<Bytes, Problem>> {
    loop {
        match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            // The client went away or broke the framing; nobody reads the answer.
            Err(_) => return Some(Err(Problem::bad_request("the body ended too early"))),
        }
    }
}
