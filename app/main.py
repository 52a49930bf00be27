"""The app's entry: page settings, navigation, and the run that is shown. `streamlit run app/main.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[1])
if ROOT not in sys.path:  # `streamlit run` puts only this file's folder there
    sys.path.insert(0, ROOT)

import pandas as pd  # noqa: E402
import streamlit as st  # noqa: E402

from app import login  # noqa: E402
from app.shared import components, fields, pages, resources, state  # noqa: E402
from corrsteer_core.base import presenting  # noqa: E402


def main() -> None:
    """Draw the page that the link names."""
    st.set_page_config(page_title="CorrSteer Explorer", page_icon=f"{ROOT}/app/icon.svg", layout="wide")
    components.log_to_file()
    st.html(components.style())
    if not login.let_in():
        return
    known = pages.pages()
    first = next(iter(known))
    drawn = {
        name: st.Page(
            components.page_of(_view(name)), title=page.title, icon=page.icon, url_path=name, default=name == first
        )
        for name, page in known.items()
    }
    state.remember_pages(drawn)
    chosen = st.navigation(list(drawn.values()))
    components.page_of(sidebar)()
    if presenting.on() and state.current_run() is None:
        components.nothing_yet(
            "There is no run to look at yet.", "Whoever started this app can start one in their own."
        )
        return
    chosen.run()


def _view(name: str) -> Callable[[], None]:
    """The page in a folder of the app, loaded when it is first opened: some load torch, the first page must not."""

    def page() -> None:
        import_module(f"app.{name}.page").page()

    page.__name__ = name
    return page


def home(readable: pd.DataFrame) -> str | None:
    """The run to begin with: the newest with a measured set; where there is none, the newest ranked, else the newest."""
    if readable.empty:
        return None
    completeness = (readable["measured"].astype(int) > 0) * 2 + readable["fitted"].astype(bool)
    return str(readable["run"][completeness.idxmax()])  # the first of the highest: runs come newest first


def sidebar() -> None:
    """The run that all pages look at."""
    runs = resources.runs()
    readable = runs[runs["problem"].isna()]
    unknown = state.follow_link(readable["run"].tolist(), home(readable))
    if unknown:
        components.problem(
            f"There is no readable run named {components.shortened(unknown, 60)}; another one is shown instead."
        )
    if presenting.on():
        st.sidebar.caption("Read-only: look, and steer. Nothing that you do here is kept.")
    if readable.empty:
        return
    labels = {row.run: f"{row.task} · {row.run.rsplit('-', 1)[-1]}" for row in readable.itertuples()}
    shown = state.current_run()
    chosen = fields.key("run_choice", shown)
    st.sidebar.selectbox(
        "Run",
        options=list(labels),
        index=list(labels).index(shown),
        format_func=lambda run: components.plain(labels.get(run, run)),
        key=chosen,
        on_change=fields.hear,
        args=(chosen, state.choose_run),
        help="A run is one task, answered by one model, with everything measured from it. All pages show this run.",
    )


if __name__ == "__main__":
    main()
