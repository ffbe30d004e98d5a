"""An offline signature of a bundle: who holds the public key can tell that no file was changed since it was signed.

`SHA256SUMS` finds damage; whoever changes a file can write the sums anew, but not the signature. It lies in the bundle as
`model.sig`, in the format of the OpenSSF's model signing (a sigstore bundle), made and checked with a key pair, without a network.
"""

from __future__ import annotations

from pathlib import Path

from potstill.contract.errors import FormatError, UserError

SIGNATURE_FILE = "model.sig"


def sign(folder: Path, private_key: Path, password: str | None = None) -> None:
    """Write `model.sig` over every other file of the folder.

    Args:
        folder: a bundle, or any folder of plain files.
        private_key: an elliptic-curve key (P-256, P-384 or P-521) in PEM.
        password: of the key, if it has one.
    Raises:
        UserError: if the key cannot be read or is of another kind.
    """
    from model_signing import hashing, signing  # only who signs needs it

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
    """Refuse a folder that was not signed with the key's other half, or was changed since; says nothing of one that was.

    Args:
        folder: a bundle.
        public_key: the elliptic-curve key in PEM that belongs to the one that signed.
    Raises:
        FormatError: if there is no signature, it is another key's, or a file was changed, added or removed since.
        UserError: if the key cannot be read or is of another kind.
    """
    from cryptography.exceptions import InvalidSignature  # only who checks needs it
    from model_signing import hashing, verifying

    path = folder / SIGNATURE_FILE
    if not path.is_file():
        raise FormatError(folder, "", f"is not signed: it has no {SIGNATURE_FILE}; sign it with: potstill sign BUNDLE --key KEY")
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        problem = f"cannot check with it ({_first_line(error)}); give an elliptic-curve public key in PEM"
        raise UserError(f"{public_key}: {problem}") from error
    # what is left out of the check is decided here, not by the file that is checked
    every_file = hashing.Config().set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False)
    try:
        verifier.set_hashing_config(every_file).verify(folder, path)
    except (ValueError, KeyError, IndexError, TypeError, InvalidSignature) as error:
        problem = f"does not fit this key and these files ({_first_line(error)}); do not use the bundle"
        raise FormatError(path, "", problem) from error


def _first_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return (str(error).strip() or type(error).__name__).split("\n")[0]
