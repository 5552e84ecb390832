//! `kiln serve`, from outside: a real server process and real HTTP clients.
//!
//! `KILN_LOAD_SECONDS=60` runs the long form of the load tests, `KILN_ATTACK_SECONDS=20` that of the attack.

#![allow(clippy::print_stderr, reason = "figures for whoever runs with --nocapture")]

#[path = "support/mod.rs"]
mod support;

#[path = "support/server.rs"]
mod server;

#[path = "support/hostile.rs"]
mod hostile;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use server::{Answer, Client, Server, digits, png, reference_model};
use support::Bench;

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_kiln"))
}

fn load_time() -> Duration {
    Duration::from_secs(seconds("KILN_LOAD_SECONDS").unwrap_or(3))
}

fn seconds(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// A form with files, as a browser sends it.
fn form(files: &[Vec<u8>]) -> (String, Vec<u8>) {
    let boundary = "----kiln5dsfq";
    let mut body = Vec::new();
    for (index, file) in files.iter().enumerate() {
        body.extend(
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{index}.png\"\r\n\
                 Content-Type: image/png\r\n\r\n"
            )
            .bytes(),
        );
        body.extend(file);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{boundary}--\r\n").bytes());
    (format!("multipart/form-data; boundary={boundary}"), body)
}

#[test]
fn every_address_answers() {
    let bench = bench();
    let server = Server::start(&bench, &[]);
    let client = server.client();
    for (path, content_type, words) in [
        ("/healthz", "text/plain", "ok"),
        ("/readyz", "text/plain", "ready"),
        ("/docs", "text/html", "<code>POST /v1/predict</code>"),
        ("/docs.css", "text/css", "main"),
        ("/", "text/html", "<form"),
        ("/upload.js", "text/javascript", "v1/predict"),
        (
            "/metrics",
            "text/plain; version=0.0.4",
            "kiln_http_requests_total{route=\"/healthz\",status=\"200\"} 1",
        ),
    ] {
        let answer = client.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-type").starts_with(content_type), "{path}: {:?}", answer.headers);
        assert!(answer.text().contains(words), "{path}: {}", answer.text());
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    let model = client.get("/v1/model").json();
    assert_eq!(model["classes"].as_array().map(Vec::len), Some(10));
    assert_eq!(model["preprocessing"]["input"]["height"], 28);
    let metadata = model::read_metadata(&fs::read(reference_model()).expect("the model")).expect("a model");
    assert_eq!(model["weights_sha256"], metadata.weights_sha256.as_str());

    // What the description lists is there, and with the methods it lists.
    let description = client.get("/openapi.json").json();
    for (path, methods) in description["paths"].as_object().expect("paths") {
        for (method, status) in [("get", 405), ("post", 405)] {
            let answer = if method == "get" { client.get(path) } else { client.post(path, "", b"") };
            assert_eq!(
                answer.status == status,
                methods.get(method).is_none(),
                "{method} {path}: {}",
                answer.status
            );
        }
    }
    let nothing = client.get("/v2/../etc/passwd");
    nothing.is_problem(404, &["/docs"]);
}

#[test]
fn an_image_is_the_same_image_however_it_is_sent() {
    let bench = bench();
    let server = Server::start(&bench, &[]);
    let client = server.client();
    let digits = digits();
    let (images, labels) = (&digits.images[..20], &digits.labels[..20]);
    let files: Vec<Vec<u8>> = images.iter().map(|image| png(image)).collect();
    let single: Vec<Value> = files.iter().map(|file| client.predict(file)).collect();

    // What the library says of the same pictures: the same bits.
    let device = burn::tensor::Device::flex();
    let model = model::decode(&fs::read(reference_model()).expect("the model"), &device).expect("a model");
    let classifier = model::Classifier::new(model, device);
    for (image, answer) in images.iter().zip(&single) {
        let picture = model::Picture::new(28, 28, 1, image.clone()).expect("a picture");
        let expected = classifier.classify(&[picture], &model::Policy::default()).expect("an answer");
        let expected: Value =
            serde_json::from_str(&serde_json::to_string(&expected[0]).expect("JSON")).expect("JSON");
        assert_eq!(*answer, expected);
    }
    let right =
        single.iter().zip(labels).filter(|(answer, label)| answer["label"] == label.to_string()).count();
    assert!(right >= 19, "{right} of 20 digits of the test split");

    let predictions = |answer: Answer| {
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["predictions"].as_array().expect("predictions").clone()
    };
    for content_type in
        ["image/png", "application/octet-stream", "application/x-www-form-urlencoded", "", "Image/PNG"]
    {
        assert_eq!(predictions(client.post("/v1/predict", content_type, &files[0])), [single[0].clone()]);
    }
    let (content_type, body) = form(&files);
    assert_eq!(predictions(client.post("/v1/predict", &content_type, &body)), single);
    let base64: Vec<String> = files.iter().map(|file| STANDARD.encode(file)).collect();
    assert_eq!(predictions(client.post_json(&json!({ "images": base64 }))), single);
    let pixels: Vec<Value> =
        images.iter().map(|image| json!({ "width": 28, "height": 28, "pixels": image })).collect();
    assert_eq!(predictions(client.post_json(&json!({ "images": pixels }))), single);
    let rows: Vec<&[u8]> = images[3].chunks(28).collect();
    let one = json!({ "image": { "width": 28, "height": 28, "channels": 1, "pixels": rows } });
    assert_eq!(predictions(client.post_json(&one)), [single[3].clone()]);

    let probability = |index: &usize| single[*index]["probability"].as_f64().expect("a number");
    let unsure = (0..20).min_by(|a, b| probability(a).total_cmp(&probability(b))).expect("a digit");
    assert!(probability(&unsure) < 1.0);
    let all = client.post("/v1/predict?top=99&reject_below=1", "image/png", &files[unsure]).json();
    let prediction = &all["predictions"][0];
    let top = prediction["top"].as_array().expect("classes");
    assert_eq!((top.len(), &prediction["rejected"]), (10, &json!(true)));
    let sum: f64 = top.iter().map(|class| class["probability"].as_f64().expect("a number")).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    assert_eq!(
        client.post("/v1/predict?top=1", "image/png", &files[0]).json()["predictions"][0]["rejected"],
        false
    );
}

/// Query, content type, body; status, words.
type Case<'a> = (&'a str, &'a str, &'a [u8], u16, &'a [&'a str]);

