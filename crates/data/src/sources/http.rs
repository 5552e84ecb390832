//! Files from mirrors, with limits on every wait and every length.

use std::io::{Read, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::catalog::KnownFile;
use super::search::Search;
use super::store::Store;

/// One file takes no longer than this, however steadily it trickles.
const DOWNLOAD_LIMIT: Duration = Duration::from_mins(15);

/// A client for the mirror at `base`, with limits on every wait.
fn agent(base: &str, search: &Search) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_resolve(Some(search.stall_limit))
        .timeout_connect(Some(search.stall_limit))
        .timeout_per_read(Some(search.stall_limit))
        .timeout_per_write(Some(search.stall_limit))
        .timeout_per_call(Some(DOWNLOAD_LIMIT))
        .http_status_as_error(false)
        // A redirection must not lead from HTTPS to HTTP.
        .https_only(base.starts_with("https:"))
        .user_agent(concat!("kiln/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// Fetches the missing files from one mirror. The first failure ends it: a mirror that stalled once will
/// again.
pub(super) fn download(store: &mut Store, base: &str, search: &Search) -> Result<(), String> {
    let agent = agent(base, search);
    for file in store.missing() {
        let address = format!("{base}{}.gz", file.name);
        let body =
            get(&agent, &address, file, search).map_err(|reason| format!("{}.gz: {reason}", file.name))?;
        store.deliver(file, &body, &address)?;
    }
    Ok(())
}

fn get(agent: &ureq::Agent, address: &str, file: &KnownFile, search: &Search) -> Result<Vec<u8>, String> {
    // Incompressible data grows by 5 bytes for each 16 KiB in gzip; a whole percent is ample.
    let limit = file.bytes + file.bytes / 100 + 1024;
    let mut body = Vec::new();
    transfer(agent, address, file.name, limit, search, &mut body)?;
    Ok(body)
}

/// Fetches the file at `base` followed by `name`, of at most `limit` bytes, into `to`.
pub(super) fn fetch_into(
    base: &str,
    name: &'static str,
    limit: u64,
    search: &Search,
    to: &mut impl Write,
) -> Result<(), String> {
    transfer(&agent(base, search), &format!("{base}{name}"), name, limit, search, to)
}

fn transfer(
    agent: &ureq::Agent,
    address: &str,
    name: &'static str,
    limit: u64,
    search: &Search,
    to: &mut impl Write,
) -> Result<(), String> {
    let response = agent.get(address).call().map_err(|error| explain(&error, search))?;
    let status = response.status();
    if !status.is_success() {
        return Err(format!("HTTP status {status}"));
    }
    let announced = response.body().content_length();
    if let Some(length) = announced.filter(|&length| length > limit) {
        return Err(format!("{length} bytes announced, at most {limit} expected"));
    }
    let bar = bar(search, announced, name);
    let mut counted = Counted { inner: to, bytes: 0 };
    let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
    let outcome = std::io::copy(&mut bar.wrap_read(reader.take(limit + 1)), &mut counted);
    bar.finish_and_clear();
    let received = counted.bytes;
    outcome.map_err(|error| {
        let reason =
            error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()).map(|e| explain(e, search));
        format!("{} after {received} bytes", reason.unwrap_or_else(|| error.to_string()))
    })?;
    if received > limit {
        return Err(format!("more than the {limit} bytes expected"));
    }
    match announced {
        Some(length) if length != received => {
            Err(format!("connection closed after {received} of {length} bytes"))
        }
        _ => Ok(()),
    }
}

/// Counts what passes through.
struct Counted<'a, W> {
    inner: &'a mut W,
    bytes: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn explain(error: &ureq::Error, search: &Search) -> String {
    match error {
        ureq::Error::Timeout(ureq::Timeout::PerCall) => format!("not finished after {DOWNLOAD_LIMIT:?}"),
        ureq::Error::Timeout(_) => {
            format!("nothing received for {:?} ({error})", search.stall_limit)
        }
        ureq::Error::HostNotFound => "host not found: no network, or no name service".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Draws on stderr, and nothing unless that is a terminal.
fn bar(search: &Search, length: Option<u64>, name: &'static str) -> ProgressBar {
    if !search.progress {
        return ProgressBar::hidden();
    }
    let template = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}";
    let bar = ProgressBar::new(length.unwrap_or(0)).with_message(name);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
