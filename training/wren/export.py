"""Write the trained weights as the graphs that the package runs.

    python -m training.wren.export --data DATA --run RUN --out src/saywell/models/wren/data

encode.onnx, decode.onnx: weights in half precision, cast to single when they are loaded; voice.json: speakers, gain,
emphasis, context, and how long it was trained. Lengths are set right for each speaker on the validation utterances: the
network's are medians, their sum should be the mean.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from saywell.models.wren.phones import SPEAKERS
from saywell.models.wren.source import State, sharpened, sound
from training.wren.data import Corpus, collate
from training.wren.features import EMPHASIS, FLAT_VOICES
from training.wren.nets import (
    CODE,
    CONTEXT,
    DECODER_DILATIONS,
    ENCODER_DILATIONS,
    FRAMES_PER_STEP,
    OUTPUTS,
    PLACES,
    Acoustic,
)

OPSET = 17
HEADROOM = 0.9
"""Of the teacher's level: a pulse under a minimum-phase filter peaks higher than the teacher's."""


class Graph:
    """An ONNX graph being written: nodes in order, weights in half precision."""

    def __init__(self, name: str, weights: dict[str, torch.Tensor]) -> None:
        self._name, self._weights = name, weights
        self._nodes: list[Any] = []
        self._stored: list[Any] = []
        self._count = 0

    def weight(self, name: str, transpose: bool = False) -> str:
        value = self._weights[name].float().numpy()
        return self.array(value.T.copy() if transpose else value)

    def array(self, value: Any) -> str:
        """A constant; floats are stored as halves."""
        self._count += 1
        name = f"w{self._count}"
        if value.dtype != np.float32 or value.size < 1024:
            self._stored.append(numpy_helper.from_array(value, name))
            return name
        self._stored.append(numpy_helper.from_array(value.astype(np.float16), f"{name}_half"))
        return self.add("Cast", f"{name}_half", to=TensorProto.FLOAT)

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        self._count += 1
        output = output or f"t{self._count}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def convolve(self, x: str, name: str, dilation: int = 1) -> str:
        kernel = self._weights[f"{name}.weight"].shape[-1]
        pad = kernel // 2 * dilation
        weights = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.add("Conv", x, *weights, dilations=[dilation], pads=[pad, pad], kernel_shape=[kernel])

    def block(self, x: str, name: str, dilation: int) -> str:
        """`nets.Block`, its scale folded into the mixing."""
        scale = self._weights[f"{name}.scale"]
        mixing = self._weights[f"{name}.mix.weight"] * scale[..., None], self._weights[f"{name}.mix.bias"] * scale[:, 0]
        wide = self.add("Relu", self.convolve(x, f"{name}.wide", dilation))
        arrays = [self.array(part.float().numpy()) for part in mixing]
        return self.add("Add", x, self.add("Conv", wide, *arrays, kernel_shape=[1]))

    def linear(self, x: str, name: str) -> str:
        return self.add(
            "Add", self.add("MatMul", x, self.weight(f"{name}.weight", transpose=True)), self.weight(f"{name}.bias")
        )

    def save(self, path: Path, inputs: list[Any], outputs: list[Any]) -> None:
        graph = helper.make_graph(self._nodes, self._name, inputs, outputs, self._stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def encoder(model: Acoustic, bias: torch.Tensor, path: Path) -> None:
    """symbols [1, symbols], speaker [1] → codes [1, symbols, CODE], log frames [1, symbols]."""
    graph = Graph("encode", dict(model.encoder.state_dict()))
    symbols = graph.add("Gather", graph.weight("symbols.weight"), "symbols")
    speaker = graph.add(
        "Unsqueeze", graph.add("Gather", graph.weight("speakers.weight"), "speaker"), graph.array(np.array([1]))
    )
    x = graph.add("Transpose", graph.add("Add", symbols, speaker), perm=[0, 2, 1])
    for number, dilation in enumerate(ENCODER_DILATIONS):
        x = graph.block(x, f"blocks.{number}", dilation)
    wide = graph.add("Relu", graph.convolve(x, "lengths.0"))
    lengths = graph.add("Squeeze", graph.convolve(wide, "lengths.2"), graph.array(np.array([1])))
    right = graph.add(
        "Unsqueeze", graph.add("Gather", graph.array(bias.numpy()), "speaker"), graph.array(np.array([1]))
    )
    graph.add("Add", lengths, right, output="lengths")
    graph.add("Transpose", x, perm=[0, 2, 1], output="codes")
    inputs = [tensor("symbols", TensorProto.INT64, [1, "n"]), tensor("speaker", TensorProto.INT64, [1])]
    graph.save(
        path,
        inputs,
        [tensor("codes", TensorProto.FLOAT, [1, "n", CODE]), tensor("lengths", TensorProto.FLOAT, [1, "n"])],
    )


def decoder(model: Acoustic, path: Path) -> None:
    """codes and places of each frame, known steps, speaker → frames [1, frames, OUTPUTS]; voicing 0…1."""
    graph = Graph("decode", dict(model.decoder.state_dict()))
    x = graph.add("Relu", graph.add("Add", "codes", graph.linear("places", "place")))
    x = graph.add("Reshape", x, graph.array(np.array([1, -1, FRAMES_PER_STEP * CODE])))
    x = graph.linear(x, "pair")
    speaker = graph.add(
        "Unsqueeze", graph.add("Gather", graph.weight("speakers.weight"), "speaker"), graph.array(np.array([1]))
    )
    x = graph.add("Mul", graph.add("Transpose", graph.add("Add", x, speaker), perm=[0, 2, 1]), "known")
    for number, dilation in enumerate(DECODER_DILATIONS):
        x = graph.add("Mul", graph.block(x, f"blocks.{number}", dilation), "known")
    x = graph.add("Transpose", graph.convolve(x, "read"), perm=[0, 2, 1])
    x = graph.add("Reshape", x, graph.array(np.array([1, -1, OUTPUTS])))
    scaled = graph.add("Mul", x, graph.add("Gather", graph.array(model.deviation.numpy()), "speaker"))
    x = graph.add("Add", scaled, graph.add("Gather", graph.array(model.mean.numpy()), "speaker"))
    parts = [
        graph.add("Slice", x, *(graph.array(np.array([n])) for n in (low, high, 2)))
        for low, high in ((0, 1), (1, 2), (2, OUTPUTS))
    ]
    graph.add("Concat", parts[0], graph.add("Sigmoid", parts[1]), parts[2], axis=2, output="frames")
    inputs = [
        tensor("codes", TensorProto.FLOAT, [1, "frames", CODE]),
        tensor("places", TensorProto.FLOAT, [1, "frames", PLACES]),
        tensor("known", TensorProto.FLOAT, [1, 1, "steps"]),
        tensor("speaker", TensorProto.INT64, [1]),
    ]
    graph.save(path, inputs, [tensor("frames", TensorProto.FLOAT, [1, "frames", OUTPUTS])])


def tensor(name: str, kind: int, shape: list[int | str]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def length_bias(model: Acoustic, corpus: Corpus) -> torch.Tensor:
    """What to add to the log lengths of each speaker, so that utterances last as long as the teacher's in all."""
    bias = torch.zeros(len(SPEAKERS))
    for speaker in range(len(SPEAKERS)):
        few = [one for one in corpus.valid if one.speaker == speaker][:60] or [
            one for one in corpus.utterances if one.speaker == speaker
        ][:60]
        batches = [collate([one]) for one in few]
        with torch.no_grad():
            said = [float((model.encoder(b.symbols, b.speaker)[1].exp() * (b.lengths > 0)).sum()) for b in batches]
        bias[speaker] = float(np.log(sum(float(b.lengths.sum()) for b in batches) / sum(said)))
    return bias


