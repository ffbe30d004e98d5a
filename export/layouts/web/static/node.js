// For Node: const potstill = require("./node.js"); const classifier = await potstill.open();
"use strict";

for (const part of ["runtime", "model", "bundle"]) require(`./parts/${part}.js`);
require("./tokenizer.js");
require("./classifier.js");
module.exports = globalThis.potstill;
