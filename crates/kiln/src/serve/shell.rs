//! What surrounds every request: its id, the log line, the count, the token, and what is left of a panic.

use std::any::Any;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument;

use super::metrics::Metrics;
use super::problem::Problem;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over from a client.
const LONGEST_ID: usize = 64;

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    /// The address of this machine that the client has reached.
    pub(crate) local: IpAddr,
}

/// A secret that requests must bring. Never shown.
pub(crate) struct Token(Vec<u8>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(...)")
    }
}

impl Token {
    /// The secret without surrounding white space, as a file often has it.
    pub(crate) fn new(secret: &str) -> Option<Self> {
        let secret = secret.trim();
        // What cannot be in a header would lock everybody out.
        let usable = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
        usable.then(|| Self(secret.as_bytes().to_vec()))
    }

    /// Whether a request brings it. Takes the same time whatever the difference, so that it cannot be
    /// guessed byte by byte; only its length could be learnt.
    fn is_in(&self, request: &Request) -> bool {
        let Some(value) = request.headers().get(header::AUTHORIZATION) else { return false };
        let value = value.as_bytes();
        let Some((scheme, given)) = value.split_at_checked("Bearer ".len()) else { return false };
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.ct_eq(&self.0))
    }
}

/// Lets a request through that brings the token, or any when there is none.
pub(crate) async fn authorize(
    State(token): State<Option<Arc<Token>>>,
    request: Request,
    next: Next,
) -> Response {
    match &token {
        Some(token) if !token.is_in(&request) => {
            let detail = "this server wants its token: `Authorization: Bearer TOKEN`";
            Problem::new(StatusCode::UNAUTHORIZED, detail).into_response()
        }
        _ => next.run(request).await,
    }
}

/// Puts the routes into everything that requests have in common.
pub(crate) fn wrap(routes: Router, metrics: Arc<Metrics>) -> Router {
    let counted = Arc::clone(&metrics);
    // The last layer is the outermost.
    let routes = routes.layer(CatchPanicLayer::custom(move |panic: Box<dyn Any + Send>| {
        counted.panic();
        tracing::error!("a handler panicked: {}", data::text::panic_message(&*panic).unwrap_or("no message"));
        Problem::internal().into_response()
    }));
    routes.layer(middleware::from_fn_with_state(metrics, observe))
}

/// Tells browsers that pages of these origins may call.
pub(crate) fn allow_origins(routes: Router, origins: &[String]) -> Router {
    if origins.is_empty() { routes } else { routes.layer(cors_layer(origins)) }
}

fn cors_layer(origins: &[String]) -> CorsLayer {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION, REQUEST_ID])
        .expose_headers([REQUEST_ID])
}

/// Gives the request an id, counts it, and writes its line to the log.
async fn observe(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(&request);
    let route = route(request.uri().path());
    let method = request.method().clone();
    let path = printable(request.uri().path());
    let peer = request.extensions().get::<Ends>().map(|ends| ends.peer.to_string()).unwrap_or_default();

    let span = tracing::info_span!("request", id = id.as_str());
    let mut response = next.run(request).instrument(span.clone()).await;

    let status = response.status();
    let duration = started.elapsed();
    metrics.request(route, status.as_u16(), duration);
    let milliseconds = duration.as_secs_f64() * 1e3;
    span.in_scope(|| {
        tracing::info!(
            method = method.as_str(),
            path = path.as_str(),
            status = status.as_u16(),
            milliseconds,
            peer = peer.as_str(),
            "answered"
        );
    });
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// What a request is counted under: one of few names, whatever paths clients invent.
fn route(path: &str) -> &'static str {
    const ROUTES: [&str; 9] = [
        "/v1/predict",
        "/v1/model",
        "/v1/model/file",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/",
    ];
    ROUTES.into_iter().find(|&route| route == path).unwrap_or("other")
}

/// The client's id when it is a short plain word, else a new one.
fn request_id(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let plain = |id: &&str| {
        (1..=LONGEST_ID).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    given.filter(plain).map_or_else(new_id, str::to_owned)
}

/// Unique among the servers of a site: when this process began, and a count.
fn new_id() -> String {
    use std::sync::LazyLock;
    use std::time::{SystemTime, UNIX_EPOCH};
    static PREFIX: LazyLock<u64> = LazyLock::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (now.as_nanos() as u64) ^ (u64::from(std::process::id()) << 40)
    });
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}-{:x}", *PREFIX, COUNT.fetch_add(1, Relaxed))
}

