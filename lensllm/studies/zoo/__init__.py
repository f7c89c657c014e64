"""How the zoo was pre-trained and its curves recorded."""
