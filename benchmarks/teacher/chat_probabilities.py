"""Are the label probabilities of a conversation those of the same conversation rendered by `transformers`, read one by one?

    python benchmarks/teacher/chat_probabilities.py [--n 120] [--paths 1] [--teacher smollm2-135m-instruct] [--pack auto] [--f16]
                                                    [--noise]

Texts of the example are labelled in the teacher's own chat template, as `potstill label --template chat --mode direct` does: shared
prefixes, many texts in one decode, words read from the logits. Beside it, the same turns go through `transformers`' own rendering,
with the begin and end tokens as the vocabulary spells them; llama.cpp tokenizes each whole text, and one decode of it alone gives
the probability of every label word. Both read the same file. `--f16` unpacks the weights first: with weights of few bits the
activations are rounded too, and one flipped rounding moves a probability in llama.cpp's own single sequence as much as here.
`--noise` shows how much: it compares that sequence with itself too, its prompts read 64 tokens at a time instead of all at once.
"""

from __future__ import annotations

import argparse
import ctypes
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from transformers.utils.chat_template_utils import render_jinja_template

from potstill.contract.project import STORE_FILE
from potstill.contract.system.machine import cpu_name, usable_cores
from potstill.contract.task import Task, load_task
from potstill.contract.texts import Text, read_texts
from potstill.labeler.config import LabelConfig
from potstill.labeler.prompts import plain
from potstill.labeler.prompts.template import read_template
from potstill.labeler.store.database import LabelStore
from potstill.labeler.teachers.config import TeacherConfig
from potstill.labeler.teachers.opening import packed_file
from potstill.models import gguf
from potstill.workflows.example_files import DEMO_EXAMPLE, example_folder
from potstill.workflows.labelling import label


class Alone:
    """A model that reads one whole prompt after the other."""

    def __init__(self, path: Path, n_together: int = 2048) -> None:
        """Open the model, with the kind of attention that `direct` prompts have. Args: n_together, tokens computed at once."""
        self.llama = llama_cpp.Llama(
            str(path),
            n_ctx=2048,
            n_batch=2048,
            n_ubatch=n_together,
            n_threads=usable_cores(),
            flash_attn=True,
            logits_all=True,
            verbose=False,
        )

    def spelling(self, token: int) -> str:
        """How the vocabulary spells a token; empty where it has none."""
        return (llama_cpp.llama_vocab_get_text(self.llama._model.vocab, token) or b"").decode() if token >= 0 else ""

    def logprobs(self, text: str, words: Sequence[str], space: str = " ") -> list[float]:
        """Log-probability (nats) of each word at the end of a text with control tokens. Args: space, what stands between them."""
        before = self._tokens(text)
        wholes = [self._tokens(f"{text}{space}{word}") for word in words]
        if any(whole[: len(before)] != before for whole in wholes):
            raise ValueError("a label word merges with the text before it")
        self.llama.reset()
        self.llama.eval(before)
        first = self._last_row()
        found = []
        for whole in wholes:
            row, total = first, 0.0
            self.llama.n_tokens = len(before)  # of the words before, nothing is left
            for token, following in zip(whole[len(before) :], [*whole[len(before) + 1 :], None], strict=True):
                total += float(row[token])
                if following is not None:
                    self.llama.eval([token])
                    row = self._last_row()
            found.append(total)
        return found

    def _last_row(self) -> NDArray[np.float64]:
        """Log-probabilities (nats) of what follows the last token, float [V]."""
        return np.asarray(log_softmax(np.asarray(self.llama.scores[self.llama.n_tokens - 1], dtype=np.float64)))

    def _tokens(self, text: str) -> list[int]:
        """The tokens of a whole text, with one token that opens it where the model has one."""
        found: list[int] = self.llama.tokenize(text.encode(), add_bos=True, special=True)
        return found[1:] if found[:2] == [self.llama.token_bos()] * 2 else found


def turns(task: Task, selection: plain.ExampleSelection, text: Text, *, system: bool) -> list[dict[str, str]]:
    """The conversation that asks for the label of a text: guideline, worked examples as earlier turns, the text."""
    examples = [
        (plain.text_lines(task, e.text, e.target), f"{task.prompt.answer}:{plain.answer(task, e, 'direct')}")
        for e in selection.examples
    ]
    questions = [*(question for question, _ in examples), plain.text_lines(task, text.text, text.target)]
    head = plain.head(task)
    made = [{"role": "system", "content": head}] if system else []
    for i, question in enumerate(questions):
        made.append({"role": "user", "content": question if i or system else f"{head}\n\n{question}"})
        if i < len(examples):
            made.append({"role": "assistant", "content": examples[i][1]})
    return made


