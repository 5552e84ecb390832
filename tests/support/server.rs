//! A server process, and a client for it.
#![allow(dead_code, reason = "each test program uses its part")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Bench;

/// Far beyond what anything here takes: a test that waits longer has found a fault.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// The model file that is committed.
pub(crate) fn reference_model() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../artifacts/reference/model.kiln")
        .canonicalize()
        .expect("the reference model")
        .display()
        .to_string()
}

/// Images of the test split, each 28x28 grey.
pub(crate) struct Digits {
    pub(crate) images: Vec<Vec<u8>>,
    pub(crate) labels: Vec<u32>,
}

pub(crate) fn digits() -> Digits {
    let test = data::load("mnist-sample", &data::Search::default()).expect("the built-in sample").test;
    let images = (0..test.len()).map(|index| test.image(index).to_vec()).collect();
    Digits { images, labels: test.labels.ones().expect("one class each").to_vec() }
}

/// A 28x28 grey image as a file.
pub(crate) fn png(pixels: &[u8]) -> Vec<u8> {
    let image = image::GrayImage::from_raw(28, 28, pixels.to_vec()).expect("784 pixels");
    let mut file = std::io::Cursor::new(Vec::new());
    image.write_to(&mut file, image::ImageFormat::Png).expect("a file");
    file.into_inner()
}

/// The value of a metric without labels.
pub(crate) fn figure(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).parse().expect("a number")
}

/// A running `kiln serve`; killed when dropped.
pub(crate) struct Server {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Server {
    pub(crate) fn start(bench: &Bench, flags: &[&str]) -> Self {
        Self::start_with(bench, flags, &[])
    }

    pub(crate) fn start_with(bench: &Bench, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_model(bench, &reference_model(), flags, variables)
    }

    pub(crate) fn start_model(
        bench: &Bench,
        model: &str,
        flags: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let log = bench.path(&format!("server-{number}.log"));
        let mut arguments = vec!["serve", "--model", model, "--port", "0"];
        arguments.extend(flags);
        let mut child = bench
            .command(&arguments)
            .env_remove("KILN_TOKEN")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let address = line.trim().strip_prefix("http://").map(str::to_owned);
        let address =
            address.unwrap_or_else(|| panic!("{line:?}\n{}", fs::read_to_string(&log).unwrap_or_default()));
        Self { child, address, log }
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A client with a connection of its own.
    pub(crate) fn client(&self) -> Client {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .build()
            .into();
        Client { agent, base: format!("http://{}", self.address), headers: vec![] }
    }

    pub(crate) fn metrics(&self) -> String {
        self.client().get("/metrics").text()
    }

    /// Asks for the metrics until they are as expected.
    pub(crate) fn until(&self, expected: impl Fn(&str) -> bool, client: &Client) {
        let begin = Instant::now();
        loop {
            let metrics = client.get("/metrics").text();
            if expected(&metrics) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{metrics}\n{}", self.log());
        }
    }

    /// Reads the log until it has the words.
    pub(crate) fn until_log(&self, words: &str) {
        let begin = Instant::now();
        while !self.log().contains(words) {
            assert!(begin.elapsed() < PATIENCE, "{}", self.log());
            std::thread::yield_now();
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A figure of the process in bytes, as the system keeps it: `VmRSS`, or `VmHWM` for the most so far.
    pub(crate) fn memory(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    }

    /// Sends bytes on a connection of their own, and gives the answer.
    pub(crate) fn raw(&self, request: &str) -> String {
        let mut stream = std::net::TcpStream::connect(&self.address).expect("a connection");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let status = std::process::Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .expect("kill starts");
        assert!(status.success());
    }

    /// Waits for the end; gives the status and the log.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("a status").code();
        (status, self.log())
    }

    /// Ends the server; gives the log.
    pub(crate) fn stop(mut self) -> String {
        drop(self.child.kill());
        drop(self.child.wait());
        self.log()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    headers: Vec<(String, String)>,
}

impl Client {
    pub(crate) fn with_header(&self, name: &str, value: &str) -> Self {
        let headers = vec![(name.to_owned(), value.to_owned())];
        Self { agent: self.agent.clone(), base: self.base.clone(), headers }
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        self.with_header("Authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Answer::new(request.call().expect("an answer"))
    }

    pub(crate) fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        let mut request = self.agent.post(format!("{}{path}", self.base));
        if !content_type.is_empty() {
            request = request.header("Content-Type", content_type);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Answer::new(request.send(body).expect("an answer"))
    }

    /// Without a length.
    pub(crate) fn post_chunked(&self, path: &str, body: &[u8]) -> Answer {
        let mut body = body;
        let reader: &mut dyn Read = &mut body;
        let request = self.agent.post(format!("{}{path}", self.base));
        Answer::new(request.send(ureq::SendBody::from_reader(reader)).expect("an answer"))
    }

    pub(crate) fn post_json(&self, body: &Value) -> Answer {
        self.post("/v1/predict", "application/json", body.to_string().as_bytes())
    }

    /// The prediction for one image file.
    pub(crate) fn predict(&self, file: &[u8]) -> Value {
        let answer = self.post("/v1/predict", "application/octet-stream", file);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let mut answer = answer.json();
        let predictions = answer["predictions"].as_array_mut().expect("predictions");
        assert_eq!(predictions.len(), 1);
        predictions.remove(0)
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(response: ureq::http::Response<ureq::Body>) -> Self {
        let (parts, mut body) = response.into_parts();
        let headers = parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
            .collect();
        Self { status: parts.status.as_u16(), headers, body: body.read_to_vec().expect("a body") }
    }

    /// The value of a header, empty when absent.
    pub(crate) fn header(&self, name: &str) -> String {
        self.headers
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    /// An error in the one form that errors have.
    pub(crate) fn is_problem(&self, status: u16, words: &[&str]) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        for word in words {
            assert!(self.text().contains(word), "`{word}` is not in {}", self.text());
        }
    }
}
