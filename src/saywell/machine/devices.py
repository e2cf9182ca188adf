"""GPUs through NVML and the installed runtimes. Torch is never imported here; an absent driver is a fact."""

from __future__ import annotations

import re
import shutil
import sys
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

from saywell.machine.facts import Gpu, Runtime

NO_PACKAGE = "an NVIDIA driver is here but not the package that asks it (pip install 'saywell[nvidia]')"
NO_DRIVER = "no NVIDIA driver"
PROVIDERS = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "tensorrt",
    "ROCMExecutionProvider": "rocm",
    "MIGraphXExecutionProvider": "rocm",
    "DmlExecutionProvider": "directml",
    "CoreMLExecutionProvider": "coreml",
    "OpenVINOExecutionProvider": "openvino",
    "QNNExecutionProvider": "qnn",
    "XnnpackExecutionProvider": "xnnpack",
}


def read_gpus() -> tuple[tuple[Gpu, ...], str]:
    """NVIDIA GPUs, and why there are none."""
    if util.find_spec("pynvml") is None:
        return (), NO_PACKAGE if _driver_files() else NO_DRIVER
    try:
        nvml = import_module("pynvml")
    except ImportError as error:
        return (), f"the package that asks the NVIDIA driver is damaged ({error})"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return (), f"{NO_DRIVER} answers ({error})" if _driver_files() else NO_DRIVER
    try:
        gpus = tuple(_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
        return gpus, "" if gpus else "the NVIDIA driver lists no GPU"
    except nvml.NVMLError as error:
        return (), f"the NVIDIA driver failed ({error})"
    finally:
        nvml.nvmlShutdown()


def _driver_files() -> bool:
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def _gpu(nvml: Any, index: int) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(device)
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(device)),
        memory=int(nvml.nvmlDeviceGetMemoryInfo(device).total),
        capability=(int(major), int(minor)),
        driver=_text(nvml.nvmlSystemGetDriverVersion()),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def read_runtimes() -> tuple[dict[str, Runtime], dict[str, str]]:
    """What is installed beside this interpreter, with the devices each build can use; and why what is there in part
    cannot be used."""
    found: dict[str, Runtime] = {}
    damaged: dict[str, str] = {}
    for name, read in (("onnxruntime", _onnxruntime), ("torch", _torch), ("openvino", _openvino)):
        try:
            runtime = read()
        except (ImportError, AttributeError, OSError) as error:
            damaged[name] = str(error).strip().partition("\n")[0]
            continue
        if runtime is not None:
            found[name] = runtime
    return found, damaged


def _onnxruntime() -> Runtime | None:
    if util.find_spec("onnxruntime") is None:
        if _plain("onnxruntime") is not None:  # pip takes this for installed
            raise ImportError("its files are gone, its metadata is left")
        return None
    ort = import_module("onnxruntime")  # only the build itself knows its providers; about 30 ms
    devices = [PROVIDERS[name] for name in ort.get_available_providers() if name in PROVIDERS]
    return Runtime(version=ort.__version__, devices=tuple(dict.fromkeys(devices)))


def _torch() -> Runtime | None:
    """From the package's own text: importing it takes seconds and hundreds of megabytes."""
    found = _plain("torch")
    spec = util.find_spec("torch") if found else None
    if found is None or spec is None or spec.origin is None:
        return None
    build = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    built_for = {"cuda": "cuda", "hip": "rocm"}
    devices = ["cpu"]
    devices += [name for key, name in built_for.items() if re.search(rf"^{key}\b[^=]*= '", build, re.MULTILINE)]
    devices += ["mps"] if sys.platform == "darwin" else []
    return Runtime(version=found.version, devices=tuple(devices))


def _openvino() -> Runtime | None:
    return _plain("openvino")


def _plain(package: str) -> Runtime | None:
    try:
        return Runtime(version=metadata.version(package))
    except metadata.PackageNotFoundError:
        return None
