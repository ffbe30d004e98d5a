"""Rules that nobody wrote: proposed from texts, by words or by the teacher, and judged on other texts before a person sees them."""
