// The bundle in a page or in Node: opens the graph in onnxruntime's WebAssembly, replays the golden texts, and answers.
//
//   const classifier = await potstill.open();
//   const answer = await classifier.classify("bought more this morning");
//
// Everything comes from the scripts beside this one. Nothing is asked of any other place.
"use strict";

(() => {
  const HOLDS = 0.5; // a tag without a threshold holds from here on
  const SET_SLACK = 1e-8; // of a label set's quantile, against the last bits
  const isNode = typeof process === "object" && Boolean(process.versions?.node);

  // What `Uint8Array.fromBase64` does, where it is absent; a loop, since a call for each of 20 million bytes takes seconds.
  function fromBase64(text) {
    const chars = atob(text), found = new Uint8Array(chars.length);
    for (let i = 0; i < chars.length; i++) found[i] = chars.charCodeAt(i);
    return found;
  }

  const decoded = (text) => Uint8Array.fromBase64?.(text) ?? fromBase64(text);

  async function unzipped(data) {
    const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // A page opened from disk may not import a file, but it may import a text that it holds. Node imports no such text, but data.
  async function runtime(part) {
    const module = part.module;
    const wasm = unzipped(decoded(part.wasm));
    const address = isNode
      ? `data:text/javascript;base64,${Buffer.from(module).toString("base64")}`
      : URL.createObjectURL(new Blob([module], { type: "text/javascript" }));
    const ort = await import(address);
    if (!isNode) URL.revokeObjectURL(address);
    ort.env.wasm.numThreads = 1; // several need a server that isolates the page
    ort.env.wasm.wasmBinary = await wasm;
    ort.env.logLevel = "error";
    return ort;
  }

  function softmax(scores) {
    const top = Math.max(...scores); // the shift keeps exp() finite
    const weights = scores.map((one) => Math.exp(one - top));
    const total = weights.reduce((sum, one) => sum + one, 0);
    return weights.map((one) => one / total);
  }

  const sigmoid = (score) => (score >= 0 ? 1 / (1 + Math.exp(-score)) : Math.exp(score) / (1 + Math.exp(score)));

  // Probabilities of one question's logits. Args: decision, the bundle or one of its heads.
  function probabilities(decision, logits) {
    const scores = logits.map((one, i) => one / decision.temperature + (decision.bias?.[i] ?? 0));
    return decision.kind === "tags" ? scores.map(sigmoid) : softmax(scores);
  }

  function byLabel(labels, probs) {
    return Object.fromEntries(labels.map((name, i) => [name, probs[i]]));
  }

  // The answer to one choice, yes-or-no question or degree; a tie goes to the earlier label.
  function choose(decision, probs, sets) {
    const labels = decision.labels, best = probs.indexOf(Math.max(...probs)), label = labels[best];
    const known = Boolean(decision.thresholds) && Object.hasOwn(decision.thresholds, label);
    const threshold = known ? decision.thresholds[label] : 0; // null: never answered
    const answer = { label, probs: byLabel(labels, probs), threshold, abstain: threshold === null || (known && probs[best] < threshold) };
    if (decision.values) answer.value = decision.values.reduce((sum, value, i) => sum + value * probs[i], 0);
    if (sets && decision.conformal) answer.label_set = labels.filter((_, i) => 1 - probs[i] <= decision.conformal.quantile + SET_SLACK);
    return answer;
  }

  function tagsOf(head, probs) {
    const least = (name) => (head.thresholds && Object.hasOwn(head.thresholds, name) ? (head.thresholds[name] ?? Infinity) : HOLDS);
    return { probs: byLabel(head.labels, probs), abstain: false, tags: head.labels.filter((name, i) => probs[i] >= least(name)) };
  }

  class Classifier {
    #ort;
    #session;
    #turn = Promise.resolve(); // a session answers one text at a time

    constructor(manifest, tokenizer, ort, session) {
      this.manifest = manifest;
      this.tokenizer = tokenizer;
      this.#ort = ort;
      this.#session = session;
    }

    // The answer to a text. Args: target, what the text is about, if the bundle asks; sets, add label sets where the bundle has them.
    async classify(text, target, { sets = false } = {}) {
      return this.answer(await this.probs(text, target), sets);
    }

    // Probabilities in label order; of several questions side by side.
    async probs(text, target) {
      return (await this.traced(text, target)).probs;
    }

    // {probs, n_tokens, tokenize_ms, infer_ms} of a text.
    async traced(text, target) {
      this.#check(text, target);
      const start = performance.now();
      const { ids, types } = this.tokenizer.encode(text, target);
      const read = performance.now();
      const logits = await this.#run(ids, types);
      const times = { n_tokens: ids.length, tokenize_ms: read - start, infer_ms: performance.now() - read };
      return { probs: this.#probs(logits), ...times };
    }

    answer(probs, sets = false) {
      const heads = this.manifest.heads;
      if (!heads) return choose(this.manifest, probs, sets);
      let at = 0;
      const questions = {};
      for (const head of heads) {
        const own = probs.slice(at, (at += head.labels.length));
        questions[head.name] = { kind: head.kind, ...(head.kind === "tags" ? tagsOf(head, own) : choose(head, own, sets)) };
      }
      return { questions, abstain: Object.values(questions).every((one) => one.abstain) };
    }

    // Answer the golden texts; returns the largest change of a probability, and throws if it is more than this bundle allows.
    async replay() {
      const { golden, tolerance, name } = this.manifest;
      let change = 0;
      for (const row of golden) {
        const found = await this.probs(row.text, row.target ?? undefined);
        for (const [i, prob] of found.entries()) change = Math.max(change, Math.abs(prob - row.probs[i]));
      }
      if (!(change <= tolerance)) {
        throw new Error(`${name}: the golden texts drifted: this browser moves a probability by ${change.toPrecision(3)}, at most ${tolerance} is allowed; the bundle does not answer here`);
      }
      return change;
    }

    #check(text, target) {
      if (typeof text !== "string") throw new TypeError(`a text is ${text === null ? "null" : typeof text}; give a string`);
      if (this.manifest.target && typeof target !== "string") throw new TypeError("the target is missing; this bundle answers about a target, so give one");
      if (!this.manifest.target && target !== undefined) throw new TypeError("a target is given, but this bundle answers without a target; leave it out");
    }

    #run(ids, types) {
      const { Tensor } = this.#ort;
      const tensor = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, ids.length]);
      const made = { input_ids: () => tensor(ids), attention_mask: () => tensor(ids.map(() => 1)), token_type_ids: () => tensor(types) };
      const feeds = Object.fromEntries(this.#session.inputNames.map((name) => [name, made[name]()]));
      const result = this.#turn.then(() => this.#session.run(feeds, ["logits"])).then((found) => Array.from(found.logits.data));
      this.#turn = result.catch(() => {}); // an error is the caller's; the next text has its turn all the same
      return result;
    }

    #probs(logits) {
      if (!this.manifest.heads) return probabilities(this.manifest, logits);
      let at = 0;
      return this.manifest.heads.flatMap((head) => probabilities(head, logits.slice(at, (at += head.labels.length))));
    }
  }

  // Open the bundle of this folder. Args: check, replay the golden texts.
  async function open({ check = true } = {}) {
    const { manifest, tokenizer, model, runtime: engine } = globalThis.potstillParts;
    const ort = await runtime(engine);
    const session = await ort.InferenceSession.create(decoded(model), { executionProviders: ["wasm"], enableMemPattern: false });
    const classifier = new Classifier(manifest, new globalThis.potstill.Tokenizer(tokenizer, manifest.max_tokens), ort, session);
    classifier.change = check ? await classifier.replay() : null;
    return classifier;
  }

  globalThis.potstill = { ...globalThis.potstill, open, Classifier };
})();
