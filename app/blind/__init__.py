"""The Blind test page: which of two answers people prefer who do not know which was steered."""

from app.shared.pages import PageInfo

PAGE = PageInfo("Blind test", ":material/visibility_off:", 6)
