"""Answers of HTTP/1.1 of any bytes: right ones, wrong ones in one place, and what is none at all."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, Literal, cast

from tests import extremes
from tests.wires import Script

_STATUSES: Final = (200, 200, 200, 201, 202, 204, 205, 206, 226, 299, 300, 301, 302, 304, 307, 400, 401, 404, 408, 409,
                    410, 425, 429, 429, 431, 500, 502, 503, 503, 504, 599)  # fmt: skip
_ODD_STATUSES: Final = (b"099", b"100", b"101", b"103", b"199", b"600", b"999", b"1000", b"-1", b"2", b"20", b"2 0",
                        b"", b"abc", b"0200", b"200.0", b"2\x000", "٢٠٠".encode(), b"+200", b"200,200")  # fmt: skip
_VERSIONS: Final = (b"HTTP/1.0", b"HTTP/2", b"HTTP/0.9", b"HTTP/1.2", b"http/1.1", b"ICY", b"HTTP/1.1\t", b"", b"\x00",
                    b"HTTP/1.1 HTTP/1.1", b"\x15\x03\x01", b"SSH-2.0-x")  # fmt: skip
_LENGTHS: Final = (b"-1", b"+5", b"5,5", b"5, 6", b"0x5", b" 5 ", b"", b"5 5", b"9" * 30, b"1e3", b"\xd9\xa5", b"0",
                   b"5\x00", b"18446744073709551616", b"NaN", b"5;5")  # fmt: skip
_CODINGS: Final = (b"chunked", b"Chunked", b"gzip, chunked", b"chunked, gzip", b"identity", b"xchunked",
                   b"chunked, chunked", b"", b"\x0bchunked", b'"chunked"', b"chunked;q=1")  # fmt: skip
_WAITS: Final = (b"0", b"1", b"-1", b"120", b"21600", b"21601", b"999999999", b"9" * 400, b"1.5", b"1e9",
                 b"NaN", b"soon", b"Fri, 27 Nov 2026 12:00:00 GMT",
                 b"Sat, 28 Nov 2026 11:59:60 GMT", b"Fri, 31 Dec 9999 23:59:59 GMT",
                 b"Mon, 01 Jan 0001 00:00:00 GMT", b"Friday, 27-Nov-26 23:00:00 GMT", b"Fri Nov 27 14:00:00 2026",
                 b"Fri, 30 Feb 2027 12:00:00 GMT", b"Mon, 01 Jan 0000 00:00:00 GMT", b"\xd9\xa5", b"1, 2", b" 5 ",
                 b"Fri, 27 Nov 2026 25:00:00 GMT")  # fmt: skip
_PLACES: Final = (b"/e/other", b"//", b"http://[", b"http://[::1", b"http://127.0.0.1:99999/", b"http://169.254.169.254/",
                  b"javascript:1", b"http://\x80", b"?a=b", b"#", b"", b"..", b"http://a]b/", b"/" * 3000, b"//[x]/",
                  b"https://user:p4ss@127.0.0.1/", b"/\xe9", b"http://127.0.0.1:/", b"///[", b"http:///")  # fmt: skip
_NAMES: Final = (b"", b"a b", b"a ", b" a", b"a\x00", b"\xe9", b"a\x7f", b"(a)", b":", b"\t", b"a" * 5_000)
_SIZES: Final = (b"-1", b"0x5", b"", b" 5", b"5 ", b"5;a=b", b"5;\x00", b"ffffffffffffffff", b"f" * 40, b"5\x00", b"g",
                 b"5,5", b"00000000000000000000005", b"5;" + b"x" * 5_000)  # fmt: skip
_LEFT_OVER: Final = (
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\x00",
    b"x",
    b"0\r\n\r\n",
    b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother",
    b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
)
_FLOODS: Final = (*[1, 2, 30] * 10, 3_000)


@dataclass(frozen=True)
class OddAnswer:
    """What came; `known` says whether the rest of this is.

    `status` is the one of a head that is right and all there, `whole` the body of which framing and end are right.
    """

    script: Script
    known: bool
    status: int | None = None
    whole: bytes | None = None

    @property
    def content(self) -> bytes:
        """All of its bytes."""
        return b"".join(self.script.pieces)


def an_answer(chance: random.Random, echoed: bytes) -> OddAnswer:
    """One, of any kind; where it sends back what it got, that is `echoed`."""
    return _right(chance, echoed) if chance.random() < 0.35 else _odd(chance, echoed)


def _right(chance: random.Random, echoed: bytes) -> OddAnswer:
    """An answer whose head is right, with a body that is short, long or right, cut off anywhere."""
    status = chance.choice(_STATUSES)
    body = _a_body(chance, echoed)
    lines = [b"HTTP/1.1 %d %s" % (status, chance.choice((b"OK", b"", b"Not " + echoed)))]
    if chance.random() < 0.5:
        lines.append(b"Retry-After: " + chance.choice(_WAITS))
    if 300 <= status < 400 and chance.random() < 0.7:
        lines.append(b"Location: " + chance.choice(_PLACES))
    if chance.random() < 0.1:
        lines.append(b"webhook-retry: " + chance.choice((b"no", b"No", b"yes", b"")))
    if chance.random() < 0.2:
        lines.append(b"X-Sent: " + echoed)
    bodiless = status in (204, 304)
    framing = "none" if bodiless else chance.choice(("length", "length", "chunked", "close"))
    sent = b""
    if framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
        sent = body
    elif framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        sent = _chunked(body, chance)
    elif framing == "close":
        lines.append(b"Connection: close")
        sent = body
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    before = _before(chance)
    content = before + head + sent
    cut = chance.random() < 0.4
    at = chance.randrange(len(content)) if cut else len(content)
    end = "closed" if cut or framing == "close" else chance.choice(("open", "open", "closed"))
    there = at >= len(before) + len(head)
    whole = body if not cut and not bodiless else b"" if not cut else None
    # Where the end of the connection is that of the body, nobody can tell that it was cut.
    if cut and there and framing == "close":
        whole = sent[: at - len(before) - len(head)]
    if cut and there and framing == "length" and at == len(content):
        whole = body
    if cut and there and bodiless:
        whole = b""
    return OddAnswer(_script(content[:at], end, chance), True, status if there else None, whole if there else None)


def _odd(chance: random.Random, echoed: bytes) -> OddAnswer:
    """An answer that is wrong in some places: in its head, its framing, its body, its bytes."""
    if chance.random() < 0.05:
        content = chance.choice(
            (b"", chance.randbytes(chance.choice((1, 20, 3_000))), b"\x00" * 200_000, b"A" * 200_000)
        )
        return OddAnswer(_script(content, chance.choice(("open", "closed", "reset")), chance), False)
    version = chance.choice(_VERSIONS) if chance.random() < 0.1 else b"HTTP/1.1"
    status = chance.choice(_ODD_STATUSES) if chance.random() < 0.1 else b"%d" % chance.choice(_STATUSES)
    reason = (
        chance.choice((b"OK", b"", echoed, b"\x00", b"\xff\xfe", b"a" * 3_000, b"\x1b[31m"))
        if chance.random() < 0.3
        else b"OK"
    )
    body = _a_body(chance, echoed)
    lines = [_a_line(chance, echoed, body) for _ in range(chance.choice((0, 1, 2, 3, 5)))]
    if chance.random() < 0.02:
        lines += [b"X-Many: %d" % number for number in range(chance.choice((40, 300, 6_000)))]
    newline = b"\n" if chance.random() < 0.05 else b"\r\n"
    content = _before(chance) + newline.join([version + b" " + status + b" " + reason, *lines, b"", b""])
    if chance.random() < 0.8:
        content += body if chance.random() < 0.6 else _chunked(body, chance)
    if chance.random() < 0.2:
        content += chance.choice(_LEFT_OVER)
    if chance.random() < 0.3:
        content = _changed(content, chance)
    return OddAnswer(_script(content, chance.choice(("open", "closed", "closed", "reset")), chance), False)


def _a_line(chance: random.Random, echoed: bytes, body: bytes) -> bytes:
    text = str(chance.choice(extremes.TEXTS))[:20_000].encode(chance.choice(("utf-8", "utf-16")), "surrogatepass")
    match chance.randrange(14):
        case 0 | 1:
            return b"Content-Length: %d" % max(0, len(body) + chance.choice((0, 0, 0, -1, 1, 5, 10**6)))
        case 2:
            return b"Content-Length: " + chance.choice(_LENGTHS)
        case 3 | 4:
            return b"Transfer-Encoding: " + chance.choice(_CODINGS)
        case 5 | 6:
            return b"Retry-After: " + chance.choice((*_WAITS, text))
        case 7:
            return b"webhook-retry: " + chance.choice((b"no", b"NO ", b"\tno", b"yes", b"no, no", b"", text))
        case 8:
            return b"Location: " + chance.choice((*_PLACES, text))
        case 9:
            return b"Connection: " + chance.choice((b"close", b"keep-alive", b"upgrade", b"\x00", b"close, close"))
        case 10:
            # Folded, without a colon, with a name that is none.
            folded = b"X-Folded: a\r\n" + chance.choice((b" b", b"\tb", b" ", b" " + echoed))
            return chance.choice((folded, b"no colon", chance.choice(_NAMES) + b": 1", b" X-First: folded", echoed))
        case 11:
            return b"X-Sent: " + echoed
        case 12:
            return chance.choice((echoed.split()[-1], b"X")) + b": " + chance.choice((echoed, b"", b"a" * 110_000))
        case _:
            return b"X-Text: " + text


def _a_body(chance: random.Random, echoed: bytes) -> bytes:
    match chance.randrange(8):
        case 0 | 1:
            return b""
        case 2 | 3:
            return b"{}" * chance.choice((1, 10, 700))
        case 4:
            return chance.randbytes(chance.choice((1, 100, 1_100, 70_000)))
        case 5:
            # What is kept of a body ends within it, or within what it sends back.
            return b"x" * chance.randrange(900, 1_100) + echoed * chance.choice((1, 5, 60))
        case 6:
            return echoed * chance.choice((1, 2, 20, 400)) + b"y" * chance.randrange(40)
        case _:
            return str(chance.choice(extremes.TEXTS))[:3_000].encode(errors="surrogatepass")


def _before(chance: random.Random) -> bytes:
    if chance.random() < 0.85:
        return b""
    if chance.random() < 0.4:
        return b"\r\n" * chance.choice((1, 2, 50))
    interim = chance.choice((b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n"))
    return interim * chance.choice(_FLOODS)


def _chunked(body: bytes, chance: random.Random) -> bytes:
    """The body in chunks."""
    made, left = b"", body
    while left:
        size = chance.randint(1, max(1, min(len(left), 5_000)))
        made += b"%x\r\n%s\r\n" % (size, left[:size])
        left = left[size:]
    return made + b"0\r\n" + chance.choice((b"", b"", b"X-Trailer: 1\r\n")) + b"\r\n"


def _changed(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    match chance.randrange(6):
        case 0 | 1:
            return content[:at]
        case 2:
            return content[:at] + chance.choice((b"\r", b"\n", b"\r\n", b"\x00", b":", b" ", *_SIZES)) + content[at:]
        case 3:
            return content[:at] + content[at + chance.randint(1, 5) :]
        case 4:
            return content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :]
        case _:
            return content.replace(
                b"0\r\n\r\n", chance.choice((b"0\r\n", b"00\r\n\r\n", b"0\r\nA:\x00\r\n\r\n", b"-0\r\n\r\n"))
            )


def _script(content: bytes, end: str, chance: random.Random) -> Script:
    """The content in pieces of any length."""
    cuts = sorted(chance.randrange(len(content) + 1) for _ in range(chance.choice((0, 0, 1, 4))))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    if len(content) < 300 and chance.random() < 0.1:
        pieces = [content[at : at + 1] for at in range(len(content))]
    return Script(tuple(piece for piece in pieces if piece), cast(Literal["open", "closed", "reset"], end))
