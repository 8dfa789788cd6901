"""The import of orders files: whatever the chunks, whenever it is killed, each invoice once and nothing skipped."""

from __future__ import annotations

import csv
import gzip
import io
import tracemalloc
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import boto3
import msgspec
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.order_import import bus as bus_module
from lambdas.order_import import chunks, importing, objects, opening
from lambdas.order_import.importing import OrderImport, OrderImportSettings
from lambdas.order_import.objects import ObjectFile, ObjectWriter, blocks_of
from offload.contracts.events.claim import split_reference
from offload.runtime import aws
from offload.runtime.bus import NotPublished
from offload.runtime.jobs.run import Permanent
from shop.contracts.jobs.order_import import Imported, OrdersFile
from shop.contracts.orders import Invoice
from shop.orders import COLUMNS, SHIPPED_DAY, generate, read_orders, write_orders
from tests.calls.plugin import tell
from tests.odd_server import Behaviour, Received, answer, by_request, odd_server
from tests.unit.events.bus_server import Answer, Bus, serving

T = TypeVar("T", bound=msgspec.Struct)
HEADER = ",".join(COLUMNS)
RESULT_BYTES = 256 * 1024


class Killed(BaseException):
    """The process is gone."""


class RecordedRun:
    """A durable run: a step's result is kept, and a step that has one is not run again."""

    traceparent: str | None = None

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self.id = uuid4().hex
        self.recorded: dict[str, bytes] = {}
        self.began: list[str] = []
        self.rested: list[str] = []
        self.told: list[tuple[int, int | None, str]] = []
        self.kill_before = ""
        self.kill_after = ""
        self.between: Callable[[str], None] = lambda _: None

    def folder(self) -> str:
        return f"results/{self.id}/1/"

    def step(self, name: str, work: Callable[[], T], result: type[T]) -> T:
        if name not in self.recorded:
            self.between(name)
            self.began.append(name)
            if name == self.kill_before:
                raise Killed
            content = msgspec.json.encode(work())
            assert len(content) < RESULT_BYTES
            if name == self.kill_after:
                raise Killed
            self.recorded[name] = content
        return msgspec.json.decode(self.recorded[name], type=result)

    def rest(self, name: str) -> None:
        if name not in self.recorded:
            self.rested.append(name)
            self.recorded[name] = b""

    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        self.told.append((done, total, message))


class Shop:
    """A bucket with files, and a bus that remembers."""

    def __init__(self, bus: Bus) -> None:
        self.bucket = f"import-{uuid4().hex[:12]}"
        self.claims = f"{self.bucket}-claims"
        self.bus = bus
        for bucket, variable in ((self.bucket, "OFFLOAD_JOBS_BUCKET"), (self.claims, "OFFLOAD_CLAIMS_BUCKET")):
            aws.s3().create_bucket(Bucket=bucket)
            tell(bucket, variable)
        tell("orders", "OFFLOAD_BUS")

    def upload(self, content: bytes, name: str = "orders.csv") -> str:
        aws.s3().put_object(Bucket=self.bucket, Key=f"uploads/{name}", Body=content)
        return f"uploads/{name}"

    def run(self) -> RecordedRun:
        self.bus.taken.clear()
        self.bus.requests.clear()
        return RecordedRun(self.bucket)

    def imported(self, key: str, run: RecordedRun, chunk_rows: int = importing.CHUNK_ROWS) -> Imported:
        places = OrderImportSettings(offload_bus="orders", offload_claims_bucket=self.claims)
        return OrderImport(OrdersFile(file=key), run, places, chunk_rows=chunk_rows).result()

    def details(self) -> list[Any]:
        return [entry["detail"] for entry in self.bus.taken]

    def file(self, key: str | None) -> str:
        assert key is not None
        return bytes(aws.s3().get_object(Bucket=self.bucket, Key=key)["Body"].read()).decode()

    def rejects(self, imported: Imported) -> list[list[str]]:
        return list(csv.reader(io.StringIO(self.file(imported.rejects), newline="")))


@pytest.fixture(scope="module")
def shop(aws_of_module: None) -> Iterator[Shop]:
    """The files are in the embedded AWS; the bus is a server that can be told to refuse."""
    with serving() as bus, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", bus.url)
        patch.setattr(bus_module, "_BASE_SECONDS", 0.001)
        aws._client.cache_clear()
        yield Shop(bus)


