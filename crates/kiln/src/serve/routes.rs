//! What is answered where.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant, UNIX_EPOCH};

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use hyper::body::Bytes;
use model::{ClassifyError, Fit, Prepared, Scores};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::answer::{Answer, Choice, read_digits};

use super::body::{BodyLimits, Held};
use super::budget::{Budget, Share};
use super::decoders::{Decoders, Slot};
use super::guard::{self, Guard};
use super::input::{ImageLimits, Input, Sent};
use super::metrics::{CONTENT_TYPE, Gauges, Metrics};
use super::model_slot::{Loaded, ModelSlot};
use super::pages::Pages;
use super::parameters::Parameters;
use super::problem::Problem;
use super::queue::{Fault, Queue};
use super::seats::Seat;
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
    pub(crate) decoders: Arc<Decoders>,
    /// What prepared images that wait for the network, and answers that wait for their clients, may hold.
    pub(crate) prepared: Budget,
    pub(crate) answers: Budget,
    pub(crate) guard: Arc<Guard>,
    pub(crate) token: Option<Arc<Token>>,
    pub(crate) pages: Pages,
    pub(crate) stopping: AtomicBool,
    pub(crate) started: Instant,
}

/// All routes with what surrounds them.
pub(crate) fn router(app: &Arc<App>) -> Router {
    let guarded = Router::new()
        .route("/v1/predict", post(predict))
        .route("/v1/model", get(describe))
        .route("/v1/model/file", get(model_file))
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(app.token.clone(), shell::authorize));
    let open =
        Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(ready)).fallback(page);
    let routes = open
        .merge(guarded)
        .method_not_allowed_fallback(async || wrong_method())
        // Bodies are read by `BodyLimits`.
        .layer(DefaultBodyLimit::disable())
        .with_state(Arc::clone(app));
    let routes = shell::allow_origins(routes, app.guard.origins());
    let guard = (Arc::clone(&app.guard), app.body.clone());
    let routes = routes.layer(middleware::from_fn_with_state(guard, guard::check));
    shell::wrap(routes, Arc::clone(&app.metrics))
}

#[derive(Serialize)]
struct Answers<'a> {
    model: ModelId<'a>,
    predictions: Vec<Answer>,
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

async fn predict(
    State(app): State<Arc<App>>,
    Extension(seat): Extension<Arc<Seat>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let held = app.body.read(&parts.headers, body).await?;
    seat.work();
    let parameters = Parameters::from_query(parts.uri.query().unwrap_or_default())?;
    let place = app.queue.admit(false);
    // When all places are taken, a large picture that has not begun leaves for whoever comes.
    let place = place.or_else(|| app.decoders.give_way().then(|| app.queue.admit(true)).flatten());
    let mut place = place.ok_or_else(|| Problem::busy("too many requests are in progress; try again"))?;

    let own = Arc::clone(&app);
    let work = async move {
        let Held { bytes, share } = held;
        let input = Input::new(parts, bytes, &own.images).await?;
        let (images, choice) = take_apart(&own, input, parameters).await?;
        let loaded = own.models.current();
        let predictions = match prepare(&own, &loaded, images, choice, share).await? {
            Ready::Read(answers) => answers,
            Ready::Images(images, several, share) => {
                let scores = place.submit(Arc::clone(&loaded), images, Some(share)).await;
                let scores: Vec<Scores> = match scores {
                    Ok(Ok(scores)) => scores,
                    Ok(Err(Fault::Panicked | Fault::Classify(_))) => return Err(Problem::internal()),
                    // The queue was closed under us.
                    Err(_) => return Err(Problem::busy("the server is stopping")),
                };
                let policy = choice.policy();
                let answer = |(scores, several)| Answer {
                    prediction: loaded.classifier.prediction(scores, &policy).of_several(several),
                    reading: None,
                };
                scores.iter().zip(several).map(answer).collect()
            }
        };
        drop(place);
        Ok::<_, Problem>((loaded, predictions))
    };
    let (loaded, predictions) = timeout(app.time, work)
        .await
        .map_err(|_| Problem::busy(format!("no answer within {} s; try again", app.time.as_secs_f64())))??;
    send(&app, &Answers { model: (&*loaded).into(), predictions })
}

