// Figures for the README: what a visit transfers, how soon the first answer comes, how long a stroke takes.
import { statSync } from "node:fs";
import path from "node:path";
import { browser, digits, dist, draw, open, serve, settled } from "./support.mjs";

const files = ["index.html", "style.css", "app.js", "worker.js", "sw.js", "kiln.js", "kiln_bg.wasm.gz", "model.kiln.gz"];
const sizes = files.map((name) => ({ name, bytes: statSync(path.join(dist, name)).size }));
console.table(sizes);
console.log(`transferred: ${sizes.reduce((total, { bytes }) => total + bytes, 0)} bytes`);

const middle = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const instance = await browser();
const server = await serve();
const first = [];
const strokes = [];
for (let visit = 0; visit < 3; visit++) {
  const { context, page } = await open(instance, server.url); // a fresh profile: nothing is cached
  await page.evaluate(() => {
    picture = undefined;
    strokes = [[[140, 60], [140, 220]]];
    changed();
  });
  await settled(page);
  first.push(await page.evaluate(() => {
    const [ready, answer] = ["ready", "answer"].map((name) => performance.getEntriesByName(name)[0]);
    return { ready: ready.startTime, answer: ready.startTime + answer.duration };
  }));
  await page.evaluate(() => performance.clearMeasures());
  for (const { strokes } of digits.filter((_, index) => index % 3 === 0)) {
    await page.click("#clear");
    await settled(page);
    await draw(page, strokes);
  }
  strokes.push(...(await page.evaluate(() => performance.getEntriesByName("answer").map(({ duration }) => duration))));
  await context.close();
}
await instance.close();
await server.close();
const sorted = strokes.toSorted((a, b) => a - b);
const at = (share) => sorted[Math.floor(share * (sorted.length - 1))].toFixed(1);
const soon = ["ready", "answer"].map((key) => middle(first.map((visit) => visit[key])).toFixed(0));
console.log(`ready after ${soon[0]} ms, first answer after ${soon[1]} ms: median of ${first.length} first visits`);
console.log(`an answer while drawing: median ${at(0.5)} ms, 95 of 100 within ${at(0.95)} ms, ${sorted.length} answers`);
