"""The smallest task file."""

SMALL_TASK = """
format = 1
name = "t"
question = "Up or down?"
guideline = ""
[[labels]]
name = "up"
meaning = "u"
[[labels]]
name = "down"
meaning = "d"
[[examples]]
text = "I buy"
rationale = "Bought."
label = "up"
[[examples]]
text = "I sell"
rationale = "Sold."
label = "down"
"""