#[test]
fn what_is_wrong_is_said() {
    let bench = bench();
    let server = Server::start(&bench, &["--max-body", "64KiB", "--max-images", "2", "--max-side", "100"]);
    let client = server.client();
    let good = png(&digits().images[0]);
    let wide = {
        let mut file = std::io::Cursor::new(Vec::new());
        image::GrayImage::new(101, 1).write_to(&mut file, image::ImageFormat::Png).expect("a file");
        file.into_inner()
    };
    let (form_type, three) = form(&[good.clone(), good.clone(), good.clone()]);
    let (_, second_bad) = form(&[good.clone(), b"no image".to_vec()]);
    let text_field = "--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n/etc/passwd\r\n--x--\r\n";
    let cut = &good[..good.len() / 2];
    let cases: [Case; 15] = [
        ("", "image/png", b"", 400, &["empty"]),
        ("", "image/png", b"hello", 415, &["PNG", "68 65 6c 6c 6f"]),
        ("", "image/png", cut, 400, &["PNG"]),
        ("", "image/png", &wide, 413, &["101x1", "100"]),
        ("", "text/plain", &good, 415, &["text/plain"]),
        ("", "application/json", b"{", 400, &["JSON", "line 1"]),
        ("", "application/json", b"{\"path\": \"/etc/passwd\"}", 400, &["unknown field `path`"]),
        ("", "application/json", b"{\"image\": \"http://example.org/a.png\"}", 400, &["base64"]),
        ("", "multipart/form-data", &good, 400, &["boundary"]),
        ("", "multipart/form-data; boundary=x", text_field.as_bytes(), 400, &["`model` is no file"]),
        ("", &form_type, &three, 413, &["2"]),
        ("", &form_type, &second_bad, 415, &["\"image\":1"]),
        ("?top=0", "image/png", &good, 400, &["top"]),
        ("?reject_below=7", "image/png", &good, 400, &["reject_below", "7"]),
        ("?model=other", "image/png", &good, 400, &["model"]),
    ];
    for (query, content_type, body, status, words) in cases {
        let answer = client.post(&format!("/v1/predict{query}"), content_type, body);
        answer.is_problem(status, words);
        let text = answer.text();
        assert!(!text.contains("/root") && !text.contains("src/") && !text.contains(".rs"), "{text}");
    }
    // The digit still has its answer.
    client.predict(&good);
}

#[test]
fn bodies_beyond_the_limit_are_refused_and_read_to_the_end() {
    let bench = bench();
    let server = Server::start(&bench, &[]);
    let client = server.client();
    let large = vec![7; 8_000_000];
    for content_type in ["image/png", "application/json", "multipart/form-data; boundary=x"] {
        client.post("/v1/predict", content_type, &large).is_problem(413, &["4194304 bytes"]);
    }
    // Without a length: found out on the way.
    client.post_chunked("/v1/predict", &large).is_problem(413, &["4194304 bytes"]);
    // Announced, but the client waits for permission to send: refused without a byte.
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    stream
        .write_all(
            b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\nExpect: 100-continue\r\n\r\n",
        )
        .expect("sent");
    let mut head = [0; 12];
    stream.read_exact(&mut head).expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 413");
    client.predict(&png(&digits().images[0]));
}

