"""The method from the first answer to a steering set: collect, rank, choose."""
