"""From a spreadsheet to a bundle that answers over HTTP: python spreadsheet.py posts.xlsx out."""

import sys

import potstill

sheet, out = sys.argv[1:]  # a column `text`; a folder for everything that is made
meanings = {"bullish": "the author expects a rise", "bearish": "the author expects a fall", "neutral": "neither"}
labels = [potstill.Label(name=name, meaning=meaning) for name, meaning in meanings.items()]
task = potstill.Task(format=1, name="stance", question="Does the author expect the price to rise or to fall?", labels=labels)
potstill.label(task, sheet, out, potstill.LabelConfig(n_paths=3))
potstill.distill(task, f"{out}/soft_labels.parquet", f"{out}/student")
potstill.export_bundle(f"{out}/student", f"{out}/bundle")
potstill.serve_bundles([f"{out}/bundle"])
