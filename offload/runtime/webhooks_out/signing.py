"""The headers of a delivery: id, time and signatures of Standard Webhooks.

Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md (commit b2fa7b8, read 2026-11-23).
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from datetime import datetime

from nacl.signing import SigningKey


def signed_headers(
    delivery: str, body: bytes, *, now: datetime, secrets: Sequence[bytes], seeds: Sequence[bytes] = ()
) -> dict[str, str]:
    """`webhook-id`, `-timestamp` and `-signature` of a body: a `v1` a secret, and a `v1a` a private key (32 bytes)."""
    seconds = int(now.timestamp())
    content = f"{delivery}.{seconds}.".encode() + body
    signatures = [f"v1,{_text(hmac.digest(secret, content, 'sha256'))}" for secret in secrets]
    signatures += [f"v1a,{_text(SigningKey(seed).sign(content).signature)}" for seed in seeds]
    return {
        "webhook-id": delivery,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(signatures),
    }


def _text(signature: bytes) -> str:
    return base64.b64encode(signature).decode()
