"""Folders of functions of any content: modules that import in every way, data, odd names, links, encodings.

A folder is files by their names in `lambdas/fn`; a file is its bytes, or a Link, or a Special.
"""

from __future__ import annotations

import os
import random
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests import extremes

PASSWORD: Final = "p4ss"
LIBRARY: Final[Mapping[str, bytes]] = {
    "lambdas/__init__.py": b"",
    "offload/runtime/__init__.py": b"VALUE = 'runtime'\n",
    "offload/runtime/shared.py": b"from offload.contracts.events.event import VALUE as OTHER\nVALUE = 'shared'\n",
    "offload/runtime/far.py": b"import importlib\nimportlib.import_module('.shared', __package__)\nVALUE = 'far'\n",
    "offload/runtime/reader.py": (
        b"from pathlib import Path\nVALUE = Path(__file__).with_name('table.csv').read_bytes()\n"
    ),
    "offload/runtime/table.csv": b"a,b\r\n\xff\x00",
    "offload/runtime/unused.csv": b"",
    "offload/contracts/events/event.py": b"from __future__ import annotations\nVALUE = 'event'\n",
}
_MODULES: Final = (
    "a.py", "b.py", "größe.py", "sub/__init__.py", "sub/c.py", "sub/deep/__init__.py", "sub/deep/d.py", "ns/e.py",
    "handlers.py", "json.py", "x_test.py", "test_y.py", "tests/__init__.py", "tests/t.py",
)  # fmt: skip
_THIRD: Final = ("nowhere", "nowhere.at.all", "yaml", "cgi", "distutils.core", "boto3x", "_hidden", "größe")
_STANDARD: Final = ("json", "xml.etree.ElementTree", "os.path", "__future__", "concurrent.futures")
_OF_LIBRARY: Final = (
    'offload.runtime.shared', 'offload.runtime.far', 'offload.runtime.reader', 'offload.contracts.events.event',
    'offload.runtime', 'offload', 'offload.contracts', 'offload.runtime.nowhere', 'offload.nowhere',
    'lambdas.other.handler', 'lambdas',
)  # fmt: skip
_DATA_NAMES: Final = (
    b'table.csv', b'a b.csv', b'\xc3\xbcn\xc3\xaf.csv', b'\xff.csv', b'new\nline.csv', b'quote\'".txt', b'tool',
    b'run.sh', b"a" * 250, b'sub/data.bin', b'data/deep/er/x.json', b'.hidden', b'data/.keep', b'~', b'x~', b'a.pyc',
    b'a.pyi', b'py.typed', b'README.md', b'README', b'requirements-dev.txt', b'sub/README.md', b'tests/data.csv',
    b'sub/test/data.csv', b'__pycache__/a.pyc', b'conftest.py', b'caf\xe9/a.csv', b'-rf', b'$(x)',
    b'\xe2\x80\xae.csv', b'\x1b[31m.csv', b'a.so', b'CON', b'a:b', b'\\',
)  # fmt: skip
_DATA: Final = (
    b"",
    b"a,b\n",
    b"\x00\xff" * 50,
    b"#!/bin/sh\necho\n",
    b"#!",
    b"#",
    b"\x7fELF\x02",
    b"\xef\xbb\xbf#!/bin/sh\n",
)
_REQUIREMENTS: Final = (
    '', '# nothing', '\n\n', 'alone', 'alone==1.0', "alone[more]>=1 ; python_version < '3'", 'alone=1.0',
    '-r other.txt', '\x00', 'https://user:p4ss@host/alone-1.0.whl', 'alone @ https://user:p4ss@host/a.whl',
    'git+https://p4ss@host/alone.git', '--index-url https://us@er:p4ss@host/simple',
    '--extra-index-url=https://:p4ss@host/simple', '-i https://host/?key=p4ss&a=p4ss',
    "alone@https://us'er:p4ss@host/a.whl", 'git+ssh://git:p4ss@host/a.git',
    'https://host/a.whl?a=b&token=p4ss#sha256=00', 'https://u:p4ss@host:8080/a\u2028b', 'alone --hash=sha256:00',
    "--find-links 'https://u:p4ss@host/'", 'alone @ "https://u:p4ss@host/a"', 'https://u:%70p4ss@[::1]/a',
    'HTTPS://U:p4ss@HOST/', 'https://u:p4ss!$&()*+,;=@host/a', "https://host/a?x='p4ss",
    'https://host/a?x=y;token=p4ss', 'svn+https://u:p4ss@host/a@trunk', 'alone # https://u:p4ss@host/',
)  # fmt: skip
_ENCODINGS: Final = ("utf-8",) * 30 + ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7")
_COOKIES: Final = ("",) * 20 + (
    "utf-8",
    "latin-1",
    "cp1252",
    "utf-16",
    "nonsense",
    "rot13",
    "utf-8-sig",
    "punycode",
    "idna",
)


