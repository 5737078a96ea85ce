"""The one-machine stack: real servers as supervised child processes."""
