"""The Start page: a task or a file, a model with its SAEs, the prompts as they will read, and a run of them."""

from app.shared.pages import PageInfo

PAGE = PageInfo("Start a run", ":material/add_circle:", 2, writes=True)