@dataclass(frozen=True)
class Link:
    """A symbolic link to this."""

    to: str


@dataclass(frozen=True)
class Special:
    """A named pipe, or an empty folder."""

    kind: str


Folder = dict[bytes, "bytes | Link | Special"]


def a_folder(chance: random.Random) -> Folder:
    """One, of any kind."""
    names = ["handler.py", *chance.sample(_MODULES, chance.choice((0, 1, 2, 4)))]
    found: Folder = {name.encode(): _a_module(name, names, chance) for name in names}
    for name in chance.sample(_DATA_NAMES, chance.choice((0, 0, 1, 3))):
        if chance.random() < 0.6 or name.isascii():
            found[name] = chance.choice(_DATA)
    if chance.random() < 0.1:
        lines = chance.sample(_REQUIREMENTS, chance.choice((1, 2)))
        found[b"requirements.txt"] = "\n".join(lines).encode(chance.choice(_ENCODINGS[-20:]), "replace")
    if chance.random() < 0.08:
        at = chance.choice((b"link", b"link.py", b"sub/link.csv", b"requirements.txt", b"handler.py", b"data"))
        to = chance.choice(
            ("gone", "handler.py", "link", ".", "..", "/dev/null", "a.py", "/", "sub", "link.py", "\n", "p" * 200)
        )
        found[at] = Link(to)
    if chance.random() < 0.02:
        found[chance.choice((b"pipe", b"sub/pipe.py"))] = Special("pipe")
    if chance.random() < 0.05:
        found[chance.choice((b"empty", b"sub/empty", b"a.py.d", b"tests", b"empty.py"))] = Special("folder")
    if chance.random() < 0.02:
        del found[chance.choice(list(found))]
    return found


def _a_module(name: str, names: list[str], chance: random.Random) -> bytes:
    lines = ["from __future__ import annotations"] if chance.random() < 0.3 else []
    for number in range(chance.choice((0, 1, 2, 3))):
        lines += _an_import(name, names, number, chance).splitlines()
    lines.append(f"VALUE = {name!r}")
    if chance.random() < 0.15:
        lines.append(f"TEXT = {str(chance.choice(extremes.TEXTS))[:2_000]!a}")
    if chance.random() < 0.1:
        lines.append("from pathlib import Path\nDATA = (Path(__file__).parent / 'table.csv').exists()")
    if name == "handler.py" and chance.random() < 0.97:
        lines.append(
            chance.choice(("def handler(event, context):\n    return VALUE", "handler = print", "handler: object = 1"))
        )
    if chance.random() < 0.03:
        lines.append(chance.choice(_LARGE)(chance.choice((50, 900, 1_500, 20_000))))
    if chance.random() < 0.02:
        lines.append(chance.choice(_BROKEN))
    cookie = chance.choice(_COOKIES)
    if cookie:
        lines.insert(0, f"# -*- coding: {cookie} -*-")
    if chance.random() < 0.1:
        lines.append("# Müller ☃" if chance.random() < 0.5 else "UMLAUT = 'Müller'")
    newline = chance.choice(("\n",) * 8 + ("\r\n", "\r"))
    content = (newline.join("\n".join(lines).split("\n")) + newline).encode(chance.choice(_ENCODINGS), errors="replace")
    if chance.random() < 0.01:
        at = chance.randrange(len(content))
        content = (
            content[:at] + chance.choice((b"\x00", b"\xff", b"\x0c", b"\t", b"\\", b"\xef\xbb\xbf")) + content[at:]
        )
    return content


