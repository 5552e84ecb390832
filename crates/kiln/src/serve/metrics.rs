//! What the server counts, as Prometheus reads it (text format 0.0.4).

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

pub(crate) use prometheus_text::CONTENT_TYPE;

/// Upper bounds in seconds: from a small picture on a fast machine to the time limit.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Upper bounds of images in a batch.
const IMAGES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// One label and its value.
type Label<T> = [(&'static str, T); 1];

/// All counters of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// By route and status, both from small closed sets.
    requests: Family<(Label<&'static str>, Label<u16>), Counter>,
    request_seconds: Histogram,
    batch_images: Histogram,
    batch_seconds: Histogram,
    images: Counter,
    panics: Counter,
    reloads: Family<Label<&'static str>, Counter>,
    connections: Gauge,
    connections_refused: Counter,
    /// Held by whoever writes what [`Gauges`] says, until that is read.
    looked_at: Mutex<LookedAt>,
}

/// What is written when somebody asks.
#[derive(Debug)]
struct LookedAt {
    uptime: Gauge<f64, AtomicU64>,
    in_progress: Gauge,
    queue_limit: Gauge,
    images_waiting: Gauge,
    model: Family<Label<String>, Gauge>,
    memory: Option<Gauge>,
}

/// What the metrics do not count themselves.
#[derive(Debug)]
pub(crate) struct Gauges<'a> {
    pub(crate) in_progress: usize,
    pub(crate) queue_limit: usize,
    pub(crate) images_waiting: usize,
    pub(crate) weights_sha256: &'a str,
    pub(crate) uptime: Duration,
}

/// Registers a new metric that begins as `metric`.
fn new<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let memory = resident_bytes().map(|_| {
            new(&mut registry, "process_resident_memory_bytes", "Memory of the process", Gauge::default())
        });
        let kiln = registry.sub_registry_with_prefix("kiln");
        let looked_at = Mutex::new(LookedAt {
            uptime: new(kiln, "uptime_seconds", "Since the server began", Gauge::default()),
            in_progress: new(
                kiln,
                "requests_in_progress",
                "Predictions admitted and not yet answered",
                Gauge::default(),
            ),
            queue_limit: new(kiln, "requests_limit", "Predictions that may be in progress", Gauge::default()),
            images_waiting: new(kiln, "images_waiting", "Images that wait for the network", Gauge::default()),
            model: new(kiln, "model_info", "The model that answers", Family::default()),
            memory,
        });
        let seconds = || Histogram::new(SECONDS);
        let metrics = Self {
            images: new(kiln, "images", "Images that went through the network", Counter::default()),
            panics: new(kiln, "panics", "Handlers that panicked", Counter::default()),
            connections: new(kiln, "connections", "Open connections", Gauge::default()),
            connections_refused: new(
                kiln,
                "connections_refused",
                "Connections beyond the limit",
                Counter::default(),
            ),
            reloads: new(
                kiln,
                "model_reloads",
                "Model files that were looked at after the start",
                Family::default(),
            ),
            requests: new(kiln, "http_requests", "Requests by route and status", Family::default()),
            request_seconds: new(
                kiln,
                "http_request_seconds",
                "From the head of a request to its answer",
                seconds(),
            ),
            batch_images: new(
                kiln,
                "batch_images",
                "Images that shared a pass of the network",
                Histogram::new(IMAGES),
            ),
            batch_seconds: new(kiln, "batch_seconds", "One pass of the network", seconds()),
            looked_at,
            registry,
        };
        // Both are there from the start, at 0.
        for swapped in [true, false] {
            metrics.reloads_that(swapped);
        }
        metrics
    }

    /// A request was answered.
    pub(crate) fn request(&self, route: &'static str, status: u16, duration: Duration) {
        self.request_seconds.observe(duration.as_secs_f64());
        self.requests.get_or_create(&([("route", route)], [("status", status)])).inc();
    }

    /// The network has seen a batch.
    pub(crate) fn batch(&self, images: usize, duration: Duration) {
        self.images.inc_by(images as u64);
        self.batch_images.observe(images as f64);
        self.batch_seconds.observe(duration.as_secs_f64());
    }

    pub(crate) fn panic(&self) {
        self.panics.inc();
    }

    fn reloads_that(&self, swapped: bool) -> Counter {
        self.reloads.get_or_create_owned(&[("result", if swapped { "swapped" } else { "refused" })])
    }

    pub(crate) fn reload(&self, swapped: bool) {
        self.reloads_that(swapped).inc();
    }

    pub(crate) fn connection(&self, change: i64) {
        self.connections.inc_by(change);
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn text(&self, gauges: &Gauges) -> String {
        let now = self.looked_at.lock().unwrap_or_else(PoisonError::into_inner);
        now.uptime.set(gauges.uptime.as_secs_f64());
        now.in_progress.set(gauges.in_progress as i64);
        now.queue_limit.set(gauges.queue_limit as i64);
        now.images_waiting.set(gauges.images_waiting as i64);
        now.model.clear();
        now.model.get_or_create(&[("weights_sha256", gauges.weights_sha256.to_owned())]).set(1);
        if let (Some(memory), Some(bytes)) = (&now.memory, resident_bytes()) {
            memory.set(bytes as i64);
        }
        let mut text = String::new();
        // Writing into a text cannot fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

/// Memory of this process, where the system says it cheaply.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let metrics = Metrics::new();
        metrics.request("/v1/predict", 200, Duration::from_millis(3));
        metrics.request("/v1/predict", 200, Duration::from_mins(1));
        metrics.request("/v1/predict", 503, Duration::from_micros(100));
        metrics.batch(3, Duration::from_millis(1));
        metrics.batch(300, Duration::from_millis(1));
        metrics.reload(false);
        let gauges = Gauges {
            in_progress: 2,
            queue_limit: 64,
            images_waiting: 5,
            weights_sha256: "ab12",
            uptime: Duration::from_secs(1),
        };
        let text = metrics.text(&gauges);
        for line in [
            "kiln_http_requests_total{route=\"/v1/predict\",status=\"200\"} 2",
            "kiln_http_requests_total{route=\"/v1/predict\",status=\"503\"} 1",
            "kiln_http_request_seconds_bucket{le=\"0.0005\"} 1",
            "kiln_http_request_seconds_bucket{le=\"0.0025\"} 1",
            "kiln_http_request_seconds_bucket{le=\"0.005\"} 2",
            "kiln_http_request_seconds_bucket{le=\"5\"} 2",
            "kiln_http_request_seconds_bucket{le=\"+Inf\"} 3",
            "kiln_http_request_seconds_sum 60.0031",
            "kiln_batch_images_bucket{le=\"2\"} 0",
            "kiln_batch_images_bucket{le=\"4\"} 1",
            "kiln_batch_images_count 2",
            "kiln_images_total 303",
            "kiln_model_info{weights_sha256=\"ab12\"} 1",
            "kiln_model_reloads_total{result=\"refused\"} 1",
            "kiln_requests_in_progress 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        // Every sample belongs to a family that was announced before it.
        let mut family = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("# TYPE ") {
                family = name.split(' ').next().unwrap();
            } else if !line.starts_with('#') {
                assert!(line.starts_with(family), "{line} after {family}");
            }
        }
    }
}
