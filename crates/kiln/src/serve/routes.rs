//! What is answered where.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use model::{ClassifyError, Picture, Policy, Prediction, Scores};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::body::BodyLimits;
use super::input::{ImageLimits, Input};
use super::metrics::{Gauges, Metrics};
use super::model_slot::{Loaded, ModelSlot};
use super::pages::Pages;
use super::problem::Problem;
use super::queue::{Fault, Queue};
use super::shell::{self, Token};

/// Everything that requests share.
pub(crate) struct App {
    pub(crate) models: ModelSlot,
    pub(crate) queue: Queue,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) body: BodyLimits,
    pub(crate) images: ImageLimits,
    /// How long an answer may take after the body is there.
    pub(crate) time: Duration,
    /// Images that are decoded at the same time: what bounds their memory.
    pub(crate) decoders: Arc<Semaphore>,
    pub(crate) token: Option<Token>,
    pub(crate) cors: Vec<String>,
    pub(crate) pages: Pages,
    pub(crate) stopping: AtomicBool,
    pub(crate) started: Instant,
}

/// All routes with what surrounds them.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let guarded = Router::new()
        .route("/v1/predict", post(predict))
        .route("/v1/model", get(describe))
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(Arc::clone(app), shell::authorize));
    let open =
        Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready)).fallback(page);
    let routes = open
        .merge(guarded)
        .method_not_allowed_fallback(async || wrong_method())
        // Bodies are read by `BodyLimits`.
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(app));
    shell::wrap(routes, Arc::clone(&app.metrics), &app.cors)
}

/// What `?top=5&reject_below=0.9` asks for.
fn policy(query: &str) -> Result<Policy, Problem> {
    let mut policy = Policy::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let expected = |what: &str| {
            // Not longer than a line, whatever was sent.
            let value: String = value.chars().take(40).collect();
            Problem::bad_request(format!("`{key}` is `{value}`; expected {what}"))
        };
        match key {
            "top" => {
                policy.top =
                    value.parse().ok().filter(|&top| top > 0).ok_or_else(|| expected("a number from 1"))?;
            }
            "reject_below" => {
                policy.reject_below = value
                    .parse()
                    .ok()
                    .filter(|below| (0.0..=1.0).contains(below))
                    .ok_or_else(|| expected("a probability from 0 to 1"))?;
            }
            _ => {
                let key: String = key.chars().take(40).collect();
                return Err(Problem::bad_request(format!(
                    "unknown parameter `{key}`; expected `top` or `reject_below`"
                )));
            }
        }
    }
    Ok(policy)
}

#[derive(Serialize)]
struct Answer<'a> {
    model: ModelId<'a>,
    predictions: Vec<Prediction>,
}

/// Which model answered.
#[derive(Serialize)]
struct ModelId<'a> {
    weights_sha256: &'a str,
    file_sha256: &'a str,
}

impl<'a> From<&'a Loaded> for ModelId<'a> {
    fn from(loaded: &'a Loaded) -> Self {
        Self {
            weights_sha256: &loaded.classifier.metadata().weights_sha256,
            file_sha256: &loaded.file_sha256,
        }
    }
}

async fn predict(State(app): State<Arc<App>>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let held = app.body.read(&parts.headers, body).await?;
    let policy = policy(parts.uri.query().unwrap_or_default())?;
    let full = || Problem::busy("too many requests are in progress; try again");
    let mut place = app.queue.admit().ok_or_else(full)?;

    let own = Arc::clone(&app);
    let work = async move {
        let input = Input::new(parts, held.bytes, &own.images).await?;
        let loaded = own.models.current();
        let (images, several) = prepare(&own, &loaded, input, held.permit).await?;
        let scores = place.submit(Arc::clone(&loaded), images).await;
        drop(place);
        Ok::<_, Problem>((loaded, scores, several))
    };
    let (loaded, scores, several) = timeout(app.time, work)
        .await
        .map_err(|_| Problem::busy(format!("no answer within {} s; try again", app.time.as_secs_f64())))??;
    let scores: Vec<Scores> = match scores {
        Ok(Ok(scores)) => scores,
        Ok(Err(Fault::Panicked | Fault::Classify(_))) => return Err(Problem::internal()),
        // The queue was closed under us.
        Err(_) => return Err(Problem::busy("the server is stopping")),
    };
    let predictions = scores
        .iter()
        .zip(several)
        .map(|(scores, several)| loaded.classifier.prediction(scores, &policy).of_several(several))
        .collect();
    Ok(Json(Answer { model: (&*loaded).into(), predictions }).into_response())
}