def emphasis() -> list[float]:
    """Of each speaker's formants."""
    return [1.0 if voice in FLAT_VOICES else EMPHASIS for voice in SPEAKERS]


def gains(data: Path) -> list[float]:
    """Full scale of each speaker: nearly as loud as the teacher is from the same frames."""
    found = []
    for voice, factor in zip(SPEAKERS, emphasis(), strict=True):
        shard = np.load(data / "corpus" / voice / sorted(p.name for p in (data / "corpus" / voice).glob("*.npz"))[0])
        some = min(8, len(shard["frame_starts"]) - 1)
        end, sound_end = int(shard["frame_starts"][some]), int(shard["sample_starts"][some])
        frames, samples = shard["frames"][:end].astype(np.float32), shard["samples"][:sound_end].astype(np.float64)
        voiced = frames[:, 0] > 30
        f0 = np.interp(np.arange(end), np.flatnonzero(voiced), frames[voiced, 0]).astype(np.float32)
        ours = sound(f0, voiced.astype(np.float32), sharpened(frames[:, 1:26], factor), frames[:, 26:], State(0), True)
        found.append(HEADROOM * float(np.sqrt((samples**2).mean() / (ours.astype(np.float64) ** 2).mean()) / 32768))
    return found


def export(data: Path, run: Path, out: Path) -> None:
    saved = torch.load(run / "state.pt", weights_only=True)
    corpus, model = Corpus(data), Acoustic()
    corpus.refresh()
    model.load_state_dict(saved["average"])
    model.eval()
    out.mkdir(parents=True, exist_ok=True)
    encoder(model, length_bias(model, corpus), out / "encode.onnx")
    decoder(model, out / "decode.onnx")
    about = {
        "speakers": SPEAKERS,
        "context": CONTEXT,
        "gain": gains(data),
        "emphasis": emphasis(),
        "trained": {
            "steps": saved["step"],
            "minutes": round(saved["seconds"] / 60, 1),
            "utterances": len(corpus.utterances),
        },
    }
    (out / "voice.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    export(asked.data, asked.run, asked.out)


if __name__ == "__main__":
    main()
