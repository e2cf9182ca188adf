"""Files of a repository on the Hugging Face Hub. The only module that imports `huggingface_hub`; loaded by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from saywell.errors import Forbidden, InvalidRequest, Unavailable, UnknownModel
from saywell.hub.weights import Interrupted, RemoteFile, Snapshot

_TIMEOUT_S = 30.0
_PIECE = 16 << 20
"""Bytes of one request, and thus the most an interruption loses."""
# The base class of the HTTP client's errors; the client differs between releases of huggingface_hub.
_TransportError: type[Exception] = next(base for base in HfHubHTTPError.__bases__ if base is not OSError)


class Hub:
    """The hub at `endpoint` (None: HF_ENDPOINT, else huggingface.co), with `token` (None: that of the login)."""

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        self._api = HfApi(endpoint=endpoint, token=token)
        self._files = HfFileSystem(endpoint=endpoint, token=token, skip_instance_cache=True)

    def snapshot(self, repo: str, revision: str) -> Snapshot:
        """Resolve a branch, tag or commit. Raises UnknownModel, InvalidRequest, Forbidden, Unavailable."""
        with _translated_errors(repo, revision):
            info = self._api.model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
        files = {
            file.rfilename: RemoteFile(file.size, file.lfs.sha256 if file.lfs else None, file.blob_id)
            for file in info.siblings or ()
            if file.size is not None and file.blob_id is not None
        }
        if info.sha is None:
            raise Unavailable(f"the hub reports no commit for {repo} at {revision}")
        return Snapshot(repo, info.sha, files)

    def read(self, snapshot: Snapshot, name: str, start: int) -> Iterator[bytes]:
        """A file from byte `start`, in pieces; huggingface_hub retries a broken connection.

        Raises Interrupted if the retries fail, and errors as `snapshot`.
        """
        path, size = f"{snapshot.repo}@{snapshot.commit}/{name}", snapshot.files[name].size
        with (
            _translated_errors(snapshot.repo, snapshot.commit),
            self._files.open(path, "rb", block_size=_PIECE, cache_type="none") as file,
        ):
            for offset in range(start, size, _PIECE):
                file.seek(offset)
                yield file.read(min(_PIECE, size - offset))


@contextmanager
def _translated_errors(repo: str, revision: str) -> Iterator[None]:
    """Translate errors of huggingface_hub for users. No message contains the token."""
    try:
        yield
    except GatedRepoError:
        raise Forbidden(
            f"{repo} is gated: ask for access at https://huggingface.co/{repo}, then log in with `hf auth login` "
            "or set HF_TOKEN",
            param="token",
        ) from None
    except RevisionNotFoundError:
        raise InvalidRequest(f"{repo} has no revision {revision!r}", param="revision") from None
    except RepositoryNotFoundError:
        raise UnknownModel(f"{repo} is not on the hub, or the token has no access to it", param="model") from None
    except HFValidationError as error:
        raise InvalidRequest(f"not a repository or revision: {error}", param="revision") from None
    except OfflineModeIsEnabled:
        raise Unavailable("HF_HUB_OFFLINE is set; unset it to download") from None
    except HfHubHTTPError as error:
        raise Unavailable(f"the hub answered with status {error.response.status_code} for {repo}") from None
    except FileNotFoundError:
        raise Unavailable(f"the hub no longer has the files of {repo} at {revision}; run it again") from None
    except _TransportError as error:
        raise Interrupted(f"no connection to the hub ({type(error).__name__}); run it again to continue") from None