def events_of(invoices: tuple[Invoice, ...]) -> list[Any]:
    return [msgspec.json.decode(invoice.event().to_json()) for invoice in invoices]


def lines_of(*rows: str, end: str = "\n") -> bytes:
    return "".join(f"{row}{end}" for row in (HEADER, *rows)).encode()


def row(invoice: str, product: str = "85123A", quantity: str = "6", description: str = "LANTERN") -> str:
    return f"{invoice},{product},{description},{quantity},2010-12-01 08:26:00,2.55,17850.0,France"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 made orders."""
    path = tmp_path_factory.mktemp("made") / "orders.csv"
    write_orders(path, generate(3, 300))
    return path


def test_december_is_imported_to_the_penny(shop: Shop, month: Path) -> None:
    run = shop.run()
    imported = shop.imported(shop.upload(month.read_bytes(), "december.csv.gz"), run)
    assert imported == Imported(rows=42_481, invoices=2_025, published=2_025, rejected=0)
    assert shop.details() == events_of(read_orders(month).invoices)
    lines = [line for detail in shop.details() for line in detail["data"]["lines"]]
    assert len(lines) == 42_481
    assert sum(Decimal(line["unit_price"]) * line["quantity"] for line in lines) == Decimal("748957.02")
    assert run.began == ["open", *(f"publish-{number}" for number in range(1, 22))]
    assert run.rested == [f"rest-{number}" for number in range(1, 6)]
    assert run.told[-1] == (42_481, 42_481, "2,025 invoices published, 0 rows rejected")


@pytest.mark.parametrize(
    "written",
    [
        lambda plain: plain,
        lambda plain: gzip.compress(plain),
        lambda plain: gzip.compress(plain[:5000]) + gzip.compress(plain[5000:]),
        lambda plain: plain.replace(b"\n", b"\r\n"),
        lambda plain: plain.replace(b"\n", b"\r"),
        lambda plain: b"\xef\xbb\xbf" + plain,
        lambda plain: plain.replace(b"\n", b"\n\n\r\n"),
        lambda plain: plain.rstrip(b"\n"),
    ],
    ids=["plain", "gzip", "two gzip members", "CRLF", "CR", "byte order mark", "blank lines", "no last line end"],
)
def test_however_a_file_is_written_its_events_are_those_of_offload_orders(
    shop: Shop, tmp_path: Path, written: Callable[[bytes], bytes]
) -> None:
    content = written(gzip.decompress(SHIPPED_DAY.read_bytes()))
    path = tmp_path / "orders.csv"
    path.write_bytes(content)
    imported = shop.imported(shop.upload(content), shop.run(), 500)
    assert shop.details() == events_of(read_orders(path).invoices)
    assert (imported.invoices, imported.published, imported.rejects) == (143, 143, None)


TEXTS = st.sampled_from(["LANTERN", "", 'DISH, 5"', "two\nlines", "three\r\nlines\n", "süß ☕", "𝄞", "\u2028"])
ROWS = st.builds(
    lambda product, text, quantity, day: (product, text, quantity, f"2010-12-0{day} 08:26:00", "2.55", "", "France"),
    st.sampled_from(["85123A", "M", "m"]),
    TEXTS,
    st.sampled_from(["6", "-1", "six", "0"]),
    st.integers(1, 3),
)
INVOICES = st.lists(
    st.tuples(st.sampled_from(["536365", "536366", "C536367", "536368", "å", ""]), st.lists(ROWS, max_size=4)),
    max_size=7,
)


@settings(max_examples=60, deadline=None)
@given(invoices=INVOICES, ends=st.sampled_from(["\n", "\r\n"]), packed=st.booleans(), chunk=st.integers(1, 12))
def test_whatever_the_chunks_each_row_is_in_its_invoices_event_or_in_the_rejects(
    shop: Shop,
    tmp_path_factory: pytest.TempPathFactory,
    invoices: list[tuple[str, list[tuple[str, ...]]]],
    ends: str,
    packed: bool,
    chunk: int,
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=ends)
    writer.writerow(COLUMNS)
    runs: list[str] = []
    total = 0
    for number, rows in invoices:
        writer.writerows((number, *each) for each in rows)
        total += len(rows)
        if number and rows and runs[-1:] != [number]:
            runs.append(number)
    path = tmp_path_factory.mktemp("any") / "orders"
    path.write_bytes(gzip.compress(text.getvalue().encode()) if packed else text.getvalue().encode())
    expected = read_orders(path, skip_bad=True)
    kept = tuple(invoice for invoice in expected.invoices if runs.count(invoice.invoice) == 1)
    run = shop.run()
    imported = shop.imported(shop.upload(path.read_bytes(), "any"), run, chunk)
    assert shop.details() == events_of(kept)
    lines = sum(len(invoice.lines) for invoice in kept)
    assert imported.rows == total
    assert (imported.invoices, imported.published, imported.rejected) == (len(set(runs)), len(kept), total - lines)
    if imported.rejected:
        numbers = [int(each[0]) for each in shop.rejects(imported)[1:]]
        assert len(set(numbers)) == imported.rejected
        assert {each.row for each in expected.bad_rows} <= set(numbers)
    else:
        assert imported.rejects is None


def test_rejected_rows_have_their_number_and_reason_and_can_be_imported_once_mended(shop: Shop) -> None:
    content = lines_of(
        row("1"),
        row("2", description='"two\nlines"'),
        row("2", quantity="six"),
        row("3"),
        "4,85123A,short",
        row(""),
        row("C5"),
    )
    imported = shop.imported(shop.upload(content), shop.run(), 2)
    assert imported == Imported(rows=7, invoices=5, published=3, rejected=4, rejects=imported.rejects)
    assert shop.bus.ids == ["order.placed:1", "order.placed:3", "order.cancelled:C5"]
    rejects = shop.rejects(imported)
    assert rejects[0] == ["row", "reason", *COLUMNS]
    assert [each[:3] for each in rejects[1:]] == [
        ["3", "left out with row 5 of its invoice", "2"],
        ["5", "Quantity: 'six' is not a whole number", "2"],
        # Nobody's row waits for no invoice's end.
        ["8", "InvoiceNo: empty", ""],
        ["7", "3 fields where the first line has 8", "4"],
    ]
    assert rejects[1][4] == "two\nlines"
    corrected = shop.file(imported.rejects).replace(",six,", ",6,")
    again = shop.imported(shop.upload(corrected.encode()), shop.run())
    assert shop.bus.ids == ["order.placed:2"]
    assert len(shop.details()[0]["data"]["lines"]) == 2
    assert (again.published, again.rejected) == (1, 2)


def test_an_invoice_whose_rows_do_not_stand_together_is_rejected_as_a_whole(shop: Shop) -> None:
    content = lines_of(row("1"), row("2"), row("1"), row("3"), row("1", "M"))
    imported = shop.imported(shop.upload(content), shop.run(), 1)
    assert shop.bus.ids == ["order.placed:2", "order.placed:3"]
    assert (imported.invoices, imported.published, imported.rejected) == (3, 2, 3)
    assert [each[:2] for each in shop.rejects(imported)[1:]] == [
        [number, "its invoice's rows do not stand together in the file: sort it by InvoiceNo"] for number in "246"
    ]


def test_a_file_of_torn_invoices_is_refused_before_anything_is_published(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "APART_LIMIT", 2)
    content = lines_of(*(row(str(number)) for number in (1, 2, 3, 1, 2, 3)))
    with pytest.raises(Permanent, match="more than 2 invoices do not stand together: sort the file by InvoiceNo"):
        shop.imported(shop.upload(content), shop.run())
    assert shop.bus.taken == []


def test_an_invoice_longer_than_a_chunk_is_one_event(shop: Shop) -> None:
    content = lines_of(row("1"), *[row("2")] * 50, row("3"))
    run = shop.run()
    shop.imported(shop.upload(content), run, 5)
    assert [len(detail["data"]["lines"]) for detail in shop.details()] == [1, 50, 1]
    assert run.began == ["open", "publish-1", "publish-2"]


def test_an_invoice_that_memory_should_not_hold_is_rejected_and_its_neighbours_are_not(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "INVOICE_ROWS", 3)
    content = lines_of(row("1"), *[row("2")] * 5, row("2", quantity="x"), *[row("3")] * 3)
    imported = shop.imported(shop.upload(content), shop.run())
    assert shop.bus.ids == ["order.placed:1", "order.placed:3"]
    assert [(each[0], each[1][:32]) for each in shop.rejects(imported)[1:]] == [
        *((str(number), "its invoice has more than 3 rows") for number in (3, 4, 5, 6, 7)),
        ("8", "Quantity: 'x' is not a whole num"),
    ]


def test_an_invoice_whose_number_no_event_could_have_is_rejected_and_so_is_a_field_that_is_far_too_long(
    shop: Shop,
) -> None:
    content = lines_of(row("1" * 250), row("2"), row("3", description="x" * 200_000))
    imported = shop.imported(shop.upload(content), shop.run())
    assert shop.bus.ids == ["order.placed:2"]
    assert [tuple(reject[:2]) for reject in shop.rejects(imported)[1:]] == [
        ("2", "InvoiceNo: longer than 240 characters"),
        ("4", "Description: longer than 10,000 characters"),
    ]


def test_the_data_of_an_event_too_large_for_the_bus_are_left_in_the_claims_bucket(shop: Shop) -> None:
    large = [row("2", description="x" * 1000)] * 1100
    shop.imported(shop.upload(lines_of(row("1"), *large, row("3"))), shop.run())
    first, second, third = shop.details()
    assert [first["id"], second["id"], third["id"]] == ["order.placed:1", "order.placed:2", "order.placed:3"]
    assert "data" not in second
    bucket, key = split_reference(second["dataref"])
    data = msgspec.json.decode(aws.s3().get_object(Bucket=bucket, Key=key)["Body"].read())
    assert len(data["lines"]) == 1100


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_killed_before_and_after_each_step_it_goes_on_with_that_step_and_nothing_is_skipped(
    shop: Shop, made: Path, packed: bool
) -> None:
    content = made.read_bytes().replace(b"A,WHITE MUG", b"A,WHITE MUG,,", 3) + f"{row('9', quantity='x')}\n".encode()
    key = shop.upload(gzip.compress(content) if packed else content, "killed")
    calm = shop.run()
    whole = shop.imported(key, calm, 300)
    events = shop.details()
    assert len(calm.began) > 10
    assert whole.rejected > 0
    run = shop.run()
    for name in calm.began:
        for kill in ("kill_before", "kill_after"):
            setattr(run, kill, name)
            with pytest.raises(Killed):
                shop.imported(key, run, 300)
            setattr(run, kill, "")
    imported = shop.imported(key, run, 300)
    assert msgspec.structs.replace(imported, rejects=None) == msgspec.structs.replace(whole, rejects=None)
    assert shop.file(imported.rejects) == shop.file(whole.rejects)
    # Each ran for the two kills, and once more for good; none that was recorded ran again.
    assert run.began == [name for name in calm.began for _ in range(3)]
    assert list(dict.fromkeys(shop.bus.ids)) == [event["id"] for event in events]
    assert {detail["id"]: detail for detail in shop.details()} == {event["id"]: event for event in events}


@pytest.mark.slow
def test_killed_at_any_request_to_the_bus_the_step_publishes_the_same_ids_again(shop: Shop, made: Path) -> None:
    key = shop.upload(made.read_bytes())
    run = shop.run()
    bus = shop.bus
    expected = [invoice.event().id for invoice in read_orders(made).invoices]
    requests = iter(range(1, 1000))
    due = 3

    def decide(_: object) -> Answer:
        nonlocal due
        if next(requests) == due:
            due += 11
            return Answer(reset=True, then=lambda: None)
        return Answer()

    bus.decide = decide
    try:
        shop.imported(key, run, 500)
    finally:
        bus.decide = lambda _: Answer()
    assert due > 25
    assert list(dict.fromkeys(bus.ids)) == expected
    assert len(bus.ids) > len(expected)


def test_entries_that_the_bus_refuses_are_sent_again_alone(shop: Shop) -> None:
    run = shop.run()
    shop.bus.script = [Answer(failing={1: "ThrottlingException", 3: "InternalFailure"})]
    shop.imported(shop.upload(lines_of(*(row(str(number)) for number in range(1, 6)))), run)
    assert shop.bus.asked() == [
        [f"order.placed:{number}" for number in range(1, 6)],
        ["order.placed:2", "order.placed:4"],
    ]


def test_a_bus_that_refuses_to_the_end_fails_the_step_and_the_next_try_goes_on_there(shop: Shop) -> None:
    run = shop.run()
    key = shop.upload(lines_of(*(row(str(number)) for number in range(1, 31))))
    shop.bus.decide = lambda entries: Answer(
        failing={at: "InternalFailure" for at, entry in enumerate(entries) if '"order.placed:25"' in entry["Detail"]}
    )
    try:
        with pytest.raises(NotPublished, match=r"did not take 'order.placed:25' in 6 attempts: InternalFailure"):
            shop.imported(key, run, 10)
    finally:
        shop.bus.decide = lambda _: Answer()
    imported = shop.imported(key, run, 10)
    assert run.began == ["open", "publish-1", "publish-2", "publish-3", "publish-3"]
    assert imported.published == 30
    assert set(shop.bus.ids) == {f"order.placed:{number}" for number in range(1, 31)}


GOOD = lines_of(row("1"), row("2"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "uploads/a.csv: the file is empty; an orders file has a row of column names first"),
        ("a.csv", b"\n" + GOOD, "uploads/a.csv: the first line is empty"),
        ("a.csv", b"InvoiceNo,Price\n1,2\n", "uploads/a.csv: missing column StockCode"),
        ("a.csv.gz", GOOD, "uploads/a.csv.gz: not a gzip file, though its name ends with .gz"),
        ("a.csv.gz", gzip.compress(GOOD)[:-9], "uploads/a.csv.gz: the gzip file is damaged or cut off"),
        ("a.csv.gz", gzip.compress(GOOD) + b"rest", "uploads/a.csv.gz: the gzip file is damaged or cut off"),
        ("a.csv.gz", gzip.compress(b""), "uploads/a.csv.gz: the first line is empty"),
        ("a.csv", GOOD + b"3,\xff\n", "uploads/a.csv: not UTF-8 at line 4 (byte 0xff); save it as CSV in UTF-8"),
        ("a.csv", GOOD + b'3,"open\n', "uploads/a.csv: not CSV at line 4"),
        ("a.csv", GOOD + b"3" * (2**20 + 1), "uploads/a.csv: the row at line 4 is longer than 1,048,576 bytes"),
        ("a.csv", b"," * 20_001 + GOOD, "uploads/a.csv: the first line has 20,"),
    ],
    # The content in a test's name would hold the time at which it was packed, another one in each worker.
    ids=count(1),
)
def test_a_file_that_cannot_be_read_to_its_end_fails_for_good_before_anything_is_published(
    shop: Shop, name: str, content: bytes, says: str
) -> None:
    run = shop.run()
    with pytest.raises(Permanent) as error:
        shop.imported(shop.upload(content, name), run, 1)
    assert str(error.value).startswith(says)
    assert shop.bus.taken == []


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("uploads/nowhere.csv", "'uploads/nowhere.csv' is not in the jobs' bucket: upload it first"),
        ("results/1/1/orders.csv", "'results/1/1/orders.csv' is no uploaded file: its key begins with uploads/"),
    ],
)
def test_a_file_that_was_not_uploaded_fails_for_good(shop: Shop, key: str, says: str) -> None:
    with pytest.raises(Permanent, match=says):
        shop.imported(key, shop.run())


def test_a_file_replaced_while_it_is_imported_fails_for_good(shop: Shop) -> None:
    key = shop.upload(lines_of(*(row(str(number)) for number in range(20))), "replaced.csv")
    run = shop.run()

    def replace(step: str) -> None:
        if step == "publish-2":
            shop.upload(GOOD * 30, "replaced.csv")

    run.between = replace
    with pytest.raises(Permanent, match=r"'uploads/replaced.csv' was replaced while it was read: submit the import"):
        shop.imported(key, run, 10)
    assert len(shop.bus.taken) == 10


def test_a_file_with_no_rows_publishes_nothing_and_succeeds(shop: Shop) -> None:
    run = shop.run()
    assert shop.imported(shop.upload(lines_of()), run) == Imported(rows=0, invoices=0, published=0, rejected=0)
    assert run.began == ["open"]


def test_however_large_the_file_the_chunks_fit_into_a_durable_run(
    shop: Shop, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "CHUNKS_AT_MOST", 7)
    run = shop.run()
    shop.imported(shop.upload(made.read_bytes()), run, 1)
    assert len(run.began) <= 1 + 7
    assert len(set(shop.bus.ids)) == 300


@pytest.mark.slow
def test_memory_does_not_grow_with_the_chunks(shop: Shop) -> None:
    def peak(invoices: int) -> int:
        key = shop.upload(lines_of(*(row(str(number)) for number in range(invoices) for _ in range(20))))
        tracemalloc.start()
        try:
            assert shop.imported(key, shop.run(), 200).published == invoices
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def forget(_: object) -> Answer:
        shop.bus.requests.clear()
        return Answer(take=False)

    shop.bus.decide = forget
    try:
        peak(10)
        assert peak(600) < peak(60) + 2_000_000
    finally:
        shop.bus.decide = lambda _: Answer()


def test_the_run_rests_after_every_four_chunks(shop: Shop) -> None:
    run = shop.run()
    shop.imported(shop.upload(lines_of(*(row(str(number)) for number in range(1, 14)))), run, 1)
    assert run.rested == ["rest-1", "rest-2", "rest-3"]


def test_the_submitters_trace_goes_with_the_events(shop: Shop) -> None:
    run = shop.run()
    run.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    shop.imported(shop.upload(GOOD), run)
    assert {detail["traceparent"] for detail in shop.details()} == {run.traceparent}


def test_an_object_of_several_parts_is_what_was_written(shop: Shop) -> None:
    part = 5 * 2**20
    content = bytes(range(256)) * (2 * part // 256) + b"the rest"
    with ObjectWriter(aws.s3(), shop.bucket, "results/parts", "text/plain", part_bytes=part) as writer:
        for start in range(0, len(content), 70_000):
            writer.write(content[start : start + 70_000])
    file = ObjectFile(aws.s3(), shop.bucket, "results/parts", size=len(content), offset=3)
    assert b"".join(blocks_of(file)) == content[3:]


@pytest.mark.parametrize(("broken", "asked"), [(2, 3), (9, 4)])
def test_a_read_that_breaks_off_is_tried_again_and_never_ends_the_file(
    monkeypatch: pytest.MonkeyPatch, broken: int, asked: int
) -> None:
    monkeypatch.setattr(objects, "_READ_PAUSE_SECONDS", 0.001)
    content = bytes(range(256)) * 40

    def behaviour(request: Received) -> Behaviour:
        first, last = (int(number) for number in request.headers["range"].removeprefix("bytes=").split("-"))
        piece = content[first : last + 1]
        sent = piece if len(server.received) > broken else piece[:100]
        return answer(206, sent, length=len(piece))

    with odd_server(by_request(behaviour)) as server:
        client = boto3.client(
            "s3",
            endpoint_url=server.url(""),
            region_name="us-east-1",
            aws_access_key_id="000000000000",
            aws_secret_access_key="test",
        )
        tell("bucket", "OFFLOAD_JOBS_BUCKET")
        file = ObjectFile(client, "bucket", "uploads/key", size=len(content), offset=7)
        if broken < asked:
            assert b"".join(blocks_of(file)) == content[7:]
        else:
            with pytest.raises(BotoCoreError):
                file.read(1000)
    assert len(server.received) == asked


def test_parts_that_cannot_be_given_up_are_told_with_the_error_that_brought_it_there(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = aws.s3()

    def denied(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "AbortMultipartUpload")

    def write() -> None:
        with ObjectWriter(client, shop.bucket, "results/half", "text/plain", part_bytes=5 * 2**20) as writer:
            writer.write(bytes(6 * 2**20))
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(client, "abort_multipart_upload", denied)
        with pytest.raises(Killed) as killed:
            write()
    [left] = client.list_multipart_uploads(Bucket=shop.bucket)["Uploads"]
    client.abort_multipart_upload(Bucket=shop.bucket, Key="results/half", UploadId=left["UploadId"])
    [note] = killed.value.__notes__
    assert note.startswith(
        "the parts of 'results/half' that were sent stay for a day: An error occurred (AccessDenied)"
    )


def test_an_object_whose_writing_failed_is_not_there_and_no_parts_are_left(shop: Shop) -> None:
    def write() -> None:
        with ObjectWriter(aws.s3(), shop.bucket, "results/half", "text/plain", part_bytes=5 * 2**20) as writer:
            writer.write(bytes(6 * 2**20))
            raise Killed

    with pytest.raises(Killed):
        write()
    assert aws.s3().list_objects_v2(Bucket=shop.bucket, Prefix="results/half")["KeyCount"] == 0
    assert aws.s3().list_multipart_uploads(Bucket=shop.bucket).get("Uploads", []) == []
