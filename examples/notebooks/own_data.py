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
# # Your own data: from a spreadsheet to a promise
#
# You have a spreadsheet of texts and a question about them. This notebook labels the texts, has people check some, and finds out
# which answers of the small classifier can be relied on. The texts are made-up posts about stocks; put your own spreadsheet in
# their place. It takes about five minutes.

# %%
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas

import potstill
from potstill.workflows.example_files import example_folder

n_texts, n_gold = 200, 150
example, out = example_folder("market_stance"), Path("own_data")
out.mkdir(exist_ok=True)


def rows_of(*names: str) -> pandas.DataFrame:
    """The rows of files of the example."""
    lines = [line for name in names for line in (example / name).read_text(encoding="utf-8").splitlines()]
    return pandas.DataFrame(map(json.loads, lines))


# %% [markdown]
# ## A spreadsheet
#
# One column must be called `text`. Others are left out.

# %%
rows_of("texts.jsonl").head(n_texts)[["text"]].to_excel(out / "posts.xlsx", index=False)
posts = pandas.read_excel(out / "posts.xlsx")
posts.head(3)

# %% [markdown]
# ## A question
#
# Say what each label means. Worked examples make the teacher better; `potstill init my_task` writes a file with places for them.

# %%
task = potstill.Task(
    format=1,
    name="stance",
    question="Does the author expect the price to rise, to fall, or neither?",
    labels=[
        potstill.Label(name="bullish", meaning="the author expects the price to rise", words=["positive", "good"]),
        potstill.Label(name="bearish", meaning="the author expects the price to fall", words=["negative", "bad"]),
        potstill.Label(name="neutral", meaning="the author states no direction", words=["neutral", "unclear"]),
    ],
)
labelled = potstill.label(task, posts, out, potstill.LabelConfig(n_paths=1))
labelled

# %% [markdown]
# ## People look at some of them
#
# In a terminal, `potstill review own_data/labels.db --task task.toml` opens a page on this machine, on which a person labels one
# text after the other by keyboard. 200 texts take about 20 minutes. `potstill labels gold` writes them as a file.
#
# The example's posts were labelled already, so we take those. We split them: one half chooses thresholds, the other half is for the
# promise. Texts that chose something cannot prove it.

# %%
people = rows_of("gold.jsonl", "more_gold.jsonl").sample(n_gold, random_state=0)[["text", "gold"]]
to_choose, to_prove = people.iloc[::2], people.iloc[1::2]
people["gold"].value_counts()

# %% [markdown]
# ## Train, calibrate, export

# %%
potstill.distill(task, out / "soft_labels.parquet", out / "student")

# %% [markdown]
# The table scores the student on the posts of the first half, beside one that always says the most frequent label.

# %%
potstill.evaluate(out / "student", to_choose, potstill.EvaluateConfig(baselines=("majority",)))

# %% [markdown]
# A threshold for each label: below it the classifier abstains. Each is chosen so that at least half of the answers with that label
# are right, with a confidence of 95 %. A label of which that cannot be shown is never answered.

# %%
to_choose.to_json(out / "to_choose.jsonl", orient="records", lines=True)
print(potstill.calibrate(out / "student", out / "to_choose.jsonl", potstill.ConfidenceConfig(precision=0.5)).as_text())

# %%
potstill.export_bundle(out / "student", out / "bundle")

# %% [markdown]
# ## What can be promised?
#
# If only the surest answers are given, more of them are right. The line is an estimate on the second half; it wavers where the
# answers are few.

# %%
with potstill.Classifier.open(out / "bundle") as classifier:
    answers = classifier.classify(to_prove["text"].tolist())
proved = pandas.DataFrame({"sure": [max(answer.probs.values()) for answer in answers]})
proved["right"] = [answer.label == gold for answer, gold in zip(answers, to_prove["gold"], strict=True)]
proved = proved.sort_values("sure", ascending=False)
shares = [(n + 1) / len(proved) for n in range(len(proved))]
figure, axes = plt.subplots(figsize=(6, 3))
axes.plot(shares, proved["right"].expanding().mean(), color="#2a5fa4")
axes.set(xlabel="share of the texts that are answered", ylabel="share of right answers", ylim=(0, 1))
plt.show()

# %% [markdown]
# A certificate is not an estimate but a bound: with a confidence of 95 % the answers are right at least as often as stated. Where
# it cannot be shown, potstill says so. With this small teacher and these few posts that is likely; a larger teacher
# (`potstill models list`), and more texts, are the way to a better promise.

# %%
try:
    shown = potstill.certify(out / "bundle", to_prove, config=potstill.CertifyConfig(accuracy=0.5))
except potstill.UserError as refusal:
    shown = refusal
print(shown)
