"""Files of a repository on the Hugging Face Hub. The only file that imports `huggingface_hub`; loaded by name."""

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
"""Bytes asked for at once: what an interruption loses at most."""
# The base of what the HTTP client raises; which client it is has changed between releases of the hub library.
_TransportError: type[Exception] = next(base for base in HfHubHTTPError.__bases__ if base is not OSError)


class Hub:
    """The hub at `endpoint` (None: HF_ENDPOINT, else huggingface.co), asked with `token` (None: as logged in)."""

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        self._api = HfApi(endpoint=endpoint, token=token)
        self._files = HfFileSystem(endpoint=endpoint, token=token, skip_instance_cache=True)

    def snapshot(self, repo: str, revision: str) -> Snapshot:
        """What a branch, tag or commit is now. Raises UnknownModel, InvalidRequest, Forbidden, Unavailable."""
        with _errors_told(repo, revision):
            info = self._api.model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
        files = {
            each.rfilename: RemoteFile(each.size, each.lfs.sha256 if each.lfs else None, each.blob_id)
            for each in info.siblings or ()
            if each.size is not None and each.blob_id is not None
        }
        if info.sha is None:
            raise Unavailable(f"the hub names no commit for {repo} at {revision}")
        return Snapshot(repo, info.sha, files)

    def read(self, snapshot: Snapshot, name: str, start: int) -> Iterator[bytes]:
        """A file from byte `start`, piece by piece; a broken connection is taken up again a few times.

        Raises Interrupted if that does not help, else as `snapshot`.
        """
        place, size = f"{snapshot.repo}@{snapshot.commit}/{name}", snapshot.files[name].size
        with (
            _errors_told(snapshot.repo, snapshot.commit),
            self._files.open(place, "rb", block_size=_PIECE, cache_type="none") as file,
        ):
            for at in range(start, size, _PIECE):
                file.seek(at)
                yield file.read(min(_PIECE, size - at))


@contextmanager
def _errors_told(repo: str, revision: str) -> Iterator[None]:
    """What the hub library raises, as what it means for the user. The token is in none of it."""
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
        raise UnknownModel(f"{repo} is not on the hub, or the token may not see it", param="model") from None
    except HFValidationError as error:
        raise InvalidRequest(f"not a repository or revision: {error}", param="revision") from None
    except OfflineModeIsEnabled:
        raise Unavailable("HF_HUB_OFFLINE is set, so nothing can be fetched") from None
    except HfHubHTTPError as error:
        raise Unavailable(f"the hub answered with status {error.response.status_code} for {repo}") from None
    except FileNotFoundError:
        raise Unavailable(f"the hub no longer gives {repo} at {revision}; run it again") from None
    except _TransportError as error:
        raise Interrupted(f"no connection to the hub ({type(error).__name__}); run it again, it goes on") from None
