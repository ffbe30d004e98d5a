"""Whether the texts to be labelled are like those to be answered."""