_LARGE: Final = (
    lambda size: "SUM = " + " + ".join(["1"] * size),
    lambda size: "TEXT = (" + " +\n ".join(["'a'"] * size) + ")",
    lambda size: (
        "if not VALUE:\n    pass\n" + "".join(f"elif VALUE == {number}:\n    pass\n" for number in range(size))
    ),
    lambda size: "DEEP = " + "[" * min(size, 150) + "]" * min(size, 150),
    lambda size: "MINUS = " + "-" * size + "1",
    lambda size: "CALL = VALUE" + ".strip()" * size,
    lambda size: "LIST = [" + "1, " * size + "]",
)
_BROKEN: Final = (
    'def broken(:', "print 'two'", 'x = (', "'''", '\tx = 1\n  y = 2', 'return 1', 'yield', 'await x', 'x = 0777',
    'match x:\n    case 1: pass', 'class A: import b', 'from . import *', 'import .a', "f'{'", "x = '\\N{nothing}'",
    'raise OSError', 'assert False', '1/0', 'lambda: (yield)', 'nonlocal x', 'global VALUE',
    'async def f(): import json', '*a = 1',
)  # fmt: skip


def _an_import(name: str, names: list[str], number: int, chance: random.Random) -> str:
    """One way of importing something, and of what it may depend on."""
    parts = Path(name).parent.parts
    kind = chance.random()
    if kind < 0.5 and len(names) > 1:
        other = chance.choice(
            [each for each in names if each != name] + ["missing.py"] * (chance.random() < 0.1) or [name]
        )
        module = ".".join(Path(other).with_suffix("").parts).removesuffix(".__init__")
        up = "." * (len(parts) + 1)
        absolute = f"lambdas.fn.{module}"
        line = chance.choice(
            (
                f"from {up}{module} import VALUE as v{number}",
                f"from {absolute} import VALUE as v{number}",
                f"import {absolute} as m{number}\nv{number} = m{number}.VALUE",
                f"from {up}{module} import *",
                f"from {up} import {module.partition('.')[0]} as m{number}",
                f"from lambdas.fn import {module.partition('.')[0]}",
                f"import importlib\nv{number} = importlib.import_module('{up}{module}', __package__).VALUE",
                f"from importlib import import_module as load\nv{number} = load({absolute!r}).VALUE",
                f"__import__({absolute!r})",
            )
        )
    elif kind < 0.8:
        absolute = chance.choice(_OF_LIBRARY)
        line = chance.choice(
            (
                f"import {absolute}",
                f"import {absolute} as m{number}",
                f"from {absolute} import VALUE as v{number}",
                f"from {absolute.rpartition('.')[0] or absolute} import {absolute.rpartition('.')[2]} as m{number}",
                f"import importlib as i\nv{number} = i.import_module(name={absolute!r}).__name__",
            )
        )
    else:
        absolute = chance.choice((*_STANDARD, *_THIRD))
        line = chance.choice((f"import {absolute}", f"import {absolute} as m{number}", f"__import__({absolute!r})"))
    inner = textwrap.indent(line, "    ")
    return chance.choice(
        (
            line,
            line,
            line,
            f"try:\n{inner}\nexcept ImportError:\n    e{number} = True",
            f"try:\n{inner}\nexcept (ModuleNotFoundError, AttributeError) as e:\n    e{number} = type(e).__name__",
            f"try:\n{inner}\nfinally:\n    f{number} = True",
            f"from contextlib import suppress\nwith suppress(ImportError):\n{inner}",
            f"from importlib.util import find_spec\nif find_spec({absolute.partition('.')[0]!r}):\n{inner}",
            f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n{inner}",
            f"import sys\nif sys.version_info >= (3, 8):\n{inner}\nelse:\n    import nowhere",
            f"import sys\nif sys.platform == 'win32':\n{inner}",
            f"def f{number}():\n{textwrap.indent(line.replace(' import *', ' import VALUE'), '    ')}\n\nf{number}()",
            f"class C{number}:\n{inner.replace(' import *', ' import VALUE')}",
            f"if True:\n{inner}",
            f"while False:\n{inner}",
        )
    )


def written(folder: Folder, into: Path) -> None:
    """Writes a folder; what cannot be beside another (a file where a folder is) is left out."""
    for name, content in folder.items():
        path = os.path.join(os.fsencode(into), name)  # noqa: PTH118 -- a name of bytes
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 -- a name of bytes
            if isinstance(content, Special):
                os.mkfifo(path) if content.kind == "pipe" else os.makedirs(path, exist_ok=True)  # noqa: PTH103
            elif isinstance(content, Link):
                if os.path.lexists(path):
                    os.unlink(path)  # noqa: PTH108 -- a name of bytes
                os.symlink(content.to, path)  # noqa: PTH211 -- a name of bytes
            else:
                with open(path, "wb") as file:  # noqa: PTH123 -- a name of bytes
                    file.write(content)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
