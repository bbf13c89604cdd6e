"""How many labels of a new set each method needs, and which."""
