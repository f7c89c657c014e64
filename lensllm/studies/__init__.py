"""What only a table of a paper, a judgement of selectors or the making of the zoo needs."""