#[test]
fn a_token_is_asked_for() {
    let bench = bench();
    fs::write(bench.path("token"), "s3cret-token\n").expect("written");
    fs::write(bench.path("empty"), "\n").expect("written");
    bench
        .run(&["serve", "--model", &reference_model(), "--token-file", "empty"])
        .fails(1, &["empty", "visible ASCII"]);
    bench.run(&["serve", "--model", &reference_model(), "--token-file", "absent"]).fails(1, &["absent"]);

    let from_file = Server::start(&bench, &["--token-file", "token"]);
    let from_variable = Server::start_with(&bench, &[], &[("KILN_TOKEN", "s3cret-token")]);
    for server in [from_file, from_variable] {
        let client = server.client();
        let file = png(&digits().images[0]);
        for path in ["/healthz", "/readyz", "/docs", "/"] {
            assert_eq!(client.get(path).status, 200, "{path}");
        }
        for path in ["/metrics", "/v1/model"] {
            client.get(path).is_problem(401, &["Bearer"]);
        }
        let refused = client.post("/v1/predict", "image/png", &file);
        refused.is_problem(401, &["Bearer"]);
        assert_eq!(refused.header("www-authenticate"), "Bearer");
        for (token, status) in [("s3cret-token", 200), ("s3cret-tokem", 401), ("", 401)] {
            let answer = client.with_token(token).post("/v1/predict", "image/png", &file);
            assert_eq!(answer.status, status, "{token}");
        }
        assert!(!server.log().contains("s3cret"), "{}", server.log());
    }
}

#[test]
fn other_origins_are_allowed_only_when_named() {
    let bench = bench();
    let file = png(&digits().images[0]);
    let closed = Server::start(&bench, &[]);
    let open = Server::start(&bench, &["--cors", "https://a.example"]);
    let allowed = |server: &Server, origin: &str| {
        let answer = server.client().with_header("Origin", origin).post("/v1/predict", "image/png", &file);
        (answer.status, answer.header("access-control-allow-origin"))
    };
    assert_eq!(allowed(&closed, "https://a.example"), (403, String::new()));
    assert_eq!(allowed(&closed, &format!("http://{}", closed.address())), (200, String::new()));
    assert_eq!(allowed(&open, "https://b.example"), (403, String::new()));
    assert_eq!(allowed(&open, "https://a.example"), (200, "https://a.example".to_owned()));
    bench.run(&["serve", "--cors", "a.example"]).fails(2, &["origin"]);
}

/// What a browser would send on behalf of a page elsewhere, and what HTTP forbids.
#[test]
fn requests_that_are_not_for_this_server_are_refused() {
    const POST: &str = "POST /v1/predict HTTP/1.1\r\n";
    let bench = bench();
    let server = Server::start(&bench, &["--allow-host", "kiln.example"]);
    let file = png(&digits().images[0]);
    let status = |head: &str| {
        let mut stream = TcpStream::connect(server.address()).expect("a connection");
        let rest = format!("Content-Length: {}\r\nConnection: close\r\n\r\n", file.len());
        stream.write_all(format!("{head}{rest}").as_bytes()).expect("sent");
        stream.write_all(&file).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        if !answer.starts_with("HTTP/1.1 200") {
            assert!(answer.contains("application/problem+json"), "{answer}");
        }
        answer[9..12].to_owned()
    };
    for (head, expected) in [
        ("Host: localhost\r\n", "200"),
        ("Host: kiln.example:80\r\n", "200"),
        ("Host: evil.example\r\n", "421"),
        ("", "400"),
        ("Host: localhost\r\nHost: localhost\r\n", "400"),
        ("Host: localhost\r\nExpect: wonders\r\n", "417"),
        ("Host: localhost\r\nContent-Encoding: identity\r\n", "200"),
        ("Host: localhost\r\nContent-Encoding: gzip\r\n", "415"),
        ("Host: localhost\r\nContent-Encoding: br\r\n", "415"),
        ("Host: localhost\r\nOrigin: http://evil.example\r\n", "403"),
        ("Host: localhost\r\nOrigin: http://localhost\r\n", "200"),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site\r\n", "403"),
    ] {
        assert_eq!(status(&format!("{POST}{head}")), expected, "{head}");
    }
    // Nothing is told under another name: neither what the model is nor a page.
    for path in ["/v1/model", "/", "/metrics", "/healthz", "/nothing"] {
        let answer =
            server.raw(&format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"));
        assert!(
            answer.starts_with("HTTP/1.1 421") && answer.contains("--allow-host evil.example"),
            "{answer}"
        );
    }
    bench.run(&["serve", "--allow-host", "http://kiln"]).fails(2, &["without scheme"]);
}

#[test]
fn a_request_chooses_as_the_command_line_does() {
    let bench = bench();
    let server = Server::start(&bench, &[]);
    let client = server.client();
    let digits = digits();
    // Two digits side by side.
    let strip: Vec<u8> = digits.images[0]
        .chunks(28)
        .zip(digits.images[1].chunks(28))
        .flat_map(|(left, right)| [left, right].concat())
        .collect();
    let strip = image::GrayImage::from_raw(56, 28, strip).expect("two digits");
    let path = bench.path("strip.png");
    strip.save(&path).expect("written");
    let file = fs::read(&path).expect("a file");
    for (flags, query, json) in [
        (&["--top", "5"][..], "top=5", json!({ "top": 5 })),
        (&["--digits"], "digits=true", json!({ "digits": true })),
        (&["--keep", "0.5", "--top", "1"], "keep=0.5&top=1", json!({ "keep": 0.5, "top": 1 })),
        (
            &["--reject-below", "1", "--keep", "1"],
            "reject_below=1&keep=1",
            json!({ "reject_below": 1, "keep": 1.0 }),
        ),
    ] {
        let model = reference_model();
        let arguments = [&["predict", "strip.png", "--json", "--model", &model], flags].concat();
        let mut expected = bench.json(&arguments);
        expected.as_object_mut().expect("an object").remove("path");
        let answer = client.post(&format!("/v1/predict?{query}"), "image/png", &file);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["predictions"], json!([expected]), "{query}");
        let mut body = json;
        body["images"] = json!([STANDARD.encode(&file)]);
        assert_eq!(client.post_json(&body).json()["predictions"], json!([expected]), "{body}");
    }
    for (query, words) in [
        ("top=1001", ["top", "from 1 to 1000", "1001"]),
        ("keep=0.4", ["keep", "from 0.5 to 1", "0.4"]),
        ("reject_below=-1", ["reject_below", "from 0 to 1", "-1"]),
        ("digits=yes", ["digits", "`true` or `false`", "yes"]),
        ("top=2&top=3", ["top", "twice", "once"]),
        ("Keep=1", ["Keep", "unknown parameter", "`keep`"]),
    ] {
        client.post(&format!("/v1/predict?{query}"), "image/png", &file).is_problem(400, &words);
    }
    client.post_json(&json!({ "image": "", "top": "3" })).is_problem(400, &["top", "from 1 to 1000"]);
    client.post_json(&json!({ "image": "", "crop": 1 })).is_problem(400, &["unknown field `crop`"]);
}

