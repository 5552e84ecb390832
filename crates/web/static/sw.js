// Keeps the page for the time without a network: what the server has now comes first, what it had last otherwise.
"use strict";

const STORE = "kiln";
const SMALL = ["./", "style.css", "app.js", "worker.js", "kiln.js"];
const FILES = [...SMALL, "kiln_bg.wasm.gz", "model.kiln.gz"]; // the page has put the large ones into the store

addEventListener("install", (event) => {
  event.waitUntil(caches.open(STORE).then((store) => store.addAll(SMALL)).then(() => skipWaiting()));
});

addEventListener("activate", (event) => event.waitUntil(clients.claim()));

addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== location.origin) return;
  event.respondWith(fetched(request));
});

async function fetched(request) {
  const store = await caches.open(STORE);
  try {
    const response = await fetch(request);
    if (response.ok && FILES.some((file) => new URL(file, location).href === request.url)) {
      await store.put(request, response.clone());
    }
    return response;
  } catch (error) {
    const kept = await store.match(request, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
}
