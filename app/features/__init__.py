"""The Features page: every feature, and one from close by."""
