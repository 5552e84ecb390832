//! `kiln serve`: a model file behind HTTP.
//!
//! Longer than other files: the flags of the server have their sentences here.
//!
//! The way of a request: [`connection`] and [`seats`] (limits of connections) -> [`shell`] (id, log, count, panic, token)
//! -> [`guard`] (whom it addresses, where it comes from) -> [`routes`] -> [`body`] (limits of bodies) -> [`parameters`],
//! [`input`] and [`decoders`] (pictures, one at a time) -> [`queue`] (batches, the network) -> answer.
//! [`model_slot`] holds the model and swaps it; [`budget`] bounds what all requests hold together.

mod body;
mod budget;
mod connection;
mod decoders;
mod guard;
mod input;
mod logging;
mod metrics;
mod model_slot;
mod pages;
mod parameters;
mod problem;
mod queue;
mod routes;
mod seats;
mod shell;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use axum::http::uri::Authority;
use clap::Args;
use data::DecodeLimits;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use train::command::{Failure, print};
use train::device::Backend;
use train::engine::interrupt::INTERRUPTED;

use body::BodyLimits;
use budget::Budget;
use connection::ConnectionLimits;
use decoders::Decoders;
use guard::Guard;
use input::{ImageLimits, MOST_IMAGES};
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

/// Bodies that may be held in full at the same time, beside the beginnings of all.
const FULL_BODIES: usize = 6;

/// What prepared images, and answers, may hold.
const PREPARED: usize = 32 << 20;
const ANSWERS: usize = 16 << 20;

/// How long an image waits for its turn to be decoded.
const TURN: Duration = Duration::from_secs(1);

/// How long open requests may take after the server was told to stop.
const FAREWELL: Duration = Duration::from_secs(4);

/// Flags of `kiln serve`.
#[derive(Args, Clone, Debug)]
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
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive(MOST_IMAGES))]
    max_images: usize,
    /// Longest side of an image
    #[arg(long, value_name = "PIXELS", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    max_side: u32,
    /// What decoding may take of all requests together, in bytes or as 192MiB; a larger image than fits is refused
    #[arg(long, value_name = "BYTES", default_value = "192MiB", value_parser = image_memory)]
    image_memory: u64,
    /// How long a request may take to arrive, and then to be answered
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Let pages of this origin call the server (`https://example.org`, or `*`); may be repeated
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    cors: Vec<String>,
    /// Answer to this name too, besides localhost and the address listened on (a server that others reach by name needs
    /// it); may be repeated
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    allow_host: Vec<String>,
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

/// As [`bytes`], with room for a small picture beside a large one.
fn image_memory(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        bytes @ IMAGE_MEMORY.. => Ok(bytes as u64),
        _ => Err(format!("expected at least {} MiB", IMAGE_MEMORY >> 20)),
    }
}

/// The least that decoding works with.
const IMAGE_MEMORY: usize = 64 << 20;

fn host_name(text: &str) -> Result<String, String> {
    match text.parse::<Authority>() {
        Ok(name) if name.host() == text => Ok(text.to_owned()),
        _ => Err("expected a name or an address as in a URL, without scheme and port (kiln.example.org)"
            .to_owned()),
    }
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
    model::ops::give_back_freed_memory();
    train::command::limit_threads(arguments.threads);
    let runtime = Runtime::new().map_err(Failure::failed)?;
    let code = runtime.block_on(serve(arguments));
    // Without waiting for an image that a client has given up on, or a file that does not come.
    runtime.shutdown_background();
    code
}

async fn serve(arguments: &ServeArguments) -> Result<ExitCode, Failure> {
    let mut signals = Signals::new().map_err(Failure::failed)?;
    let own = arguments.clone();
    let Some(app) = unless(signals.stop(), move || app(&own)).await else {
        tracing::info!("stopped before the model was loaded");
        return Ok(ExitCode::from(INTERRUPTED as u8));
    };
    listen(arguments, app?, signals).await
}

/// Does `work`, which may wait for a disk or a network, on a thread that nobody waits for when `stop` comes first.
async fn unless<T: Send + 'static>(
    stop: impl Future<Output = ()>,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Option<Result<T, Failure>> {
    tokio::select! {
        done = tokio::task::spawn_blocking(work) => Some(done.unwrap_or_else(|error| Err(Failure::failed(error)))),
        () = stop => None,
    }
}

