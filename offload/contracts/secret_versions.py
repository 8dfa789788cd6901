"""Labels of a secret's versions in Secrets Manager, which moves the second when the first is moved.

(secretsmanager/latest/apireference/API_UpdateSecretVersionStage.html, read 2026-11-28.)
"""

from __future__ import annotations

from typing import Final

CURRENT: Final = "AWSCURRENT"
PREVIOUS: Final = "AWSPREVIOUS"