/// The description is checked by programs: what it gives as an example is answered.
#[test]
fn the_example_of_the_description_is_answered() {
    let bench = bench();
    let server = Server::start(&bench, &[]);
    let client = server.client();
    let description = client.get("/openapi.json").json();
    let body = &description["paths"]["/v1/predict"]["post"]["requestBody"]["content"]["application/json"];
    let answer = client.post_json(&body["example"]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let predictions = answer.json()["predictions"].as_array().expect("predictions").clone();
    assert_eq!(predictions.len(), 2);
    assert_eq!(predictions[0]["label"], "1");
    // Every parameter is in the query and in both forms of the document.
    let parameters = description["paths"]["/v1/predict"]["post"]["parameters"].as_array().expect("a list");
    let names: Vec<&str> = parameters.iter().map(|found| found["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["top", "digits", "reject_below", "keep"]);
    for form in body["schema"]["oneOf"].as_array().expect("two forms") {
        assert!(names.iter().all(|name| form["properties"][name].is_object()), "{form}");
    }
    let page = client.get("/upload").text();
    assert!(names.iter().all(|name| page.contains(&format!("name=\"{name}\""))), "{page}");
}

#[test]
fn the_page_is_told_of_the_served_model() {
    let bench = bench();
    fs::create_dir(bench.path("dist")).expect("a folder");
    fs::write(bench.path("dist/index.html"), "<html><head><title>page</title></head>").expect("written");
    let model = fs::read(reference_model()).expect("the model");
    let with_page = Server::start(&bench, &["--web", "dist"]);
    let page = with_page.client().get("/").text();
    assert!(page.contains("<meta name=\"kiln-server\" content=\"v1\"><title>page"), "{page}");
    let file = with_page.client().get("/v1/model/file");
    assert_eq!((file.status, file.bytes() == model), (200, true));
    assert!(with_page.client().get("/upload").text().contains("<form"), "the form is there too");
    assert!(
        with_page.client().get("/v1/model").text().contains("\"reads_digits\":true"),
        "the form offers digits"
    );
    Server::start(&bench, &[]).client().get("/v1/model/file").is_problem(404, &["--web"]);
    let closed = Server::start_with(&bench, &["--web", "dist"], &[("KILN_TOKEN", "s3cret-token")]);
    closed.client().get("/v1/model/file").is_problem(401, &["Bearer"]);
}

#[test]
fn requests_are_logged_with_their_id() {
    let bench = bench();
    let server = Server::start(&bench, &["--log-format", "json"]);
    let client = server.client();
    let answer = client.with_header("X-Request-Id", "my-id.7").get("/healthz");
    assert_eq!(answer.header("x-request-id"), "my-id.7");
    let own = client.get("/nothing").header("x-request-id");
    assert!(!own.is_empty());
    assert_ne!(client.with_header("X-Request-Id", "a b").get("/healthz").header("x-request-id"), "a b");
    let log = server.stop();
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let line = |id: &str| {
        lines.iter().find(|line| line["request"]["id"] == id).unwrap_or_else(|| panic!("{id} in {log}"))
    };
    assert_eq!((&line("my-id.7")["path"], &line("my-id.7")["status"]), (&json!("/healthz"), &json!(200)));
    assert_eq!(line(&own)["status"], 404);
}

/// 64 clients at once: no error, and every answer is the one that the image gets alone.
#[test]
fn many_clients_get_the_answers_of_one() {
    let bench = bench();
    let server = Server::start(&bench, &[]);
    let files: Vec<Vec<u8>> = digits().images.iter().take(200).map(|image| png(image)).collect();
    let alone: Vec<Value> = files.iter().map(|file| server.client().predict(file)).collect();
    let answers = AtomicUsize::new(0);
    let until = Instant::now() + load_time();
    std::thread::scope(|scope| {
        for client in 0..64 {
            let (server, files, alone, answers) = (&server, &files, &alone, &answers);
            scope.spawn(move || {
                let http = server.client();
                let mut index = client * 31;
                while Instant::now() < until {
                    index = (index + 7) % files.len();
                    // Some send several at once.
                    if client % 8 == 0 {
                        let several: Vec<usize> = (0..5).map(|step| (index + step) % files.len()).collect();
                        let (content_type, body) =
                            form(&several.iter().map(|&i| files[i].clone()).collect::<Vec<_>>());
                        let answer = http.post("/v1/predict", &content_type, &body);
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        let expected: Vec<Value> = several.iter().map(|&i| alone[i].clone()).collect();
                        assert_eq!(answer.json()["predictions"], Value::Array(expected));
                    } else {
                        assert_eq!(http.predict(&files[index]), alone[index], "image {index}");
                    }
                    answers.fetch_add(1, Relaxed);
                }
            });
        }
    });
    let metrics = server.client().get("/metrics").text();
    let figure = |name: &str| server::figure(&metrics, name);
    eprintln!(
        "{} answers, {} batches of {:.1} images on average",
        answers.load(Relaxed),
        figure("kiln_batch_images_count"),
        figure("kiln_batch_images_sum") / figure("kiln_batch_images_count")
    );
    assert!(answers.load(Relaxed) > 64);
    assert!(figure("kiln_batch_images_count") < figure("kiln_images_total"), "requests shared batches");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

/// Ten times what the queue holds: answers and refusals, nothing else, and the memory stays.
#[test]
fn overload_is_refused_politely() {
    let bench = bench();
    let server = Server::start(&bench, &["--queue", "8", "--connections", "60"]);
    // A photograph: more work than a digit.
    let photo = {
        let image =
            image::RgbImage::from_fn(1200, 900, |x, y| image::Rgb([(x % 256) as u8, (y % 256) as u8, 90]));
        let mut file = std::io::Cursor::new(Vec::new());
        image.write_to(&mut file, image::ImageFormat::Jpeg).expect("a file");
        file.into_inner()
    };
    server.client().predict(&photo);
    let memory = || server::figure(&server.metrics(), "process_resident_memory_bytes");
    let (answered, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let largest = std::sync::Mutex::new(0f64);
    let until = Instant::now() + load_time();
    let finished = AtomicBool::new(false);
    // A connection of its own, opened before the others.
    let watcher = server.client();
    watcher.get("/healthz");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !finished.load(Relaxed) {
                let now = server::figure(&watcher.get("/metrics").text(), "process_resident_memory_bytes");
                let mut largest = largest.lock().expect("a number");
                *largest = largest.max(now);
            }
        });
        let clients: Vec<_> = (0..80)
            .map(|_| {
                scope.spawn(|| {
                    let client = server.client();
                    while Instant::now() < until {
                        let answer = client.post("/v1/predict", "image/jpeg", &photo);
                        match answer.status {
                            200 => answered.fetch_add(1, Relaxed),
                            503 => {
                                assert_eq!(answer.header("retry-after"), "1");
                                assert_eq!(answer.header("content-type"), "application/problem+json");
                                refused.fetch_add(1, Relaxed)
                            }
                            other => panic!("{other}: {}", answer.text()),
                        };
                    }
                })
            })
            .collect();
        let results: Vec<_> = clients.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        finished.store(true, Relaxed);
        assert!(results.iter().all(Result::is_ok), "a client saw something else");
    });
    let (answered, refused, largest) =
        (answered.load(Relaxed), refused.load(Relaxed), *largest.lock().expect("a number"));
    eprintln!(
        "{answered} answered, {refused} refused, at most {:.0} MiB, {:.0} MiB at the end",
        largest / 1_048_576.0,
        memory() / 1_048_576.0
    );
    assert!(answered > 0 && refused > 0, "{answered} answered, {refused} refused");
    assert!(largest > 0.0 && largest < 600e6, "{largest} bytes");
    // It recovers: what was begun is worked off, then there are answers again.
    let begin = Instant::now();
    while server.client().post("/v1/predict", "image/jpeg", &photo).status != 200 {
        assert!(begin.elapsed() < server::PATIENCE, "{}", server.log());
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Hostile requests of every kind, as fast as the clients can: the memory stays, and others are answered meanwhile.
#[test]
fn no_mix_of_hostile_requests_stops_the_server() {
    /// Above what the server holds at rest.
    const MOST: u64 = 300 << 20;
    const CLIENTS: usize = 24;
    let bench = bench();
    let long = seconds("KILN_ATTACK_SECONDS");
    let time = Duration::from_secs(long.unwrap_or(3));
    let server = Server::start(&bench, &[]);
    let file = png(&digits().images[0]);
    let alone = server.client().predict(&file);
    let at_rest = server.memory("VmRSS");
    let mut requests = hostile::all(form);
    // To see what one kind costs.
    if let Ok(only) = std::env::var("KILN_ATTACK_ONLY") {
        requests.retain(|request| request.name.contains(&only));
    }
    let (sent, answered, refused) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let longest = std::sync::Mutex::new(Duration::ZERO);
    let until = Instant::now() + time;
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (server, requests, sent) = (&server, &requests, &sent);
            scope.spawn(move || {
                let mut state = client as u64 + 1;
                while Instant::now() < until {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let random = (state >> 33) as usize;
                    let ending = match random % 7 {
                        0 => hostile::Ending::Leave,
                        1 => hostile::Ending::Stay,
                        _ => hostile::Ending::Answer,
                    };
                    requests[random / 7 % requests.len()].send(server.address(), ending);
                    sent.fetch_add(1, Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while Instant::now() < until {
                let begin = Instant::now();
                // A connection of its own, as somebody who comes by.
                let answer = server.client().post("/v1/predict", "image/png", &file);
                if answer.status == 503 {
                    refused.fetch_add(1, Relaxed);
                    continue;
                }
                assert_eq!(answer.json()["predictions"][0], alone, "{}", answer.text());
                let mut longest = longest.lock().expect("a time");
                *longest = begin.elapsed().max(*longest);
                answered.fetch_add(1, Relaxed);
            }
        });
    });
    let longest = *longest.lock().expect("a time");
    eprintln!(
        "{} hostile requests, {} others answered, the slowest after {longest:?}, {} refused; {} MiB at rest, at most \
         {} MiB",
        sent.load(Relaxed),
        answered.load(Relaxed),
        refused.load(Relaxed),
        at_rest.unwrap_or_default() >> 20,
        server.memory("VmHWM").unwrap_or_default() >> 20
    );
    if let (Some(at_rest), Some(most)) = (at_rest, server.memory("VmHWM")) {
        assert!(most < at_rest + MOST, "{most} bytes, {at_rest} at rest");
    }
    assert!(answered.load(Relaxed) > 0);
    // On a busy machine the short form may be refused for a while; on a free one nobody is.
    if long.is_some() {
        assert!(longest < Duration::from_secs(2) && refused.load(Relaxed) == 0, "{longest:?}");
    }
    // Afterwards it is as before.
    server.until(|metrics| server::figure(metrics, "kiln_requests_in_progress") == 0.0, &server.client());
    assert_eq!(server.client().predict(&file), alone);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn slow_connections_do_not_stop_the_rest() {
    let bench = bench();
    let server = Server::start(&bench, &["--timeout", "2"]);
    let file = png(&digits().images[0]);
    let half = |text: &str| {
        let mut stream = TcpStream::connect(server.address()).expect("a connection");
        stream.write_all(text.as_bytes()).expect("sent");
        stream
    };
    let heads: Vec<TcpStream> = (0..250).map(|_| half("GET /healthz HTTP/1.1\r\nHost: ")).collect();
    let silent: Vec<TcpStream> = (0..150).map(|_| half("")).collect();
    let bodies: Vec<TcpStream> = (0..100)
        .map(|_| {
            half("POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 4000\r\n\r\nabc")
        })
        .collect();
    // The others go on, on old connections and new ones.
    let client = server.client();
    for _ in 0..50 {
        client.predict(&file);
        server.client().predict(&file);
    }
    assert_eq!(client.get("/readyz").status, 200);
    // The slow ones are sent away: 408 or nothing at all, then the end.
    for mut stream in heads.into_iter().chain(silent) {
        let mut text = String::new();
        // A reset is an end as well.
        if stream.read_to_string(&mut text).is_ok() {
            assert!(text.is_empty() || text.starts_with("HTTP/1.1 408"), "{text}");
        }
    }
    for mut stream in bodies {
        let mut head = [0; 12];
        stream.read_exact(&mut head).expect("an answer");
        assert_eq!(&head, b"HTTP/1.1 408");
        stream.shutdown(Shutdown::Both).expect("closed");
    }
    client.predict(&file);
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let bench = bench();
    let server = Server::start(&bench, &["--timeout", "1"]);
    let client = server.client();
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    stream.set_nonblocking(true).expect("non-blocking");
    // Questions until neither side's buffers take more.
    let question = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    let begin = Instant::now();
    let end = loop {
        match stream.write(question.as_bytes()) {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break error,
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
        assert!(begin.elapsed() < server::PATIENCE, "the server still holds the connection");
    };
    assert!(
        matches!(end.kind(), std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe),
        "{end}"
    );
    server.until(|metrics| server::figure(metrics, "kiln_connections") <= 1.0, &client);
    assert_eq!(server.client().get("/healthz").status, 200);
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let bench = bench();
    // So much time that nobody has to give his place to another.
    let server = Server::start(&bench, &["--connections", "3", "--timeout", "3600"]);
    let client = server.client();
    client.get("/healthz");
    let held: Vec<TcpStream> =
        (0..2).map(|_| TcpStream::connect(server.address()).expect("a connection")).collect();
    server.until(|metrics| server::figure(metrics, "kiln_connections") >= 3.0, &client);
    let mut refused = TcpStream::connect(server.address()).expect("a connection");
    refused.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
    let mut text = String::new();
    refused.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("retry-after: 1"), "{text}");
    drop(held);
    server.until(|metrics| server::figure(metrics, "kiln_connections") <= 1.0, &client);
    assert_eq!(server.client().get("/healthz").status, 200);
}

#[test]
fn who_says_nothing_gives_his_place_to_a_newcomer() {
    let bench = bench();
    let server = Server::start(&bench, &["--connections", "3", "--timeout", "1"]);
    let slow = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc";
    let mut held: Vec<TcpStream> = ["", "GET /healthz HTTP/1.1\r\nHost: ", slow]
        .into_iter()
        .map(|begun| {
            let mut stream = TcpStream::connect(server.address()).expect("a connection");
            stream.write_all(begun.as_bytes()).expect("sent");
            stream
        })
        .collect();
    let file = png(&digits().images[0]);
    let begin = Instant::now();
    while server.client().post("/v1/predict", "image/png", &file).status != 200 {
        assert!(begin.elapsed() < server::PATIENCE, "{}", server.log());
    }
    // Sent away or told so, they are gone.
    for stream in &mut held {
        drop(stream.read_to_end(&mut Vec::new()));
    }
}

#[test]
fn another_model_takes_over_and_a_bad_one_does_not() {
    let bench = bench();
    let trained = bench.json(&[
        "train",
        "--dataset",
        "mnist-sample",
        "--epochs",
        "1",
        "--json",
        "--progress",
        "none",
        "--name",
        "other",
        "--set",
        "network.dense=[]",
    ]);
    let served = bench.path("served.kiln");
    fs::copy(reference_model(), &served).expect("copied");
    let server = Server::start_model(&bench, "served.kiln", &[], &[]);
    let client = server.client();
    let file = png(&digits().images[0]);
    let sha = |client: &Client| {
        let answer = client.post("/v1/predict", "image/png", &file);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["model"]["weights_sha256"].as_str().expect("a digest").to_owned()
    };
    let first = sha(&client);
    let other = trained["weights_sha256"].as_str().expect("a digest").to_owned();
    assert_ne!(first, other);

    // Damaged, cut short, empty, gone: the old one goes on.
    let good = fs::read(&served).expect("the model");
    let mut damaged = good.clone();
    damaged[1000] ^= 1;
    for (count, content) in [&damaged[..], &good[..good.len() / 2], b"", b"no model"].into_iter().enumerate()
    {
        fs::write(&served, content).expect("written");
        let refused = format!("kiln_model_reloads_total{{result=\"refused\"}} {}", count + 1);
        server.until(|metrics| metrics.contains(&refused), &client);
        assert_eq!(sha(&client), first);
    }
    fs::remove_file(&served).expect("removed");
    server.until(|metrics| metrics.contains("result=\"refused\"} 5"), &client);
    assert_eq!(sha(&client), first);
    assert_eq!(client.get("/readyz").status, 200);
    assert!(server.log().contains("the file is damaged"), "{}", server.log());

    // Clients that never stop asking see the old one or the new one, and no error.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let client = server.client();
                while !stop.load(Relaxed) {
                    let seen = sha(&client);
                    assert!(seen == first || seen == other, "{seen}");
                }
            });
        }
        for (content, expected) in
            [(bench.path("artifacts/other/model.kiln"), &other), (reference_model().into(), &first)]
        {
            let next = bench.path("next.kiln");
            fs::copy(content, &next).expect("copied");
            fs::rename(&next, &served).expect("renamed");
            #[cfg(unix)]
            server.signal("HUP");
            server.until(|metrics| metrics.contains(&format!("weights_sha256=\"{expected}\"")), &client);
            assert_eq!(sha(&client), **expected);
        }
        stop.store(true, Relaxed);
    });
}

