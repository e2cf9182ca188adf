"""The PyPI package hibari-tts: its data files, each verified by its digest, and its phonemiser.

Its synthesis, text normalisation and downloads are never imported. `hibari/__init__.py` would import them, so the
phonemiser's folder is imported as a package of its own.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from saywell.errors import MissingDependency
from saywell.files import Damaged, read_plain

find = PathFinder.find_spec
"""Finds a package without importing it."""
VERSION = "0.2.1"
MAX_BYTES = 64 << 20
INSTALL = f"pip install hibari-tts=={VERSION}"
"""The command, in the Python environment of this program."""
G2P = "g2p"
DIGESTS = {
    "assets/hibari.onnx": "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8",
    "assets/vocab.json": "70abefbe8a1c8865e43e0a43bbdc25b91a33e4aa053479d443ccf23e20a59e5d",
    "assets/normalize.json": "d478ff05404bc43ac3e0468e306674e51085f1b1afc94cdef7c7ea4fb0d56bd8",
    "assets/tagger.json.gz": "d2da7502284bbbe45d49e0b7ce3ce67bdab82254150f4317f1b8559b4d38d0eb",
    "assets/tokenizer_exceptions.json": "ddf3a3da07bdcf5144270ea4530191d8580fb4fd6f5ae93296e87916e795659a",
    "assets/lexicon_us_gold.json.gz": "63ae94f8ef0e906d5b24fe9b59ffcbd1529aca5686a774610e43973cbaa86ad2",
    "assets/lexicon_us_silver.json.gz": "c4c2546ebf1eb07010331e7ef785a431aa17ba8e7bfb6b4af8d654ee96a71fd3",
    "assets/oov.json": "b462e6e5dbdf0e7346c732385d0dd844f612f1770871441c56932bff4ca75d8c",
    "assets/oov.onnx": "d3cfd8122c5f172a98c8de38268bf1213ee09f2c2ae4df6e055fc6532590fe76",
    "assets/lexicon_gb_gold.json.gz": "66e675f23eb007d6707d23fe6603ba5e19f3513aefe42e3c8cd6c078a85f2ce0",
    "assets/lexicon_gb_silver.json.gz": "637f887dd557d193af8c106f5c26624850db3e7bf0ec751ba917aac6d75e948d",
    "assets/oov_gb.json": "e29077fc3548f08f2fab82a87e03309f614658d91d0ba464e653265e9a4d0cad",
    "assets/oov_gb.onnx": "0997e3219543247de5646078d770f8ca77011d8fd0abb29fe48d12c60f53e9e1",
    "g2p/__init__.py": "f669aa51bd10066de09e2aa1f01f8e26f4515ff8aa474c8892e8ce0092e8ac18",
    "g2p/lexicon.py": "7108870d373d37366da06b89456613bfe6133cb1d29edf37c682ec809d3dfb31",
    "g2p/normalize.py": "6d479f80a2dc6360c79d52abcc7ac666644e43f3db0b03e5975e02707d51a06a",
    "g2p/numbers.py": "ce4dbfcdd83b2e54597b520918289c81aabd6e5af0036c46908ee02a2ebfba05",
    "g2p/oov.py": "72da9972f5ec6c701519822acb0802f258d60d23fa6e2a54b69580e3437935f0",
    "g2p/tagger.py": "4039365681ea584a9a52bf80685a42a19d46783fa50251cac9c1b92427c25e31",
    "g2p/token.py": "2a46404a6a2a1ae6b6fcabd5ceb171de519ba1a5cbc257aa81f1e2d5cc0ee7a5",
    "g2p/tokenize.py": "256e4b02bbf38612ab38a0818b2950ad6aaa319a86f9e6af1b66be71812ad424",
}
"""SHA-256 of the files that are read or run. Another release may retrain the voice or rename tensors."""


def home() -> Path:
    """Folder of the installed package, without importing it. Raises MissingDependency."""
    spec = find("hibari")
    if spec is None or spec.origin is None:
        raise MissingDependency(f"the voice heart needs the package hibari-tts, which is not installed: {INSTALL}")
    return Path(spec.origin).parent


def problem() -> str:
    """Why the package cannot be used, without reading its files; empty: it can."""
    try:
        folder = home()
        missing = next((name for name in DIGESTS if not (folder / name).is_file()), None)
    except MissingDependency as error:
        return error.message
    return _wrong_version(missing) if missing else ""


def read(name: str) -> bytes:
    """A file of the package, verified, and unpacked if its name ends with .gz. Raises MissingDependency."""
    try:
        data = read_plain(home() / name, MAX_BYTES, links=True)
    except (OSError, Damaged):
        raise MissingDependency(_wrong_version(name)) from None
    if hashlib.sha256(data).hexdigest() != DIGESTS[name]:
        raise MissingDependency(_wrong_version(name))
    return gzip.decompress(data) if name.endswith(".gz") else data


def _wrong_version(name: str) -> str:
    problem = f"the installed hibari-tts is not version {VERSION}, which this program was tested with"
    return f"{problem} ({name} differs): {INSTALL}"


@cache
def g2p() -> Any:
    """The package's phonemiser, as a module. Raises MissingDependency."""
    for name in DIGESTS:
        if name.startswith(G2P):
            read(name)
    folder = home() / G2P
    name = f"{__package__}.{G2P}"
    spec = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # its modules import each other relative to this name
    spec.loader.exec_module(module)
    return module
