"""What the command line can do, a file per family of commands; table.py lists them all."""
