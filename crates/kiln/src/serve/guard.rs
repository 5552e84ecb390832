//! Which requests are let in: those that address this server by a name of its own, and none that a page of
//! another origin makes a browser send.
//!
//! A page whose name is made to resolve to this machine (DNS rebinding) is its own origin to the browser; only the
//! header Host gives it away. What other pages post is marked by the headers Origin and Sec-Fetch-Site.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::body::BodyLimits;
use super::problem::Problem;
use super::shell::Ends;

/// Who may call, beside this machine.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Names of this server, in small letters.
    hosts: Vec<String>,
    /// Origins whose pages may call; `*` for all.
    origins: Vec<String>,
}

/// Answers what is not let in.
pub(crate) async fn check(
    State((guard, limits)): State<(Arc<Guard>, BodyLimits)>,
    request: Request,
    next: Next,
) -> Response {
    let local = request.extensions().get::<Ends>().map(|ends| ends.local);
    match guard.admit(&request, local) {
        Ok(()) => next.run(request).await,
        Err(problem) => {
            let (parts, body) = request.into_parts();
            limits.refuse(&parts.headers, body).await;
            problem.into_response()
        }
    }
}

impl Guard {
    pub(crate) fn new(hosts: &[String], origins: &[String]) -> Self {
        Self {
            hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            origins: origins.to_vec(),
        }
    }

    pub(crate) fn origins(&self) -> &[String] {
        &self.origins
    }

    /// Lets a request in that reached the address `local`.
    fn admit<B>(&self, request: &axum::http::Request<B>, local: Option<IpAddr>) -> Result<(), Problem> {
        let headers = request.headers();
        expectations(headers)?;
        let host = host(request)?;
        for authority in host.iter().chain(request.uri().authority()) {
            let name = name(authority);
            if !self.is_own(&name, local) {
                let name: String = name.chars().take(100).collect();
                return Err(Problem::new(
                    StatusCode::MISDIRECTED_REQUEST,
                    format!(
                        "the header Host says `{name}`, which is no local name; start the server with \
                         `--allow-host {name}` if it is the server's"
                    ),
                ));
            }
        }
        if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        self.check_origin(headers, host.as_ref())
    }

    fn is_own(&self, name: &str, local: Option<IpAddr>) -> bool {
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        name == "localhost"
            || self.hosts.iter().any(|host| host == name)
            || address.is_ok_and(|address| {
                let address = address.to_canonical();
                address.is_loopback() || local.is_some_and(|local| local.to_canonical() == address)
            })
    }

    /// Refuses what a page of another origin has its reader's browser send.
    fn check_origin(&self, headers: &HeaderMap, host: Option<&Authority>) -> Result<(), Problem> {
        let origin = headers.get(header::ORIGIN).map(|origin| String::from_utf8_lossy(origin.as_bytes()));
        let foreign = |what: String| {
            Err(Problem::new(
                StatusCode::FORBIDDEN,
                format!(
                    "{what}; pages of other origins may call when the server is started with `--cors ORIGIN`"
                ),
            ))
        };
        if let Some(origin) = &origin {
            if self.origins.iter().any(|allowed| allowed == "*" || allowed == origin) {
                return Ok(());
            }
            let from = origin.split_once("://").and_then(|(_, from)| from.parse::<Authority>().ok());
            let own = from.is_some_and(|from| {
                // A proxy may give the server another name than the browser knows.
                host.is_some_and(|host| host.as_str().eq_ignore_ascii_case(from.as_str()))
                    || self.hosts.contains(&name(&from))
            });
            if !own {
                let origin: String = origin.chars().take(100).collect();
                return foreign(format!("the header Origin says `{origin}`"));
            }
        }
        match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
            None | Some(b"same-origin" | b"none") => Ok(()),
            Some(site) => {
                let site: String = String::from_utf8_lossy(site).chars().take(40).collect();
                foreign(format!("the header Sec-Fetch-Site says `{site}`"))
            }
        }
    }
}

/// What the header Host says. HTTP/1.1 asks for it, once (RFC 9112, section 3.2).
fn host<B>(request: &axum::http::Request<B>) -> Result<Option<Authority>, Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Problem::bad_request("the header Host is given twice; give it once"));
    }
    let Some(host) = first else {
        if request.version() >= Version::HTTP_11 {
            return Err(Problem::bad_request("the header Host is missing; HTTP/1.1 asks for it"));
        }
        return Ok(None);
    };
    let authority = Authority::try_from(host.as_bytes()).ok();
    let plain =
        authority.filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
    plain.map(Some).ok_or_else(|| {
        Problem::bad_request("the header Host is not a name or an address, and perhaps a port")
    })
}

/// The name without port, as names are compared.
fn name(authority: &Authority) -> String {
    let name = authority.host().to_ascii_lowercase();
    name.trim_end_matches('.').to_owned()
}

