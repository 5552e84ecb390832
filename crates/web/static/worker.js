// The network, away from the thread that draws.
"use strict";

let kiln;
let model;

// kiln.html has it in this file.
function load() {
  if (typeof wasm_bindgen === "undefined") importScripts("kiln.js");
}

// While the page fetches the program. What goes wrong here, `start` meets again and tells.
try {
  load();
} catch {}

const calls = {
  async start({ wasm }) {
    load();
    await wasm_bindgen({ module_or_path: wasm });
    kiln = wasm_bindgen;
  },

  open({ bytes }) {
    const opened = new kiln.Kiln(new Uint8Array(bytes));
    if (model) model.free();
    model = opened;
    return JSON.parse(model.describe());
  },

  check({ bytes }) {
    kiln.check_picture(new Uint8Array(bytes));
  },

  answer({ pixels, width, height }) {
    const seen = model.answer(pixels, width, height);
    const { probabilities, labels, image, attention, rejected, several } = seen;
    seen.free();
    return { probabilities, labels, image, attention, rejected, several };
  },

  teach({ label }) {
    model.teach(label);
    return JSON.parse(model.describe());
  },

  untaught() {
    model.untaught();
    return JSON.parse(model.describe());
  },

  save() {
    return model.save();
  },
};

// One after the other, in the order in which they came.
let queue = Promise.resolve();
onmessage = ({ data: { id, call, values } }) => {
  queue = queue.then(async () => {
    try {
      postMessage({ id, result: await calls[call](values ?? {}) });
    } catch (error) {
      // A panic leaves the module in an unknown state; the page starts another.
      postMessage({ id, error: error.message ?? String(error), broken: error instanceof WebAssembly.RuntimeError });
    }
  });
};
