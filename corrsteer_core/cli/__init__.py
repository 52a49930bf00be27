"""The command line: what can be asked, what each command does, how its answers are printed."""
