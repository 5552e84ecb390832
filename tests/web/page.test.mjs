// The page in a real browser.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import axe from "axe-core";
import { browser, digits, dist, draw, greyPng, here, kilnServe, modelFile, open, root, serve, settled } from "./support.mjs";

let instance;
let server;
let folder;
before(async () => {
  instance = await browser();
  server = await serve();
  folder = await mkdtemp(path.join(tmpdir(), "kiln-web-"));
});
after(async () => {
  await instance?.close();
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

async function withPage(run, options) {
  const opened = await open(instance, server.url, options);
  try {
    await run(opened.page, opened);
    assert.deepEqual(opened.faults, []);
  } finally {
    await opened.context.close();
  }
}

const clear = (page) => page.click("#clear").then(() => settled(page));

describe("drawing", () => {
  test("every recorded digit is recognised", () =>
    withPage(async (page) => {
      const wrong = [];
      for (const { digit, index, strokes } of digits) {
        const { label, probabilities, image } = await draw(page, strokes);
        if (label !== String(digit)) wrong.push(`${digit} (test image ${index}) is read as ${label}`);
        assert.equal(probabilities.length, 10);
        assert.ok(Math.abs(probabilities.reduce((a, b) => a + b) - 1) < 1e-5);
        assert.equal(image.length, 784);
        assert.ok(Math.max(...image) > 250 && Math.min(...image) === 0);
        await clear(page);
      }
      assert.deepEqual(wrong, []);
    }));

  test("the answer moves while a stroke is drawn, and is spoken when it rests", () =>
    withPage(async (page) => {
      const [first] = digits.find(({ digit }) => digit === 0).strokes;
      const half = await draw(page, [first.slice(0, Math.ceil(first.length / 2))]);
      const whole = await draw(page, [first]);
      assert.notDeepEqual(half.probabilities, whole.probabilities);
      assert.equal(whole.label, "0");
      await page.locator("#spoken", { hasText: /^0, \d+ percent$/ }).waitFor({ state: "attached" });
      assert.match(await page.locator("#attention").getAttribute("aria-label"), /^Where it looks for 0: most of all at the /);
      assert.equal((await clear(page)).label, "…");
    }));

  test("undo takes the last stroke", () =>
    withPage(async (page) => {
      const { strokes } = digits.find(({ strokes }) => strokes.length > 1);
      const one = await draw(page, strokes.slice(0, 1));
      await draw(page, strokes.slice(1));
      await page.click("#undo");
      assert.deepEqual((await settled(page)).probabilities, one.probabilities);
    }));

  test("a finger draws", () =>
    withPage(
      async (page, { context }) => {
        const touch = await context.newCDPSession(page);
        const box = await page.locator("#pad").boundingBox();
        const [points] = digits.find(({ digit, strokes }) => digit === 7 && strokes.length === 1).strokes;
        const at = ([x, y]) => [{ x: box.x + (x / 28) * box.width, y: box.y + (y / 28) * box.height }];
        await touch.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: at(points[0]) });
        for (const point of points.slice(1)) {
          await touch.send("Input.dispatchTouchEvent", { type: "touchMove", touchPoints: at(point) });
        }
        await touch.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
        assert.equal((await settled(page)).label, "7");
        assert.equal(await page.evaluate(() => scrollY), 0, "drawing does not scroll");
      },
      { hasTouch: true, isMobile: true, viewport: { width: 390, height: 800 } },
    ));

  test("the keyboard draws", () =>
    withPage(async (page) => {
      await page.focus("#pad");
      // A seven: to the upper left, pen down, right, then down to the left.
      const press = async (key, times) => {
        for (let n = 0; n < times; n++) await page.keyboard.press(key);
      };
      await press("ArrowLeft", 6);
      await press("ArrowUp", 8);
      await press("Space", 1);
      await page.locator("#spoken", { hasText: "Pen down" }).waitFor({ state: "attached" });
      await press("ArrowRight", 11);
      for (let n = 0; n < 16; n++) {
        await page.keyboard.press("ArrowDown");
        if (n % 3 === 0) await page.keyboard.press("ArrowLeft");
      }
      await press("Escape", 1);
      assert.equal((await settled(page)).label, "7");
      await press("z", 1);
      assert.equal((await settled(page)).label, "…");
    }));
});

