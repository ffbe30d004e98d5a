// Answers what the page would ask a server: the bundle of this folder does, in the page itself.
"use strict";

(() => {
  const opened = globalThis.potstill.open();
  opened.catch(() => {}); // told to whoever asks first

  async function answers(path, options) {
    const classifier = await opened;
    if (path === "bundles") return { bundles: [classifier.manifest.shown] };
    const { text, target } = JSON.parse(options.body);
    const { probs, n_tokens, tokenize_ms, infer_ms } = await classifier.traced(text, target);
    return { answer: classifier.answer(probs), timing: { n_tokens, tokenize_ms, infer_ms, queue_ms: 0 } };
  }

  globalThis.potstillAnswers = answers; // playground.js asks it in place of a server
})();
