"""Say in words what a type allows: "a string of 1 to 128 characters", "one of 'a', 'b'", "an object whose type is …".

It reads `msgspec.inspect`, so that the words cannot drift from what is checked. Where in a value the type was needed,
and what stood there instead, is `validation`'s part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import inspect

_PLAIN: Mapping[type[inspect.Type], str] = {
    inspect.AnyType: "any value",
    inspect.RawType: "any value",
    inspect.NoneType: "null",
    inspect.BoolType: "true or false",
    inspect.DateTimeType: "a time with its offset, such as 2026-01-31T09:30:00Z",
    inspect.DateType: "a date, such as 2026-01-31",
    inspect.TimeType: "a time of day, such as 09:30:00",
    inspect.UUIDType: "a UUID",
    inspect.BytesType: "bytes in base64",
    inspect.ByteArrayType: "bytes in base64",
    inspect.DecimalType: "a decimal number in a string",
}


def in_words(node: inspect.Type, value: object) -> str:
    """What `node` allows; of several possible types the ones that `value`, which stood there, may have been meant as."""
    match node:
        case inspect.Metadata(type=inner):
            return in_words(inner, value)
        case inspect.UnionType():
            return _union(node, value)
        case inspect.StructType():
            return _struct(node, value)
        case inspect.LiteralType(values=values):
            return _one_of(values)
        case _:
            return _leaf(node)


def fields_of(node: inspect.Type) -> dict[str, inspect.Type]:
    """The fields a struct has in messages, the tag among them; of a union of structs those of all."""
    match node:
        case inspect.Metadata(type=inner):
            return fields_of(inner)
        case inspect.UnionType(types=types):
            return {name: inner for option in types for name, inner in fields_of(option).items()} | _tags(types)
        case inspect.StructType():
            tag = {node.tag_field: inspect.LiteralType((_tag(node),))} if node.tag_field else {}
            return {**tag, **{field.encode_name: field.type for field in node.fields}}
        case _:
            return {}


def resolve_union(node: inspect.Type, value: object) -> inspect.Type:
    """Of a union the member that `value` was meant to be, as far as one can tell; the tag names it among structs."""
    if isinstance(node, inspect.Metadata):
        return resolve_union(node.type, value)
    if not isinstance(node, inspect.UnionType):
        return node
    options = [option.type if isinstance(option, inspect.Metadata) else option for option in node.types]
    fitting = [option for option in options if _is_meant(option, value)]
    return fitting[0] if len(fitting) == 1 else node


def _tags(options: Sequence[inspect.Type]) -> dict[str, inspect.Type]:
    structs = [option for option in options if isinstance(option, inspect.StructType) and option.tag_field]
    return (
        {str(structs[0].tag_field): inspect.LiteralType(tuple(_tag(struct) for struct in structs))} if structs else {}
    )


def _tag(struct: inspect.StructType) -> str:
    return str(struct.tag)


def _is_meant(option: inspect.Type, value: object) -> bool:
    match option, value:
        case inspect.StructType(tag_field=None), dict():
            return True
        case inspect.StructType(tag_field=str() as name, tag=tag), dict():
            return value.get(name) == tag
        case inspect.DictType(), dict():
            return True
        case inspect.ListType(), list():
            return True
        case _:
            return False


def _struct(node: inspect.StructType, value: object) -> str:
    if isinstance(value, dict) and node.tag_field:
        return f"an object whose {node.tag_field} is '{node.tag}'"
    return f"an object with the fields {', '.join(fields_of(node)) or '(none)'}"


def _union(node: inspect.UnionType, value: object) -> str:
    structs = [option for option in node.types if isinstance(option, inspect.StructType) and option.tag_field]
    others = [in_words(option, value) for option in node.types if option not in structs]
    if structs:
        others.insert(0, f"an object whose {structs[0].tag_field} is {_one_of([_tag(struct) for struct in structs])}")
    return " or ".join(dict.fromkeys(others))


def _leaf(node: inspect.Type) -> str:
    match node:
        case inspect.StrType():
            return _string(node)
        case inspect.IntType():
            return _number("a whole number", node)
        case inspect.FloatType():
            return _number("a number", node)
        case inspect.DictType():
            return "an object" + _size(node.min_length, node.max_length, "fields")
        case inspect.ListType() | inspect.SetType() | inspect.FrozenSetType() | inspect.VarTupleType():
            return "an array" + _size(node.min_length, node.max_length, "entries")
        case inspect.EnumType(cls=cls):
            return _one_of([member.value for member in cls])
        case _:
            return _PLAIN.get(type(node), type(node).__name__.removesuffix("Type").lower())


def _one_of(values: Iterable[object]) -> str:
    shown = [f"'{value}'" if isinstance(value, str) else str(value) for value in values]
    listed = ", ".join(shown)
    return listed if len(shown) == 1 else f"one of {listed}"


def _string(node: inspect.StrType) -> str:
    words = "a string" + _size(node.min_length, node.max_length, "characters")
    return f"{words} matching {node.pattern}" if node.pattern else words


def _size(least: int | None, most: int | None, unit: str) -> str:
    match least, most:
        case None | 0, None:
            return ""
        case None | 0, int():
            return f" of at most {most} {unit}"
        case int(), None:
            return f" of at least {least} {unit}"
        case _:
            return f" of {least} to {most} {unit}"


def _number(words: str, node: inspect.IntType | inspect.FloatType) -> str:
    if node.ge is not None and node.le is not None:
        return f"{words} from {node.ge} to {node.le}"
    limits = (
        (node.ge, "at least"),
        (node.gt, "greater than"),
        (node.le, "at most"),
        (node.lt, "less than"),
        (node.multiple_of, "a multiple of"),
    )
    said = " and ".join(f"{said} {limit}" for limit, said in limits if limit is not None)
    return f"{words} {said}".rstrip()
