"use strict";
const element = (id) => document.getElementById(id);
const percent = (probability) => (100 * probability).toFixed(1) + " %";

function show(files, predictions) {
  const table = document.createElement("table");
  const head = table.insertRow();
  for (const title of ["picture", "answer", "probability", predictions[0].digits ? "each digit" : "next"]) {
    const cell = document.createElement("th");
    cell.textContent = title;
    head.append(cell);
  }
  predictions.forEach((prediction, index) => {
    const row = table.insertRow();
    const image = document.createElement("img");
    image.src = URL.createObjectURL(files[index]);
    image.alt = files[index].name;
    row.insertCell().append(image);
    row.insertCell().textContent =
      (prediction.label || (prediction.labels ? "none of them" : "nothing")) + (prediction.rejected ? ` (rejected: ${prediction.reason})` : "");
    row.insertCell().textContent = percent(prediction.probability);
    const next = prediction.digits ?? (prediction.labels ? prediction.top : prediction.top.slice(1));
    row.insertCell().textContent = next.map((c) => `${c.label} ${percent(c.probability)}`).join(", ");
  });
  element("result").replaceChildren(table);
}

const authorization = () => {
  const token = element("token").value;
  return token ? { Authorization: "Bearer " + token } : {};
};

// Digits are offered where the model reads them.
async function offerDigits() {
  try {
    const response = await fetch("v1/model", { headers: authorization() });
    const model = response.ok ? await response.json() : {};
    element("digits-label").hidden = !model.reads_digits;
    if (!model.reads_digits) element("digits-label").querySelector("input").checked = false;
  } catch {
    // Classifying will say that the server does not answer.
  }
}

element("token").addEventListener("change", offerDigits);
offerDigits();

element("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const files = [...element("files").files];
  const form = new FormData();
  for (const file of files) form.append("image", file);
  const query = new URLSearchParams(new FormData(event.target));
  query.delete("image");
  const button = event.target.querySelector("button");
  button.disabled = true;
  element("error").textContent = "";
  element("result").replaceChildren();
  try {
    const response = await fetch(`v1/predict?${query}`, { method: "POST", body: form, headers: authorization() });
    const answer = await response.json();
    if (response.ok) {
      show(files, answer.predictions);
    } else {
      if (response.status === 401) element("token-label").hidden = false;
      const which = answer.image === undefined ? "" : files[answer.image].name + ": ";
      element("error").textContent = which + answer.detail;
    }
  } catch (error) {
    element("error").textContent = "The server did not answer: " + error.message;
  } finally {
    button.disabled = false;
  }
});