describe("pictures", () => {
  test("the images of ten digits, and a photo", () =>
    withPage(async (page) => {
      for (let digit = 0; digit < 10; digit++) {
        await page.setInputFiles("#picture", here(`pictures/${digit}.png`));
        assert.equal((await settled(page)).label, String(digit));
      }
      await page.setInputFiles("#picture", here("pictures/photo.png"));
      assert.equal((await settled(page)).label, "5");
      // Drawing replaces it.
      const { strokes } = digits.find(({ digit }) => digit === 1);
      assert.equal((await draw(page, strokes)).label, "1");
    }));

  test("what is no picture is refused and the page goes on", () =>
    withPage(async (page) => {
      const png = await readFile(here("pictures/photo.png"));
      const bad = {
        "empty.png": Buffer.alloc(0),
        "text.png": Buffer.from("no picture"),
        "cut.png": png.subarray(0, 40),
        "model.png": modelFile,
      };
      for (const [name, buffer] of Object.entries(bad)) {
        await page.setInputFiles("#picture", { name, mimeType: "image/png", buffer });
        await page.locator("#problem", { hasText: name }).waitFor();
        assert.match(await page.textContent("#problem"), /not a picture that this browser can open/);
      }
      const { strokes } = digits.find(({ digit }) => digit === 2);
      const { label, problem } = await draw(page, strokes);
      assert.deepEqual([label, problem], ["2", ""]);
    }));
});

describe("model files", () => {
  test("a damaged file is refused with its reason, and the old model answers", () =>
    withPage(async (page) => {
      const good = modelFile;
      const flipped = Buffer.from(good);
      flipped[good.length >> 1] ^= 4;
      const bad = [
        ["flipped.kiln", flipped, /the file is damaged: SHA-256/],
        ["cut.kiln", good.subarray(0, good.length - 1), /no seal at the end/],
        ["empty.kiln", Buffer.alloc(0), /not a Kiln model file: it begins with nothing/],
        ["text.kiln", Buffer.from("a poem"), /not a Kiln model file/],
        ["picture.kiln", await readFile(here("pictures/photo.png")), /not a Kiln model file/],
      ];
      for (const [name, buffer, reason] of bad) {
        await page.setInputFiles("#file", { name, mimeType: "application/octet-stream", buffer });
        await page.locator("#problem", { hasText: name }).waitFor();
        assert.match(await page.textContent("#problem"), reason);
      }
      const { strokes } = digits.find(({ digit }) => digit === 3);
      assert.equal((await draw(page, strokes)).label, "3");
    }));
});

const kiln = process.env.KILN ?? path.join(root, "target/debug/kiln");
const run = promisify(execFile);

