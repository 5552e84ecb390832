//! What the server counts, as Prometheus reads it (text format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds in seconds: from a small picture on a fast machine to the time limit.
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Upper bounds of images in a batch.
const IMAGES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Counts of values by upper bound.
#[derive(Debug)]
struct Histogram<const N: usize> {
    bounds: [f64; N],
    /// Not cumulative; what is above all bounds is only in `count`.
    buckets: [AtomicU64; N],
    count: AtomicU64,
    /// In millionths, so that it is an integer.
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: [f64; N]) -> Self {
        Self { bounds, buckets: [const { AtomicU64::new(0) }; N], count: 0.into(), sum: 0.into() }
    }

    fn observe(&self, value: f64) {
        if let Some(index) = self.bounds.iter().position(|&bound| value <= bound) {
            self.buckets[index].fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.sum.fetch_add((value * 1e6) as u64, Relaxed);
    }

    fn write(&self, text: &mut String, name: &str, help: &str) {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut below = 0;
        for (bound, bucket) in self.bounds.iter().zip(&self.buckets) {
            below += bucket.load(Relaxed);
            let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        // Never smaller than a bucket, although another thread may be counting.
        let count = self.count.load(Relaxed).max(below);
        let sum = self.sum.load(Relaxed) as f64 / 1e6;
        let _ =
            writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}

/// All counters of a server.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// By route and status, both from small closed sets.
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    request_seconds: Histogram<12>,
    batch_images: Histogram<9>,
    batch_seconds: Histogram<12>,
    images: AtomicU64,
    panics: AtomicU64,
    swapped: AtomicU64,
    refused: AtomicU64,
    connections: AtomicI64,
    connections_refused: AtomicU64,
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

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            requests: Mutex::default(),
            request_seconds: Histogram::new(SECONDS),
            batch_images: Histogram::new(IMAGES),
            batch_seconds: Histogram::new(SECONDS),
            images: 0.into(),
            panics: 0.into(),
            swapped: 0.into(),
            refused: 0.into(),
            connections: 0.into(),
            connections_refused: 0.into(),
        }
    }

    /// A request was answered.
    pub(crate) fn request(&self, route: &'static str, status: u16, duration: Duration) {
        self.request_seconds.observe(duration.as_secs_f64());
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry((route, status)).or_default() +=
            1;
    }

    /// The network has seen a batch.
    pub(crate) fn batch(&self, images: usize, duration: Duration) {
        self.images.fetch_add(images as u64, Relaxed);
        self.batch_images.observe(images as f64);
        self.batch_seconds.observe(duration.as_secs_f64());
    }

    pub(crate) fn panic(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    pub(crate) fn reload(&self, swapped: bool) {
        if swapped { &self.swapped } else { &self.refused }.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection(&self, change: i64) {
        self.connections.fetch_add(change, Relaxed);
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.fetch_add(1, Relaxed);
    }

    /// Everything in Prometheus' text format.
    pub(crate) fn text(&self, gauges: &Gauges) -> String {
        let mut text = String::new();
        let mut single = |name: &str, kind: &str, help: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        single("kiln_uptime_seconds", "gauge", "Since the server began.", &gauges.uptime.as_secs_f64());
        single(
            "kiln_requests_in_progress",
            "gauge",
            "Predictions admitted and not yet answered.",
            &gauges.in_progress,
        );
        single("kiln_requests_limit", "gauge", "Predictions that may be in progress.", &gauges.queue_limit);
        single("kiln_images_waiting", "gauge", "Images that wait for the network.", &gauges.images_waiting);
        single(
            "kiln_images_total",
            "counter",
            "Images that went through the network.",
            &self.images.load(Relaxed),
        );
        single("kiln_panics_total", "counter", "Handlers that panicked.", &self.panics.load(Relaxed));
        single("kiln_connections", "gauge", "Open connections.", &self.connections.load(Relaxed));
        single(
            "kiln_connections_refused_total",
            "counter",
            "Connections beyond the limit.",
            &self.connections_refused.load(Relaxed),
        );
        if let Some(bytes) = resident_bytes() {
            single("process_resident_memory_bytes", "gauge", "Memory of the process.", &bytes);
        }

        let _ = writeln!(
            text,
            "# HELP kiln_model_info The model that answers.\n# TYPE kiln_model_info gauge\n\
             kiln_model_info{{weights_sha256=\"{}\"}} 1\n\
             # HELP kiln_model_reloads_total Model files that were looked at after the start.\n\
             # TYPE kiln_model_reloads_total counter\n\
             kiln_model_reloads_total{{result=\"swapped\"}} {}\n\
             kiln_model_reloads_total{{result=\"refused\"}} {}\n\
             # HELP kiln_http_requests_total Requests by route and status.\n\
             # TYPE kiln_http_requests_total counter",
            gauges.weights_sha256,
            self.swapped.load(Relaxed),
            self.refused.load(Relaxed),
        );
        for ((route, status), count) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ =
                writeln!(text, "kiln_http_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}");
        }
        self.request_seconds.write(
            &mut text,
            "kiln_http_request_seconds",
            "From the head of a request to its answer.",
        );
        self.batch_images.write(&mut text, "kiln_batch_images", "Images that shared a pass of the network.");
        self.batch_seconds.write(&mut text, "kiln_batch_seconds", "One pass of the network.");
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
