// The page: drawing, showing answers, teaching. The network runs in a worker.
"use strict";

const $ = (id) => document.getElementById(id);

// ---------------------------------------------------------------------------------------------------------------
// The worker

const EMBEDDED = window.KILN; // kiln.html holds the files itself
const SERVED = document.querySelector('meta[name="kiln-server"]') !== null; // `kiln serve` says so in its copy of the page

let worker;
let calls = new Map();
let lastCall = 0;

function startWorker() {
  worker = new Worker(EMBEDDED ? EMBEDDED.worker : "worker.js");
  worker.onmessage = ({ data: { id, result, error, broken } }) => {
    const call = calls.get(id);
    calls.delete(id);
    if (error === undefined) call?.resolve(result);
    else call?.reject(Object.assign(new Error(error), { broken }));
  };
  worker.onerror = (event) => {
    const error = Object.assign(new Error(event.message || "the worker did not start"), { broken: true });
    for (const call of calls.values()) call.reject(error);
    calls.clear();
  };
}

function ask(call, values, transfer = []) {
  const id = ++lastCall;
  return new Promise((resolve, reject) => {
    calls.set(id, { resolve, reject });
    worker.postMessage({ id, call, values }, transfer);
  });
}

async function fetched(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: the server answered ${response.status}`);
  // For the time without a network, see sw.js; from here it needs no second transfer.
  if (window.caches) {
    const copy = response.clone();
    caches.open("kiln").then((store) => store.put(name, copy)).catch(() => {});
  }
  return response;
}

async function bytesOf(name) {
  return EMBEDDED ? EMBEDDED.bytes(name) : unpacked(await (await fetched(`${name}.gz`)).arrayBuffer());
}

/** The model file: that of the server where there is one, else the one that came with the page. */
async function firstModel() {
  if (!SERVED) return bytesOf("model.kiln");
  const name = "v1/model/file";
  let response = await fetch(name);
  for (let asked = "Token of this server"; response.status === 401; asked = "That was not it. Token of this server") {
    const token = prompt(asked);
    if (token === null) throw new Error("the server wants its token");
    response = await fetch(name, { headers: { Authorization: `Bearer ${token.trim()}` } });
  }
  // Too large to run in a page: the server runs it.
  if (response.status === 404) location.replace("upload");
  if (!response.ok) throw new Error(`${name}: the server answered ${response.status}`);
  return response.arrayBuffer();
}

/** Packed here and not by the server, so that every server transfers as little; some unpack such files themselves. */
function unpacked(bytes) {
  const [first, second] = new Uint8Array(bytes);
  if (first !== 0x1f || second !== 0x8b) return bytes;
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

// ---------------------------------------------------------------------------------------------------------------
// State

const SIDE = 280; // units of the pad, ten for a pixel of MNIST
const SENT = SIDE / 2; // pixels of what the network is asked about: five for each that it sees
const PEN = 20;
let wasm; // the compiled program, for another worker after a failure
let model; // what the worker says about the model
let modelBytes; // as opened, for another worker
let modelName;
let bundled; // the model that came with the page
let strokes = []; // [[x, y], ...] in units of the pad
let picture; // { pixels, width, height, canvas } of an opened picture, instead of strokes
let answer;
let working = 0; // tasks under way

// ---------------------------------------------------------------------------------------------------------------
// The pad

const pad = $("pad");
const ink = new OffscreenCanvas(SENT, SENT).getContext("2d", { willReadFrequently: true });
const cursor = { x: SIDE / 2, y: SIDE / 2, down: false, shown: false };
let stroke; // being drawn by a pointer
let pointer;

function paint(context, scale) {
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.fillStyle = "#000";
  context.fillRect(0, 0, SIDE, SIDE);
  if (picture) {
    const fit = Math.min(SIDE / picture.width, SIDE / picture.height);
    const [w, h] = [picture.width * fit, picture.height * fit];
    context.drawImage(picture.canvas, (SIDE - w) / 2, (SIDE - h) / 2, w, h);
  }
  context.strokeStyle = context.fillStyle = "#fff";
  context.lineWidth = PEN;
  context.lineCap = context.lineJoin = "round";
  for (const points of strokes) {
    context.beginPath();
    if (points.length === 1) {
      context.arc(points[0][0], points[0][1], PEN / 2, 0, 2 * Math.PI);
      context.fill();
      continue;
    }
    context.moveTo(...points[0]);
    for (const point of points.slice(1)) context.lineTo(...point);
    context.stroke();
  }
}

function paintPad() {
  const side = Math.max(1, Math.round(pad.clientWidth * devicePixelRatio));
  if (pad.width !== side) pad.width = pad.height = side;
  const context = pad.getContext("2d");
  paint(context, side / SIDE);
  if (!cursor.shown) return;
  context.lineWidth = 2;
  context.strokeStyle = cursor.down ? "#fb9a62" : "#7aa5ff";
  context.beginPath();
  context.arc(cursor.x, cursor.y, PEN / 2 + 2, 0, 2 * Math.PI);
  context.moveTo(cursor.x - 18, cursor.y);
  context.lineTo(cursor.x + 18, cursor.y);
  context.moveTo(cursor.x, cursor.y - 18);
  context.lineTo(cursor.x, cursor.y + 18);
  context.stroke();
}

function position(event) {
  const box = pad.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
}

/** Whether what is drawn is what the network was trained on: light strokes on dark. Other networks are given pictures. */
const draws = () => model === undefined || model.fit === "digit";

function showPad() {
  const drawn = draws();
  $("draw-title").textContent = drawn ? "Draw" : "Picture";
  $("about").textContent = `${drawn ? "Draw" : "Open a picture"}, and the network says what it is. Everything runs in this page; nothing is sent anywhere.`;
  $("pad-help").hidden = $("undo").hidden = !drawn;
  $("open-help").hidden = drawn;
  pad.classList.toggle("shows", !drawn);
  pad.tabIndex = drawn ? 0 : -1;
  pad.setAttribute("role", drawn ? "application" : "img");
  if (drawn) pad.setAttribute("aria-roledescription", "drawing pad");
  else pad.removeAttribute("aria-roledescription");
  pad.ariaLabel = drawn ? "Drawing pad" : "Your picture";
  if (!drawn) strokes = [];
}

pad.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || stroke) return;
  if (!draws()) {
    $("picture").click();
    return;
  }
  pad.setPointerCapture(event.pointerId);
  pointer = event.pointerId;
  cursor.shown = cursor.down = false;
  picture = undefined;
  stroke = [position(event)];
  strokes.push(stroke);
  changed();
});
pad.addEventListener("pointermove", (event) => {
  if (!stroke || event.pointerId !== pointer) return;
  const events = event.getCoalescedEvents?.() ?? [];
  for (const step of events.length ? events : [event]) stroke.push(position(step));
  changed();
});
for (const end of ["pointerup", "pointercancel"]) {
  pad.addEventListener(end, (event) => {
    if (event.pointerId === pointer) stroke = pointer = undefined;
  });
}

function clearPad() {
  strokes = [];
  stroke = picture = undefined;
  cursor.down = false;
  changed();
}

function undo() {
  if (picture) picture = undefined;
  else strokes.pop();
  stroke = undefined;
  cursor.down = false;
  changed();
}

function penTo(down) {
  cursor.down = down;
  if (down) {
    picture = undefined;
    strokes.push([[cursor.x, cursor.y]]);
    changed();
  }
  say(down ? "Pen down" : "Pen up");
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
pad.addEventListener("keydown", (event) => {
  if (!draws()) return;
  if (event.altKey || event.metaKey || (event.ctrlKey && event.key.toLowerCase() !== "z")) return;
  if (ARROWS[event.key]) {
    const [x, y] = ARROWS[event.key].map((direction) => direction * (event.shiftKey ? 3 : 10));
    const inside = (at) => Math.min(SIDE - PEN / 2, Math.max(PEN / 2, at));
    [cursor.x, cursor.y] = [inside(cursor.x + x), inside(cursor.y + y)];
    if (cursor.down) {
      strokes.at(-1).push([cursor.x, cursor.y]);
      changed();
    }
  } else if (event.key === " " || event.key === "Enter") {
    if (!event.repeat) penTo(!cursor.down);
  } else if (event.key === "Escape" && cursor.down) {
    penTo(false);
  } else if (event.key.toLowerCase() === "z") {
    undo();
    say("Stroke undone");
  } else if (event.key === "Delete" || event.key === "Backspace") {
    clearPad();
    say("Cleared");
  } else {
    return;
  }
  event.preventDefault();
  cursor.shown = true;
  requestAnimationFrame(paintPad);
});
pad.addEventListener("focus", () => {
  cursor.shown = draws() && pad.matches(":focus-visible");
  paintPad();
});
pad.addEventListener("blur", () => {
  cursor.shown = cursor.down = false;
  paintPad();
});
new ResizeObserver(paintPad).observe(pad);

// ---------------------------------------------------------------------------------------------------------------
// Answers: at most one question under way, and one frame between two of them

let frame;
let asking = false;
let stale = false;

function changed() {
  stale = true;
  frame ??= requestAnimationFrame(() => {
    frame = undefined;
    paintPad();
    question();
  });
}

async function question() {
  if (!stale || asking || !model) return;
  stale = false;
  if (!picture && strokes.length === 0) {
    showAnswer(undefined);
    return;
  }
  asking = true;
  const begin = performance.now();
  try {
    showAnswer(await ask("answer", pixels()));
    performance.measure("answer", { start: begin, end: performance.now() });
    problem();
  } catch (error) {
    showAnswer(undefined);
    await failed(error);
  } finally {
    asking = false;
  }
  if (stale && frame === undefined) changed();
}

function pixels() {
  if (picture) return { pixels: picture.pixels, width: picture.width, height: picture.height };
  paint(ink, SENT / SIDE);
  return { pixels: ink.getImageData(0, 0, SENT, SENT).data, width: SENT, height: SENT };
}

const percent = (probability) => {
  const value = 100 * probability;
  return value > 99.9 && value < 100 ? "> 99.9 %" : `${value.toFixed(1)} %`;
};

let spokenSoon;
function say(text, after = 0) {
  clearTimeout(spokenSoon);
  spokenSoon = setTimeout(() => ($("spoken").textContent = text), after);
}

function showAnswer(found) {
  answer = found;
  const probabilities = found ? [...found.probabilities] : model.classes.map(() => 0);
  const best = found ? probabilities.indexOf(Math.max(...probabilities)) : -1;
  // Of a multi-label model all that are on the picture, which may be none.
  const several = model.task === "multi-label";
  const labels = several && found ? model.classes.filter((_, index) => found.labels[index]) : [model.classes[best]];
  const text = labels.join(", ") || "none of them";
  $("label").textContent = found ? text : "…";
  $("label").classList.toggle("long", found !== undefined && text.length > 4);
  const why = found?.several ? ", several digits" : ", unlike anything it was trained on";
  const rejection = found?.rejected ? why : "";
  $("percent").textContent = !found ? "" : several ? rejection : percent(probabilities[best]) + rejection;
  for (const [index, row] of rows(probabilities)) {
    row.element.classList.toggle("best", several && found ? found.labels[index] === 1 : index === best);
    row.bar.style.transform = `scaleX(${probabilities[index]})`;
    row.value.textContent = found ? percent(probabilities[index]) : "";
  }
  for (const button of $("classes").querySelectorAll("button, select")) button.disabled = !found || several;
  showSeen(found, best);
  if (found && several) say(`${text}${rejection}`, 600);
  else if (found) say(`${text}, ${Math.round(100 * probabilities[best])} percent${rejection}`, 600);
}

// One row for each class; of many classes the most probable.
const MOST_ROWS = 12;
let bars = [];
function rows(probabilities) {
  if (probabilities.length <= MOST_ROWS) return bars.entries();
  const order = probabilities.map((_, index) => index).sort((a, b) => probabilities[b] - probabilities[a]);
  return bars.map((row, at) => {
    row.name.textContent = model.classes[order[at]];
    return [order[at], row];
  });
}

function buildRows() {
  bars = model.classes.slice(0, MOST_ROWS).map((label) => {
    const element = document.createElement("li");
    const name = element.appendChild(document.createElement("span"));
    const track = element.appendChild(document.createElement("span"));
    const bar = track.appendChild(document.createElement("span"));
    const value = element.appendChild(document.createElement("span"));
    name.textContent = label;
    track.className = "track";
    bar.className = "bar";
    value.className = "value";
    return { element, name, bar, value };
  });
  $("bars").replaceChildren(...bars.map((row) => row.element));
}

const HEAT = [251, 120, 40];
function showSeen(found, best) {
  const { width, height, channels } = model;
  const size = width * height;
  const grey = new Uint8ClampedArray(4 * size);
  const heat = new Uint8ClampedArray(4 * size);
  const peak = found ? Math.max(...found.attention) : 0;
  for (let at = 0; at < size; at++) {
    const share = peak > 0 ? found.attention[at] / peak : 0;
    for (let c = 0; c < 3; c++) {
      const value = found ? found.image[(channels === 3 ? c : 0) * size + at] : 0;
      grey[4 * at + c] = value;
      heat[4 * at + c] = 0.75 * value * (1 - 0.8 * share) + 0.8 * share * HEAT[c];
    }
    grey[4 * at + 3] = heat[4 * at + 3] = 255;
  }
  for (const [canvas, data] of [[$("seen"), grey], [$("attention"), heat]]) {
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  }
  const size_ = `${width} by ${height} pixels`;
  $("seen").ariaLabel = found ? `What the network sees: your picture as ${size_}` : "What the network sees: nothing yet";
  $("attention").ariaLabel = !found
    ? "Where it looks: nothing yet"
    : peak > 0
      ? `Where it looks for ${model.classes[best]}: most of all at the ${region(found.attention, width, height)}`
      : "Where it looks: no place speaks for the answer";
}

function region(map, width, height) {
  const at = map.indexOf(Math.max(...map));
  const row = ["top", "middle", "bottom"][Math.floor((3 * Math.floor(at / width)) / height)];
  const column = ["left", "centre", "right"][Math.floor((3 * (at % width)) / width)];
  return row === "middle" && column === "centre" ? "centre" : `${row} ${column}`;
}

// ---------------------------------------------------------------------------------------------------------------
// Teaching

function buildClasses() {
  const group = $("classes");
  if (model.classes.length <= 20) {
    const buttons = model.classes.map((label, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.ariaLabel = `It is ${label}`;
      button.disabled = true;
      button.onclick = () => teach(index);
      return button;
    });
    group.replaceChildren(...buttons);
    return;
  }
  const select = document.createElement("select");
  select.ariaLabel = "Class";
  select.disabled = true;
  model.classes.forEach((label, index) => select.add(new Option(label, index)));
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "It is this";
  button.disabled = true;
  button.onclick = () => teach(Number(select.value));
  group.replaceChildren(select, button);
}

function teach(label) {
  return changeModel("teach", { label }, `Learned: this is ${model.classes[label]}. `);
}

function changeModel(call, values, done) {
  return work(async () => {
    model = await ask(call, values);
    showLessons(done);
    changed();
  });
}

function showLessons(done = "") {
  const n = model.lessons;
  $("lessons").textContent = done + (n === 0 ? "No lessons yet." : n === 1 ? "1 lesson." : `${n} lessons.`);
  $("untaught").disabled = n === 0;
  $("save").disabled = false;
}

function save() {
  return work(async () => {
    const bytes = await ask("save");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
    link.download = model.lessons ? "taught.kiln" : "model.kiln";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
}

// ---------------------------------------------------------------------------------------------------------------
// Files

const MOST_BYTES = 256 * 1024 * 1024;
const MOST_PIXELS = 1 << 24;

async function openModel(bytes, name) {
  model = await ask("open", { bytes });
  [modelBytes, modelName] = [bytes, name];
  bundled ??= { bytes, name };
  $("bundled").hidden = bytes === bundled.bytes;
  showPad();
  buildRows();
  buildClasses();
  showFacts();
  showLessons();
  showAnswer(undefined);
  problem();
  changed();
}

function showFacts() {
  const { provenance, parameters, channels, height, width, classes, sha256 } = model;
  const facts = {
    File: modelName,
    Task: model.task === "multi-label" ? "several classes a picture" : undefined,
    Classes: classes.length <= 20 ? classes.join(", ") : `${classes.length}`,
    Parameters: parameters.toLocaleString("en"),
    Input: `${width} × ${height}${channels === 3 ? ", colour" : ", grey"}`,
    "Trained on": provenance.dataset,
    "Test accuracy": provenance.test_accuracy && `${(100 * provenance.test_accuracy).toFixed(2)} %`,
    Weights: `${sha256.slice(0, 12)}…`,
  };
  const lines = Object.entries(facts).filter(([, value]) => value !== undefined);
  $("facts").replaceChildren(
    ...lines.map(([name, value]) => {
      const line = document.createElement("div");
      line.appendChild(document.createElement("dt")).textContent = name;
      line.appendChild(document.createElement("dd")).textContent = value;
      return line;
    }),
  );
}

function openModelFile(file) {
  return work(async () => {
    checkSize(file);
    await openModel(await file.arrayBuffer(), file.name);
  }, file.name);
}

function openPicture(file) {
  return work(async () => {
    checkSize(file);
    // Browsers paint what a cut JPEG lacks grey and say nothing.
    await ask("check", { bytes: await file.arrayBuffer() });
    const bitmap = await createImageBitmap(file).catch(() => {
      throw new Error("not a picture that this browser can open; give a PNG, JPEG, WebP or GIF file");
    });
    const { width, height } = bitmap;
    if (width * height > MOST_PIXELS) {
      bitmap.close();
      throw new Error(`${width}x${height} pixels; expected at most ${MOST_PIXELS} in all; make it smaller`);
    }
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    strokes = [];
    picture = { pixels: context.getImageData(0, 0, width, height).data, width, height, canvas };
    problem();
    changed();
  }, file.name);
}

function checkSize(file) {
  if (file.size > MOST_BYTES) throw new Error(`${size(file.size)}; expected at most ${size(MOST_BYTES)}`);
}

const size = (bytes) => `${(bytes / 1048576).toFixed(1)} MiB`;

function openFile(file) {
  return file.name.endsWith(".kiln") ? openModelFile(file) : openPicture(file);
}

// ---------------------------------------------------------------------------------------------------------------
// Problems

function problem(text = "") {
  $("problem").textContent = text;
  $("problem").hidden = text === "";
}

/** Runs what the user asked for; its failure is shown with the name of the file at fault. */
async function work(task, name) {
  working++;
  try {
    await task();
  } catch (error) {
    await failed(error, name);
  } finally {
    working--;
  }
}

async function failed(error, name) {
  problem((name ? `${name}: ` : "") + error.message);
  if (!error.broken) return;
  worker.terminate();
  calls.clear();
  startWorker();
  await ask("start", { wasm });
  if (modelBytes) model = await ask("open", { bytes: modelBytes });
  showLessons();
}

// ---------------------------------------------------------------------------------------------------------------
// Start

$("clear").onclick = clearPad;
$("undo").onclick = undo;
$("untaught").onclick = () => changeModel("untaught", {}, "Taken back. ");
$("save").onclick = save;
$("bundled").onclick = () => work(() => openModel(bundled.bytes, bundled.name));
for (const [id, open] of [["file", openModelFile], ["picture", openPicture]]) {
  $(id).onchange = ({ target }) => {
    const [file] = target.files;
    target.value = "";
    if (file) open(file);
  };
}
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", () => document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  if (file) openFile(file);
});
addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  if (file) openFile(file);
});

(async () => {
  try {
    startWorker();
    $("served").hidden = !SERVED;
    const bytes = firstModel();
    bytes.catch(() => {}); // met below, where it is waited for
    wasm = await WebAssembly.compile(await bytesOf("kiln_bg.wasm"));
    await ask("start", { wasm });
    await openModel(await bytes, SERVED ? "the server's model" : "model.kiln");
    performance.mark("ready");
    document.body.dataset.ready = "";
    if (!EMBEDDED && !SERVED && "serviceWorker" in navigator) await navigator.serviceWorker.register("sw.js").catch(() => {});
  } catch (error) {
    const hint = location.protocol === "file:" && !EMBEDDED ? " Without a server, open kiln.html instead." : "";
    problem(`The page could not start: ${error.message}.${hint}`);
  }
})();
