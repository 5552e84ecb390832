// A server for the built page, a browser, and hands.
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import path from "node:path";
import { crc32, deflateSync, gunzipSync } from "node:zlib";
import { chromium } from "playwright-core";

export const root = fileURLToPath(new URL("../..", import.meta.url));
export const dist = path.join(root, "crates/web/dist");
export const here = (name) => fileURLToPath(new URL(name, import.meta.url));
export const digits = JSON.parse(readFileSync(here("strokes.json")));

if (!existsSync(path.join(dist, "kiln_bg.wasm.gz"))) throw new Error(`${dist} is not built: scripts/web.sh`);

/** The model file of the page. */
export const modelFile = gunzipSync(readFileSync(path.join(dist, "model.kiln.gz")));

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm" };

/** Serves the built page on a free port of this machine. */
export async function serve() {
  const asked = [];
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    asked.push(pathname);
    const file = path.join(dist, path.normalize(pathname === "/" ? "/index.html" : pathname));
    try {
      const bytes = await readFile(file);
      response.writeHead(200, { "content-type": TYPES[path.extname(file)] ?? "application/octet-stream" });
      response.end(bytes);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const close = () =>
    new Promise((closed) => {
      server.close(closed);
      server.closeAllConnections();
    });
  return { url: `http://127.0.0.1:${server.address().port}/`, asked, close };
}

/** `kiln serve` with these flags on a free port. */
export async function kilnServe(kiln, flags, environment = {}) {
  const child = spawn(kiln, ["serve", "--port", "0", ...flags], { cwd: root, env: { ...process.env, ...environment }, stdio: ["ignore", "pipe", "inherit"] });
  const address = await new Promise((found, failed) => {
    child.stdout.once("data", (line) => found(String(line).trim()));
    child.once("exit", (code) => failed(new Error(`kiln serve ended with ${code}`)));
  });
  return { url: `${address}/`, stop: () => child.kill() };
}

/** A grey PNG file. */
export function greyPng(width, height, level) {
  const rows = Buffer.alloc((width + 1) * height);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) rows[y * (width + 1) + 1 + x] = level(x, y);
  const number = (value) => Buffer.from(new Uint32Array([value]).buffer).swap32();
  const chunk = (name, data) => {
    const body = Buffer.concat([Buffer.from(name), data]);
    return Buffer.concat([number(data.length), body, number(crc32(body))]);
  };
  const header = Buffer.concat([number(width), number(height), Buffer.from([8, 0, 0, 0, 0])]);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]);
}

export function browser() {
  const found = [process.env.KILN_CHROMIUM, "/usr/bin/chromium", "/usr/bin/google-chrome"].find((at) => at && existsSync(at));
  if (!found) throw new Error("no Chromium: install it, or name it in KILN_CHROMIUM");
  return chromium.launch({
    executablePath: found,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
}

/** Opens the page and waits until it can answer; a script error or a violated policy fails the test at `check`. */
export async function open(instance, url, options = {}) {
  const context = await instance.newContext({ viewport: { width: 1100, height: 900 }, ...options });
  const page = await context.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  await page.goto(url);
  await page.waitForSelector("body[data-ready]");
  return { context, page, faults };
}

/* global answer, working, stale, asking, frame: the page's own, read by functions that run there. */

/** What the page says about the picture that is on the pad now; probabilities in the order of the classes. */
export async function settled(page) {
  return page.evaluate(async () => {
    while (working > 0 || stale || asking || frame !== undefined) await new Promise(requestAnimationFrame);
    return {
      label: document.getElementById("label").textContent,
      probabilities: answer ? [...answer.probabilities] : undefined,
      image: answer ? [...answer.image] : undefined,
      problem: document.getElementById("problem").textContent,
    };
  });
}

/** Draws strokes given in pixels of a 28x28 image, with the mouse. */
export async function draw(page, strokes) {
  const box = await page.locator("#pad").boundingBox();
  const at = ([x, y]) => [box.x + (x / 28) * box.width, box.y + (y / 28) * box.height];
  for (const points of strokes) {
    await page.mouse.move(...at(points[0]));
    await page.mouse.down();
    for (const point of points.slice(1)) await page.mouse.move(...at(point));
    await page.mouse.up();
  }
  return settled(page);
}
