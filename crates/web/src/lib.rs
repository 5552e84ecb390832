//! The classifier in a browser: the model file, the preprocessing and the network of the other programs, compiled
//! to WebAssembly behind one page in `static/`. Nothing leaves the page.
//!
//! [`Session`] is all of it in plain Rust, tested on every target; `bindings` hands it to JavaScript.

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(target_arch = "wasm32")]
mod bindings;
mod session;

pub use session::{Answer, MAX_LESSONS, MAX_PIXELS, Session, SessionError, check_picture};
