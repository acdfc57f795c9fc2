"""Parsing of values from the command line and YAML files."""

import dataclasses
import typing

import pytest
import yaml

from lkd import Recipe
from lkd.util.values import TEXTS, Loader, read_value, typed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[0, 1]", [0, 1]),
        ('["mini_slak"]', ["mini_slak"]),
        ("[mini_slak, mini_vit]", ["mini_slak", "mini_vit"]),
        ("1e-3", 0.001),
        ("[1e-3, 1_000]", [0.001, 1000]),
        ("-2", -2),
        ("None", None),
        ("null", None),
        ("True", True),
        ("true", True),
        ("small", "small"),
        ("'1'", "1"),
        ("[0", "[0"),
        ("a: b: c", "a: b: c"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("{flip: no, precision: no, optimizer_args: {nesterov: no}}",
         {"flip": False, "precision": "no", "optimizer_args": {"nesterov": False}}),
        ("010", "010"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("", ""),
        ("#", "#"),
        ("/images #2", "/images #2"),
        ('{"epochs": 1, "epochs": 2}', '{"epochs": 1, "epochs": 2}'),
        ("{[]: 1}", "{[]: 1}"),
    ],
)  # fmt: skip
def test_a_value_is_read_as_python_then_as_yaml_then_as_text(text: str, value: object) -> None:
    assert read_value(text) == value
    assert type(read_value(text)) is type(value)
    assert read_value(typed(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("precision: no", {"precision": "no"}),
        ("data: on", {"data": "on"}),
        ("flip: no", {"flip": False}),
        ("teachers: [no, yes]", {"teachers": ["no", "yes"]}),
        ("teachers: {no: {flip: yes}}", {"teachers": {"no": {"flip": True}}}),
        ("student_args: {act_layer: off}", {"student_args": {"act_layer": False}}),
        ("seed: 010", {"seed": "010"}),
        ("size: 0x10", {"size": 16}),
        ("seed: 1_000", {"seed": 1000}),
        ("lr: 1e-3", {"lr": 0.001}),
        ("warmup: 1:30", {"warmup": "1:30"}),
        ("interpolation: 2026-01-01", {"interpolation": "2026-01-01"}),
        ("clip: ~", {"clip": None}),
        ("lr: .inf", {"lr": float("inf")}),
    ],
)
def test_a_word_in_a_file_is_a_text_where_a_text_belongs(text: str, value: object) -> None:
    assert yaml.load(text, Loader) == value


def test_the_names_that_take_texts_are_the_fields_of_a_recipe_that_do() -> None:
    kinds = {name: {kind, *typing.get_args(kind)} for name, kind in typing.get_type_hints(Recipe).items()}
    fields = {field.name for field in dataclasses.fields(Recipe)}
    takes_text = {name for name in fields if str in kinds[name] and not name.endswith("_args")}
    assert takes_text == TEXTS & fields
