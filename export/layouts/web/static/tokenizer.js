// A WordPiece tokenizer that follows tables made by potstill: no Unicode table of the browser decides anything.
// Texts are read code point by code point, and only as far as tokens are needed.
"use strict";

(() => {
  const MAX_POINTS = 1_000_000; // read at most, of a text that gives too few tokens
  const MAX_TARGET_POINTS = 1000;
  const REPLACEMENT = 0xfffd; // for half a surrogate pair
  const DROP = 1, PART = 2, PAD = 3, MAP = 4, HANGUL = 5; // what becomes of a code point; 0: it stays
  const SPACE = 1, ALONE = 2; // how it separates words; 0: not at all

  function fill(table, ranges, kind) {
    for (const [first, last] of ranges) table.fill(kind, first, last + 1);
  }

  // Unicode Standard 15.0, section 3.12: a syllable is a leading consonant, a vowel and perhaps a trailing consonant.
  function jamo(code) {
    const index = code - 0xac00, tail = index % 28;
    const found = [0x1100 + Math.floor(index / 588), 0x1161 + Math.floor((index % 588) / 28)];
    return tail ? [...found, 0x11a7 + tail] : found;
  }

  class Tokenizer {
    // Args: what `tables` in wordpiece.py writes; the names of the graph's inputs are no matter here.
    constructor(tables, maxTokens) {
      this.tables = tables;
      this.maxTokens = maxTokens;
      this.ids = new Map(tables.vocab.map((word, id) => [word, id]));
      this.kinds = new Uint8Array(0x110000);
      this.splits = new Uint8Array(0x110000);
      const normal = tables.normal;
      fill(this.kinds, normal.drop, DROP);
      fill(this.kinds, normal.part, PART);
      fill(this.kinds, normal.pad, PAD);
      if (normal.hangul) fill(this.kinds, [[0xac00, 0xd7a3]], HANGUL);
      this.maps = new Map(Object.entries(normal.maps).map(([from, to]) => [from.codePointAt(0), Array.from(to, (one) => one.codePointAt(0))]));
      for (const code of this.maps.keys()) this.kinds[code] = MAP;
      this.order = new Map(Object.entries(normal.order).map(([mark, place]) => [mark.codePointAt(0), place]));
      fill(this.splits, tables.space, SPACE);
      fill(this.splits, tables.punctuation, ALONE);
      this.added = Object.entries(tables.added).sort((a, b) => b[0].length - a[0].length); // the longest that fits counts
      this.firsts = new Set(this.added.map(([content]) => content.charCodeAt(0)));
    }

    // The graph's inputs for a text, and for a target if the bundle asks about one: {ids, types}, arrays of numbers.
    encode(text, target) {
      const template = target === undefined ? this.tables.single : this.tables.pair;
      const room = this.maxTokens - template.filter(([place]) => typeof place === "number").length;
      const parts = { A: [], B: [] };
      if (target !== undefined) parts.B = this.#target(target);
      parts.A = this.#tokens(text, Math.max(room, parts.B.length) + 1); // enough to tell which of the two is longer
      const [most, mostB] = target === undefined ? [room, 0] : shares(parts.A.length, parts.B.length, room);
      parts.A = parts.A.slice(0, most);
      parts.B = parts.B.slice(0, mostB);
      const ids = [], types = [];
      for (const [place, type] of template) {
        const piece = typeof place === "number" ? [place] : parts[place];
        for (const id of piece) {
          ids.push(id);
          types.push(type);
        }
      }
      return { ids, types };
    }

    #target(target) {
      const length = Array.from(target).length;
      if (length > MAX_TARGET_POINTS) throw new RangeError(`a target has ${length} characters; at most ${MAX_TARGET_POINTS} are allowed, shorten it`);
      return this.#tokens(target, Infinity);
    }

    // The first tokens of a text, about as many as are wanted: a whole word more at most.
    #tokens(text, wanted) {
      const found = [];
      let word = [], tooLong = false;
      const end = () => {
        if (word.length) this.#pieces(word, tooLong, found);
        word = [];
        tooLong = false;
      };
      const take = (code) => {
        const split = this.splits[code];
        if (split) end();
        if (split === ALONE) this.#pieces([code], false, found);
        if (split) return;
        if (word.length < this.tables.max_chars) word.push(code);
        else tooLong = true;
      };
      for (const piece of this.#normalized(text)) {
        if (typeof piece === "object") {
          end();
          found.push(piece.id);
        } else take(piece);
        if (found.length >= wanted) return found;
      }
      end();
      return found;
    }

    // The code points of a text after normalization, marks in order; of an added token an object with its id.
    *#normalized(text) {
      let marks = []; // waiting until no more come, to be put in order
      for (const piece of this.#mapped(text)) {
        const place = this.order.get(piece);
        if (place !== undefined) {
          marks.push([place, piece]);
          continue;
        }
        if (marks.length) yield* marks.sort((a, b) => a[0] - b[0]).map(([, mark]) => mark);
        marks = [];
        if (piece !== null) yield piece;
      }
      yield* marks.sort((a, b) => a[0] - b[0]).map(([, mark]) => mark);
    }

    // As `#normalized`, in the text's own order; null where a run of marks ends.
    *#mapped(text) {
      for (let at = 0, n = 0; at < text.length && n < MAX_POINTS; n++) {
        const added = this.firsts.has(text.charCodeAt(at)) && this.added.find(([content]) => text.startsWith(content, at));
        if (added) {
          yield { id: added[1] };
          at += added[0].length;
          continue;
        }
        let code = text.codePointAt(at);
        at += code > 0xffff ? 2 : 1;
        if (code >= 0xd800 && code <= 0xdfff) code = REPLACEMENT;
        const kind = this.kinds[code];
        if (kind === 0) yield code;
        else if (kind === PART) yield null;
        else if (kind === PAD) yield* [0x20, code, 0x20];
        else if (kind === MAP) yield* this.maps.get(code);
        else if (kind === HANGUL) yield* jamo(code);
      }
    }

    // Add the pieces of a word: the longest that the vocabulary has, from the left; one unknown token if there is no such row.
    #pieces(word, tooLong, found) {
      const chars = word.map((code) => String.fromCodePoint(code)), ids = [];
      for (let start = 0; !tooLong && start < chars.length; ) {
        let end = chars.length, id;
        for (; end > start; end--) {
          id = this.ids.get((start ? this.tables.prefix : "") + chars.slice(start, end).join(""));
          if (id !== undefined) break;
        }
        if (id === undefined) break;
        ids.push(id);
        start = end;
        if (start === chars.length) {
          for (const one of ids) found.push(one);
          return;
        }
      }
      found.push(this.tables.unknown);
    }
  }

  // How many tokens text and target keep, as `longest_first` in huggingface/tokenizers, utils/truncation.rs: the longer one loses first.
  function shares(nText, nTarget, room) {
    if (nText + nTarget <= room) return [nText, nTarget];
    let short = Math.min(nText, nTarget);
    let long = short > room ? short : Math.max(short, room - short);
    if (short + long > room) [short, long] = [Math.floor(room / 2), room - Math.floor(room / 2)];
    return nText > nTarget ? [long, short] : [short, long];
  }

  globalThis.potstill = { ...globalThis.potstill, Tokenizer };
})();