def rendered(template: str, conversation: list[dict[str, str]], bos: str, eos: str) -> str:
    """The conversation as `transformers` renders it, up to the place of the answer."""
    found, _ = render_jinja_template(
        [conversation], chat_template=template, add_generation_prompt=True, bos_token=bos, eos_token=eos
    )
    return str(found[0])


def expected(alone: Alone, path: Path, task: Task, texts: Sequence[Text], n_paths: int) -> Iterator[list[float]]:
    """Log-probabilities of every label word, for each text and then each prompt variant."""
    template = gguf.read_header(path).chat_template
    bos, eos = alone.spelling(alone.llama.token_bos()), alone.spelling(alone.llama.token_eos())
    system = read_template(template, bos, eos).form.system  # whether the guideline is a turn of its own
    config = LabelConfig(mode="direct", n_paths=n_paths)
    chosen = plain.example_selections(task, n_paths, config.n_examples_per_label, config.seed, examples=config.examples)
    for text in texts:
        for selection in chosen:
            prompt = rendered(template, turns(task, selection, text, system=system), bos, eos) + f"{task.prompt.answer}:"
            yield alone.logprobs(prompt, [word for own in task.labels for word in own.spellings])


def half_floats(path: Path, folder: Path) -> Path:
    """The model unpacked to 16-bit floats."""
    target, params = folder / "f16.gguf", llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = llama_cpp.LLAMA_FTYPE_MOSTLY_F16, True
    if llama_cpp.llama_model_quantize(str(path).encode(), str(target).encode(), ctypes.byref(params)):
        raise SystemExit(f"{path}: cannot be unpacked")
    return target


def main() -> None:
    """Print the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=120, help="texts")
    parser.add_argument("--paths", type=int, default=1, help="prompt variants")
    parser.add_argument("--teacher", default="smollm2-135m-instruct")
    parser.add_argument("--pack", default="auto")
    parser.add_argument("--f16", action="store_true")
    parser.add_argument("--noise", action="store_true")
    options = parser.parse_args()
    folder = example_folder(DEMO_EXAMPLE)
    task = load_task(folder / "task.toml")
    lines = (folder / "texts.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[: options.n]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "texts.jsonl").write_text("".join(lines), encoding="utf-8")
        texts = read_texts(work / "texts.jsonl", labels=task.label_names, target=task.input.target).texts
        path = packed_file(options.teacher, "as-is" if options.f16 else options.pack).path
        path = half_floats(path, work) if options.f16 else path
        config = LabelConfig(mode="direct", n_paths=options.paths, template="chat")
        label(task, work / "texts.jsonl", work / "out", config, teacher=TeacherConfig(str(path), pack="as-is"))
        with LabelStore.read(work / "out" / STORE_FILE) as store:
            paths = {(p.text_id, p.variant): p.word_logprobs for p in store.paths(store.find_run(None))}
        wanted = list(expected(Alone(path), path, task, texts, options.paths))
        again = list(expected(Alone(path, 64), path, task, texts, options.paths)) if options.noise else []
    found = [paths[text.id, variant] for text in texts for variant in range(options.paths)]
    compare(np.exp(np.array(found)), np.exp(np.array(wanted)), task)
    if again:
        print("llama.cpp's single sequence against itself, in pieces of 64 tokens:")
        compare(np.exp(np.array(again)), np.exp(np.array(wanted)), task)
    print(f"{cpu_name()}, {usable_cores()} threads; {path.name}, {len(texts)} texts, {options.paths} prompts each")


def compare(found: np.ndarray, wanted: np.ndarray, task: Task) -> None:
    """Print the differences of probabilities. Args: found, wanted, float [P, W]."""
    owners = [i for i, own in enumerate(task.labels) for _ in own.spellings]
    labels = [
        np.stack([part[:, [j for j, o in enumerate(owners) if o == i]].sum(1) for i in range(len(task.labels))], 1)
        for part in (found, wanted)
    ]
    shares = [part / part.sum(axis=1, keepdims=True) for part in labels]
    for what, (one, other) in (("of a label's words", labels), ("of a label among the labels", shares)):
        gap = np.abs(one - other)  # [P, C]
        print(f"difference of the probability {what}: largest {gap.max():.5f}, mean {gap.mean():.5f}, n = {gap.size}")
    print(f"prompts whose most probable label differs: {(shares[0].argmax(1) != shares[1].argmax(1)).sum()} of {len(found)}")


if __name__ == "__main__":
    main()
