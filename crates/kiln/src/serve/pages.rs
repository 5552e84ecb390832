//! Pages and files for people. All are in memory: no request reaches the file system.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use evaluation::report::escape;
use hyper::body::Bytes;
use serde_json::Value;

/// What the folder of a web page may hold. The page itself has under 2 MB.
const MOST_BYTES: u64 = 64 << 20;
const MOST_FILES: usize = 1000;

/// The description of the interface, `OpenAPI` 3.1. Written by hand and tested with schemathesis: utoipa would add a feature to
/// indexmap, which is under Burn, and so make a second build of it.
const OPENAPI: &str = include_str!("../../assets/serve/openapi.json");
const UPLOAD: &str = include_str!("../../assets/serve/upload.html");
const UPLOAD_SCRIPT: &str = include_str!("../../assets/serve/upload.js");
const STYLE: &str = include_str!("../../assets/serve/style.css");

/// Why a folder cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PagesError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} has no index.html; give the folder that `just web` builds")]
    NoIndex { path: PathBuf },
    #[error("{path} holds more than {MOST_FILES} files or {} MiB; give the folder of a web page", MOST_BYTES >> 20)]
    TooMuch { path: PathBuf },
    #[error("the built-in interface description: {0}")]
    Description(#[from] serde_json::Error),
}

/// Files by their address.
#[derive(Debug, Default)]
pub(crate) struct Pages(BTreeMap<String, Page>);

/// A file as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    content_type: &'static str,
    bytes: Bytes,
    /// Whether the page is one of ours, which load nothing from elsewhere.
    own: bool,
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response =
            ([(header::CONTENT_TYPE, self.content_type), (header::CACHE_CONTROL, "no-cache")], self.bytes)
                .into_response();
        if self.own {
            response.headers_mut().insert(
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static("default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'"),
            );
        }
        response
    }
}

impl Pages {
    /// The pages that need nothing, among them a form for uploads, and at `/` the folder's `index.html` or else that form.
    pub(crate) fn new(web: Option<&Path>) -> Result<Self, PagesError> {
        let mut pages = Self::default();
        pages.own("/openapi.json", "application/json", OPENAPI);
        pages.own("/docs", "text/html; charset=utf-8", documentation(&serde_json::from_str(OPENAPI)?));
        pages.own("/docs.css", "text/css; charset=utf-8", STYLE);
        match web {
            Some(folder) => pages.folder(folder)?,
            None => pages.own("/", "text/html; charset=utf-8", UPLOAD),
        }
        pages.own("/upload", "text/html; charset=utf-8", UPLOAD);
        pages.own("/upload.js", "text/javascript; charset=utf-8", UPLOAD_SCRIPT);
        Ok(pages)
    }

    pub(crate) fn get(&self, address: &str) -> Option<Page> {
        self.0.get(address).cloned()
    }

    fn own(&mut self, address: &str, content_type: &'static str, text: impl Into<String>) {
        let page = Page { content_type, bytes: Bytes::from(text.into()), own: true };
        self.0.insert(address.to_owned(), page);
    }

    /// Every file below `root`, whose `index.html` is also the address of its folder.
    fn folder(&mut self, root: &Path) -> Result<(), PagesError> {
        let mut folders = vec![(root.to_owned(), "/".to_owned())];
        let mut left = MOST_BYTES;
        let mut files = 0;
        while let Some((folder, address)) = folders.pop() {
            let failed = |source| PagesError::Read { path: folder.clone(), source };
            for entry in fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let path = entry.path();
                let failed = |source| PagesError::Read { path: path.clone(), source };
                let name = entry.file_name().to_string_lossy().into_owned();
                // What is hidden is not meant to be published, and a link may lead out of the folder.
                let kind = entry.file_type().map_err(failed)?;
                if name.starts_with('.') || kind.is_symlink() {
                    continue;
                }
                if kind.is_dir() {
                    folders.push((path, format!("{address}{name}/")));
                    continue;
                }
                // A pipe would be waited for.
                if !kind.is_file() {
                    continue;
                }
                files += 1;
                let len = entry.metadata().map_err(failed)?.len();
                left = left
                    .checked_sub(len)
                    .filter(|_| files <= MOST_FILES)
                    .ok_or_else(|| PagesError::TooMuch { path: root.to_owned() })?;
                let bytes = Bytes::from(fs::read(&path).map_err(failed)?);
                let bytes = if name == "index.html" { served(bytes) } else { bytes };
                let page = Page { content_type: content_type(&name), bytes, own: false };
                if name == "index.html" {
                    self.0.insert(address.clone(), page.clone());
                }
                self.0.insert(format!("{address}{name}"), page);
            }
        }
        if self.0.contains_key("/") { Ok(()) } else { Err(PagesError::NoIndex { path: root.to_owned() }) }
    }
}

