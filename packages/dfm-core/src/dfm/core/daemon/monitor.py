"""The monitor: like top, for the workers of a daemon. It only asks; leaving it harms nothing.

Needs textual (`pip install dfm-core[monitor]`).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import astuple
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import DataTable, Footer, Input, Static

from dfm.api.errors import DfmError
from dfm.core.daemon.view import Order, Status, headline, recent_rows, running_rows, worker_rows

REFRESH_SECONDS = 1.0
Ask = Callable[[], Awaitable[Status]]


class Monitor(App[None]):
    """Shows running tasks, those that ended last or the workers, and the counts of both.

    Args:
        ask: gets the status; a DfmError is shown, and asked again.
    """

    TITLE = "dfm daemon"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: auto; }
    DataTable { border-top: solid $primary; border-title-color: $text; }
    #running { height: 2fr; }
    #recent, #workers { height: 1fr; }
    .-hidden { display: none; }
    #filter { display: none; height: 3; }
    #filter.-shown { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "detach"),
        Binding("ctrl+c", "quit", "detach", show=False, priority=True),
        Binding("e", "order('elapsed')", "by time"),
        Binding("n", "order('name')", "by name"),
        Binding("w", "order('worker')", "by worker"),
        Binding("h", "order('host')", "by host"),
        Binding("tab", "swap", "workers", priority=True),
        Binding("slash", "filter", "filter", priority=True),  # before the keys that were typed since
        Binding("escape", "unfilter", "all"),
    ]

    def __init__(self, ask: Ask) -> None:
        super().__init__()
        self._ask = ask
        self._order = Order.ELAPSED
        self._needle = ""
        self._status: Status | None = None

    def compose(self) -> ComposeResult:
        """Lay out the screen."""
        yield Static("asking the daemon ...", id="head", markup=False)
        yield DataTable(id="running", cursor_type="row")
        yield DataTable(id="recent", cursor_type="none")
        yield DataTable(id="workers", cursor_type="none", classes="-hidden")
        yield Input(placeholder="part of a task, worker or host", id="filter")
        yield Footer()

    async def on_mount(self) -> None:
        """Begin to ask."""
        self.query_one("#running", DataTable).add_columns("task", "worker", "host", "elapsed")
        self.query_one("#recent", DataTable).add_columns("ended", "outcome", "seconds", "host", "at")
        self.query_one("#workers", DataTable).add_columns("worker", "job", "state", "host", "since", "what")
        self.query_one("#running", DataTable).focus()
        await self.refresh_status()
        self.set_interval(REFRESH_SECONDS, self.refresh_status)

    async def refresh_status(self) -> None:
        """Ask the daemon and show what it says."""
        try:
            self._status = await self._ask()
        except DfmError as error:
            self._say(f"{error}\n{error.hint or ''}")
            return
        self._show()

    def action_order(self, order: str) -> None:
        """Sort by something else."""
        self._order = Order(order)
        self._show()

    def action_swap(self) -> None:
        """Show the workers in place of what ended last, or the other way round."""
        for table in self.query("#recent, #workers"):
            table.toggle_class("-hidden")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002  (the base's)
        """Let a slash be typed into the field itself."""
        return not (action == "filter" and isinstance(self.focused, Input))

    def action_filter(self) -> None:
        """Ask for what to look for."""
        field = self.query_one("#filter", Input)
        field.add_class("-shown")
        self.set_focus(field)

    def action_unfilter(self) -> None:
        """Show everything again."""
        field = self.query_one("#filter", Input)
        field.value = ""
        field.remove_class("-shown")
        self.set_focus(self.query_one("#running", DataTable))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Look for what is being typed."""
        self._needle = event.value
        self._show()

    def on_input_submitted(self) -> None:
        """Go back to the table, keeping the filter."""
        self.set_focus(self.query_one("#running", DataTable))

    def _say(self, text: str) -> bool:
        """Show a text above the tables; there is none any more where the person left while the daemon was asked."""
        heads = self.query("#head")
        for head in heads.results(Static):
            head.update(text)
        return bool(heads)

    def _show(self) -> None:
        if self._status is None or not self._say(headline(self._status)):
            return
        running = running_rows(self._status, self._order, self._needle)
        kept = f", with {self._needle!r}" if self._needle else ""
        title = f"{len(running)} running{kept}, by {self._order}"
        self._fill("#running", title, [(row.task, row.worker, row.host, row.elapsed) for row in running])
        recent = recent_rows(self._status, self._needle)
        rows = [(row.task, row.outcome, row.seconds, row.host, row.at) for row in recent]
        self._fill("#recent", f"the last {len(recent)} that ended{kept}", rows)
        workers = [astuple(row) for row in worker_rows(self._status, self._needle)]
        self._fill("#workers", f"{len(workers)} workers{kept}", workers)

    def _fill(self, name: str, title: str, rows: Sequence[tuple[str, ...]]) -> None:
        """Put other rows into a table, which stays where the person has scrolled it."""
        table: DataTable[str] = self.query_one(name, DataTable)
        table.border_title = Content(title)
        cursor, offset = table.cursor_row, table.scroll_offset
        table.clear()
        for row in rows:
            table.add_row(*row)
        table.move_cursor(row=cursor, animate=False, scroll=False)
        table.scroll_to(*offset, animate=False)
