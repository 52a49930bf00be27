"""The Features page: every feature, and one from close by."""

from app.shared.pages import PageInfo

PAGE = PageInfo("Features", ":material/leaderboard:", 3)