/// At most 100 characters, none of which can disturb a terminal.
fn printable(path: &str) -> String {
    path.chars().take(100).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    fn request(path: &str) -> axum::http::request::Builder {
        axum::http::Request::builder().uri(path)
    }

    async fn answer(router: &Router, request: axum::http::Request<Body>) -> (StatusCode, Response<String>) {
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        (parts.status, Response::from_parts(parts, text))
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_panic_is_an_error_and_the_next_request_is_answered() {
        let metrics = Arc::new(Metrics::new());
        let routes = Router::new()
            .route("/bad", get(async || -> &'static str { panic!("secret /etc/path") }))
            .route("/good", get(async || "good"));
        let router = wrap(routes, Arc::clone(&metrics));
        run(async {
            for _ in 0..3 {
                let (status, bad) = answer(&router, request("/bad").body(Body::empty()).unwrap()).await;
                assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
                assert_eq!(bad.headers()[header::CONTENT_TYPE], "application/problem+json");
                assert!(bad.headers().contains_key(REQUEST_ID));
                assert!(!bad.body().contains("secret") && !bad.body().contains("panic"), "{}", bad.body());
                let (status, good) = answer(&router, request("/good").body(Body::empty()).unwrap()).await;
                assert_eq!((status, good.body().as_str()), (StatusCode::OK, "good"));
            }
        });
        let gauges = super::super::metrics::Gauges {
            in_progress: 0,
            queue_limit: 1,
            images_waiting: 0,
            weights_sha256: "",
            uptime: std::time::Duration::ZERO,
        };
        let text = metrics.text(&gauges);
        assert!(text.contains("kiln_panics_total 3"), "{text}");
        assert!(text.contains("{route=\"other\",status=\"500\"} 3"), "{text}");
    }

    #[test]
    fn ids_are_taken_over_when_plain_and_made_otherwise() {
        let id = |given: Option<&str>| {
            let mut builder = request("/");
            if let Some(given) = given {
                builder = builder.header(REQUEST_ID, given);
            }
            request_id(&builder.body(Body::empty()).unwrap())
        };
        assert_eq!(id(Some("abc-1.2_3")), "abc-1.2_3");
        let long = "x".repeat(65);
        for bad in [None, Some(""), Some("a b"), Some("a\"b"), Some(long.as_str())] {
            assert!(id(bad).contains('-') && Some(id(bad).as_str()) != bad, "{bad:?}");
        }
        assert_ne!(id(None), id(None));
    }

    #[test]
    fn only_the_token_opens() {
        let token = Token::new(" s3cret\n").unwrap();
        let opens = |value: &str| {
            token.is_in(&request("/").header(header::AUTHORIZATION, value).body(Body::empty()).unwrap())
        };
        assert!(opens("Bearer s3cret") && opens("bearer s3cret"));
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3cret2", "Bearer S3cret", "Basic s3cret"]
        {
            assert!(!opens(wrong), "{wrong}");
        }
        assert!(Token::new(" \n").is_none() && Token::new("a b").is_none());
        assert_eq!(format!("{token:?}"), "Token(...)");
    }

    #[test]
    fn other_origins_are_allowed_only_when_named() {
        let allowed = |cors: &[&str], origin: &str| {
            let cors: Vec<String> = cors.iter().map(|&origin| origin.to_owned()).collect();
            let router = allow_origins(Router::new().route("/", get(async || "")), &cors);
            let request = request("/").header(header::ORIGIN, origin).body(Body::empty()).unwrap();
            let (_, response) = run(answer(&router, request));
            response
                .headers()
                .get(header::ACCESS_CONTROL_ALLOW_ORIGIN)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(allowed(&[], "https://a.example"), None);
        assert_eq!(allowed(&["https://b.example"], "https://a.example"), None);
        assert_eq!(
            allowed(&["https://a.example"], "https://a.example").as_deref(),
            Some("https://a.example")
        );
        assert_eq!(allowed(&["*"], "https://a.example").as_deref(), Some("*"));
    }
}
