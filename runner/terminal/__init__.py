"""What a person reads in a terminal: cleaned text, tables that fit, words while something takes long."""
