// The page talks only to the server that it came from, or to nobody where the bundle is in the page itself (potstill package --layout web).
// Texts are inserted as text, never as HTML.
"use strict";

const by = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
let bundles = [];
const MOST = 8; // labels that are all shown; of more only the first TOP are, and the others are folded
const TOP = 5;
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
  if (globalThis.potstillAnswers) return globalThis.potstillAnswers(path, options);
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

function byProbability(probs) {
  return Object.entries(probs).sort((a, b) => b[1] - a[1]);
}

// The rows of a question: all of them, or the first few, and the others folded with a box to find one in them.
function fill(list, rest, rows, thresholds, best) {
  const bars = rows.map(([name, prob]) => bar(name, prob, thresholds[name] ?? 0, best.includes(name)));
  const shown = bars.length > MOST ? TOP : bars.length;
  list.replaceChildren(...bars.slice(0, shown));
  rest.replaceChildren(...(shown < bars.length ? [folded(bars.slice(shown))] : []));
}

function folded(bars) {
  const list = element("ul", { className: "bars" }, bars);
  const none = element("p", { textContent: "No label among these has that in its name.", hidden: true });
  const find = element("input", { type: "search", placeholder: "Find a label", autocomplete: "off", ariaLabel: "Find a label" });
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    for (const row of bars) row.hidden = !row.querySelector(".name").textContent.toLowerCase().includes(wanted);
    none.hidden = bars.some((row) => !row.hidden);
  });
  return element("details", {}, [element("summary", { textContent: `${bars.length} more labels` }), find, none, list]);
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

function said(answer) {
  if (answer.tags) return answer.tags.length ? answer.tags.join(", ") : "None of them holds.";
  const reason = answer.threshold === null ? "this bundle always abstains from it" : `it is below its threshold of ${answer.threshold?.toFixed(2)}`;
  const verdict = answer.abstain ? `Not sure: ${answer.label} is the most probable label, but ${reason}.` : answer.label;
  return answer.value === undefined ? verdict : `${verdict} (expected value ${answer.value.toFixed(2)})`;
}

const KINDS = { choice: "one of these", yesno: "yes or no", degree: "a degree", tags: "any of these" };

function section(question, answer) {
  const list = element("ul", { className: "bars" });
  const rest = element("div");
  const rows = question.kind === "degree" ? Object.entries(answer.probs) : byProbability(answer.probs); // levels keep their order
  fill(list, rest, rows, question.thresholds, answer.tags ?? [answer.label]);
  const title = element("h2", {}, [question.name, " ", element("small", { textContent: KINDS[question.kind] })]);
  const made = element("section", { className: "question", ariaLabel: question.name });
  made.append(title, element("p", { className: "said", textContent: said(answer) }), list, rest);
  return made;
}

function show(answer, timing, tripMs) {
  const bundle = chosen();
  const note = answer.unfamiliar ? "(The text is unlike those that this bundle was made from.)" : "";
  by("verdict").textContent = answer.questions ? note : [said(answer), note].join(" ").trim();
  by("verdict").hidden = !by("verdict").textContent;
  fill(by("bars"), by("rest"), byProbability(answer.probs ?? {}), bundle.thresholds, [answer.label]);
  by("questions").replaceChildren(...(bundle.questions ?? []).map((one) => section(one, answer.questions[one.name])));
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

function listed(names) {
  return names.length > MOST ? `${names.slice(0, TOP).join(", ")} and ${names.length - TOP} more` : names.join(", ");
}

function choose() {
  const bundle = chosen();
  const asks = bundle.questions ? `${bundle.questions.length} questions: ${listed(bundle.questions.map((one) => one.name))}` : `${bundle.labels.length} labels: ${listed(bundle.labels)}`;
  by("about").textContent = `${asks}. Version ${bundle.version}, ${bundle.variant}.`;
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
