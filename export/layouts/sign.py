"""Signing a bundle where it lies."""

from __future__ import annotations

import shutil
from pathlib import Path

from potstill.contract.bundle import verify_files
from potstill.contract.files import atomic
from potstill.contract.security.signature import sign


def sign_bundle(bundle: Path, private_key: Path) -> None:
    """Write `model.sig` into a bundle; its other files stay as they are.

    Raises:
        FormatError: if it is no bundle, or was changed.
        UserError: if the key cannot be used or the bundle cannot be written; the bundle is then as it was.
    """
    verify_files(bundle)
    with atomic.folder(bundle) as staging:
        shutil.copytree(bundle, staging, dirs_exist_ok=True)
        sign(staging, private_key)
