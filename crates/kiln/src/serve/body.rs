//! Reading a request's body within limits that hold for it and for all requests together.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use hyper::body::{Body as _, Bytes};
use tokio::time::timeout;

use super::budget::{Budget, Share};
use super::problem::Problem;

/// How much of a refused body is read and thrown away, so that the client gets to read the answer,
/// as a multiple of what is allowed.
const PATIENCE: u64 = 8;

/// The beginning of every body, which needs no share of the budget: a small picture is let in whatever large ones
/// are under way. Bounded by the number of connections.
const FREE: usize = 16 << 10;

/// How long a body waits for its share of the budget while nothing is read from its client.
const WAIT: Duration = Duration::from_secs(1);

/// Limits of bodies.
#[derive(Clone, Debug)]
pub(crate) struct BodyLimits {
    /// Bytes of one body.
    pub(crate) bytes: usize,
    /// How long one may take to arrive.
    pub(crate) time: Duration,
    /// Bytes that all bodies together may hold. Taken as they arrive: a slow client holds what it has sent, not
    /// what it has announced.
    pub(crate) budget: Budget,
}

/// A body, and its part of the budget until dropped.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    pub(crate) share: Option<Share>,
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

    /// What is left to do for a request that is refused without its body.
    pub(crate) async fn refuse(&self, headers: &HeaderMap, body: Body) {
        // A client that waits for permission to send has nothing to throw away.
        if !headers.contains_key(header::EXPECT) {
            // Slow or not, it has its answer now.
            drop(timeout(self.time, self.discard(body)).await);
        }
    }

    async fn collect(&self, headers: &HeaderMap, mut body: Body) -> Result<Held, Problem> {
        if let Some(encoding) = unknown_encoding(headers) {
            self.refuse(headers, body).await;
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!("the body has the content encoding `{encoding}`; send it as it is, without one"),
            ));
        }
        let too_large =
            || Problem::too_large(format!("the body has more than the {} bytes allowed", self.bytes));
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse::<u64>().ok());
        if announced.is_some_and(|announced| announced > self.bytes as u64) {
            self.refuse(headers, body).await;
            return Err(too_large());
        }
        let mut bytes = Vec::with_capacity(announced.unwrap_or(0).min(1 << 16) as usize);
        let mut share: Option<Share> = None;
        while let Some(data) = next(&mut body).await.transpose()? {
            if bytes.len() + data.len() > self.bytes {
                self.discard(body).await;
                return Err(too_large());
            }
            let beyond = (bytes.len() + data.len()).saturating_sub(bytes.len().max(FREE));
            if beyond > 0 {
                let Ok(Some(more)) = timeout(WAIT, self.budget.wait(beyond)).await else {
                    self.discard(body).await;
                    return Err(Problem::busy("too many requests are being received; try again"));
                };
                match &mut share {
                    Some(share) => share.merge(more),
                    None => share = Some(more),
                }
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Held { bytes: bytes.into(), share })
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

/// The content encoding of a body that is not sent as it is.
fn unknown_encoding(headers: &HeaderMap) -> Option<String> {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let unknown = encodings.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_lowercase());
    unknown
        .filter(|encoding| encoding != "identity")
        .map(|encoding| encoding.chars().take(40).collect())
        .next()
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
