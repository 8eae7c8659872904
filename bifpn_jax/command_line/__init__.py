"""What all commands share: flags, help, checks of words, and errors as one line."""
