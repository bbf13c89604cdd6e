"""Conventions of everything that `sfxjax` and its packages export: types, docstrings, options by keyword, short names."""

from __future__ import annotations

import importlib
import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import sfxjax
from sfxjax.data.frames import FrameStack
from sfxjax.models.networks import HitClassifier

# Arguments that belong to the array before them may be given by place, with their default.
BESIDE_AN_ARRAY = {"mask", "valid", "good"}
PACKAGES = ["sfxjax", "sfxjax.preprocess"]


def exported() -> Iterator[Any]:
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            if not name.startswith("__"):
                yield pytest.param(getattr(module, name), id=f"{package}.{name}")


def signature_of(item: Any) -> inspect.Signature | None:
    """Return what a caller gives; None for classes whose fields are all there is."""
    if inspect.isclass(item):
        return (
            inspect.signature(item.__init__)
            if "__init__" in vars(item) and not hasattr(item, "__dataclass_fields__")
            else None
        )
    return inspect.signature(getattr(item, "__wrapped__", item))


def test_the_list_the_table_and_the_types_agree() -> None:
    names = set(sfxjax.__all__) - {"__version__"}
    assert names == set(sfxjax._EXPORTS)
    assert set(dir(sfxjax)) >= names
    for name in names:
        item = getattr(sfxjax, name)
        assert item.__name__ == name and item.__module__ == f"sfxjax.{sfxjax._EXPORTS[name]}"
    assert re.fullmatch(r"\d+\.\d+\.\d+", sfxjax.__version__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sfxjax.nothing


@pytest.mark.parametrize("item", list(exported()))
def test_every_argument_and_result_has_a_type(item: Any) -> None:
    signature = signature_of(item)
    if signature is None:
        assert typing.get_type_hints(item)
        return
    for parameter in signature.parameters.values():
        assert parameter.name == "self" or parameter.annotation is not inspect.Parameter.empty, parameter
    assert signature.return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("item", list(exported()))
def test_docstrings_say_what_goes_in_what_comes_out_and_what_is_raised(item: Any) -> None:
    text = inspect.getdoc(item) or ""
    first = text.partition("\n")[0]
    assert first.endswith((".", ":")), first
    signature = signature_of(item)
    if inspect.isclass(item):
        fields = [*getattr(item, "__dataclass_fields__", {}), *(signature.parameters if signature else {})]
        described = [name for name in fields if name not in ("self", "parent", "name")]
    else:
        assert signature is not None
        described = [name for name in signature.parameters if name != "self"]
        assert "Args:" in text and "Returns:" in text
        source = inspect.getsource(inspect.unwrap(item))
        assert "raise UserError" not in source or "Raises:" in text
    for name in described:
        assert re.search(rf"(?m)^\s+{name}: ", text), f"{name} is not described"


@pytest.mark.parametrize("item", list(exported()))
def test_options_are_given_by_keyword(item: Any) -> None:
    signature = signature_of(item)
    for parameter in signature.parameters.values() if signature else ():
        optional = parameter.default is not inspect.Parameter.empty
        if optional and parameter.name not in BESIDE_AN_ARRAY:
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter.name


def test_what_is_shown_in_a_notebook_is_a_line() -> None:
    stack = FrameStack("run.h5", "CXI", "/data", "", 5, True, (40, 60), "<u2", (40, 60))
    for shown in (repr(stack), repr(HitClassifier().config)):
        assert len(shown) < 250 and "\n" not in shown
    assert repr(stack) == "FrameStack(run.h5: CXI, 5 frames of 40x60 uint16 in /data)"
