"""The Steer page: a set, a prompt, two answers side by side."""

from app.shared.pages import PageInfo

PAGE = PageInfo("Steer", ":material/tune:", 4)
