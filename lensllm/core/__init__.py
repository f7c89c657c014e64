"""The nouns of the loop: the question, its trials and curves, and the answer."""
