"""What the Steer page needs done in the browser: Ctrl+Enter generates, and the address names what a reload brings back."""

from __future__ import annotations

import streamlit as st

BOX, GENERATE = "typed", "generate"
"""Keys of the box for a prompt of one's own and of the button below it."""
DESK = "desk"
"""Of the address: under which word the server remembers this tab's page (see `remembered`)."""
DRAWN = "times_drawn"  # of this tab

SCRIPT = f"""export default function(component) {{
  const address = new URL(window.location)
  if (address.searchParams.get("{DESK}") !== component.data.desk) {{
    address.searchParams.set("{DESK}", component.data.desk)
    window.history.replaceState(window.history.state, "", address)  // no entry of its own: Back leaves the page
  }}
  const pressed = event => {{
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return
    if (!event.target.matches || !event.target.matches(".st-key-{BOX} textarea")) return
    // The box sends its text at the same keys; the press is reported after it.
    window.setTimeout(() => document.querySelector(".st-key-{GENERATE} button")?.click(), 60)
  }}
  document.addEventListener("keydown", pressed)
  return () => document.removeEventListener("keydown", pressed)
}}"""


@st.cache_resource(show_spinner=False)
def _component():
    return st.components.v2.component("corrsteer_steer_page", js=SCRIPT)


def draw(desk: str) -> None:
    """Let the browser do its part; `desk` is the word that the address is to name."""
    # The server does not know of this word: whenever it has the address say something new, the word is gone. A number
    # that is another at every drawing lets the browser look again.
    drawn = st.session_state[DRAWN] = st.session_state.get(DRAWN, 0) + 1
    _component()(data={"desk": desk, "drawn": drawn}, key="browser_side")
