"""The codec's decoder as ONNX graphs, written from folded weights. Build time only.

Two stages. *Latents*: codes → 8-layer transformer → upsampling, one tile a few frames. *Stack*: latents → samples, the
convolutions, where nearly all arithmetic is. The stack is written in one of two forms, because runtimes differ:

- rows (time × channel): a convolution is one gather of its taps and one matrix product. The fastest way in ONNX Runtime,
  in fp32 and far more so in int8 (u8 activations, scale per tile, times s8 weights, scale per output channel).
- channels (channel × time): plain convolutions, which OpenVINO runs in bf16 on AMX and fp32 elsewhere.

In both, a transposed convolution of kernel 2·stride is an ordinary one of kernel 2 with stride · channels outputs, whose
rows are then read as `stride` rows each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from saywell.models.dual_ar.config import CodecConfig
from saywell.models.dual_ar.graph_layers import Layers, Weights
from saywell.models.dual_ar.graph_writer import FLOAT, FUSED, INT64, Array, GraphWriter
