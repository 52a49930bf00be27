"""The exported script: its text in parts, and what it carries of the SAEs where rows do more than add."""
