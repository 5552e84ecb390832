// For kiln.html, which holds the files of the page itself.
"use strict";

window.KILN = {
  worker: URL.createObjectURL(new Blob([document.getElementById("worker.js").textContent], { type: "text/javascript" })),

  async bytes(name) {
    const packed = Uint8Array.from(atob(document.getElementById(name).textContent), (char) => char.charCodeAt(0));
    const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(unpacked).arrayBuffer();
  },
};
