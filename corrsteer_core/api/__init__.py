"""What `import corrsteer_core as cs` offers: a run, a steering set and a model in a notebook. Loads torch when needed."""