/// What HTTP lets a client ask of a server, and this one does not know.
fn expectations(headers: &HeaderMap) -> Result<(), Problem> {
    let other = |name, known: &str| {
        let value = headers
            .get_all(name)
            .iter()
            .find(|value| !value.as_bytes().eq_ignore_ascii_case(known.as_bytes()))?;
        Some(String::from_utf8_lossy(value.as_bytes()).chars().take(40).collect::<String>())
    };
    if let Some(value) = other(header::EXPECT, "100-continue") {
        let detail = format!("the header Expect says `{value}`; expected `100-continue` or nothing");
        return Err(Problem::new(StatusCode::EXPECTATION_FAILED, detail));
    }
    if let Some(value) = other(header::TRANSFER_ENCODING, "chunked") {
        let detail = format!("the header Transfer-Encoding says `{value}`; expected `chunked` or nothing");
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> Guard {
        Guard::new(&["Kiln.Example".to_owned()], &["https://friend.example".to_owned()])
    }

    fn request(text: &str) -> axum::http::Request<()> {
        let mut builder = axum::http::Request::builder();
        let mut lines = text.lines();
        let mut first = lines.next().unwrap().split(' ');
        builder = builder.method(first.next().unwrap()).uri(first.next().unwrap());
        if first.next() == Some("1.0") {
            builder = builder.version(Version::HTTP_10);
        }
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            builder = builder.header(name, value);
        }
        builder.body(()).unwrap()
    }

    /// 0 for what is let in.
    fn status(text: &str) -> u16 {
        let local = Some("192.168.1.7".parse().unwrap());
        guard().admit(&request(text), local).map_or_else(|problem| problem.status().as_u16(), |()| 0)
    }

    #[test]
    fn the_server_answers_to_its_own_names() {
        for host in [
            "localhost",
            "localhost:8080",
            "LocalHost.",
            "127.0.0.1:1",
            "127.1.2.3",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
            "192.168.1.7:8080",
            "kiln.example",
            "KILN.EXAMPLE:443",
        ] {
            assert_eq!(status(&format!("GET /\nHost: {host}")), 0, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.1.8",
            "[::2]",
            "0.0.0.0",
            "kiln.example.evil",
            "2130706433",
        ] {
            assert_eq!(status(&format!("GET /\nHost: {host}")), 421, "{host}");
        }
        for host in ["", "a b", "user@localhost", "localhost/x", ":80", "localhost, evil.example"] {
            assert_eq!(status(&format!("GET /\nHost: {host}")), 400, "{host}");
        }
        assert_eq!(status("GET /"), 400);
        assert_eq!(status("GET / 1.0"), 0);
        assert_eq!(status("GET /\nHost: localhost\nHost: localhost"), 400);
        // The address of the request counts as much as the header.
        assert_eq!(status("GET http://evil.example/\nHost: localhost"), 421);
        assert_eq!(status("GET http://localhost/\nHost: localhost"), 0);
    }

    #[test]
    fn pages_of_other_origins_post_nothing() {
        let post = |headers: &str| status(&format!("POST /v1/predict\nHost: localhost:8080{headers}"));
        for headers in [
            "",
            "\nOrigin: http://localhost:8080",
            "\nOrigin: http://localhost:8080\nSec-Fetch-Site: same-origin",
            "\nSec-Fetch-Site: none",
            "\nOrigin: https://friend.example\nSec-Fetch-Site: cross-site",
            // Behind a proxy.
            "\nOrigin: https://kiln.example\nSec-Fetch-Site: same-origin",
        ] {
            assert_eq!(post(headers), 0, "{headers}");
        }
        for headers in [
            "\nOrigin: https://evil.example",
            "\nOrigin: http://localhost:3000",
            "\nOrigin: http://localhost",
            "\nOrigin: null",
            "\nOrigin: ",
            "\nSec-Fetch-Site: cross-site",
            "\nSec-Fetch-Site: same-site",
            "\nOrigin: http://localhost:8080\nSec-Fetch-Site: cross-site",
        ] {
            assert_eq!(post(headers), 403, "{headers}");
        }
        assert_eq!(
            status("GET /v1/model\nHost: localhost\nOrigin: https://evil.example"),
            0,
            "the browser keeps it"
        );
    }

    #[test]
    fn unknown_expectations_are_said() {
        assert_eq!(status("GET /\nHost: localhost\nExpect: 100-Continue"), 0);
        assert_eq!(status("GET /\nHost: localhost\nExpect: tea"), 417);
        assert_eq!(status("GET /\nHost: localhost\nExpect: 100-continue\nExpect: tea"), 417);
        assert_eq!(status("POST /\nHost: localhost\nTransfer-Encoding: gzip, chunked"), 501);
        assert_eq!(status("POST /\nHost: localhost\nTransfer-Encoding: chunked"), 0);
    }
}