#[cfg(unix)]
#[test]
fn what_is_in_progress_is_finished() {
    let bench = bench();
    let server = Server::start(&bench, &[]);
    let file = png(&digits().images[0]);
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    let head =
        format!("POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", file.len());
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(&file[..10]).expect("sent");
    let idle = server.client();
    idle.get("/healthz");
    server.until(|metrics| server::figure(metrics, "kiln_connections") >= 2.0, &idle);
    server.signal("TERM");
    server.until_log("stopping");
    // Nobody else gets in, but the open request has its answer.
    stream.write_all(&file[10..]).expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("\"predictions\""), "{text}");
    let (status, log) = server.wait();
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("stopped") && !log.contains("cut off"), "{log}");
}

#[cfg(unix)]
#[test]
fn what_does_not_finish_is_cut_off() {
    let bench = bench();
    let server = Server::start(&bench, &["--timeout", "3600"]);
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    stream
        .write_all(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
        .expect("sent");
    let client = server.client();
    server.until(|metrics| server::figure(metrics, "kiln_connections") >= 2.0, &client);
    server.signal("INT");
    let (status, log) = server.wait();
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("1 connections were cut off after 4s"), "{log}");
}

/// A pipe in the place of a file is not waited for, neither at the start nor later.
#[cfg(unix)]
#[test]
fn a_pipe_is_no_model() {
    let bench = bench();
    let make = |name: &str| {
        let made =
            std::process::Command::new("mkfifo").arg(bench.path(name)).status().expect("mkfifo starts");
        assert!(made.success());
    };
    make("pipe.kiln");
    bench.run(&["serve", "--model", "pipe.kiln", "--port", "0"]).fails(1, &["pipe.kiln", "expected a file"]);
    bench.run(&["serve", "--model", "/dev/zero", "--port", "0"]).fails(1, &["/dev/zero", "expected a file"]);
    fs::copy(reference_model(), bench.path("served.kiln")).expect("copied");
    let server = Server::start_model(&bench, "served.kiln", &[], &[]);
    make("next.kiln");
    fs::rename(bench.path("next.kiln"), bench.path("served.kiln")).expect("renamed");
    server.until(|metrics| metrics.contains("result=\"refused\"} 1"), &server.client());
    server.client().predict(&png(&digits().images[0]));
    server.signal("TERM");
    let (status, log) = server.wait();
    assert_eq!(status, Some(0), "{log}");
}

