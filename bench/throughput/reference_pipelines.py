"""What users would write without this package: SciPy for the pre-processing, PyTorch for the networks.

The SciPy pipeline follows the paper (Xie, Liu et al., Optics Express 31(20):32909, 2023, sections 3.1.1 and 3.4.2) with
`scipy.ndimage.uniform_filter` for the window's means, on one thread. The PyTorch networks have the layers and the weights
of `sfxjax.models.networks.HitClassifier`. Each is compared with ours before it is timed, by `bench.throughput`.

PyTorch is imported where it is used: nothing else needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter

from sfxjax.crop import central_crop
from sfxjax.models.stem import BaseConfig
from sfxjax.preprocess.contrast import HALF_WINDOW, WINDOW


def scipy_preprocess(frame: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """Crop, GCN and LCN of one frame.

    Args:
        frame: (ss, fs), at least 724 x 724, real.
        dtype: of the arithmetic. In float32 the window's variance is a difference of two rounded sums, and a bright, smooth
            background loses its noise; float64 keeps it and takes 1.4 times as long.

    Returns:
        (720, 720) of that dtype.
    """
    crop = np.clip(central_crop(frame).astype(dtype), 0, None)
    normalized = (crop - crop.mean()) / crop.std()
    mean = uniform_filter(normalized, WINDOW)
    variance = uniform_filter(normalized * normalized, WINDOW) - mean * mean
    divisor = np.maximum(np.sqrt(np.maximum(variance, 0)), 1)
    return ((normalized - mean) / divisor)[HALF_WINDOW:-HALF_WINDOW, HALF_WINDOW:-HALF_WINDOW]


def scipy_row_wise_decomposition(frame: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """Crop, GCN, LCN and RWD of one frame; arguments as for `scipy_preprocess`; returns (720,)."""
    normalized = scipy_preprocess(frame, dtype)
    return normalized.max(axis=1) - normalized.min(axis=1)


def torch_classifier(config: BaseConfig, variables: dict[str, Any], threads: int | None = None) -> Any:
    """Build `sfxjax.models.networks.HitClassifier` in PyTorch, with its weights.

    Args:
        config: shape of the base.
        variables: Flax variables, `params` and `batch_stats`.
        threads: for PyTorch to use, of the whole process; None leaves them as they are.

    Returns:
        A `torch.nn.Module` that maps (n, channels, ss, fs), or (n, channels, length), to (n,) logits; in evaluation mode.

    Raises:
        ImportError: PyTorch is not installed.
    """
    import torch
    from torch import nn

    if threads is not None:
        torch.set_num_threads(threads)
    params, statistics = variables["params"], variables["batch_stats"]
    plane = config.dimensions == 2

    def tensor(values: Any) -> Any:
        return torch.from_numpy(np.array(values, np.float32))

    def convolution(kernel: Any) -> Any:
        weight = tensor(np.moveaxis(np.asarray(kernel), (-1, -2), (0, 1)))
        layer = (nn.Conv2d if plane else nn.Conv1d)(
            weight.shape[1], weight.shape[0], 3, padding=1, bias=False
        )
        layer.weight.data = weight.contiguous()
        return layer

    def normalization(kind: Any, name: str) -> Any:
        scale = params["base"][name]
        layer = kind(len(scale["scale"]), eps=1e-5, momentum=0.05)
        layer.weight.data, layer.bias.data = tensor(scale["scale"]), tensor(scale["bias"])
        layer.running_mean.data = tensor(statistics["base"][name]["mean"])
        layer.running_var.data = tensor(statistics["base"][name]["var"])
        return layer

    def dense(weights: dict[str, Any]) -> Any:
        layer = nn.Linear(*np.shape(weights["kernel"]))
        layer.weight.data, layer.bias.data = tensor(np.asarray(weights["kernel"]).T), tensor(weights["bias"])
        return layer

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            batch_norm = nn.BatchNorm2d if plane else nn.BatchNorm1d
            self.levels = len(config.channels)
            base, head = params["base"], params["label_head"]
            self.convolutions = nn.ModuleList(
                convolution(base[f"convolution_{level}"]["kernel"]) for level in range(self.levels)
            )
            self.normalizations = nn.ModuleList(
                normalization(batch_norm, f"normalization_{level}") for level in range(self.levels)
            )
            self.counts = normalization(nn.BatchNorm1d, "normalization_counts")
            self.features, self.hidden, self.logit = (
                dense(weights) for weights in (base["features"], head["hidden"], head["logit"])
            )
            self.pool = (nn.MaxPool2d if plane else nn.MaxPool1d)(2)
            self.dropout = nn.Dropout(config.dropout)

        def forward(self, values: Any) -> Any:
            for level in range(self.levels):
                values = self.normalizations[level](self.convolutions[level](values))
                values = torch.tanh(self.pool(torch.relu(values)))
                if level >= self.levels - 2 and config.dropout > 0:
                    values = self.dropout(values)
            counts = self.counts(torch.log1p(values.sum(dim=tuple(range(2, values.ndim)))))
            features = torch.tanh(self.features(counts))
            return self.logit(torch.relu(self.hidden(features)))[:, 0]

    return Twin().eval()


def torch_maps(maps: Any) -> Any:
    """Turn (n, ..., channels) maps or vectors of `sfxjax.models.stem.stem` into a tensor (n, channels, ...)."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.array(maps, np.float32), -1, 1)))


def torch_logits(network: Any) -> Callable[[Any], Any]:
    """Return a function of a tensor of maps that gives the logits, without gradients."""
    import torch

    def infer(maps: Any) -> Any:
        with torch.inference_mode():
            return network(maps)

    return infer


def torch_training_step(
    network: Any, rate: float = 1e-3, weight_decay: float = 1e-4
) -> Callable[[Any, Any], Any]:
    """Return a training step: forward, cross entropy, backward and AdamW, with batch statistics and dropout.

    Args:
        network: from `torch_classifier`.
        rate: of AdamW.
        weight_decay: of AdamW.

    Returns:
        A function of a tensor of maps and a float tensor (n,) of labels; it returns the loss.
    """
    import torch

    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=weight_decay)

    def step(maps: Any, labels: Any) -> Any:
        network.train()
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(maps), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