/// Tells Kiln's own page that there is a server, whose model is to be shown; it asks for nothing where there is none.
fn served(page: Bytes) -> Bytes {
    const MARK: &str = "<meta name=\"kiln-server\" content=\"v1\">";
    match std::str::from_utf8(&page).ok().and_then(|text| text.split_once("<head>")) {
        Some((before, after)) => format!("{before}<head>\n{MARK}{after}").into(),
        None => page,
    }
}

fn content_type(name: &str) -> &'static str {
    match Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "webmanifest" => "application/json",
        // Browsers compile while they load only what is called this.
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "ico" => "image/x-icon",
        "txt" | "md" => "text/plain; charset=utf-8",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}

/// The interface description as a page that needs no script.
fn documentation(openapi: &Value) -> String {
    let text = |value: &Value| escape(value.as_str().unwrap_or_default()).to_string();
    let mut sections = String::new();
    for (path, methods) in openapi["paths"].as_object().into_iter().flatten() {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            sections += &format!(
                "<section><h2><code>{} {}</code></h2><p>{}</p>",
                method.to_uppercase(),
                escape(path),
                text(&operation["summary"])
            );
            if let Some(description) = operation["description"].as_str() {
                sections += &format!("<p>{}</p>", escape(description));
            }
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let rows = parameters
                .map(|parameter| {
                    format!(
                        "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                        text(&parameter["name"]),
                        text(&parameter["in"]),
                        text(&parameter["description"])
                    )
                })
                .collect::<Vec<_>>()
                .concat();
            if !rows.is_empty() {
                sections += &format!(
                    "<h3>Parameters</h3><table><tr><th>name</th><th>in</th><th>meaning</th></tr>{rows}</table>"
                );
            }
            for (kind, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
                sections += &format!("<h3>Body <code>{}</code></h3>", escape(kind));
                if let Some(description) = content["schema"]["description"].as_str() {
                    sections += &format!("<p>{}</p>", escape(description));
                }
                sections += &example(&content["example"]);
            }
            sections += "<h3>Answers</h3>";
            for (status, response) in operation["responses"].as_object().into_iter().flatten() {
                sections +=
                    &format!("<p><code>{}</code> {}</p>", escape(status), text(&response["description"]));
                for (_, content) in response["content"].as_object().into_iter().flatten() {
                    sections += &example(&content["example"]);
                }
            }
            if let Some(command) = operation["x-example"].as_str() {
                sections += &format!("<h3>Example</h3><pre>{}</pre>", escape(command));
            }
            sections += "</section>";
        }
    }
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
         <link rel=\"stylesheet\" href=\"docs.css\"></head><body><main><h1>{title}</h1><p>{description}</p>\
         <p>For programs: <a href=\"openapi.json\">openapi.json</a></p>{sections}</main></body></html>",
        title = text(&openapi["info"]["title"]),
        description = text(&openapi["info"]["description"]),
    )
}

fn example(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => format!("<pre>{}</pre>", escape(text)),
        value => format!("<pre>{}</pre>", escape(&serde_json::to_string_pretty(value).unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_the_description_says() {
        let page = Pages::new(None).unwrap().get("/docs").unwrap();
        let html = std::str::from_utf8(&page.bytes).unwrap();
        let description: Value = serde_json::from_str(OPENAPI).unwrap();
        for (path, methods) in description["paths"].as_object().unwrap() {
            assert!(html.contains(path.as_str()), "{path}");
            for operation in methods.as_object().unwrap().values() {
                assert!(html.contains(&escape(operation["summary"].as_str().unwrap()).to_string()), "{path}");
            }
        }
        assert!(!html.contains("http://") && !html.contains("https://"), "nothing from elsewhere");
    }

    #[test]
    fn a_folder_is_served_whole_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("web");
        fs::create_dir_all(root.join("pkg")).unwrap();
        for (name, text) in [
            ("web/index.html", "<head><title>hi"),
            ("web/pkg/a.wasm", "wasm"),
            ("web/.env", "secret"),
            ("outside", "secret"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path().join("outside"), root.join("link")).unwrap();
        let pages = Pages::new(Some(&root)).unwrap();
        let marked = "<head>\n<meta name=\"kiln-server\" content=\"v1\"><title>hi";
        assert_eq!(pages.get("/").unwrap().bytes, marked);
        assert_eq!(pages.get("/index.html").unwrap().bytes, marked);
        assert!(pages.get("/upload").unwrap().bytes.starts_with(b"<!doctype html>"));
        assert_eq!(pages.get("/pkg/a.wasm").unwrap().content_type, "application/wasm");
        for absent in
            ["/.env", "/link", "/../outside", "/pkg", "/pkg/", "", "//index.html", "/%2e%2e/outside"]
        {
            assert!(pages.get(absent).is_none(), "{absent}");
        }
        assert!(pages.get("/docs").is_some());
        fs::remove_file(root.join("index.html")).unwrap();
        assert!(Pages::new(Some(&root)).unwrap_err().to_string().contains("no index.html"));
    }
}
