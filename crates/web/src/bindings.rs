//! [`Session`] for JavaScript: typed arrays in and out, errors as exceptions with our message.

use serde_json::json;
use wasm_bindgen::prelude::*;

use crate::{Session, SessionError};

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn log_error(message: &str);
}

/// Panics are our own bugs: the console says where.
#[wasm_bindgen(start)]
fn start() {
    std::panic::set_hook(Box::new(|panic| log_error(&panic.to_string())));
}

fn thrown(error: SessionError) -> JsError {
    JsError::new(&error.to_string())
}

/// Refuses a picture file that ends early, which the browser would show.
#[wasm_bindgen]
pub fn check_picture(bytes: &[u8]) -> Result<(), JsError> {
    crate::check_picture(bytes).map_err(thrown)
}

/// A model in the page.
#[wasm_bindgen]
pub struct Kiln {
    session: Session,
}

/// The answer for one picture.
#[wasm_bindgen]
pub struct Seen {
    answer: crate::Answer,
}

#[wasm_bindgen]
impl Seen {
    /// Probability of every class.
    #[wasm_bindgen(getter)]
    pub fn probabilities(&self) -> Vec<f32> {
        self.answer.probabilities.clone()
    }

    /// For each class whether it is on the picture (1 or 0), of a multi-label model; empty of others.
    #[wasm_bindgen(getter)]
    pub fn labels(&self) -> Vec<u8> {
        self.answer.labels.clone()
    }

    /// The image that the network got, `[C, H, W]`.
    #[wasm_bindgen(getter)]
    pub fn image(&self) -> Vec<u8> {
        self.answer.image.clone()
    }

    /// Where it looked, `[H, W]`.
    #[wasm_bindgen(getter)]
    pub fn attention(&self) -> Vec<f32> {
        self.answer.attention.clone()
    }

    /// Whether the answer is not to be believed.
    #[wasm_bindgen(getter)]
    pub fn rejected(&self) -> bool {
        self.answer.rejected
    }

    /// Whether that is since the picture holds several digits.
    #[wasm_bindgen(getter)]
    pub fn several(&self) -> bool {
        self.answer.reason == Some(model::Reason::SeveralDigits)
    }
}

#[wasm_bindgen]
impl Kiln {
    /// Opens a model file.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: &[u8]) -> Result<Kiln, JsError> {
        Ok(Self { session: Session::open(bytes).map_err(thrown)? })
    }

    /// What the page needs to know of the model, as JSON.
    pub fn describe(&self) -> String {
        let metadata = self.session.metadata();
        let input = self.session.input();
        json!({
            "classes": metadata.classes,
            "task": metadata.task.name(),
            "channels": input.channels,
            "height": input.height,
            "width": input.width,
            "fit": metadata.preprocessing.fit,
            "parameters": metadata.parameters,
            "version": metadata.kiln_version,
            "sha256": metadata.weights_sha256,
            "provenance": metadata.provenance,
            "lessons": self.session.lessons(),
        })
        .to_string()
    }

    /// The answer for the pixels of a canvas.
    pub fn answer(&mut self, rgba: &[u8], width: usize, height: usize) -> Result<Seen, JsError> {
        Ok(Seen { answer: self.session.answer(rgba, width, height).map_err(thrown)? })
    }

    /// The last picture belongs to this class.
    pub fn teach(&mut self, class: usize) -> Result<(), JsError> {
        self.session.teach(class).map_err(thrown)
    }

    /// Takes the last lesson back.
    pub fn untaught(&mut self) -> Result<(), JsError> {
        self.session.untaught().map_err(thrown)
    }

    /// The bytes of a model file with all lessons.
    pub fn save(&self) -> Result<Vec<u8>, JsError> {
        self.session.save().map_err(thrown)
    }
}