/// The answer, which holds its share of memory until the client has read it.
fn send(app: &App, answers: &Answers) -> Result<Response, Problem> {
    struct Sending {
        text: Vec<u8>,
        _share: Share,
    }
    impl AsRef<[u8]> for Sending {
        fn as_ref(&self) -> &[u8] {
            &self.text
        }
    }
    let text = serde_json::to_vec(answers).map_err(|error| {
        tracing::error!("the answer: {error}");
        Problem::internal()
    })?;
    let share = share(&app.answers, text.len(), "the answer")?;
    let body = Bytes::from_owner(Sending { text, _share: share });
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// A share of a budget, at once or not at all.
fn share(budget: &Budget, bytes: usize, what: &str) -> Result<Share, Problem> {
    if bytes > budget.total() {
        return Err(Problem::too_large(format!(
            "{what} would take {bytes} bytes; expected at most {}; send several requests",
            budget.total()
        )));
    }
    budget.take(bytes).ok_or_else(|| Problem::busy("too many requests are in progress; try again"))
}

/// The images of a body, and what was chosen about them.
async fn take_apart(
    app: &Arc<App>,
    input: Input,
    mut parameters: Parameters,
) -> Result<(Vec<Sent>, Choice), Problem> {
    let limits = app.images;
    let price = match &input {
        Input::Json(body) => Some(3 * body.len() as u64),
        Input::Files(_) => None,
    };
    let read = move || Ok((input.images(&mut parameters, &limits)?, parameters.choice));
    let Some(price) = price else { return read() };
    let slot = app.decoders.slot(price).await?;
    blocking(slot, move |_| read()).await
}

/// What the images of a request became.
enum Ready {
    /// For the network, `[N, C, H, W]`, and of each whether it holds several digits.
    Images(Vec<u8>, Vec<bool>, Share),
    /// Read already, where digits were asked for.
    Read(Vec<Answer>),
}

/// Decodes and fits the images one after the other, away from the threads that serve connections. When the request
/// is given up, so is what has not begun.
async fn prepare(
    app: &Arc<App>,
    loaded: &Arc<Loaded>,
    sent: Vec<Sent>,
    choice: Choice,
    body: Option<Share>,
) -> Result<Ready, Problem> {
    choice.check(&loaded.classifier).map_err(Problem::bad_request)?;
    let bytes = sent.len() * loaded.classifier.input().len();
    let share = share(&app.prepared, bytes, "the images in the model's size")?;
    let mut work = Fitting {
        several: sent.len() > 1,
        left: sent.into(),
        costs: 0,
        done: 0,
        images: Vec::with_capacity(if choice.digits { 0 } else { bytes }),
        digits: Vec::new(),
        read: Vec::new(),
        loaded: Arc::clone(loaded),
        choice,
        limits: app.images,
        _body: body,
    };
    while let Some(bytes) = work.price() {
        let slot = app.decoders.slot(bytes).await.map_err(|problem| work.named(problem))?;
        // Held by the work, not by the request: it goes on for this image when the request is given up.
        work = blocking(slot, move |granted| work.go_on(granted)).await?;
    }
    Ok(if choice.digits { Ready::Read(work.read) } else { Ready::Images(work.images, work.digits, share) })
}

/// For so long a request goes on with its images before it lets others have its slot.
const TURN: Duration = Duration::from_millis(5);

/// The images of a request on their way through the decoder.
struct Fitting {
    /// In their order, with what is known of the price of the first.
    left: VecDeque<Sent>,
    costs: u64,
    several: bool,
    /// `[N, C, H, W]`
    images: Vec<u8>,
    /// Of each, whether it holds several digits.
    digits: Vec<bool>,
    /// Instead, where digits are read.
    read: Vec<Answer>,
    done: usize,
    loaded: Arc<Loaded>,
    choice: Choice,
    limits: ImageLimits,
    _body: Option<Share>,
}

impl Fitting {
    /// What the next image costs, or to look at it; `None` when there is none.
    fn price(&self) -> Option<u64> {
        Some(self.left.front()?.opening().max(self.costs))
    }

    /// Says that the next image is at fault, where there are several.
    fn named(&self, problem: Problem) -> Problem {
        if self.several { problem.of_image(self.done) } else { problem }
    }

    /// Goes on until its turn is over, or until an image costs more than was granted.
    fn go_on(mut self, granted: u64) -> Result<Self, Problem> {
        let begin = Instant::now();
        while let Some(sent) = self.left.front()
            && self.price().is_some_and(|price| price <= granted)
        {
            match self.fit(sent, granted) {
                Ok(Step::Image(prepared)) => {
                    self.images.extend_from_slice(&prepared.image);
                    self.digits.push(prepared.several);
                }
                Ok(Step::Read(answer)) => self.read.push(answer),
                Ok(Step::Costs(cost)) => {
                    self.costs = cost;
                    break;
                }
                Err(problem) => return Err(self.named(problem)),
            }
            self.left.pop_front();
            (self.costs, self.done) = (0, self.done + 1);
            if begin.elapsed() >= TURN {
                break;
            }
        }
        Ok(self)
    }

    fn fit(&self, sent: &Sent, granted: u64) -> Result<Step, Problem> {
        let classifier = &self.loaded.classifier;
        let (search, pieces) = match classifier.metadata().preprocessing.fit {
            _ if self.choice.digits => (READ_SIDE, classifier.reading_memory()),
            Fit::Digit => (DIGIT_SIDE, classifier.examining_memory()),
            _ => (0, 0),
        };
        let opened = sent.open(&self.limits)?;
        let cost = opened.cost(search, pieces as u64, &self.limits)?;
        if cost > granted {
            return Ok(Step::Costs(cost));
        }
        let picture = opened.decode(&self.limits)?;
        let fault = |error: ClassifyError| match error {
            ClassifyError::Picture { source, .. } => Problem::bad_request(source.to_string()),
            error @ (ClassifyError::TooManyMarks { .. } | ClassifyError::MultiLabel(_)) => {
                Problem::bad_request(error.to_string())
            }
            ClassifyError::Device(_) => Problem::internal(),
        };
        if self.choice.digits {
            let mut answer = read_digits(classifier, &picture, &self.choice.policy()).map_err(fault)?;
            // Not sent; they would be held until the request ends.
            for digit in answer.reading.iter_mut().flat_map(|reading| &mut reading.digits) {
                digit.image = Vec::new();
            }
            return Ok(Step::Read(answer));
        }
        classifier.examine(&picture).map(Step::Image).map_err(fault)
    }
}

/// What became of an image.
enum Step {
    Image(Prepared),
    Read(Answer),
    /// Nothing yet: it costs more than was granted.
    Costs(u64),
}

/// Longest side on which ink is searched for, as in `model`: for one digit and for a text.
const DIGIT_SIDE: u64 = 512;
const READ_SIDE: u64 = 1600;

/// Runs what takes its time on a thread for that; `work` gets the bytes of its slot, which is free when it is done.
async fn blocking<T: Send + 'static>(
    slot: Slot,
    work: impl FnOnce(u64) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(move || {
        let done = work(slot.bytes());
        drop(slot);
        done
    });
    done.await.map_err(|error| {
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
        "task": metadata.task,
        "classes": metadata.classes,
        "reads_digits": loaded.classifier.reads_digits(),
        "valid_accuracy": figure("valid_accuracy"),
        "test_accuracy": figure("test_accuracy"),
        "loaded_at_unix_seconds":
            loaded.since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    }))
}

/// The file of the model that answers, for the page.
async fn model_file(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let loaded = app.models.current();
    let Some(file) = loaded.file.clone() else {
        let detail = "the model's file is given out only where a page runs it (--web), and up to 64 MiB";
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    Ok(([(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, "no-cache")], file)
        .into_response())
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
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text)
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