/// Everything that requests share, from files.
fn app(arguments: &ServeArguments) -> Result<Arc<App>, Failure> {
    let token = token(arguments.token_file.as_deref())?;
    let web = web_folder(arguments);
    let pages = Pages::new(web.as_deref()).map_err(Failure::failed)?;
    let device = arguments.backend.device().map_err(Failure::failed)?;
    let models = ModelSlot::open(&arguments.model, device, web.is_some()).map_err(Failure::failed)?;
    let metrics = Arc::new(Metrics::new());
    let limits = BatchLimits {
        images: arguments.batch_size,
        wait: Duration::from_millis(arguments.batch_wait_ms),
        requests: arguments.queue,
    };
    let time = Duration::from_secs(arguments.timeout);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let decoders = Decoders::new(cores, arguments.image_memory, TURN);
    Ok(Arc::new(App {
        models,
        queue: Queue::start(limits, Arc::clone(&metrics)).map_err(Failure::failed)?,
        metrics,
        body: BodyLimits {
            bytes: arguments.max_body,
            time,
            budget: Budget::new(arguments.max_body * FULL_BODIES),
        },
        images: ImageLimits {
            decode: DecodeLimits {
                bytes: arguments.max_body as u64,
                side: arguments.max_side,
                // A colour picture is held twice, and in grey, while it is fitted.
                memory: decoders.most() / 7 * 3,
            },
            memory: decoders.most(),
            images: arguments.max_images,
        },
        time,
        decoders: Arc::new(decoders),
        prepared: Budget::new(PREPARED),
        answers: Budget::new(ANSWERS),
        guard: Arc::new(Guard::new(&arguments.allow_host, &arguments.cors)),
        token: token.map(Arc::new),
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
            // An empty variable, too: a secret that did not arrive must not open the server.
            Err(Failure::failed(format!(
                "{source}: expected a token of visible ASCII characters, not empty; for a server without a token unset it"
            )))
        }
    }
}

/// The folder that was asked for, or that of a checkout.
fn web_folder(arguments: &ServeArguments) -> Option<PathBuf> {
    let built = || Path::new(WEB).join("index.html").is_file().then(|| PathBuf::from(WEB));
    arguments.web.clone().or_else(built)
}

async fn listen(arguments: &ServeArguments, app: Arc<App>, signals: Signals) -> Result<ExitCode, Failure> {
    let address = SocketAddr::new(arguments.host, arguments.port);
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(format!("cannot listen on {address}: {error}; choose another with --host and --port"))
    })?;
    let address = listener.local_addr().map_err(Failure::failed)?;
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
        farewell: FAREWELL,
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
    mut server: JoinHandle<()>,
) -> ExitCode {
    let mut clock = tokio::time::interval(LOOK);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // A look may take as long as the file's disk likes; signals and the server's end do not wait for it.
    let mut look = Look::default();
    loop {
        tokio::select! {
            _ = clock.tick() => look.begin(app, false),
            () = look.end(app) => {}
            signal = signals.next() => match signal {
                Signal::Reload => look.begin(app, true),
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

/// A look at the model file on a thread of its own; requests go on meanwhile.
#[derive(Default)]
struct Look {
    under_way: Option<(JoinHandle<Reload>, bool)>,
    /// A forced one is to follow.
    again: bool,
}

impl Look {
    /// Begins one if none is under way.
    fn begin(&mut self, app: &Arc<App>, forced: bool) {
        if self.under_way.is_some() {
            self.again |= forced;
            return;
        }
        let own = Arc::clone(app);
        self.under_way = Some((tokio::task::spawn_blocking(move || own.models.look(forced)), forced));
    }

    /// Waits for the one under way, and says what it came to.
    async fn end(&mut self, app: &Arc<App>) {
        let Some((look, forced)) = &mut self.under_way else { return std::future::pending().await };
        let (found, forced) = (look.await, *forced);
        self.under_way = None;
        match found {
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
        if std::mem::take(&mut self.again) {
            self.begin(app, true);
        }
    }
}

enum Signal {
    Stop,
    #[cfg_attr(not(unix), expect(dead_code, reason = "only Unix has a signal for it"))]
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

impl Signals {
    /// Waits until the server is to stop.
    async fn stop(&mut self) {
        while !matches!(self.next().await, Signal::Stop) {}
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
    fn a_file_that_does_not_come_does_not_hold_up_the_end() {
        let runtime = Runtime::new().unwrap();
        let (release, stalled) = std::sync::mpsc::channel::<()>();
        let loaded = runtime.block_on(unless(std::future::ready(()), move || {
            // As a read from a server that is gone.
            let _ = stalled.recv();
            Ok(())
        }));
        assert!(loaded.is_none());
        runtime.shutdown_background();
        drop(release);
        let runtime = Runtime::new().unwrap();
        let loaded = runtime.block_on(unless(std::future::pending(), || Ok(7)));
        assert_eq!(loaded.unwrap().unwrap_or_default(), 7);
    }

    #[test]
    fn sizes_names_and_origins_are_checked() {
        assert_eq!(bytes("1"), Ok(1));
        assert_eq!(bytes("512KiB"), Ok(512 << 10));
        assert_eq!(bytes("4MiB"), Ok(4 << 20));
        for wrong in ["", "MiB", "-1", "0", "4MB", "1025MiB", "1e3", "99999999999999999999"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(image_memory("160MiB"), Ok(160 << 20));
        assert!(image_memory("63MiB").is_err());
        for right in ["kiln.example.org", "kiln", "10.0.0.7", "[fd00::7]"] {
            assert_eq!(host_name(right).as_deref(), Ok(right));
        }
        for wrong in ["", "http://kiln", "kiln:8080", "a b", "user@kiln", "kiln/"] {
            assert!(host_name(wrong).is_err(), "{wrong}");
        }
        for right in ["*", "https://example.org", "http://localhost:3000"] {
            assert_eq!(origin(right).as_deref(), Ok(right));
        }
        for wrong in ["", "example.org", "https://", "https://a/b", "https://*.org", "null"] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
