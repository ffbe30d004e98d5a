"""People in the loop: local pages on which they label the texts of a store, settle what they disagree about, and steer the task."""
