"""The same networks in PyTorch, timed beside ours once their outputs are found to be the same. It need not be installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import jax
import numpy as np

from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.networks import HitClassifier
from sfxjax.models.stem import BaseConfig
from sfxjax.training.step import Domains

from . import reference_pipelines as others
from .stages import NotHere, Rival, Setting, compare

LOGITS_COMPARED = 24
# GPUs round the factors of a convolution to ten bits by default.
COARSER = 20


def torch_inference(
    setting: Setting, model: TrainedModel, maps: list[jax.Array], atol: float
) -> list[Callable[[], Rival]]:
    """Make the network's twin, on one thread and on as many as PyTorch takes.

    Args:
        setting: of the run.
        model: whose weights it has.
        maps: batches of `sfxjax.models.stem.stem`.
        atol: by how much its logits may differ.
    """

    def rival(alone: bool) -> Rival:
        torch, place, name, use = _torch_rival(setting, alone)
        infer = others.torch_logits(others.torch_classifier(model.config, model.variables).to(place))
        batches = [others.torch_maps(np.asarray(batch)).to(place) for batch in maps]
        found = infer(batches[0][:LOGITS_COMPARED]).cpu().numpy()
        with jax.default_matmul_precision("float32"):
            expected = jax.jit(HitClassifier(model.config).apply)(model.variables, maps[0][:LOGITS_COMPARED])
        coarser = 1 if place == "cpu" else COARSER
        compare("PyTorch's logits", found, expected, atol=coarser * atol, rtol=coarser * 1e-3)
        return Rival(name, _waiting(torch, place, use, infer), batches, len(batches[0]))

    return _compiled_or_not(setting, rival)


def torch_training(
    setting: Setting,
    base: BaseConfig,
    variables: dict[str, Any],
    data: Domains,
    batches: list[np.ndarray],
    first_loss: float,
    atol: float,
) -> list[Callable[[], Rival]]:
    """Make the supervised step of the network's twin.

    Args:
        setting: of the run.
        base: of the network.
        variables: of `HitClassifier`.
        data: maps or vectors, and labels.
        batches: places in them.
        first_loss: of our first step, without dropout, on the first batch.
        atol: by how much its loss may differ.
    """

    def rival(alone: bool) -> Rival:
        torch, place, name, use = _torch_rival(setting, alone)
        maps = others.torch_maps(np.asarray(data.source, np.float32)).to(place)
        labels = torch.from_numpy(np.asarray(data.positive)).to(place)
        places = [torch.from_numpy(np.asarray(batch, np.int64)).to(place) for batch in batches]

        def stepping(base: BaseConfig) -> Callable[[Any], Any]:
            step = others.torch_training_step(others.torch_classifier(base, variables).to(place))
            return lambda chosen: step(maps[chosen], labels[chosen])

        loss = float(stepping(replace(base, dropout=0.0))(places[0]).cpu())
        compare("PyTorch's loss", loss, first_loss, atol=atol * (1 if place == "cpu" else COARSER))
        return Rival(name, _waiting(torch, place, use, stepping(base)), places, len(places[0]))

    return _compiled_or_not(setting, rival)


def _compiled_or_not(setting: Setting, rival: Callable[[bool], Rival]) -> list[Callable[[], Rival]]:
    return [partial(rival, alone) for alone in ((True, False) if setting.on_cpu else (False,))]


def _torch_rival(setting: Setting, alone: bool) -> tuple[Any, str, str, Callable[[], None]]:
    """Return PyTorch, where it computes, what to call it, and a function that has it take its threads."""
    try:
        torch = import_module("torch")
    except ImportError:
        raise NotHere("PyTorch is not installed") from None
    place = "cuda" if torch.cuda.is_available() and not setting.on_cpu else "cpu"
    threads = 1 if alone else setting.cores
    name = f"PyTorch {torch.__version__}"
    if place == "cuda":
        return torch, place, f"{name}, CUDA", lambda: None
    if threads == 1 and not alone:
        raise NotHere("PyTorch has one thread here, as before")
    where = "1 thread" if threads == 1 else f"{threads} threads"
    return torch, place, f"{name}, {where}", lambda: torch.set_num_threads(threads)


def _waiting(
    torch: Any, place: str, use: Callable[[], None], call: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """Return a function that calls another and waits for its result."""

    def waiting(batch: Any) -> None:
        use()
        call(batch)
        if place == "cuda":
            torch.cuda.synchronize()

    return waiting
