"""The file formats and rules that the stages agree on. Nothing here imports another package of ours.

Import order: errors < files < system, security, scores < task, soft_label, decision < interchange < texts < checkpoint, bundle,
project. So a room may import errors, task, soft_label and decision from this folder, and no other file.
"""
