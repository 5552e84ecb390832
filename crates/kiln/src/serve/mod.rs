//! `kiln serve`: a model file behind HTTP.
//!
//! The way of a request: [`connection`] (limits of connections) -> [`shell`] (id, log, count, panic, token) ->
//! [`routes`] -> [`body`] (limits of bodies) -> [`input`] (pictures) -> [`queue`] (batches, the network) -> answer.
//! [`model_slot`] holds the model and swaps it.

mod body;
mod connection;
mod input;
mod logging;
mod metrics;
mod model_slot;
mod pages;
mod problem;
mod queue;
mod routes;
mod shell;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use clap::Args;
use data::DecodeLimits;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use train::command::{Failure, print};
use train::device::Backend;
use train::interrupt::INTERRUPTED;

use body::BodyLimits;
use connection::ConnectionLimits;
use input::ImageLimits;
use logging::LogFormat;
use metrics::Metrics;
use model_slot::{ModelSlot, Reload};
use pages::Pages;
use queue::{BatchLimits, Queue};
use routes::App;
use shell::Token;

/// The environment variable with the token.
const TOKEN: &str = "KILN_TOKEN";

/// Where the web page is in a checkout after `just web`.
const WEB: &str = "crates/web/dist";

/// How often the model file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Bodies that may be held in full at the same time.
const FULL_BODIES: usize = 32;

/// Memory that decoding one image may take: a photograph of 24 megapixels in colour.
const DECODED_BYTES: u64 = 72 << 20;

/// Flags of `kiln serve`.
#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    /// Model file or run folder; another file in its place is taken over within a second, or on SIGHUP
    #[arg(long, value_name = "RUN|FILE", default_value = "artifacts/reference")]
    model: PathBuf,
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where tensors live
    #[arg(long, value_enum, default_value = "flex")]
    backend: Backend,
    /// CPU threads of the network [default: all]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Most images that go through the network at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive(4096))]
    batch_size: usize,
    /// How long a request waits for others to share a batch with; alone it does not wait
    #[arg(long, value_name = "MS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=1000))]
    batch_wait_ms: u64,
    /// Requests in progress; more are answered with 503
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = positive(65_536))]
    queue: usize,
    /// Open connections; more are answered with 503
    #[arg(long, value_name = "N", default_value_t = 800, value_parser = positive(65_536))]
    connections: usize,
    /// Largest body of a request, in bytes or as 4MiB
    #[arg(long, value_name = "BYTES", default_value = "4MiB", value_parser = bytes)]
    max_body: usize,
    /// Most images of one request
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive(4096))]
    max_images: usize,
    /// Longest side of an image
    #[arg(long, value_name = "PIXELS", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    max_side: u32,
    /// How long a request may take to arrive, and then to be answered
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Let pages of this origin call the server (`https://example.org`, or `*`); may be repeated
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    cors: Vec<String>,
    /// File with a token that requests must bring as `Authorization: Bearer TOKEN` [also: the variable `KILN_TOKEN`]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Folder with the web page shown at `/` [default: crates/web/dist if it is there, else a form for uploads]
    #[arg(long, value_name = "FOLDER")]
    web: Option<PathBuf>,
    /// What the log on standard error looks like
    #[arg(long, value_enum, default_value = "plain")]
    log_format: LogFormat,
}

/// A number from 1 to `most`.
fn positive(most: usize) -> impl clap::builder::TypedValueParser<Value = usize> {
    use clap::builder::TypedValueParser;
    clap::value_parser!(u64).range(1..=most as u64).map(|value| value as usize)
}

/// `4194304`, `4096KiB` or `4MiB`.
fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        other => return Err(format!("unknown unit `{other}`; expected B, KiB or MiB")),
    };
    let number: usize =
        digits.parse().map_err(|_| "expected a number of bytes, as 4194304 or 4MiB".to_owned())?;
    let bytes = number.checked_mul(unit).filter(|bytes| (1..=1 << 30).contains(bytes));
    bytes.ok_or_else(|| "expected 1 B to 1024 MiB".to_owned())
}

fn origin(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', ' ', '*', '?', '#']));
    if (text == "*" || plain) && HeaderValue::from_str(text).is_ok() {
        return Ok(text.to_owned());
    }
    Err("expected `*` or an origin as browsers send it: scheme and host, no path (https://example.org)"
        .to_owned())
}

pub(crate) fn run(arguments: &ServeArguments) -> Result<ExitCode, Failure> {
    logging::init(arguments.log_format);
    kernels::keep_freed_memory();
    train::command::limit_threads(arguments.threads);
    let token = token(arguments.token_file.as_deref())?;
    let pages = Pages::new(web_folder(arguments).as_deref()).map_err(Failure::failed)?;
    let device = arguments.backend.device().map_err(Failure::failed)?;
    let models = ModelSlot::open(&arguments.model, device).map_err(Failure::failed)?;
    let app = app(arguments, models, pages, token).map_err(Failure::failed)?;
    let runtime = Runtime::new().map_err(Failure::failed)?;
    let code = runtime.block_on(listen(arguments, Arc::clone(&app)))?;
    // Without waiting for an image that a client has given up on.
    runtime.shutdown_background();
    Ok(code)
}