/// Decodes and fits the images, away from the threads that serve connections: `[N, C, H, W]`, and of each whether it
/// holds several digits.
async fn prepare(
    app: &Arc<App>,
    loaded: &Arc<Loaded>,
    input: Input,
    body: Option<OwnedSemaphorePermit>,
) -> Result<(Vec<u8>, Vec<bool>), Problem> {
    // Never closed.
    let decoder = Arc::clone(&app.decoders).acquire_owned().await.map_err(|_| Problem::internal())?;
    let (loaded, limits) = (Arc::clone(loaded), app.images);
    let decoded = tokio::task::spawn_blocking(move || {
        // Held here, not by the request: decoding goes on when the request has been given up.
        let _held = (decoder, body);
        let pictures: Vec<Picture> = input.decode(&limits)?;
        let many = pictures.len() > 1;
        let mut several = Vec::with_capacity(pictures.len());
        let mut images = Vec::with_capacity(pictures.len() * loaded.classifier.input().len());
        for (index, picture) in pictures.iter().enumerate() {
            let prepared = loaded.classifier.examine(picture).map_err(|error| {
                let ClassifyError::Picture { source, .. } = error else { return Problem::internal() };
                let problem = Problem::bad_request(source.to_string());
                if many { problem.of_image(index) } else { problem }
            })?;
            images.extend_from_slice(&prepared.image);
            several.push(prepared.several);
        }
        Ok((images, several))
    });
    decoded.await.map_err(|error| {
        tracing::error!("decoding failed: {error}");
        Problem::internal()
    })?
}

/// `GET /v1/model`: what answers, from the model file.
async fn describe(State(app): State<Arc<App>>) -> Json<Value> {
    let loaded = app.models.current();
    let metadata = loaded.classifier.metadata();
    let figure = |key: &str| metadata.provenance.get(key).cloned().unwrap_or(Value::Null);
    Json(json!({
        "weights_sha256": metadata.weights_sha256,
        "file_sha256": loaded.file_sha256,
        "format_version": metadata.format_version,
        "kiln_version": metadata.kiln_version,
        "parameters": metadata.parameters,
        "network": metadata.network,
        "preprocessing": metadata.preprocessing,
        "classes": metadata.classes,
        "valid_accuracy": figure("valid_accuracy"),
        "test_accuracy": figure("test_accuracy"),
        "loaded_at_unix_seconds":
            loaded.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    }))
}

async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let loaded = app.models.current();
    let (in_progress, images_waiting) = app.queue.depth();
    let text = app.metrics.text(&Gauges {
        in_progress,
        queue_limit: app.queue.limit(),
        images_waiting,
        weights_sha256: &loaded.classifier.metadata().weights_sha256,
        uptime: app.started.elapsed(),
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// Whether requests will be answered: a load balancer asks this.
async fn ready(State(app): State<Arc<App>>) -> Result<&'static str, Problem> {
    if app.stopping.load(Relaxed) {
        return Err(Problem::busy("the server is stopping"));
    }
    if !app.queue.is_alive() {
        return Err(Problem::busy("the network's thread has ended"));
    }
    Ok("ready\n")
}

async fn page(State(app): State<Arc<App>>, request: Request) -> Response {
    let Some(page) = app.pages.get(request.uri().path()) else {
        return Problem::new(StatusCode::NOT_FOUND, "nothing is here; /docs lists what there is")
            .into_response();
    };
    match *request.method() {
        // The body of an answer to HEAD is not sent.
        Method::GET | Method::HEAD => page.into_response(),
        _ => ([(header::ALLOW, "GET,HEAD")], wrong_method()).into_response(),
    }
}

fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "the header Allow names the methods of this address")
}
