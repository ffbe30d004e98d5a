"""Small vocabularies in GGUF files without weights, each with a seam of its own kind.

`sentencepiece`: puts a space before the first word of every fragment, and has a token of the cue's colon and the word after it.
`stripping`: the same, and its control tokens remove the whitespace after them.
`byte_pairs`: merges a full stop, a colon or a tag's bracket with what follows it, line breaks with each other, as Llama 3's does.
"""

from __future__ import annotations

from pathlib import Path

import gguf

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
KINDS = ("sentencepiece", "stripping", "byte_pairs")
PIECES = (
    "▁p",
    ":▁p",
    "▁po",
    "ost",
    "Post",
    "▁Post",
    "▁up",
    "▁▁",
    "ing",
    "▁go",
    "▁going",
    "ent",
    "Sent",
    "▁Sent",
    ".▁",
    "</",
    "thi",
    "nk>",
)
MERGES = (
    ". Ċ",
    "Ċ Ċ",
    ": Ċ",
    "> <",
    "> </",
    "< /",
    "Ġ p",
    "Ġp o",
    "P o",
    "Po s",
    "Pos t",
    "i n",
    "in g",
    "s e",
    "Ġ a",
    "? Ċ",
    "% ,",
)


def write_vocabulary(path: Path, kind: str) -> Path:
    """A vocabulary file of one of the KINDS."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("phi-3" if kind == "stripping" else kind)  # llama.cpp knows by the name whether control tokens strip
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens, kinds = _byte_pairs() if kind == "byte_pairs" else _sentencepiece()
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2" if kind == "byte_pairs" else "llama")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if kind == "byte_pairs":
        writer.add_tokenizer_pre("llama-bpe")
        writer.add_token_merges(list(MERGES))
    else:
        writer.add_token_scores([-float(i) for i in range(len(tokens))])
        writer.add_unk_token_id(0)
    writer.add_bos_token_id(tokens.index("<s>"))
    writer.add_eos_token_id(tokens.index("</s>"))
    writer.add_add_bos_token(True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def _sentencepiece() -> tuple[list[str], list[int]]:
    """Tokens and their types: control tokens, bytes, letters, and longer pieces, the first ones merged first."""
    marks = ["<unk>", "<s>", "</s>", "<|user|>", "<|end|>", "<|assistant|>", "<|endoftext|>"]
    letters = ["▁", *(chr(code) for code in range(33, 127))]
    tokens = [*marks, *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES, *letters]
    kinds = [UNKNOWN, *[CONTROL] * (len(marks) - 1), *[BYTE] * 256, *[NORMAL] * (len(PIECES) + len(letters))]
    return tokens, kinds


def _byte_pairs() -> tuple[list[str], list[int]]:
    """Tokens and their types: one for each byte, one for each merge, control tokens, and a mark that is no control token."""
    marks, words = ["<s>", "</s>", "<|user|>", "<|end|>", "<|assistant|>"], [merge.replace(" ", "") for merge in MERGES]
    letters = [*map(chr, range(33, 127)), *map(chr, range(161, 173)), *map(chr, range(174, 256)), *map(chr, range(256, 324))]
    kinds = [*[NORMAL] * (len(letters) + len(words)), *[CONTROL] * len(marks), USER_DEFINED]
    return [*letters, *words, *marks, "</think>"], kinds
