# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # From texts to a small classifier
#
# A large language model labels a few hundred posts about stocks. A small one learns from it, and becomes a file that answers in
# milliseconds. Everything runs on this machine, with the two models that come with potstill. It takes about three minutes.
#
# Open this file as a notebook with [jupytext](https://jupytext.readthedocs.io), or run it as a program.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import potstill
from potstill.workflows.example_files import example_folder

n_texts, n_gold = 120, 60  # more texts make a better student, and take longer
example = example_folder("market_stance")
out = Path("whole_way")

# %% [markdown]
# ## The question
#
# A *task* is a question, its labels, and a few worked examples. This one is a file; `potstill.Task(...)` makes one in a program.

# %%
task = potstill.load_task(example / "task.toml")
print(task.question)
print(*(f"{label.name}: {label.meaning}" for label in task.labels), sep="\n")

# %% [markdown]
# ## The teacher reads the texts
#
# It sees each post three times, each time after other worked examples. The *gold* posts have labels that a person gave. They are
# labelled too, to see how good the teacher is, but nothing is ever trained on them.

# %%
rows = (example / "texts.jsonl").read_text(encoding="utf-8").splitlines()[:n_texts]
gold_rows = (example / "gold.jsonl").read_text(encoding="utf-8").splitlines()[:n_gold]
out.mkdir(exist_ok=True)
(out / "some_texts.jsonl").write_text("\n".join(rows), encoding="utf-8")
(out / "some_gold.jsonl").write_text("\n".join(gold_rows), encoding="utf-8")

labelled = potstill.label(task, out / "some_texts.jsonl", out, potstill.LabelConfig(n_paths=3), gold=out / "some_gold.jsonl")
labelled

# %% [markdown]
# A *soft label* is a probability for each label. This is how sure the teacher is of its most probable one:

# %%
sure = [max(row.probs.values()) for row in labelled.rows]
figure, axes = plt.subplots(figsize=(6, 2.5))
axes.hist(sure, bins=20, color="#2a5fa4")
axes.set(xlabel="probability of the most probable label", ylabel="texts")
plt.show()

# %% [markdown]
# ## The student learns from it
#
# A small encoder is trained on the soft labels. The line says how often it agrees with its teacher on texts that were held out.

# %%
potstill.distill(task, out / "soft_labels.parquet", out / "student")

# %% [markdown]
# ## It becomes a bundle
#
# The student is written as ONNX, in 8-bit integers if its answers stay the same, and the table has every form that was tried.

# %%
potstill.export_bundle(out / "student", out / "bundle")

# %% [markdown]
# ## How good is it?
#
# Teacher, student and bundle answer the same gold posts. The intervals are wide, because the posts are few: do not read more into
# the numbers than they hold. Guessing gives 0.33.

# %%
systems = potstill.EvaluateConfig(bundle=out / "bundle", teacher=out / "gold_labels.parquet", baselines=("majority",))
scores = potstill.evaluate(out / "student", out / "some_gold.jsonl", systems)
scores

# %%
names = list(scores.scores)
values = [scores.scores[name]["macro_f1"] for name in names]
below = [score.value - score.low for score in values]
above = [score.high - score.value for score in values]
figure, axes = plt.subplots(figsize=(6, 2.5))
axes.errorbar([score.value for score in values], range(len(names)), xerr=[below, above], fmt="o", color="#2a5fa4")
axes.set_yticks(range(len(names)), names)
axes.set(xlabel="macro-F1, with its 95 % interval", xlim=(0, 1))
plt.show()

# %% [markdown]
# ## It answers
#
# The bundle needs no PyTorch. `potstill serve whole_way/bundle` answers over HTTP.

# %%
asked = ["my puts are printing", "when do they report?"]
with potstill.Classifier.open(out / "bundle") as classifier:
    for text, answer in zip(asked, classifier.classify(asked), strict=True):
        print(f"{answer.label:8} {answer.probs[answer.label]:.2f}  {text}")
