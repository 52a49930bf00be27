"""What stands below everything: errors, paths, files, jobs, numbers and texts as people read them. Loads no torch."""
