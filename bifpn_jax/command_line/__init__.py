"""Code shared by all commands: flags, help, checks of arguments, and one-line errors."""
