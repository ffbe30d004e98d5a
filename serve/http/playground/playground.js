// The page talks only to the server that it came from. Texts are inserted as text, never as HTML.
"use strict";

const by = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
let bundles = [];
let asked = 0; // number of the last request; answers to earlier ones are not shown

function element(kind, options = {}, children = []) {
  const made = Object.assign(document.createElement(kind), options);
  made.append(...children);
  return made;
}

function headers() {
  const key = by("key").value;
  return key ? { "X-API-Key": key } : {};
}

async function ask(path, options = {}) {
  const reply = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  const body = await reply.json();
  by("key-row").hidden = by("key-row").hidden && reply.status !== 401;
  if (!reply.ok) throw new Error(body.error);
  return body;
}

function chosen() {
  return bundles.find((one) => one.bundle === by("bundle").value) ?? bundles[0];
}

function rect(className, x, width) {
  const made = document.createElementNS(SVG, "rect");
  const place = { class: className, x: `${100 * x}%`, y: "0", width: typeof width === "number" ? `${100 * width}%` : width, height: "100%" };
  for (const [name, value] of Object.entries(place)) made.setAttribute(name, value);
  return made;
}

function bar(name, prob, threshold, best) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("aria-hidden", "true");
  picture.append(rect("ground", 0, 1), rect("bar", 0, prob));
  if (threshold !== null && threshold > 0) picture.append(rect("edge", Math.min(threshold, 0.997), "2px"));
  const note = threshold === null ? "always abstains" : threshold > 0 ? `threshold ${threshold.toFixed(2)}` : "";
  const share = element("span", { className: "share", textContent: `${(100 * prob).toFixed(1)} %` });
  return element("li", { title: note }, [element("span", { className: best ? "name best" : "name", textContent: name }), picture, share]);
}

function show(answer, timing, tripMs) {
  const bundle = chosen();
  const reason = answer.threshold === null ? "this bundle always abstains from it" : `it is below its threshold of ${answer.threshold.toFixed(2)}`;
  const verdict = answer.abstain ? `Not sure: ${answer.label} is the most probable label, but ${reason}.` : answer.label;
  by("verdict").textContent = answer.unfamiliar ? `${verdict} (The text is unlike those that this bundle was made from.)` : verdict;
  const rows = Object.entries(answer.probs).sort((a, b) => b[1] - a[1]);
  by("bars").replaceChildren(...rows.map(([name, prob]) => bar(name, prob, bundle.thresholds[name], name === answer.label)));
  const parts = `tokenize ${timing.tokenize_ms.toFixed(2)} ms, model ${timing.infer_ms.toFixed(2)} ms, queue ${timing.queue_ms.toFixed(2)} ms`;
  by("times").textContent = `${tripMs.toFixed(1)} ms round trip: ${parts}; ${timing.n_tokens} tokens`;
  by("answer").hidden = false;
  by("problem").hidden = true;
}

function complain(error) {
  by("problem").textContent = error.message;
  by("problem").hidden = false;
  by("answer").hidden = true;
}

async function classify(event) {
  event?.preventDefault();
  const mine = ++asked;
  try {
    if (!bundles.length) await begin();
    const bundle = chosen();
    const question = { text: by("text").value, timing: true };
    if (bundle.target) question.target = by("target").value;
    const start = performance.now();
    const reply = await ask(`bundles/${encodeURIComponent(bundle.bundle)}/classify`, { method: "POST", body: JSON.stringify(question) });
    if (mine === asked) show(reply.answer, reply.timing, performance.now() - start);
  } catch (error) {
    if (mine === asked) complain(error);
  }
}

function example(row) {
  const made = element("button", { type: "button" }, [row.text]);
  if (row.target !== null) made.append(" ", element("small", { textContent: `about ${row.target}` }));
  made.addEventListener("click", () => {
    by("text").value = row.text;
    by("target").value = row.target ?? "";
    classify();
  });
  return element("li", {}, [made]);
}

function choose() {
  const bundle = chosen();
  by("about").textContent = `${bundle.labels.length} labels: ${bundle.labels.join(", ")}. Version ${bundle.version}, ${bundle.variant}.`;
  by("target-row").hidden = !bundle.target;
  by("example-list").replaceChildren(...bundle.examples.map(example));
  by("examples").hidden = bundle.examples.length === 0;
  by("answer").hidden = true;
}

async function begin() {
  bundles = (await ask("bundles")).bundles;
  by("bundle").replaceChildren(...bundles.map((one) => element("option", { value: one.bundle, textContent: one.bundle })));
  document.querySelector(".bundle").hidden = bundles.length < 2;
  choose();
}

by("form").addEventListener("submit", classify);
by("bundle").addEventListener("change", choose);
by("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) classify(event);
});
begin().catch(complain);
