"""Verification of ed25519 signatures (RFC 8032, 5.1), and nothing else of it.

Pure Python, since a compiled library would be in every receiver's bundle for one sender's sake: docs/adr/0013. All
that goes in is public (key, signature, message), so that it need not take the same time for all of them. Signing would
have to; it is not here.
"""

from __future__ import annotations

from functools import cache, lru_cache
from hashlib import sha512
from typing import Final, TypeAlias

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

# The curve's constants: RFC 8032, 5.1.
_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_1: Final = pow(2, (_P - 1) // 4, _P)
_SIGN: Final = 1 << 255

# Extended homogeneous coordinates: RFC 8032, 5.1.4.
_Point: TypeAlias = tuple[int, int, int, int]
_NEUTRAL: Final[_Point] = (0, 1, 1, 0)
_WINDOW: Final = 4


def verify(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` (64 bytes) is of `message` by the owner of the public `key` (32 bytes).

    As strict as OpenSSL and Go are, and then some: a scalar of the group's order or more, a point that is not written
    in the one way, and a key of small order are refused. The equation is the one without the cofactor.
    """
    if len(signature) != SIGNATURE_BYTES:
        return False
    negative = _table(key)
    scalar = int.from_bytes(signature[32:], "little")
    if negative is None or scalar >= _ORDER:
        return False
    challenge = int.from_bytes(sha512(signature[:32] + key + message).digest(), "little") % _ORDER
    base = _base()
    result = _NEUTRAL
    # Both multiplications at once, four bits a step (Straus).
    for shift in range(252, -1, -_WINDOW):
        for _ in range(_WINDOW):
            result = _double(result)
        result = _add(result, base[scalar >> shift & 15])
        result = _add(result, negative[challenge >> shift & 15])
    # Bytes are compared, not points: so R in another writing than the one is refused too.
    return _written(result) == signature[:32]


def is_key(key: bytes) -> bool:
    """Whether these bytes are a public key by which something can be verified."""
    return _table(key) is not None


@lru_cache(maxsize=16)
def _table(key: bytes) -> tuple[_Point, ...] | None:
    """0 to 15 times the negative of the key's point; None when it is no point, or one of small order."""
    point = _read(key)
    if point is None:
        return None
    eightfold = _double(_double(_double(point)))
    if eightfold[0] == 0:
        return None
    x, y, z, t = point
    return _multiples((_P - x, y, z, _P - t))


@cache
def _base() -> tuple[_Point, ...]:
    base = _read((4 * pow(5, -1, _P) % _P).to_bytes(KEY_BYTES, "little"))
    assert base is not None  # noqa: S101  # the curve's own base point
    return _multiples(base)


def _multiples(point: _Point) -> tuple[_Point, ...]:
    table = [_NEUTRAL]
    for _ in range(15):
        table.append(_add(table[-1], point))
    return tuple(table)


def _add(one: _Point, other: _Point) -> _Point:
    a = (one[1] - one[0]) * (other[1] - other[0]) % _P
    b = (one[1] + one[0]) * (other[1] + other[0]) % _P
    c = 2 * one[3] * other[3] * _D % _P
    d = 2 * one[2] * other[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _double(point: _Point) -> _Point:
    a = point[0] * point[0] % _P
    b = point[1] * point[1] % _P
    h = a + b
    e = h - (point[0] + point[1]) ** 2
    g = a - b
    f = 2 * point[2] * point[2] + g
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _read(written: bytes) -> _Point | None:
    """A point from its 32 bytes (RFC 8032, 5.1.3); None when it is not on the curve, or written in a second way."""
    if len(written) != KEY_BYTES:
        return None
    number = int.from_bytes(written, "little")
    sign, y = number >> 255, number & (_SIGN - 1)
    if y >= _P:
        return None
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
    if (x * x - square) % _P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _written(point: _Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(KEY_BYTES, "little")
