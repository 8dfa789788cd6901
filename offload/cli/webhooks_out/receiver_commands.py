"""`offload receiver`: a receiver of webhooks on this machine, which prints what comes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from offload.cli import terminal
from offload.client.signals import set_by_signals

if TYPE_CHECKING:
    from offload.cli.webhooks_out.receiver import Delivery

DEFAULT_PORT = 8787
"""Where it listens unless told otherwise."""

_SECRETS = "OFFLOAD_RECEIVER_SECRETS"


def receiver(
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port on 127.0.0.1; 0 is any free one.")
    ] = DEFAULT_PORT,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WHSEC",
            envvar=_SECRETS,
            show_envvar=False,
            help="A subscription's secret (whsec_...) or public key (whpk_...), by which webhooks are verified, or "
            f"several while it is rotated. Also as {_SECRETS}, with spaces between. Without one nothing is verified.",
        ),
    ] = None,
    fail_every: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Answer every Nth request with --status.")
    ] = None,
    status: Annotated[
        int | None,
        typer.Option(
            min=200, max=599, help="The status for --fail-every [500]; alone, every request is answered with it."
        ),
    ] = None,
    delay: Annotated[float, typer.Option(min=0.0, help="Seconds before each answer.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print each delivery as a line of JSON.")] = False,
) -> None:
    """Receive webhooks on this machine and print each as it comes, with its signature's verdict, until Ctrl-C."""
    from offload.cli.webhooks_out.receiver import Answers, Receiver

    every = fail_every or (0 if status is None else 1)
    answers = Answers(fail_every=every, failing=500 if status is None else status, delay=delay)
    show = _print_json if as_json else _Lines().show
    ended, unheard = threading.Event(), threading.Event()

    def tell(delivery: Delivery) -> None:
        try:
            show(delivery)
        except (BrokenPipeError, SystemExit):
            # Nobody reads any more, as after `| head`; rich makes an exit of it.
            unheard.set()
            ended.set()

    taking = Receiver(port, secret or (), tell, answers=answers)
    # The signals before it is said to listen: who reads that may end it at once.
    with taking, set_by_signals(ended):
        how = f"verified by {_many(secret)}" if secret else "not verified: --secret"
        terminal.line(f"listening at {taking.url} ({how}); Ctrl-C ends it", stderr=as_json)
        ended.wait()
    if unheard.is_set():
        terminal.stop_writing()
        return
    terminal.line(taking.counts.line(), stderr=as_json)


def _many(secrets: list[str]) -> str:
    return "one secret" if len(secrets) == 1 else f"any of {len(secrets)} secrets"


def _print_json(delivery: Delivery) -> None:
    terminal.print_json_line(delivery.document())


class _Lines:
    """One line a delivery, for people."""

    def __init__(self) -> None:
        self._screen = terminal.console()

    def show(self, delivery: Delivery) -> None:
        moment = delivery.at.astimezone()
        again = f"again ({delivery.times})" if delivery.again else ""
        columns = (
            f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03}",
            f"{delivery.status}",
            f"{delivery.verdict:<13}",
            f"{delivery.type or '-':<16}",
            f"{delivery.subject or '-':<12}",
            delivery.webhook_id or "-",
            again,
            delivery.detail,
        )
        style = "red" if delivery.refused else "yellow" if delivery.again or delivery.status >= 300 else None
        line = "  ".join(column for column in columns if column).rstrip()
        self._screen.print(line, markup=False, soft_wrap=True, style=style)
        self._screen.file.flush()