fn app(
    arguments: &ServeArguments,
    models: ModelSlot,
    pages: Pages,
    token: Option<Token>,
) -> std::io::Result<Arc<App>> {
    let metrics = Arc::new(Metrics::new());
    let limits = BatchLimits {
        images: arguments.batch_size,
        wait: Duration::from_millis(arguments.batch_wait_ms),
        requests: arguments.queue,
    };
    let time = Duration::from_secs(arguments.timeout);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(Arc::new(App {
        models,
        queue: Queue::start(limits, Arc::clone(&metrics))?,
        metrics,
        body: BodyLimits {
            bytes: arguments.max_body,
            time,
            budget: Arc::new(Semaphore::new(arguments.max_body * FULL_BODIES)),
        },
        images: ImageLimits {
            decode: DecodeLimits {
                bytes: arguments.max_body as u64,
                side: arguments.max_side,
                memory: DECODED_BYTES,
            },
            images: arguments.max_images,
        },
        time,
        decoders: Arc::new(Semaphore::new(cores)),
        token,
        cors: arguments.cors.clone(),
        pages,
        stopping: AtomicBool::new(false),
        started: Instant::now(),
    }))
}

/// The token from the file or else the environment.
fn token(file: Option<&Path>) -> Result<Option<Token>, Failure> {
    let (secret, source) = match file {
        Some(path) => {
            let secret = std::fs::read_to_string(path).map_err(|error| {
                Failure::failed(format!("cannot read the token file {}: {error}", path.display()))
            })?;
            (secret, path.display().to_string())
        }
        None => match std::env::var(TOKEN) {
            Ok(secret) => (secret, format!("the variable {TOKEN}")),
            Err(std::env::VarError::NotPresent) => return Ok(None),
            Err(error) => return Err(Failure::failed(format!("the variable {TOKEN}: {error}"))),
        },
    };
    match Token::new(&secret) {
        Some(token) => Ok(Some(token)),
        None => {
            Err(Failure::failed(format!("{source}: expected a token of visible ASCII characters, not empty")))
        }
    }
}

/// The folder that was asked for, or that of a checkout.
fn web_folder(arguments: &ServeArguments) -> Option<PathBuf> {
    let built = || Path::new(WEB).join("index.html").is_file().then(|| PathBuf::from(WEB));
    arguments.web.clone().or_else(built)
}

async fn listen(arguments: &ServeArguments, app: Arc<App>) -> Result<ExitCode, Failure> {
    let address = SocketAddr::new(arguments.host, arguments.port);
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(format!("cannot listen on {address}: {error}; choose another with --host and --port"))
    })?;
    let address = listener.local_addr().map_err(Failure::failed)?;
    let signals = Signals::new().map_err(Failure::failed)?;
    print(&format!("http://{address}"))?;
    {
        let loaded = app.models.current();
        let metadata = loaded.classifier.metadata();
        tracing::info!(
            model = metadata.weights_sha256.as_str(),
            classes = metadata.classes.len(),
            backend = %arguments.backend,
            "listening on {address}"
        );
    }
    if !arguments.host.is_loopback() && app.token.is_none() {
        tracing::warn!(
            "anybody who reaches {address} may use this server; set a token with {TOKEN} or --token-file"
        );
    }

    let (stop, stopped) = watch::channel(false);
    let limits = ConnectionLimits {
        count: arguments.connections,
        head: Duration::from_secs(arguments.timeout),
        farewell: Duration::from_secs(5),
    };
    let router = routes::router(&app);
    let server = tokio::spawn(connection::serve(listener, router, limits, Arc::clone(&app.metrics), stopped));
    let code = attend(&app, signals, stop, server).await;
    tracing::info!("stopped");
    Ok(code)
}

/// Looks at the model file and waits for signals until the server has ended.
async fn attend(
    app: &Arc<App>,
    mut signals: Signals,
    stop: watch::Sender<bool>,
    mut server: tokio::task::JoinHandle<()>,
) -> ExitCode {
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = clock.tick() => look(app, false).await,
            signal = signals.next() => match signal {
                Signal::Reload => look(app, true).await,
                Signal::Stop if stop.send_replace(true) => {
                    tracing::warn!("stopping at once");
                    return ExitCode::from(INTERRUPTED as u8);
                }
                Signal::Stop => {
                    tracing::info!("stopping: what is in progress is finished");
                    app.stopping.store(true, Relaxed);
                }
            },
            ended = &mut server => {
                if let Err(error) = ended {
                    tracing::error!("the server ended: {error}");
                    return ExitCode::FAILURE;
                }
                return ExitCode::SUCCESS;
            }
        }
    }
}

/// Swaps the model if its file has changed; requests go on meanwhile.
async fn look(app: &Arc<App>, forced: bool) {
    let own = Arc::clone(app);
    match tokio::task::spawn_blocking(move || own.models.look(forced)).await {
        Ok(Reload::Unchanged) if forced => tracing::info!("the model file is the one in use"),
        Ok(Reload::Unchanged) => {}
        Ok(Reload::Swapped(loaded)) => {
            app.metrics.reload(true);
            tracing::info!(
                model = loaded.classifier.metadata().weights_sha256.as_str(),
                "another model answers now"
            );
        }
        Ok(Reload::Refused(reason)) => {
            app.metrics.reload(false);
            tracing::error!("the model in use goes on, the file is refused: {reason}");
        }
        Err(error) => tracing::error!("the model file could not be looked at: {error}"),
    }
}

enum Signal {
    Stop,
    Reload,
}

/// SIGTERM, SIGINT and SIGHUP.
#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
        }
    }
}

/// Ctrl-C.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    #[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        // An error means that there will be no signal: the server runs until it is ended.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::Stop
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_origins_are_checked() {
        assert_eq!(bytes("1"), Ok(1));
        assert_eq!(bytes("512KiB"), Ok(512 << 10));
        assert_eq!(bytes("4MiB"), Ok(4 << 20));
        for wrong in ["", "MiB", "-1", "0", "4MB", "1025MiB", "1e3", "99999999999999999999"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        for right in ["*", "https://example.org", "http://localhost:3000"] {
            assert_eq!(origin(right).as_deref(), Ok(right));
        }
        for wrong in ["", "example.org", "https://", "https://a/b", "https://*.org", "null"] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
