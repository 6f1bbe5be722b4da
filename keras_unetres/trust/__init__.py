"""Whether an answer may be believed: probabilities that are right, measured on labelled images."""
