"""Files of a repository on the Hugging Face Hub. The only file that imports `huggingface_hub`; loaded by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import HfApi, get_session, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

from saywell.errors import Forbidden, InvalidRequest, Unavailable, UnknownModel
from saywell.hub.weights import Interrupted, RemoteFile, Snapshot

_TIMEOUT_S = 30.0
# The base of everything the HTTP client underneath raises, whichever client this release of the hub library uses.
_TransportError: type[Exception] = HfHubHTTPError.__bases__[0]


class Hub:
    """The hub at `endpoint` (None: HF_ENDPOINT, else huggingface.co), asked with `token` (None: as logged in)."""

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        self._endpoint, self._token = endpoint, token
        self._api = HfApi(endpoint=endpoint, token=token)

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

    def read(self, snapshot: Snapshot, name: str, start: int) -> Iterator[tuple[int, bytes]]:
        """Pieces of a file from byte `start` with their offsets; from 0 if the server cannot start there.

        Raises Interrupted when the connection breaks, else as `snapshot`.
        """
        url = hf_hub_url(snapshot.repo, name, revision=snapshot.commit, endpoint=self._endpoint)
        headers = build_hf_headers(token=self._token)
        headers["Accept-Encoding"] = "identity"
        if start:
            headers["Range"] = f"bytes={start}-"
        with (
            _errors_told(snapshot.repo, snapshot.commit),
            get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=_TIMEOUT_S) as response,
        ):
            hf_raise_for_status(response)
            at = start if response.status_code == 206 else 0
            # As it arrives: gathering larger pieces would lose what a broken connection had brought.
            for piece in response.iter_raw():
                yield at, piece
                at += len(piece)


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
    except _TransportError as error:
        raise Interrupted(f"no connection to the hub ({type(error).__name__}); run it again, it goes on") from None