describe("a page from kiln serve", () => {
  const withServed = async (model, flags, check, options = {}) => {
    const served = await kilnServe(kiln, ["--model", model, "--web", dist, ...flags], options);
    try {
      const context = await instance.newContext({ viewport: { width: 1100, height: 900 } });
      const page = await context.newPage();
      const faults = [];
      page.on("pageerror", (error) => faults.push(error.message));
      page.on("dialog", (dialog) => dialog.accept("s3cret"));
      await page.goto(served.url);
      await page.waitForSelector("body[data-ready]");
      await check(page, served);
      assert.deepEqual(faults, []);
      await context.close();
    } finally {
      served.stop();
    }
  };

  test("shows the served model, and offers pictures where it is none of digits", async () => {
    for (const [name, level] of [["dark", 40], ["light", 210]]) {
      await mkdir(path.join(folder, "pictures", name), { recursive: true });
      for (let n = 0; n < 30; n++) {
        await writeFile(path.join(folder, "pictures", name, `${n}.png`), greyPng(20, 20, (x, y) => level + ((x * 7 + y * 3 + n) % 40)));
      }
    }
    const flags = ["--epochs", "2", "--name", "levels", "--out", folder, "--progress", "none", "--threads", "1"];
    await run(kiln, ["train", "--dataset", path.join(folder, "pictures"), ...flags]);
    await withServed(path.join(folder, "levels"), [], async (page, served) => {
      assert.match(await page.textContent("#facts"), /dark, light/);
      assert.equal(await page.textContent("#draw-title"), "Picture");
      assert.equal(await page.isVisible("#pad-help"), false);
      assert.ok(await page.isVisible("#served a[href='upload']"), "the form of the server is there too");
      for (const level of [50, 220]) {
        const buffer = greyPng(20, 20, (x) => level + x);
        await page.setInputFiles("#picture", { name: "level.png", mimeType: "image/png", buffer });
        const { label } = await settled(page);
        const response = await fetch(`${served.url}v1/predict`, { method: "POST", body: buffer });
        const [prediction] = (await response.json()).predictions;
        assert.equal(label, prediction.label);
      }
      // Nothing is drawn on it: a click opens a picture.
      const [chooser] = await Promise.all([page.waitForEvent("filechooser"), page.click("#pad")]);
      await chooser.setFiles({ name: "level.png", mimeType: "image/png", buffer: greyPng(20, 20, () => 220) });
      assert.notEqual((await settled(page)).label, "…");
      if (process.env.KILN_SCREENSHOT) await page.screenshot({ path: process.env.KILN_SCREENSHOT, fullPage: true });
      await page.goto(`${served.url}upload`);
      assert.equal(await page.isVisible("input[name=digits]"), false, "no digits are offered");
      await page.setInputFiles("#files", { name: "level.png", mimeType: "image/png", buffer: greyPng(20, 20, () => 220) });
      await page.fill("input[name=top]", "1");
      await page.click("button");
      await page.locator("#result td", { hasText: /dark|light/ }).first().waitFor();
    });
  });

  test("draws on a model of digits, and asks for the token", async () => {
    const file = path.join(folder, "digits.kiln");
    await writeFile(file, modelFile);
    await withServed(file, [], async (page, served) => {
      const { weights_sha256: sha } = await (await fetch(`${served.url}v1/model`, { headers: { Authorization: "Bearer s3cret" } })).json();
      assert.ok((await page.textContent("#facts")).includes(sha.slice(0, 12)));
      const { digit, strokes } = digits.find(({ digit }) => digit === 7);
      assert.equal((await draw(page, strokes)).label, String(digit));
    }, { KILN_TOKEN: "s3cret" });
  });
});

describe("teaching", () => {
  // A sign that is no digit: two bars, one over the other.
  const sign = [[[6, 9], [22, 9]], [[6, 19], [22, 19]]];
  const variants = [0, 1, -1].map((by) => sign.map((stroke) => stroke.map(([x, y]) => [x + by, y + by / 2])));

  test("a few lessons change the answer; the file that is downloaded is a model file", () =>
    withPage(async (page) => {
      const first = await draw(page, variants[0]);
      const label = first.label === "4" ? "6" : "4";
      for (const [index, strokes] of variants.entries()) {
        if (index > 0) {
          await clear(page);
          await draw(page, strokes);
        }
        await page.click(`#classes button[aria-label="It is ${label}"]`);
        await page.locator("#lessons", { hasText: `Learned: this is ${label}. ${index + 1} lesson` }).waitFor();
      }
      const taught = await settled(page);
      assert.equal(taught.label, label);
      await page.click("#untaught");
      await page.locator("#lessons", { hasText: "Taken back. 2 lessons." }).waitFor();
      await page.click(`#classes button[aria-label="It is ${label}"]`);
      await page.locator("#lessons", { hasText: "3 lessons." }).waitFor();
      const again = await settled(page);
      assert.deepEqual(again.probabilities, taught.probabilities);

      // What it knew before it still knows.
      for (const { digit, strokes } of digits.filter((_, index) => index % 3 === 0)) {
        await clear(page);
        assert.equal((await draw(page, strokes)).label, String(digit));
      }

      const [download] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
      assert.equal(download.suggestedFilename(), "taught.kiln");
      const file = path.join(folder, "taught.kiln");
      await download.saveAs(file);

      // Opened again, it answers as before.
      await clear(page);
      await draw(page, variants[2]);
      await page.setInputFiles("#file", file);
      await page.locator("#facts", { hasText: "taught.kiln" }).waitFor();
      const reopened = await settled(page);
      assert.equal(reopened.label, label);
      for (const [index, probability] of reopened.probabilities.entries()) {
        assert.ok(Math.abs(probability - taught.probabilities[index]) < 1e-5);
      }
      await clear(page);
      await draw(page, variants[0]);
      await page.click("#bundled");
      await page.locator("#facts", { hasText: "model.kiln" }).waitFor();
      assert.deepEqual((await settled(page)).probabilities, first.probabilities, "the first model has learned nothing");

      const { stdout } = await run(kiln, ["evaluate", "--model", file, "--dataset", "mnist-sample", "--json"]);
      const result = JSON.parse(stdout);
      const untaughtFile = path.join(folder, "untaught.kiln");
      await writeFile(untaughtFile, modelFile);
      const { stdout: original } = await run(kiln, [
        "evaluate", "--model", untaughtFile, "--dataset", "mnist-sample", "--json",
      ]);
      const untaught = JSON.parse(original);
      assert.ok(result.test_accuracy > untaught.test_accuracy - 0.02, `${result.test_accuracy} of ${untaught.test_accuracy}`);
      assert.notEqual(result.weights_sha256, untaught.weights_sha256);
      assert.equal(result.valid_accuracy, null, "the figures of the untaught model are not those of this one");
    }));
});

