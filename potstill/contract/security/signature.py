"""Offline signatures of bundles: the public key shows that no file has changed since the folder was signed.

`SHA256SUMS` detects damage. Someone who changes a file can rewrite the sums, but not the signature. It is stored in the bundle as
`model.sig`, in the format of OpenSSF model signing (a sigstore bundle), and made and checked with a key pair, without a network.
"""

from __future__ import annotations

from pathlib import Path

from potstill.contract.errors import FormatError, UserError

SIGNATURE_FILE = "model.sig"


def sign(folder: Path, private_key: Path, password: str | None = None) -> None:
    """Sign every other file of the folder into `model.sig`.

    Args:
        folder: a bundle, or any folder of plain files.
        private_key: an elliptic-curve key (P-256, P-384 or P-521) in PEM.
        password: of the key, if it has one.
    Raises:
        UserError: if the key cannot be read or is of another kind.
    """
    from model_signing import hashing, signing  # needed for signing only

    path = folder / SIGNATURE_FILE
    path.unlink(missing_ok=True)
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=private_key, password=password)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        problem = f"cannot sign with it ({_first_line(error)}); give an elliptic-curve private key in PEM"
        raise UserError(f"{private_key}: {problem}") from error
    every_file = hashing.Config().set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False)
    signer.set_hashing_config(every_file).sign(folder, path)


def check_signature(folder: Path, public_key: Path) -> None:
    """Raise an error unless the folder was signed with the private key of this pair and has not changed since.

    Args:
        folder: a bundle.
        public_key: the signer's elliptic-curve public key in PEM.
    Raises:
        FormatError: if there is no signature, it was made with another key, or a file was changed, added or removed since.
        UserError: if the key cannot be read or is of another kind.
    """
    from cryptography.exceptions import InvalidSignature  # needed for checking only
    from model_signing import hashing, verifying

    path = folder / SIGNATURE_FILE
    if not path.is_file():
        raise FormatError(folder, "", f"is not signed: it has no {SIGNATURE_FILE}; sign it with: potstill sign BUNDLE --key KEY")
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        problem = f"cannot check with it ({_first_line(error)}); give an elliptic-curve public key in PEM"
        raise UserError(f"{public_key}: {problem}") from error
    # the ignored paths are decided here, not by the signature file
    every_file = hashing.Config().set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False)
    try:
        verifier.set_hashing_config(every_file).verify(folder, path)
    except (ValueError, KeyError, IndexError, TypeError, InvalidSignature) as error:
        problem = f"does not match this key and these files ({_first_line(error)}); do not use the bundle"
        raise FormatError(path, "", problem) from error


def _first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip() or type(error).__name__).split("\n")[0]