#[test]
fn bad_flags_and_places_are_errors() {
    let bench = bench();
    let model = reference_model();
    let server = Server::start(&bench, &[]);
    let taken = server.address().rsplit(':').next().expect("a port").to_owned();
    bench.run(&["serve", "--model", &model, "--port", &taken]).fails(1, &["cannot listen", &taken, "--port"]);
    bench.run(&["serve", "--model", "nothing"]).fails(1, &["nothing"]);
    fs::write(bench.path("bad.kiln"), "no model").expect("written");
    bench.run(&["serve", "--model", "bad.kiln"]).fails(1, &["bad.kiln", "not a Kiln model file"]);
    bench.run(&["serve", "--model", &model, "--web", "nothing"]).fails(1, &["nothing"]);
    for (flag, value, word) in [
        ("--port", "70000", "70000"),
        ("--host", "localhost", "--host"),
        ("--batch-size", "0", "--batch-size"),
        ("--queue", "0", "--queue"),
        ("--max-body", "4GB", "expected B, KiB or MiB"),
        ("--timeout", "0", "--timeout"),
        ("--log-format", "xml", "json"),
        ("--backend", "tpu", "flex"),
    ] {
        bench.run(&["serve", flag, value]).fails(2, &[word]);
    }
}

/// Hostile bytes: every one is answered with a status, and none ends the server.
#[test]
fn hostile_bytes_are_survived() {
    let bench = bench();
    let server = Server::start(&bench, &["--timeout", "5"]);
    let client = server.client();
    let file = png(&digits().images[0]);
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for _ in 0..300 {
        let mut bytes = file.clone();
        for _ in 0..=random() % 4 {
            let at = random() % bytes.len();
            bytes[at] ^= 1 << (random() % 8);
        }
        bytes.truncate(bytes.len() - random() % 40);
        let status = client.post("/v1/predict", "image/png", &bytes).status;
        assert!([200, 400, 413, 415].contains(&status), "{status}");
    }
    for text in [
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "GET /\r\n\r\n",
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "\u{0}\u{1}\u{2}\u{3}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address()).expect("a connection");
        stream.write_all(text.as_bytes()).expect("sent");
        stream.shutdown(Shutdown::Write).expect("closed");
        let mut answer = Vec::new();
        // A reset is an answer to this.
        if stream.read_to_end(&mut answer).is_ok() && !answer.is_empty() {
            assert!(answer.starts_with(b"HTTP/1.1 4"), "{text:?}: {}", String::from_utf8_lossy(&answer));
        }
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(200_000));
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    // It may be cut off while sending.
    drop(stream.write_all(long.as_bytes()));
    drop(stream);
    client.predict(&file);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