describe("the page itself", () => {
  test("asks nobody else, and works when the server is gone", async () => {
    const own = await serve();
    const { context, page, faults } = await open(instance, own.url);
    try {
      const asked = [];
      page.on("request", (request) => asked.push(request.url()));
      await page.evaluate(async () => {
        await navigator.serviceWorker.ready;
        const store = await caches.open("kiln");
        for (const name of ["kiln_bg.wasm.gz", "model.kiln.gz", "app.js"]) {
          while (!(await store.match(name))) await new Promise(requestAnimationFrame);
        }
      });
      await own.close();
      await page.reload();
      await page.waitForSelector("body[data-ready]");
      const { strokes } = digits.find(({ digit }) => digit === 6);
      assert.equal((await draw(page, strokes)).label, "6");
      for (const url of asked) assert.ok(url.startsWith(own.url) || url.startsWith("data:"), url);
    } finally {
      await context.close();
    }
    assert.deepEqual(faults, []);
  });

  test("kiln.html is all of it in one file, without a server", async () => {
    const { context, page, faults } = await open(instance, `file://${path.join(dist, "kiln.html")}`);
    try {
      for (const { digit, strokes } of digits.filter((_, index) => index % 3 === 1)) {
        await clear(page);
        assert.equal((await draw(page, strokes)).label, String(digit));
      }
    } finally {
      await context.close();
    }
    assert.deepEqual(faults, []);
  });

  test("Tab reaches every control, and each has a name", () =>
    withPage(async (page) => {
      const { strokes } = digits[0];
      await draw(page, strokes);
      await page.locator("h1").click();
      const reached = [];
      for (let n = 0; n < 20; n++) {
        await page.keyboard.press("Tab");
        const at = await page.evaluate(() => {
          const element = document.activeElement;
          const outlined = getComputedStyle(element.labels?.[0] ?? element).outlineStyle !== "none";
          return { id: element.id || element.ariaLabel, outlined };
        });
        if (at.id === null || reached.includes(at.id)) break;
        assert.ok(at.outlined, `${at.id} shows that it has the focus`);
        reached.push(at.id);
      }
      for (const id of ["pad", "clear", "undo", "picture", "It is 0", "It is 9", "save", "file"]) {
        assert.ok(reached.includes(id), `${id} of ${reached}`);
      }
    }));

  for (const colorScheme of ["light", "dark"]) {
    test(`no barrier that axe finds, ${colorScheme}`, () =>
      withPage(
        async (page) => {
          await draw(page, digits[0].strokes);
          await page.evaluate(() => document.getElementById("problem").hidden = false);
          await page.evaluate(axe.source);
          const { violations } = await page.evaluate(() => axe.run());
          assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html)}`), []);
        },
        { colorScheme },
      ));
  }
});
