//! A load generator for `benches/serve`: N clients that post digits as PNG files, one after the other, each on a
//! connection of its own, for some seconds. Prints one JSON object: throughput and latencies.
//!
//! `cargo run --release -p kiln --example http_load -- ADDRESS PATH CLIENTS SECONDS`

#![expect(clippy::print_stdout, reason = "the result of a program")]

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Requests of each client that are not counted.
const WARM_UP: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, path, clients, seconds] = arguments.as_slice() else {
        return Err("usage: http_load ADDRESS PATH CLIENTS SECONDS".into());
    };
    let clients: usize = clients.parse()?;
    let time = Duration::from_secs_f64(seconds.parse()?);
    let requests = requests(address, path)?;
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                let requests = &requests;
                scope.spawn(move || {
                    converse(address, requests, client * 17, time).map_err(|error| error.to_string())
                })
            })
            .collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut latencies: Vec<Duration> = Vec::new();
    for result in results {
        latencies.extend(result.map_err(|_| "a client panicked")??);
    }
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = ((latencies.len() as f64 * share) as usize).min(latencies.len().saturating_sub(1));
        latencies.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    println!(
        "{}",
        serde_json::json!({
            "clients": clients,
            "requests": latencies.len(),
            "per_second": latencies.len() as f64 / time.as_secs_f64(),
            "p50_ms": at(0.5),
            "p99_ms": at(0.99),
        })
    );
    Ok(())
}

/// A whole request for each of a hundred digits of the built-in sample's test split.
fn requests(address: &str, path: &str) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let test = data::load("mnist-sample", &data::Search::default())?.test;
    (0..100)
        .map(|index| {
            let image = image::GrayImage::from_raw(28, 28, test.image(index).to_vec()).ok_or("a 28x28 image")?;
            let mut file = std::io::Cursor::new(Vec::new());
            image.write_to(&mut file, image::ImageFormat::Png)?;
            let file = file.into_inner();
            let mut request = format!(
                "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: image/png\r\nContent-Length: {}\r\n\r\n",
                file.len()
            )
            .into_bytes();
            request.extend(file);
            Ok(request)
        })
        .collect()
}

/// Asks until the time is over; gives how long each answer took.
fn converse(
    address: &str,
    requests: &[Vec<u8>],
    start: usize,
    time: Duration,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut body = Vec::new();
    let mut ask = |index: usize| -> Result<(), Box<dyn Error>> {
        stream.write_all(&requests[index % requests.len()])?;
        let mut length = None;
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200") {
            return Err(format!("answer: {line:?}").into());
        }
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line)?;
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse::<usize>()?);
            }
        }
        body.resize(length.ok_or("an answer without length")?, 0);
        reader.read_exact(&mut body)?;
        if !body.windows(13).any(|window| window == b"\"predictions\"") {
            return Err("an answer without predictions".into());
        }
        Ok(())
    };
    for index in 0..WARM_UP {
        ask(start + index)?;
    }
    let mut latencies = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < time {
        let asked = Instant::now();
        ask(start + latencies.len())?;
        latencies.push(asked.elapsed());
    }
    Ok(latencies)
}
