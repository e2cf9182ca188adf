"""NVIDIA GPUs and installed runtimes. Torch is never imported here, and a missing driver is a fact, not an error."""

from __future__ import annotations

import re
import sys
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

from saywell.machine.facts import Gpu, Runtime
from saywell.machine.sensors.nvidia import close_nvml, decoded, open_nvml

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
    """NVIDIA GPUs, or the reason why there are none."""
    nvml, note = open_nvml()
    if nvml is None:
        return (), note
    try:
        gpus = tuple(_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
        return gpus, "" if gpus else "the NVIDIA driver lists no GPU"
    except nvml.NVMLError as error:
        return (), f"the NVIDIA driver failed ({error})"
    finally:
        close_nvml(nvml)


def _gpu(nvml: Any, index: int) -> Gpu:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(device)
    return Gpu(
        name=decoded(nvml.nvmlDeviceGetName(device)),
        memory=int(nvml.nvmlDeviceGetMemoryInfo(device).total),
        capability=(int(major), int(minor)),
        driver=decoded(nvml.nvmlSystemGetDriverVersion()),
    )


def read_runtimes() -> tuple[dict[str, Runtime], dict[str, str]]:
    """Installed runtimes with the devices each build supports, and packages that cannot be used with the reason."""
    usable: dict[str, Runtime] = {}
    damaged: dict[str, str] = {}
    for name, read in (("onnxruntime", _onnxruntime), ("torch", _torch), ("openvino", _openvino)):
        try:
            runtime = read()
        except (ImportError, AttributeError, OSError) as error:
            damaged[name] = str(error).strip().partition("\n")[0]
            continue
        if runtime is not None:
            usable[name] = runtime
    return usable, damaged


def _onnxruntime() -> Runtime | None:
    if util.find_spec("onnxruntime") is None:
        if _from_metadata("onnxruntime") is not None:  # pip considers it installed
            raise ImportError("its files are missing, only its metadata is left")
        return None
    ort = import_module("onnxruntime")  # only the build itself lists its providers; about 30 ms
    devices = [PROVIDERS[name] for name in ort.get_available_providers() if name in PROVIDERS]
    return Runtime(version=ort.__version__, devices=tuple(dict.fromkeys(devices)))


def _torch() -> Runtime | None:
    """From the text of its version.py: importing torch takes seconds and hundreds of megabytes."""
    installed = _from_metadata("torch")
    spec = util.find_spec("torch") if installed else None
    if installed is None or spec is None or spec.origin is None:
        return None
    build = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    built_for = {"cuda": "cuda", "hip": "rocm"}
    devices = ["cpu"]
    devices += [name for key, name in built_for.items() if re.search(rf"^{key}\b[^=]*= '", build, re.MULTILINE)]
    devices += ["mps"] if sys.platform == "darwin" else []
    return Runtime(version=installed.version, devices=tuple(devices))


def _openvino() -> Runtime | None:
    return _from_metadata("openvino")


def _from_metadata(package: str) -> Runtime | None:
    try:
        return Runtime(version=metadata.version(package))
    except metadata.PackageNotFoundError:
        return None
